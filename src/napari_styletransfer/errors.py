"""What can go wrong, by kind.

None of these derives from `RuntimeError`: napari's worker swallows that inside a generator, and the form
would wait for ever. They live at the top so that `config` and `layers` can raise them without the engine.
"""

from __future__ import annotations

from typing import Any


class StyleTransferError(Exception):
    """Base of every error this package raises on purpose; the message says what to do."""


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
    """The run does not fit, even in the smallest blocks.

    Attributes
    ----------
    image
        Best image so far, float32 (H, W, 3) in [0, 1], if memory ran out under way; else None.
    """

    image: Any = None


class DivergedError(StyleTransferError):
    """The loss stayed non-finite after every restart."""
