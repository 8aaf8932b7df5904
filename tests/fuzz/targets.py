"""The targets by name; called by `test_fuzz.py` and `__main__.py`."""

from __future__ import annotations

from .calls import api
from .metadata import metadata
from .outcomes import Target
from .pictures import files
from .settings import config
from .weights import weights

TARGETS: dict[str, Target] = {
    "api": api,
    "config": config,
    "files": files,
    "weights": weights,
    "metadata": metadata,
}
