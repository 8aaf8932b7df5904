"""Neural style transfer for napari, the command line and Python.

The public names are loaded when first used, so that importing the package (as napari does at start-up)
loads neither torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_styletransfer.api import stylize
    from napari_styletransfer.config import PRESETS, StyleConfig
    from napari_styletransfer.engine.transfer import iter_stylize, plan
    from napari_styletransfer.errors import StyleTransferError

try:
    __version__ = version("napari-styletransfer")
except PackageNotFoundError:
    __version__ = "0+unknown"

_HOMES = {
    "PRESETS": "config",
    "StyleConfig": "config",
    "StyleTransferError": "errors",
    "stylize": "api",
    "iter_stylize": "engine.transfer",
    "plan": "engine.transfer",
}

__all__ = ["PRESETS", "StyleConfig", "StyleTransferError", "iter_stylize", "plan", "stylize"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
