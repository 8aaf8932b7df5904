"""Stacks and movies in TIFF files: their planes read one at a time, and written one at a time.

The command line stylises a stack plane by plane; neither what goes in nor what comes out is ever wholly in
memory. Results are OME-TIFF, which says which axis is time and which is depth. Called by `io` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from napari_styletransfer.errors import ImageError
from napari_styletransfer.io import guard, tiff

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_UNNAMED = "IQ"
_PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)


@dataclass(frozen=True)
class Stack:
    """The planes of a TIFF file.

    Attributes
    ----------
    path
        The file.
    axes
        A letter for each axis that is run through, T or Z, the last varying fastest.
    counts
        Number of planes along each of `axes`.
    shape
        Of a plane: (H, W), (H, W, 3) or (H, W, 4).
    dtype
        Of the pixels, in the machine's byte order.
    level
        Resolution that is read, 0 the finest.
    increments
        Distance of planes along Z in micrometres, and along T in seconds, as far as the file says so.
    """

    path: Path
    axes: str
    counts: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    level: int = 0
    increments: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def plane(self, number: int) -> npt.NDArray[Any]:
        """Read a plane, counted from 0.

        Raises
        ------
        ImageError
            If it is damaged or compressed in a way that cannot be read.
        """
        with guard.reading(self.path), tifffile.TiffFile(self.path) as file:
            return self._read(_series(file).levels[self.level], number)

    def _read(self, series: tifffile.TiffPageSeries, number: int) -> npt.NDArray[Any]:
        guard.check_memory(self.path, self.shape, self.dtype.itemsize)
        if series.dataoffset is not None:
            # Files that ImageJ writes have one page and the other planes behind it.
            stored = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
            count = math.prod(self.shape)
            start = series.dataoffset + number * count * stored.itemsize
            plane = np.fromfile(self.path, stored, count, offset=start)
        elif len(series.pages) == len(self) and (page := series.pages[number]) is not None:
            plane = page.asarray()
        else:
            guard.check_memory(self.path, series.shape, self.dtype.itemsize)
            plane = series.asarray().reshape(len(self), *self.shape)[number]
        return plane.reshape(self.shape).astype(self.dtype, copy=False)


def open_stack(path: Path, level: int = 0) -> Stack | None:
    """Return the stack a TIFF file holds, or None if it holds one picture, or something else than planes."""
    with guard.reading(path), tifffile.TiffFile(path) as file:
        series = _series(file).levels[level]
        axes, shape = series.get_axes(squeeze=True), series.get_shape(squeeze=True)
        page, dtype = series.keyframe, series.dtype
        first = axes.find("YX")
        names, rest = _axis_names(axes[:first]), axes[first:]
        if first < 1 or names is None or rest not in ("YX", "YXS") or page.photometric not in _PLAIN:
            return None
        if rest == "YXS" and shape[-1] not in (3, 4):
            return None
        if dtype is None or dtype.name not in _DTYPES:
            return None
        increments = tiff.increments(path, file)
        return Stack(path, names, shape[:first], shape[first:], dtype.newbyteorder("="), level, increments)


def level_shapes(path: Path) -> tuple[tuple[int, int], ...]:
    """Return (H, W) of every resolution of a file; see `io.level_shapes`."""
    with guard.reading(path), tifffile.TiffFile(path) as file:
        levels = _series(file).levels if len(file.series) else []
        return tuple((level.shape[level.axes.index("Y")], level.shape[level.axes.index("X")]) for level in levels)


def write_empty(
    file: BinaryIO,
    counts: Sequence[int],
    axes: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    density: tuple[float, float] | None,
    increments: Mapping[str, float],
) -> int:
    """Write a TIFF stack whose pixels are all zero, and return at which byte of the file they begin.

    Parameters
    ----------
    file
        New and empty.
    counts, axes
        Planes along each axis, and the axes' letters.
    shape
        (H, W, 3) or (H, W, 4).
    density
        Pixels per centimetre along x and y.
    increments
        As in `Stack`.
    """
    metadata: dict[str, Any] = {"axes": f"{axes}YXS"}
    for name, value in zip("XY", density or (), strict=False):
        metadata |= {f"PhysicalSize{name}": 1e4 / value, f"PhysicalSize{name}Unit": "µm"}
    for name, attribute, unit in (("Z", "PhysicalSizeZ", "µm"), ("T", "TimeIncrement", "s")):
        if name in axes and name in increments:
            metadata |= {attribute: increments[name], f"{attribute}Unit": unit}
    where = tifffile.imwrite(
        file,
        shape=(*counts, *shape),
        dtype=dtype,
        photometric="rgb",
        extrasamples=["unassalpha"] if shape[2] == 4 else None,
        ome=True,
        metadata=metadata,
        returnoffset=True,
    )
    assert where is not None
    return where[0]


def finished_planes(path: Path) -> int:
    """Return how many planes of a stack that was broken off were written; 0 for any other file.

    Raises
    ------
    ImageError
        If a plane cannot be read.
    """
    try:
        found = open_stack(path)
    except ImageError:
        return 0
    # They are written in order, and one of them may be black.
    numbers = () if found is None else reversed(range(len(found)))
    return next((number + 1 for number in numbers if found and found.plane(number).any()), 0)


def _series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the only series that is not a thumbnail, or the first."""
    pictures = [series for series in file.series if series.size and not series.keyframe.is_reduced]
    return pictures[0] if len(pictures) == 1 else file.series[0]


def _axis_names(axes: str) -> str | None:
    """Return the letters of time and depth, with axes that the file gives no name taken for one of them."""
    free = [name for name in "TZ" if name not in axes]
    if not set(axes) <= set("TZ" + _UNNAMED) or sum(axis in _UNNAMED for axis in axes) > len(free):
        return None
    return "".join(free.pop(0) if axis in _UNNAMED else axis for axis in axes)
