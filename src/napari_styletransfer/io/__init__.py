"""Picture files: PNG, JPEG and TIFF in and out, with the dtype kept, and TIFF stacks plane by plane.

The command line reads and writes through this package; so may everything else that has a path instead of a
layer. `read_image` gives arrays that `pixels.decode` takes, `write_image` writes what `pixels.encode` gives,
and `check_writable` tells before any work whether that will be possible. TIFF goes through tifffile, the rest
through Pillow, and PNG with 16-bit colours, which Pillow would cut to 8, through a few lines of our own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.io import guard, png, raster, stack, tiff
from napari_styletransfer.io.stack import Stack
from napari_styletransfer.io.writing import (
    SUFFIXES,
    check_folder,
    check_writable,
    recover_stacks,
    write_image,
    writing_stack,
)

__all__ = [
    "SUFFIXES",
    "Stack",
    "check_folder",
    "check_writable",
    "level_shapes",
    "pixel_density",
    "read_image",
    "read_labels",
    "read_stack",
    "recover_stacks",
    "write_image",
    "writing_stack",
]


def read_image(path: str | os.PathLike[str], *, level: int = 0) -> npt.NDArray[Any]:
    """Read one picture, upright and without palette.

    Parameters
    ----------
    path
        A PNG, JPEG or TIFF file, or another that Pillow reads. What it holds decides, not its suffix.
    level
        Resolution of a pyramidal TIFF file, 0 the finest; one of `level_shapes`.

    Returns
    -------
    array
        (H, W), (H, W, 3) or (H, W, 4) in the dtype of the file; one-bit pictures become 0 and 255 in uint8,
        and 8-bit colours with an embedded profile are brought to sRGB.

    Raises
    ------
    ImageError
        If the file is missing or damaged, or holds a stack or channels that are not one picture.
    """
    path = Path(path)
    start = _read_header(path)
    if tiff.is_tiff(start):
        return tiff.read(path, level)
    if png.is_16bit_color(start):
        return png.read(path)
    return raster.read(path)


def read_labels(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read a label picture: the numbers themselves, not the colours they may be shown in.

    Parameters
    ----------
    path
        A TIFF or PNG file with one whole number a pixel; in a picture with a palette, its indices.

    Returns
    -------
    array
        (H, W), of an integer dtype or bool.

    Raises
    ------
    ImageError
        If the file is missing or damaged, or holds colours, fractions or a stack.
    """
    path = Path(path)
    labels = tiff.read_plain(path) if tiff.is_tiff(_read_header(path)) else raster.read_plain(path)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        found = "colours" if labels.ndim == 3 else f"{labels.dtype.name} pixels"
        raise ImageError(f"{path} has {found}; labels are one whole number a pixel. Save the label picture itself.")
    return labels


def read_stack(path: str | os.PathLike[str], *, level: int = 0) -> Stack | None:
    """Return the stack a TIFF file holds, or None for any other file; planes are read when asked for.

    Parameters
    ----------
    path
        Of the file.
    level
        Resolution at which the planes are read; one of `level_shapes`.

    Raises
    ------
    ImageError
        If the file is missing or damaged.
    """
    path = Path(path)
    return stack.open_stack(path, level) if tiff.is_tiff(_read_header(path)) else None


def level_shapes(path: str | os.PathLike[str]) -> tuple[tuple[int, int], ...]:
    """Return (H, W) of every resolution a pyramidal TIFF file holds, the finest first; none for other files.

    Raises
    ------
    ImageError
        If the file is missing or damaged.
    """
    path = Path(path)
    return stack.level_shapes(path) if tiff.is_tiff(_read_header(path)) else ()


def _read_header(path: Path) -> bytes:
    """Return the first bytes of a file."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder. Give one picture file.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is no file but a device or a pipe. Save the picture as a file.")
        with path.open("rb") as file:
            start = file.read(26)
    except FileNotFoundError:
        raise ImageError(f"There is no file {path}. Check its name and folder.") from None
    except OSError as error:
        name, why = guard.one_line(str(path)), error.strerror or error
        raise ImageError(f"{name} cannot be opened: {why}. Check its name and folder.") from error
    if not start:
        raise ImageError(f"{path} is empty. Save or copy the picture again.")
    return start


def pixel_density(path: str | os.PathLike[str]) -> tuple[float, float] | None:
    """Pixels per centimetre along x and y, if the file is a TIFF that has them; what is no number is logged.

    Raises
    ------
    ImageError
        If the file cannot be opened.
    """
    path = Path(path)
    return tiff.density(path) if tiff.is_tiff(_read_header(path)) else None
