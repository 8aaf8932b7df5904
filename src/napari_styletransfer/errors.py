"""What can go wrong, by kind.

None of these derives from `RuntimeError`: napari's worker swallows that inside a generator, and the form
would wait for ever. They live at the top so that `config` and `layers` can raise them without the engine.
"""

from __future__ import annotations

import re
from typing import Any


class StyleTransferError(Exception):
    """Base of every error this package raises on purpose; the message says what to do.

    Attributes
    ----------
    finished
        Where a run broke off under way: the `events.Finished` of its best image so far; else None.
    result
        The same as `api.StyleResult`, of what `run` and `stylize` raise.
    """

    finished: Any = None
    result: Any = None


class ConfigError(StyleTransferError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class ImageError(StyleTransferError, ValueError):
    """A picture that cannot be worked on as it is."""


class NothingToDoError(ImageError):
    """Labels that mark nothing to stylise."""


class WeightsError(StyleTransferError):
    """Weights that are missing, damaged, or of another network."""


class DeviceError(StyleTransferError):
    """A device that is not there or gave up."""


class OutOfMemoryError(DeviceError):
    """The run does not fit, even in the smallest blocks."""


def one_line(error: object) -> str:
    """Return what an error says without its line breaks."""
    return " ".join(str(error).split())


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is a device's, a library's, or the host's way of saying that memory ran out."""
    if isinstance(error, (MemoryError, OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


_OUT_OF_MEMORY = re.compile(
    "out of memory|not enough memory|can't allocate memory|alloc_failed|could not create a primitive(?! desc)", re.I
)
"""Of CUDA, ROCm and Metal; of the CPU on Windows; of the CPU elsewhere; of the libraries for matrices and spectra; of
oneDNN, which says of a convolution that it does not have that it could not create a primitive descriptor."""


class DivergedError(StyleTransferError):
    """The loss stayed non-finite after every restart."""
