"""What an image of the engine becomes in the layer that shows it: a picture in colour, or a channel like its content.

Where regions leave the content alone, the layer holds the content's own pixels, bit for bit and at the content's own
size, however small the run works. Used by the output layers of the form, one `Rendering` for each plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_styletransfer.images.pixels import LUMINANCE
from napari_styletransfer.layers.compose import Composite
from napari_styletransfer.layers.snapshot import Snapshot

BYTES = np.dtype(np.uint8)
"""What a layer in colour holds, whatever its content: napari cannot save other colours as PNG."""

_LUMINANCE = np.array(LUMINANCE, np.float32)

_SHADES = 1 << 16
"""Shades of luminance that are told apart."""


class LabelSource(Protocol):
    """Labels or a mask of a plane, not read yet: a `LabelsRegion` or a `ShapesRegion`."""

    def read(self) -> npt.NDArray[Any]:
        """Return the labels, (H, W)."""
        ...


class Rendering:
    """Turns images of one plane's run into what its layer holds, for any thread.

    Parameters
    ----------
    reference
        The plane the result lies on.
    channel
        Whether the result stays one channel, where it would else be 8-bit RGB: it has the content's dtype, its values
        distributed like the content's. The structure loss of the engine keeps them in their places, so that a dark
        background stays dark.
    labels
        Labels of the plane, in its pixels; outside them nothing is changed.
    regions
        As `StyleConfig.regions`: the style of each label.
    """

    def __init__(
        self,
        reference: Snapshot | Composite,
        *,
        channel: bool = False,
        labels: LabelSource | None = None,
        regions: Mapping[int, int | None] | None = None,
    ) -> None:
        self._reference = reference
        self._channel = channel
        self._labels = labels
        self._regions = regions

    def load(self) -> None:
        """Read what will be needed of content and labels; otherwise that is done with the first image.

        Raises
        ------
        ImageError
            If content or labels cannot be read.
        """
        if self._labels is not None:
            _ = self._mask
        if self._channel:
            _ = self._sorted_values
        elif self._labels is not None:
            _ = self._content_pixels

    def release(self) -> None:
        """Let go of what was read; it is read again if another image comes."""
        for name in ("_content_pixels", "_mask", "_sorted_values"):
            self.__dict__.pop(name, None)

    def __call__(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Return what the layer holds for an image of any scale.

        Parameters
        ----------
        image
            float32 (h, w, 3) in [0, 1].
        shape
            (H, W) of the run's result. With regions, what comes back has the size of the content instead.

        Returns
        -------
        array
            uint8 (H, W, 3); for a channel (H, W) of the content's dtype.

        Raises
        ------
        ImageError
            If content or labels cannot be read.
        """
        if self._labels is None:
            return self._to_pixels(resize(image, shape, self._dtype))
        result = self._content_pixels.copy()
        window = _bounding_box(self._mask)
        inside = self._mask[window]
        if inside.any():
            part = resize(image, self._mask.shape, self._dtype, window)
            result[window][inside] = self._to_pixels(part[inside])
        return result

    @property
    def _dtype(self) -> np.dtype[Any]:
        """What an image is fitted as."""
        return np.dtype(np.float32) if self._channel else BYTES

    def _to_pixels(self, colors: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn fitted colours (..., 3) into pixels of the layer."""
        return match_histogram(colors @ _LUMINANCE, self._sorted_values) if self._channel else colors

    @cached_property
    def _content_pixels(self) -> npt.NDArray[Any]:
        """The content as it is where nothing is stylised."""
        if self._channel:
            assert isinstance(self._reference, Snapshot)
            return self._reference.pixels()
        return as_dtype(self._reference.read(), BYTES)

    @cached_property
    def _mask(self) -> npt.NDArray[np.bool_]:
        """Where something is stylised."""
        assert self._labels is not None
        return stylized_mask(self._labels.read(), self._regions)

    @cached_property
    def _sorted_values(self) -> npt.NDArray[Any]:
        """The content's values, where it is stylised, in order."""
        own = self._content_pixels
        chosen = own if self._labels is None else own[self._mask]
        if own.dtype.kind != "f":
            return np.sort(chosen, axis=None)
        finite = chosen[np.isfinite(chosen)]
        return np.sort(finite if finite.size else own[np.isfinite(own)], axis=None)


def stylized_mask(labels: npt.NDArray[Any], regions: Mapping[int, int | None] | None) -> npt.NDArray[np.bool_]:
    """Return where labels (H, W), or a mask, name a style: without `regions` that is where they are not 0."""
    if regions is None:
        return labels != 0
    return np.isin(labels, [label for label, style in regions.items() if style is not None])


def match_histogram(luminance: npt.NDArray[np.float32], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give each pixel the value that has its rank: the darkest the lowest, equally dark ones the same.

    That is exact histogram matching without arithmetic on the values, so that it holds for every dtype.

    Parameters
    ----------
    luminance
        In [0, 1], of any shape.
    values
        (n,) in ascending order, finite, n > 0; n need not be the number of pixels.

    Returns
    -------
    array
        Of the shape of `luminance`, with nothing but `values` in it.
    """
    shades = np.rint(np.clip(luminance, 0, 1) * np.float32(_SHADES - 1)).astype(np.intp)
    counts = np.bincount(shades.ravel(), minlength=_SHADES)
    middle = np.cumsum(counts) - counts / 2
    ranks = np.minimum((middle * (values.size / shades.size)).astype(np.intp), values.size - 1)
    result: npt.NDArray[Any] = values[ranks][shades]
    return result


def resize(
    image: npt.NDArray[Any],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    window: tuple[slice, slice] | None = None,
) -> npt.NDArray[Any]:
    """Bring an image of another scale to a size and dtype, for any thread.

    Parameters
    ----------
    image
        float32 (h, w, 3) in [0, 1].
    shape
        (H, W) wanted.
    dtype
        uint8 or float32.
    window
        Rows and columns to cut out of that; None: all.
    """
    if image.shape[:2] == shape:
        return as_dtype(image if window is None else image[window], dtype)
    tall, broad = window or (slice(None), slice(None))
    top, bottom, down = _neighbours(image.shape[0], shape[0], tall)
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    left, right, across = _neighbours(image.shape[1], shape[1], broad)
    wide = rows[:, left] * (1 - across)[None, :, None] + rows[:, right] * across[None, :, None]
    return as_dtype(wide, dtype)


def as_dtype(image: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Turn a float image in [0, 1] into uint8 or float32."""
    if dtype == np.uint8:
        return np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    return image.astype(np.float32, copy=False)


def _neighbours(
    size: int, wanted: int, window: slice
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each wanted pixel centre the two pixels around it and how far it is towards the second."""
    at = np.clip((np.arange(wanted)[window] + 0.5) * size / wanted - 0.5, 0, size - 1)
    first = np.floor(at).astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (at - first).astype(np.float32)


def _bounding_box(inside: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest rows and columns that hold all that is stylised."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
