"""Pixels of any real dtype to the one form the engine works on, and back.

`decode` turns an array into float32 RGB in [0, 1] and remembers in an `Encoding` how to undo it; `encode`
undoes it. Called by the engine for what users hand in, by `api` and the command line for what they get
back, and by `layers` for raw reading. Numpy only; large images are converted a few rows at a time, so that
the float64 arithmetic never doubles the memory of an image.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError, one_line
from napari_styletransfer.images.chunks import chunks

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue in the luminance (Rec. ITU-R BT.709)."""

_CHUNK = 1 << 18
"""Values worked on in double precision at once."""


@dataclass(frozen=True)
class Encoding:
    """How an array was turned into RGB, and so how to turn RGB back.

    Attributes
    ----------
    dtype
        The array's dtype, byte order included.
    low, high
        The values that became 0 and 1; `low < high`, both finite.
    channels
        1 for an (H, W) array, 3 for (H, W, 3), 4 for (H, W, 4).
    alpha
        The fourth channel as it was, (H, W) in `dtype`, or None.
    """

    dtype: np.dtype[Any]
    low: float
    high: float
    channels: int
    alpha: npt.NDArray[Any] | None = field(default=None, repr=False, compare=False)


def as_array(given: Any, *, hidden: int | None = None) -> npt.NDArray[Any]:
    """Return what someone hands in as an array.

    Parameters
    ----------
    given
        Anything that numpy takes for an array; a tensor of torch, on any device; a picture of Pillow.
    hidden
        What a masked array holds where it hides its values; None: the least of those it shows, and 0 for alpha.

    Raises
    ------
    ImageError
        If it is none: a path, a list of rows of several lengths, None.
    """
    if given is None or isinstance(given, (str, bytes, os.PathLike)):
        what = "None" if given is None else f"a {type(given).__name__}"
        raise ImageError(f"Expected an array, but got {what}. A file has to be read first, with imageio or Pillow.")
    if isinstance(given, np.ma.MaskedArray):
        return _filled(given, hidden)
    # Whoever holds one of these has imported its library.
    torch, pillow = sys.modules.get("torch"), sys.modules.get("PIL.Image")
    try:
        if torch is not None and isinstance(given, torch.Tensor):
            if given.is_floating_point() and given.dtype not in (torch.float16, torch.float32, torch.float64):
                given = given.float()  # numpy has no such format
            given = given.numpy(force=True)
        elif pillow is not None and isinstance(given, pillow.Image) and given.mode not in _LIKE_ARRAYS:
            given = given.convert("RGBA" if given.has_transparency_data else "RGB")
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = one_line(error)[:_MAX_REASON].rstrip(".")
        raise ImageError(f"Expected an array, but a {type(given).__name__} makes none: {reason}.") from error


_LIKE_ARRAYS = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F", "RGB", "RGBA")
"""Modes of Pillow in which a pixel is grey, RGB or RGBA."""

_MAX_REASON = 200


def _filled(masked: np.ma.MaskedArray[Any, Any], hidden: int | None) -> npt.NDArray[Any]:
    """Return a masked array with other values in place of those that it hides."""
    if hidden is not None or masked.dtype.kind not in "buif":
        return masked.filled(hidden)
    rgba = masked.ndim == 3 and masked.shape[2] == 4
    shown = (masked[..., :3] if rgba else masked).compressed()
    if masked.size and not shown.size:
        raise ImageError("Every pixel of the picture is masked. Choose another picture or plane.")
    array = masked.filled(shown.min() if shown.size else None)
    # In a new array: with nothing masked, numpy fills none and returns the array behind it.
    return np.dstack([array[..., :3], masked[..., 3].filled(0)]) if rgba else array


