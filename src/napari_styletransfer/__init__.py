"""Neural style transfer for napari, the command line and Python.

The public names are loaded when first used, so that importing the package (as napari does at start-up)
loads neither torch nor Qt.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_styletransfer.api import StyleResult, run, stylize
    from napari_styletransfer.config import PRESETS, StyleConfig
    from napari_styletransfer.engine.run import iter_stylize, plan
    from napari_styletransfer.engine.stack import iter_stylize_stack
    from napari_styletransfer.errors import StyleTransferError
    from napari_styletransfer.events import Event, Fetching, Finished, PlaneStarted, Preview, Reason, Started, Step
    from napari_styletransfer.io import read_image, write_image

# Read when torch loads its thread pool: how long a thread that waits for the others spins before it sleeps. By
# default that is milliseconds, which on a core shared with a window or another program are lost each time: a run
# among busy programs took twenty times as long. Not spinning at all costs a third on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

try:
    __version__ = version("napari-styletransfer")
except PackageNotFoundError:
    __version__ = "0+unknown"

_HOMES = {
    "PRESETS": "config",
    "StyleConfig": "config",
    "StyleTransferError": "errors",
    "StyleResult": "api",
    "run": "api",
    "stylize": "api",
    "iter_stylize": "engine.run",
    "plan": "engine.run",
    "iter_stylize_stack": "engine.stack",
    "read_image": "io",
    "write_image": "io",
} | dict.fromkeys(("Event", "Fetching", "Finished", "PlaneStarted", "Preview", "Reason", "Started", "Step"), "events")

__all__ = [
    "PRESETS",
    "Event",
    "Fetching",
    "Finished",
    "PlaneStarted",
    "Preview",
    "Reason",
    "Started",
    "Step",
    "StyleConfig",
    "StyleResult",
    "StyleTransferError",
    "iter_stylize",
    "iter_stylize_stack",
    "plan",
    "read_image",
    "run",
    "stylize",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
