"""Pictures and stacks into files, whole or not at all, and whether that will be possible; called by `files` alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.files import png, raster, stack, tiff

_JPEG = (".jpg", ".jpeg")
_TIFF = (".tif", ".tiff")
SUFFIXES = (".png", *_JPEG, *_TIFF)
"""What can be written."""


def check_writable(
    path: str | os.PathLike[str],
    dtype: npt.DTypeLike,
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
    if path.is_dir():
        raise ImageError(f"{path} is a folder. Add a file name, such as {path / 'result.png'}.")
    if not path.parent.is_dir():
        raise ImageError(f"There is no folder {path.parent} for {path.name}. Create it first.")
    # Only trying tells on network drives and read-only systems.
    probe = _beside(path)
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}. Choose another folder.") from error


def write_image(
    path: str | os.PathLike[str], array: npt.NDArray[Any], density: tuple[float, float] | None = None
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
        If the format cannot hold the array, or the file cannot be written.
    """
    path = Path(path)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise ImageError(f"Expected an (H, W, 3) or (H, W, 4) picture to write, but got shape {array.shape}.")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    _check_format(path, array.dtype, array.shape[2])
    suffix = path.suffix.lower()
    part = _beside(path)
    try:
        if suffix in _TIFF:
            tiff.write(part, array, density)
        elif array.dtype == np.uint16:
            png.write(part, array)
        else:
            raster.write(part, array)
        part.replace(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing_stack(
    path: str | os.PathLike[str],
    counts: Sequence[int],
    axes: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    density: tuple[float, float] | None = None,
    increments: Mapping[str, float] | None = None,
) -> Iterator[npt.NDArray[Any]]:
    """Give an array that becomes a TIFF stack when the block is left without an error.

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
    array
        (*counts, *shape), zero at first, kept on disk.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    path = Path(path)
    part = _beside(path)
    try:
        with stack.writing(part, counts, axes, shape, dtype, density, increments or {}) as array:
            yield array
        part.replace(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


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


def _beside(path: Path) -> Path:
    """Return a fresh name in the same folder, with the suffix kept because the writers go by it."""
    return path.with_name(f".{path.stem[:100]}-{secrets.token_hex(4)}{path.suffix.lower()}")