@np.errstate(all="ignore")
def decode(
    array: npt.ArrayLike, *, low: float | None = None, high: float | None = None, planar: bool = False
) -> tuple[npt.NDArray[np.float32], Encoding]:
    """Turn an array of any real dtype into RGB.

    Parameters
    ----------
    array
        (H, W), (H, W, 3) or (H, W, 4). bool counts as 0 and 1, uint8 as 0 to 255, and floats that all lie in
        [0, 1] are taken as they are. Anything else is stretched from its smallest to its largest finite
        value; a constant image from 0 to its value.
    low, high
        Values to become 0 and 1 in place of those; what lies beyond is clipped.
    planar
        Whether each colour shall lie in memory by itself, as it does in the engine.

    Returns
    -------
    rgb
        float32 (H, W, 3), C-contiguous unless planar, a copy, finite and in [0, 1]. NaN became 0, the infinities 0
        and 1.
    encoding
        For `encode`.

    Raises
    ------
    ImageError
        If the shape or dtype is none of these, no pixel is finite, or `low` is not below `high`.
    """
    pixels = as_array(array)
    encoding = encoding_of(pixels, low=low, high=high)
    color = _color_channels(pixels)
    height, width = color.shape[:2]
    rgb = np.empty((3, height, width) if planar else (height, width, 3), np.float32)
    if planar:
        rgb = rgb.transpose(1, 2, 0)
    scale = _safe_scale(encoding.low, encoding.high)
    span = encoding.high * scale - encoding.low * scale
    for rows in chunks(len(color), math.prod(color.shape[1:]), _CHUNK):
        values = np.clip(color[rows].astype(np.float64), encoding.low, encoding.high)
        values *= scale
        values -= encoding.low * scale
        values /= span
        values[np.isnan(values)] = 0.0
        rgb[rows] = values
    return rgb, encoding


@np.errstate(all="ignore")
def encoding_of(array: npt.ArrayLike, *, low: float | None = None, high: float | None = None) -> Encoding:
    """Return what `decode` remembers of an array, without turning it into RGB.

    Raises
    ------
    ImageError
        As `decode` does.
    """
    pixels = _validated(array)
    low, high = _range(_color_channels(pixels), low, high)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    alpha = pixels[..., 3].copy() if channels == 4 else None
    return Encoding(pixels.dtype, low, high, channels, alpha)


@np.errstate(all="ignore")
def encode(rgb: npt.ArrayLike, encoding: Encoding) -> npt.NDArray[Any]:
    """Turn RGB back into the dtype and value range it came from.

    Parameters
    ----------
    rgb
        (H, W, 3) in [0, 1], of any size; values beyond are clipped, NaN counts as 0.
    encoding
        From `decode`.

    Returns
    -------
    array
        (H, W, 3) in `encoding.dtype`, also where the source was grey; (H, W, 4) where it had an alpha channel,
        which is resized if need be. Integers are rounded and never wrap round.

    Raises
    ------
    ImageError
        If `rgb` is not (H, W, 3).
    """
    values_in = np.asarray(rgb)
    if values_in.ndim != 3 or values_in.shape[2] != 3 or values_in.dtype.kind not in "fiub":
        raise ImageError(f"Expected an RGB image of shape (H, W, 3) to encode, but got {_describe(values_in)}.")
    height, width = values_in.shape[:2]
    array = np.empty((height, width, 4 if encoding.alpha is not None else 3), encoding.dtype)
    low, high = encoding.low, encoding.high
    scale = _safe_scale(low, high)
    span = high * scale - low * scale
    for rows in chunks(len(values_in), math.prod(values_in.shape[1:]), _CHUNK):
        values = np.clip(values_in[rows].astype(np.float64), 0.0, 1.0)
        values[np.isnan(values)] = 0.0
        values *= span
        values += low * scale
        np.clip(values, low * scale, high * scale, out=values)
        values /= scale
        array[rows, :, :3] = _cast(values, encoding.dtype)
    if encoding.alpha is not None:
        array[..., 3] = _resized(encoding.alpha, (height, width))
    return array


