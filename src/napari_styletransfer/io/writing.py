"""Pictures and stacks into files, whole or not at all, and whether that will be possible; called by `io` alone."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer import atomic
from napari_styletransfer.errors import ImageError, StyleTransferError
from napari_styletransfer.io import guard, png, raster, stack, tiff
from napari_styletransfer.units import format_bytes

_JPEG = (".jpg", ".jpeg")
_TIFF = (".tif", ".tiff")
SUFFIXES = (".png", *_JPEG, *_TIFF)
"""What can be written."""


def check_writable(
    path: str | os.PathLike[str],
    dtype: npt.DTypeLike,
    *,
    channels: int = 3,
    keep: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse, before any work, an output file that could not be written.

    Parameters
    ----------
    path
        The file to be. One that exists is replaced.
    dtype
        Of the array to be written.
    channels
        3 for RGB, 4 with transparency.
    keep
        Files that must not be replaced: the content and the styles.

    Raises
    ------
    ImageError
        If the suffix is unknown, the format cannot hold such pixels, the folder is missing or may not be written
        to, or the file is one of `keep`.
    """
    path = Path(path)
    _check_format(path, np.dtype(dtype).newbyteorder("="), channels)
    check_folder(path)
    for other in keep:
        if path.exists() and Path(other).exists() and path.samefile(other):
            raise ImageError(f"The output {path} is one of the pictures to read. Choose another name.")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be created where it is to be.

    Raises
    ------
    ImageError
        If the folder is missing or may not be written to, or `path` is itself a folder.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder. Add a file name, such as {path / 'result.png'}.")
        if not path.parent.is_dir():
            raise ImageError(f"There is no folder {path.parent} for {path.name}. Create it first.")
    except OSError as error:
        raise ImageError(
            f"{guard.one_line(str(path))} cannot be written: {_reason(error)}. Choose another name."
        ) from error
    # Only trying tells on network drives and read-only systems.
    probe = atomic.part_name(path)
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {_reason(error)}. Choose another folder.") from error


def write_image(
    path: str | os.PathLike[str], array: npt.NDArray[Any], *, density: tuple[float, float] | None = None
) -> None:
    """Write a picture in the format its suffix names, whole or not at all.

    Parameters
    ----------
    path
        A .png, .jpg, .jpeg, .tif or .tiff file. It is written beside and renamed, so that nobody ever sees half.
    array
        (H, W, 3), or (H, W, 4) with straight alpha. uint8 for every format, uint16 for PNG and TIFF, any other
        integer or float for TIFF.
    density
        Pixels per centimetre along x and y, which TIFF files carry.

    Raises
    ------
    ImageError
        If the format cannot hold the array.
    StyleTransferError
        If the file cannot be written. The picture is then saved beside it as TIFF, or in the folder for temporary
        files, and the error says where.
    """
    path = Path(path)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise ImageError(f"Expected an (H, W, 3) or (H, W, 4) picture to write, but got shape {array.shape}.")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    _check_format(path, array.dtype, array.shape[2])
    try:
        _write(path, array, density)
    except StyleTransferError:
        raise
    # A result may have taken hours: whatever stands in the way of one file, another is tried.
    except Exception as error:
        where = _write_elsewhere(path, array, density)
        end = f"The result is in {where} instead." if where else "The result is lost."
        raise StyleTransferError(f"{path} cannot be written: {_reason(error)}. {end}") from error


def _write(path: Path, array: npt.NDArray[Any], density: tuple[float, float] | None) -> None:
    with atomic.replacing(path, keep_as="result") as file:
        if path.suffix.lower() in _TIFF:
            tiff.write(file, array, density)
        elif array.dtype == np.uint16:
            png.write(file, array)
        else:
            raster.write(file, array, jpeg=path.suffix.lower() in _JPEG)


def _write_elsewhere(path: Path, array: npt.NDArray[Any], density: tuple[float, float] | None) -> Path | None:
    """Write a picture that could not be written where it should be somewhere else, and return where."""
    for folder in (path.parent, Path(tempfile.gettempdir())):
        other = atomic.unused_name(folder / f"{path.stem}.tif", "result")
        with suppress(Exception):
            _write(other, array, density)
            return other
    return None


