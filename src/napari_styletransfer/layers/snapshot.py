"""One plane of an image layer, decided on but not read yet, and how it looks.

Made by `read.resolve` on the GUI thread; needs the layer no more, and reads its pixels in whatever thread
calls `read`. Handed through the widget to the worker as content and as style.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.layers.display import FloatImage, Picture, alpha_of, show_colors, show_values
from napari_styletransfer.layers.geometry import Grid

_PROJECTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What will be read of a layer, and how it looks; from `read.resolve`.

    Attributes
    ----------
    name
        Of the layer.
    kind
        "grey", "rgb" or "rgba".
    dtype
        Of the layer's data.
    grid
        Where the plane lies; `grid.shape` is that of the picture.
    level, levels
        Pyramid level that will be read, 0 the finest, and how many there are.
    full
        Sizes of the layer's axes at full resolution.
    as_displayed, colored
        Whether contrast limits and gamma are applied, and with them the colormap.
    contrast_limits
        Of the layer, or None where it has none yet.
    gamma, colormap, opacity, blending
        Of the layer; the colormap is a copy.
    point
        World position the plane was chosen by, in the layer's units; may have more axes than the layer.
    data
        Array of the level; sliced before it is read.
    index
        What is taken of `data` along each axis of the layer.
    projection
        How a slab becomes a plane: "none" or napari's name.
    """

    name: str
    kind: str
    dtype: np.dtype[Any]
    grid: Grid
    level: int
    levels: int
    full: tuple[int, ...]
    as_displayed: bool
    colored: bool
    contrast_limits: tuple[float, float] | None
    gamma: float
    colormap: Any = field(repr=False)
    opacity: float
    blending: str
    point: tuple[float, ...]
    data: Any = field(repr=False)
    index: tuple[int | slice, ...]
    projection: str = "none"

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return self.grid.shape

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """Itself alone, as a `Composite` has those that it is put together of."""
        return (self,)

    @property
    def plane(self) -> tuple[int | None, ...]:
        """Index of the plane along each axis of the layer, at full resolution; None for rows and columns."""
        displayed = self.grid.displayed
        return tuple(None if axis in displayed else round(at) for axis, at in enumerate(self.grid.position))

    def read(self) -> FloatImage:
        """Read the picture: float32 (H, W, 3) in [0, 1], finite, contiguous; for any thread.

        The transparency of a colormap counts as over the black canvas. That of an RGBA layer does not count:
        `picture` has it beside the colours.

        Raises
        ------
        ImageError
            If the data cannot be read, or no pixel is finite.
        """
        picture = self.picture()
        if picture.alpha is None or self.kind == "rgba":
            return picture.rgb
        return picture.rgb * picture.alpha[..., None]

    def picture(self) -> Picture:
        """Read colours and transparency apart; otherwise like `read`."""
        pixels = self.pixels()
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
            raise ImageError(
                f"Every pixel of the plane shown of layer '{self.name}' is NaN or infinite. Choose another plane."
            )
        if not self.as_displayed or self.contrast_limits is None:
            rgb, encoding = decode(pixels)
            return Picture(rgb, None if encoding.alpha is None else alpha_of(encoding.alpha))
        if self.kind == "grey":
            return show_values(pixels, self.contrast_limits, self.gamma, self.colormap if self.colored else None)
        return show_colors(pixels, self.contrast_limits, self.gamma)

    def pixels(self) -> npt.NDArray[Any]:
        """Read the layer's own values, (H, W) or (H, W, C), oriented as displayed."""
        channels = () if self.kind == "grey" else (slice(None),)
        try:
            pixels = np.asarray(self.data[(*self.index, *channels)])
        except Exception as error:
            # Lazy data runs other people's code here, and napari's worker would swallow their RuntimeErrors.
            raise ImageError(f"The data of layer '{self.name}' cannot be read: {error!r}.") from error
        if self.projection != "none":
            hidden = tuple(axis for axis in range(len(self.index)) if axis not in self.grid.displayed)
            pixels = _PROJECTIONS[self.projection](pixels, axis=hidden)
        return pixels.swapaxes(0, 1) if self.grid.displayed[0] > self.grid.displayed[1] else pixels