def _validated(array: npt.ArrayLike) -> npt.NDArray[Any]:
    pixels = as_array(array)
    if pixels.dtype.kind == "c":
        raise ImageError(f"Expected real pixels, but got {_describe(pixels)}. Pass its magnitude: numpy.abs(array).")
    if pixels.dtype.kind not in "buif":
        raise ImageError(
            f"Expected pixels that are numbers, but got {_describe(pixels)}. Convert them to a numeric dtype."
        )
    if pixels.ndim not in (2, 3):
        raise ImageError(
            f"Expected one picture, (H, W), (H, W, 3) or (H, W, 4), but got {_describe(pixels)}. "
            + ("Take one plane of it." if pixels.ndim > 3 else "Give it two dimensions.")
        )
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        hint = (
            "The channels come first here: use numpy.moveaxis(array, 0, -1)."
            if pixels.shape[0] in (3, 4)
            else "Take one channel or plane of it as (H, W)."
        )
        raise ImageError(f"Expected one picture, (H, W), (H, W, 3) or (H, W, 4), but got {_describe(pixels)}. {hint}")
    if pixels.size == 0:
        raise ImageError(f"Expected a picture with some pixels, but got {_describe(pixels)}. Choose another picture.")
    return pixels


def _color_channels(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one or three channels, (H, W, C)."""
    return pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]


def _describe(array: npt.NDArray[Any]) -> str:
    return f"an array of shape {array.shape} and dtype {array.dtype}"


def _range(color: npt.NDArray[Any], low: float | None, high: float | None) -> tuple[float, float]:
    """Find the values that become 0 and 1; numbers that are given win."""
    for name, value in (("low", low), ("high", high)):
        if value is not None and not math.isfinite(value):
            raise ImageError(f"The {name} end of the value range is {value}. Give a finite number.")
    if low is not None and high is not None and not low < high:
        raise ImageError(f"The value range goes from {low} to {high}. Give a low end below the high end.")
    least, greatest = _extremes(color)
    if color.dtype.kind == "b" or (color.dtype.kind == "f" and least >= 0 and greatest <= 1):
        least, greatest = 0.0, 1.0
    elif color.dtype == np.uint8:
        least, greatest = 0.0, 255.0
    elif least == greatest:
        # Zero as the other end keeps a constant image representable: any other choice may lie outside the dtype.
        least, greatest = (min(least, 0.0), max(greatest, 0.0)) if least else (0.0, 1.0)
    bottom = least if low is None else float(low)
    top = greatest if high is None else float(high)
    if bottom < top:
        return bottom, top
    # One end was given and no pixel lies on its far side: every pixel is clipped to that end.
    return (bottom, bottom + max(1.0, abs(bottom))) if high is None else (top - max(1.0, abs(top)), top)


def _extremes(color: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value."""
    if color.dtype.kind != "f":
        return float(color.min()), float(color.max())
    least, greatest = math.inf, -math.inf
    for rows in chunks(len(color), math.prod(color.shape[1:]), _CHUNK):
        values = color[rows].astype(np.float64)
        finite = np.isfinite(values)
        least = min(least, float(np.min(values, where=finite, initial=math.inf)))
        greatest = max(greatest, float(np.max(values, where=finite, initial=-math.inf)))
    if least > greatest:
        raise ImageError("Every pixel of the picture is NaN or infinite. Choose another picture or plane.")
    return least, greatest


def _safe_scale(low: float, high: float) -> float:
    """Return a factor under which `high - low` does not overflow."""
    return 1.0 if math.isfinite(high - low) else 0.5


def _cast(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert without wrapping round, to the nearest value the dtype has."""
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind == "f":
        limit = min(float(np.finfo(dtype).max), float(np.finfo(np.float64).max))
        return np.clip(values, -limit, limit).astype(dtype)
    limits = np.iinfo(dtype)
    top = float(limits.max)
    if int(top) > limits.max:
        # float64 rounds the largest 64-bit integers up to a power of two that the integer type does not have.
        top = math.nextafter(top, 0.0)
    return np.clip(np.rint(values), float(limits.min), top).astype(dtype)


def _resized(alpha: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize linearly, with pixel centres kept in place."""
    if alpha.shape == shape:
        return alpha
    import scipy.ndimage  # here, as most pictures have no alpha channel

    values = np.nan_to_num(alpha.astype(np.float64))
    zoom = tuple(new / old for new, old in zip(shape, alpha.shape, strict=True))
    return _cast(scipy.ndimage.zoom(values, zoom, order=1, mode="nearest", grid_mode=True), alpha.dtype)
