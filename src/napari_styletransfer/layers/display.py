"""Pixel values to the colours the canvas shows them in.

Contrast limits, gamma and colormap, in the order and with the clipping of napari's shaders, a few rows at
a time. Called by `read` in a worker thread; knows numpy and the `map` method of a napari colormap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK_VALUES = 1 << 19
_FEW_VALUES = 1 << 16

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Picture:
    """Colours and how opaque they are.

    Attributes
    ----------
    rgb
        float32 (H, W, 3) in [0, 1], finite, not multiplied by `alpha`.
    alpha
        float32 (H, W) in [0, 1], or None where all is opaque.
    """

    rgb: FloatImage
    alpha: FloatImage | None = None


def show_values(values: npt.NDArray[Any], limits: tuple[float, float], gamma: float, colormap: Any | None) -> Picture:
    """Show (H, W) values of any real dtype through contrast limits, gamma and colormap (None: grey)."""
    rgb = np.empty((*values.shape, 3), np.float32)
    alpha = np.ones(values.shape, np.float32)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.size > _FEW_VALUES:
        # Fewer values than pixels: each value is shown once and looked up, which is several times faster.
        least, most = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
        table = show_values(np.arange(least, most + 1, dtype=values.dtype)[None], limits, gamma, colormap)
        for rows in _rows(values.shape):
            index = values[rows].astype(np.intp) - least
            np.take(table.rgb[0], index, axis=0, out=rgb[rows], mode="clip")
            if table.alpha is not None:
                np.take(table.alpha[0], index, out=alpha[rows], mode="clip")
        return _with_alpha(rgb, alpha)
    for rows in _rows(values.shape):
        unit = _unit(values[rows], limits) ** gamma
        if colormap is None:
            rgb[rows] = np.nan_to_num(unit)[..., None]
        else:
            colors = np.clip(colormap.map(unit), 0, 1)
            rgb[rows], alpha[rows] = colors[..., :3], colors[..., 3]
    return _with_alpha(rgb, alpha)


def show_colors(pixels: npt.NDArray[Any], limits: tuple[float, float], gamma: float) -> Picture:
    """Show (H, W, 3) or (H, W, 4) colours of any real dtype through contrast limits and gamma."""
    rgb = np.empty((*pixels.shape[:2], 3), np.float32)
    for rows in _rows(pixels.shape):
        rgb[rows] = np.nan_to_num(_unit(pixels[rows, :, :3], limits) ** gamma)
    if pixels.shape[2] == 3:
        return Picture(rgb)
    return _with_alpha(rgb, alpha_of(pixels[..., 3]))


def alpha_of(channel: npt.NDArray[Any]) -> FloatImage:
    """Return an alpha channel of any real dtype as float32 in [0, 1]: integers as a share of their largest."""
    full = np.iinfo(channel.dtype).max if channel.dtype.kind in "iu" else 1
    alpha: FloatImage = np.clip(np.nan_to_num(channel.astype(np.float64) / full), 0, 1).astype(np.float32)
    return alpha


def _with_alpha(rgb: FloatImage, alpha: FloatImage) -> Picture:
    return Picture(rgb, None if (alpha == 1).all() else alpha)


def _unit(values: npt.NDArray[Any], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Map the contrast limits to 0 and 1, clip beyond, and pass NaN on."""
    low, high = limits
    unit = np.clip(values.astype(np.float64), low, high)
    if low == high:
        # No range to stretch: what is above the limit is bright, as it would be just beside it.
        return np.where(np.isnan(unit), np.nan, values > low)
    scale = 1.0 if math.isfinite(high - low) else 0.5
    return (unit * scale - low * scale) / (high * scale - low * scale)


def _rows(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // math.prod(shape[1:]))
    return (slice(start, start + step) for start in range(0, shape[0], step))