@contextmanager
def writing_stack(
    path: str | os.PathLike[str],
    counts: Sequence[int],
    axes: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    density: tuple[float, float] | None = None,
    increments: Mapping[str, float] | None = None,
) -> Iterator[Callable[[int, npt.NDArray[Any]], None]]:
    """Open a TIFF stack to write planes into, which is there once the block is left without an error.

    Its whole space is taken from the disk first, so that there is room for every plane.

    Parameters
    ----------
    path
        A .tif or .tiff file.
    counts, axes
        Number of planes along each axis, and a letter for each: T or Z.
    shape
        Of a plane, (H, W, 3) or (H, W, 4).
    density
        Pixels per centimetre along x and y.
    increments
        Distance of planes along Z in micrometres, and along T in seconds, where they are known.

    Yields
    ------
    write_plane
        Takes the number of a plane, counted from 0, and the plane; those that are not written are zero. Called in order
        of the numbers, so that `recover_stacks` finds the first planes of a process that was killed.

    Raises
    ------
    ImageError
        If there is no room for the file, or it cannot be written.
    StyleTransferError
        If it is whole but cannot take its place; the error says where it is instead.
    """
    path, dtype = Path(path), np.dtype(dtype)
    plane_bytes = math.prod(shape) * dtype.itemsize
    pixel_bytes = math.prod(counts) * plane_bytes
    try:
        with atomic.replacing(path, keep_as="result") as file:
            try:
                start = stack.write_empty(file, counts, axes, shape, dtype, density, increments or {})
                atomic.reserve(file, start, start + pixel_bytes)
            except OSError as error:
                raise ImageError(
                    f"{path} needs {format_bytes(pixel_bytes)}: {_reason(error)}. Free some space or choose another "
                    "folder."
                ) from error

            # Past the buffer, in which a plane that could not be written would stand in the way of closing the file.
            raw = file.raw

            def write_plane(number: int, plane: npt.NDArray[Any]) -> None:
                remaining = np.ascontiguousarray(plane, dtype).reshape(-1).view(np.uint8).data
                raw.seek(start + number * plane_bytes)
                while remaining:
                    remaining = remaining[raw.write(remaining) :]

            yield write_plane
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {_reason(error)}.") from error


def recover_stacks(path: str | os.PathLike[str]) -> dict[Path, int]:
    """Find what processes that were killed left of this file, and give its finished planes names to be found by.

    Returns
    -------
    stacks
        The files that hold planes, beside `path`, with how many they hold; what holds none is removed.
    """
    path = Path(path)
    found: dict[Path, int] = {}
    for part in atomic.abandoned_parts(path):
        # What cannot be read or renamed now is there for a later call.
        with suppress(ImageError, OSError):
            if planes := stack.finished_planes(part):
                found[part.rename(atomic.unused_name(path, "unfinished"))] = planes
            else:
                part.unlink()
    return found


def _check_format(path: Path, dtype: np.dtype[Any], channels: int) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        found = f"has the suffix '{path.suffix}'" if suffix else "has no suffix"
        raise ImageError(f"The output {path} {found}. Use one of {', '.join(SUFFIXES)}.")
    tif = path.with_suffix(".tif").name
    if suffix in _JPEG and dtype != np.uint8:
        raise ImageError(f"JPEG holds 8-bit pixels, but the result will be {dtype.name}. Write {tif} instead.")
    if suffix in _JPEG and channels == 4:
        png_name = path.with_suffix(".png").name
        raise ImageError(f"JPEG holds no transparency, which the content has. Write {png_name} or {tif} instead.")
    if suffix == ".png" and dtype not in (np.uint8, np.uint16):
        raise ImageError(f"PNG holds 8-bit or 16-bit pixels, but the result will be {dtype.name}. Write {tif} instead.")
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ImageError(f"A picture file cannot hold {dtype.name} pixels. Convert the content to uint8 or float32.")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or guard.error_text(error)
