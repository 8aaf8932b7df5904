"""PNG, JPEG and whatever else Pillow reads, in the depths that Pillow has; called by `io` alone."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageMode, PngImagePlugin, UnidentifiedImageError

from napari_styletransfer.errors import ImageError
from napari_styletransfer.io import guard

logger = logging.getLogger(__name__)

_LOSSY = {"JPEG", "MPO"}
"""Formats that no labels survive; WebP and the like have colours."""

_SLIDESHOWS = {"GIF", "PNG", "WEBP"}
"""Formats whose further frames are frames; in a phone's JPEG they are thumbnails and depth maps."""


def read(path: Path) -> npt.NDArray[Any]:
    """Read a picture of up to 8 bits, or grey of any depth; see `io.read_image`."""
    with opened(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        if picture.format in _SLIDESHOWS and frames > 1:
            raise ImageError(f"{path} is an animation of {frames} frames. Save one of them as a picture.")
        orientation = orientation_of(picture)
        if picture.mode.startswith("I;16") and "transparency" in picture.info:
            # Pillow would cut the values to 8 bits.
            grey = np.asarray(picture)
            return upright(add_transparent_color(np.dstack([grey] * 3), picture.info["transparency"]), orientation)
        plain, profile = _resolve_mode(picture), picture.info.get("icc_profile")
        if profile and plain.mode in ("RGB", "RGBA", "CMYK"):
            plain = to_srgb(plain, profile)
        array = np.asarray(plain.convert("RGB") if plain.mode == "CMYK" else plain)
    return upright(array, orientation)


def read_plain(path: Path) -> npt.NDArray[Any]:
    """Read the numbers of a picture as they are stored, palette or not; see `io.read_labels`."""
    with opened(path) as picture:
        if picture.format in _LOSSY:
            raise ImageError(f"{path} is a {picture.format}, which changes numbers. Save the labels as PNG or TIFF.")
        return upright(np.asarray(picture), orientation_of(picture))


def write(file: BinaryIO, array: npt.NDArray[np.uint8], *, jpeg: bool) -> None:
    """Write RGB or RGBA of 8 bits; JPEG with full colour resolution, for strokes have sharp coloured edges."""
    options: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0} if jpeg else {"format": "PNG"}
    # Given the file, Pillow would take no notice of a disk that has room for half of what is written.
    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(packed, **options)
    file.write(packed.getbuffer())


_PATCHED = {"GIF", "PNG"}
"""Formats of which Pillow makes up what is missing at the end."""

_DENSITY_LIMIT = 8 * 1032
"""Pixels that a byte of these can hold: of one bit each, at the best that Deflate can do; LZW does less."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open with Pillow; everything it raises on damaged files becomes an `ImageError`."""
    with guard.reading(path), _no_limits():
        try:
            picture = Image.open(path)
        except UnidentifiedImageError as error:
            raise ImageError(f"{path} is not a picture that can be read. Convert it to PNG, JPEG or TIFF.") from error
        with picture:
            # In Pillow, and as the array that it becomes.
            kind = ImageMode.getmode(picture.mode)
            values = (picture.height, picture.width, len(kind.bands))
            guard.check_memory(path, values, 2 * np.dtype(kind.typestr).itemsize)
            if picture.format in _PATCHED and picture.width * picture.height > _DENSITY_LIMIT * path.stat().st_size:
                raise guard.incomplete(path)
            yield picture


@contextmanager
def _no_limits() -> Iterator[None]:
    """Let Pillow read pictures of hundreds of megapixels, everyday work here, and long descriptions in PNG files."""
    pixels, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, PngImagePlugin.MAX_TEXT_MEMORY
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, text


def add_transparent_color(array: npt.NDArray[Any], clear: int | tuple[int, ...]) -> npt.NDArray[Any]:
    """Add alpha to (H, W, 3) of 16 bits in which one colour stands for nothing, as in PNG files."""
    alpha = np.where((array == np.array(clear, array.dtype)).all(axis=2), 0, 65535)
    return np.dstack([array, alpha.astype(array.dtype)])


def orientation_of(picture: Image.Image) -> int:
    """Return the Exif orientation (1 to 8) of a picture's pixels, which Pillow itself turns in TIFF files alone."""
    picture.load()
    return int(picture.getexif().get(ExifTags.Base.Orientation, 1))


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an array as its Exif or TIFF orientation tag (1 to 8) says."""
    turned = array.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else array
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    return np.ascontiguousarray(turned, turned.dtype.newbyteorder("="))


def _resolve_mode(picture: Image.Image) -> Image.Image:
    """Resolve palettes, transparent colours and one-bit pixels."""
    if picture.mode in ("P", "LA", "La", "PA", "RGBa") or "transparency" in picture.info:
        clear = picture.mode != "P" or "transparency" in picture.info
        return picture.convert("RGBA" if clear else "RGB")
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode in ("L", "RGB", "RGBA", "CMYK", "F", "I") or picture.mode.startswith("I;16"):
        return picture
    return picture.convert("RGB")


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Bring 8-bit colours described by an ICC profile to sRGB, which the engine works in."""
    target = "RGBA" if picture.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return picture
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=target)
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("A picture's colour profile cannot be used and is left out: %s", error)
        return picture.convert(target)
    return picture if converted is None else converted
