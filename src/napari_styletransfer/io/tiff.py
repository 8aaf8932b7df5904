"""TIFF of any depth, with its pixel size; called by `io` alone."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from napari_styletransfer.errors import ImageError
from napari_styletransfer.io import guard, raster

logger = logging.getLogger(__name__)

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PER_CENTIMETRE = {"nm": 1e7, "um": 1e4, "µm": 1e4, "μm": 1e4, "micron": 1e4, "microns": 1e4, "mm": 10.0, "cm": 1.0}
_PER_CENTIMETRE |= {"inch": 1 / 2.54, "inches": 1 / 2.54, "in": 1 / 2.54, "m": 0.01}
"""How many of a unit make a centimetre."""

_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}

_Series = tifffile.TiffPageSeries
_LOSSY = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.JPEG_LOSSY)

_LEAST, _MOST = 1e-6, 1e9
"""Pixels in a centimetre: of a kilometre's, and of less than an atom's."""

_GREYS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.PALETTE)


def is_tiff(start: bytes) -> bool:
    """Tell from the first four bytes whether a file is TIFF or BigTIFF."""
    return start[:4] in _STARTS


def read(path: Path, level: int = 0) -> npt.NDArray[Any]:
    """Read one picture; see `io.read_image`."""
    with guard.reading(path), tifffile.TiffFile(path) as file:
        series = _only_series(path, file).levels[level]
        page = series.keyframe
        if page.photometric not in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, *_GREYS):
            raise ImageError(f"{path} has {_code(page.photometric)} colours. Save it as RGB or grey.")
        array = _pixels(path, series)
        if array is None and level:
            raise ImageError(
                f"Of {path}, which is compressed with {_code(page.compression)}, only the finest resolution can be "
                "read. Save the one you want as a picture of its own."
            )
        if array is None:
            return raster.read(path)
        array = _interpret_samples(path, array, series)
        if page.iccprofile and array.ndim == 3 and array.dtype == np.uint8:
            array = np.asarray(raster.to_srgb(Image.fromarray(array), page.iccprofile))
        return raster.upright(array, page.tags.valueof(274, 1))


def read_plain(path: Path) -> npt.NDArray[Any]:
    """Read the numbers of one picture as they are stored; see `io.read_labels`."""
    with guard.reading(path), tifffile.TiffFile(path) as file:
        series = _only_series(path, file)
        page = series.keyframe
        if page.compression in _LOSSY:
            raise ImageError(
                f"{path} is compressed with {_code(page.compression)}, which changes the numbers. Save the labels "
                "without."
            )
        _check_size(path, series)
        array: npt.NDArray[Any] = series.asarray().reshape(series.get_shape(squeeze=True))
        return raster.upright(array, page.tags.valueof(274, 1))


def density(path: Path) -> tuple[float, float] | None:
    """Pixels per centimetre along x and y of the upright picture, if the file has them; what is no number is logged."""
    # As in `guard`: what is written there may be anything.
    try:
        return _density(path)
    except Exception as error:
        logger.warning("The pixel size of %s cannot be read and is left out: %s.", path, guard.error_text(error))
        return None


def increments(path: Path, file: tifffile.TiffFile) -> dict[str, float]:
    """Return the distance of planes along Z in micrometres, and along T in seconds, as far as the file has it."""
    try:
        return _increments(path, file)
    except Exception as error:
        logger.warning("The distances in %s cannot be read and are left out: %s.", path, guard.error_text(error))
        return {}


def _density(path: Path) -> tuple[float, float] | None:
    with guard.silenced(), tifffile.TiffFile(path) as file:
        if not len(file.pages):
            return None
        page = file.pages.first
        found = _ome_density(path, file.ome_metadata) if file.ome_metadata else _tag_density(file, page)
        if found is None:
            return None
        if not all(_LEAST < value < _MOST for value in found):
            raise ValueError("no picture has {:.3g} × {:.3g} pixels in a centimetre".format(*found))
        return found[::-1] if page.tags.valueof(274, 1) >= 5 else found


def _increments(path: Path, file: tifffile.TiffFile) -> dict[str, float]:
    found: dict[str, float] = {}
    if file.ome_metadata:
        pixels = _ome_pixels(file.ome_metadata)
        for axis, name, units, default in (
            ("Z", "PhysicalSizeZ", {unit: 1e4 / each for unit, each in _PER_CENTIMETRE.items()}, "µm"),
            ("T", "TimeIncrement", _SECONDS, "s"),
        ):
            found[axis] = _to_float(path, pixels.get(name)) * units.get(pixels.get(f"{name}Unit", default), math.nan)
    else:
        metadata = file.imagej_metadata or {}
        found["Z"] = _to_float(path, metadata.get("spacing")) * 1e4 / (_imagej_unit(file) or math.nan)
        found["T"] = _to_float(path, metadata.get("finterval")) * _SECONDS.get(
            str(metadata.get("tunit", "sec")), math.nan
        )
    return {axis: value for axis, value in found.items() if math.isfinite(value) and value > 0}


def write(file: BinaryIO, array: npt.NDArray[Any], density: tuple[float, float] | None) -> None:
    """Write RGB, or RGBA with straight alpha."""
    tifffile.imwrite(
        file,
        array,
        photometric="rgb",
        extrasamples=["unassalpha"] if array.shape[2] == 4 else None,
        compression="zlib",
        resolution=density,
        resolutionunit=None if density is None else "centimeter",
        metadata=None,
        software="napari-styletransfer",
    )


def _only_series(path: Path, file: tifffile.TiffFile) -> _Series:
    """Return the picture of a file that holds one, besides its thumbnails."""
    all_series = [series for series in file.series if series.size]
    pictures = [series for series in all_series if not series.keyframe.is_reduced] or all_series
    if not pictures:
        raise ImageError(f"{path} holds no picture: it is damaged or cut off. Save or copy it again.")
    if len(pictures) > 1:
        raise ImageError(f"{path} holds {len(pictures)} pictures. Save the one you want as a file of its own.")
    series = pictures[0]
    axes, shape = series.get_axes(squeeze=True), series.get_shape(squeeze=True)
    if sorted(axes) in (sorted("YX"), sorted("YXS")):
        return series
    size = " × ".join(f"{axis}: {length}" for axis, length in zip(axes, shape, strict=True))
    if axes == "CYX":
        what, hint = "channels one behind the other", "one channel, or the channels merged to RGB,"
    else:
        what, hint = "a stack", "the plane you want"
    raise ImageError(f"{path} holds {what} ({size}). Save {hint} as a picture of its own.")


def _check_size(path: Path, series: _Series) -> None:
    """Refuse what is larger than memory or, without compression, than the file."""
    page = series.keyframe
    values = math.prod(series.shape)
    guard.check_memory(path, series.shape, 1 if series.dtype is None else series.dtype.itemsize)
    # Parts of a length of 0 are allowed, and empty.
    whole = page.compression == tifffile.COMPRESSION.NONE and all(page.databytecounts)
    if whole and values * page.bitspersample > 8 * path.stat().st_size:
        raise guard.incomplete(path)


def _pixels(path: Path, series: _Series) -> npt.NDArray[Any] | None:
    """Read with tifffile; None for everyday files that Pillow reads and tifffile only with imagecodecs."""
    page = series.keyframe
    if page.photometric == tifffile.PHOTOMETRIC.YCBCR:
        return None
    _check_size(path, series)
    try:
        array = series.asarray()
    except (ValueError, KeyError, NotImplementedError) as error:
        bits = (8,) if page.photometric == tifffile.PHOTOMETRIC.RGB else (1, 2, 4, 8)
        if page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and page.parent.byteorder == "<":
            bits = (*bits, 12)
        if "imagecodecs" in str(error) and page.bitspersample in bits:
            return None
        raise
    array = array.reshape(series.get_shape(squeeze=True))
    return np.moveaxis(array, 0, -1) if series.get_axes(squeeze=True) == "SYX" else array


def _interpret_samples(path: Path, array: npt.NDArray[Any], series: _Series) -> npt.NDArray[Any]:
    """Give the samples of a page their meaning as grey, RGB or RGBA."""
    page = series.keyframe
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind not in "buif":
        raise ImageError(f"{path} has {array.dtype.name} pixels. Save it with real numbers, such as its magnitude.")
    if array.dtype == np.uint8 and page.bitspersample < 8 and page.photometric != tifffile.PHOTOMETRIC.PALETTE:
        array = np.rint(array * (255 / (2**page.bitspersample - 1))).astype(np.uint8)
    # Masks that tifffile wrote carry the tag for inverted pixels without being inverted.
    own_mask = array.dtype.kind == "b" and series.kind == "shaped"
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not own_mask:
        array = _invert(path, array)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None and array.ndim == 2:
        colors: npt.NDArray[Any] = np.moveaxis(page.colormap, 0, -1)[array]
        # Old programs wrote 8-bit values into the 16-bit table.
        return (colors if page.colormap.max() < 256 else colors >> 8).astype(np.uint8)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    samples = 1 if array.ndim == 2 else array.shape[2]
    if samples not in (1, 2, 3, 4) or (samples == 2 and not page.extrasamples):
        raise ImageError(f"{path} has {samples} channels in each pixel. Save one channel, or RGB.")
    if samples in (2, 4) and tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
        array = _unpremultiply(array)
    if samples == 2:
        array = array[..., [0, 0, 0, 1]]
    return array[..., 0] if samples == 1 and array.ndim == 3 else array


def _code(code: object) -> str:
    """Return the name of a TIFF code, or the number where tifffile knows none."""
    return str(getattr(code, "name", code))


def _invert(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "bu":
        raise ImageError(f"{path} says that its {array.dtype.name} pixels are darker the larger. Save it inverted.")
    # The complement of an unsigned integer is its distance from the largest one.
    return ~array


def _unpremultiply(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo the multiplication of the colours with their alpha."""
    top = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1.0
    alpha = array[..., -1:].astype(np.float64)
    colors = np.divide(array[..., :-1] * np.float64(top), alpha, out=np.zeros(array[..., :-1].shape), where=alpha > 0)
    if array.dtype.kind in "ui":
        colors = np.clip(np.rint(colors), 0, top)
    return np.concatenate((colors.astype(array.dtype), array[..., -1:]), axis=-1)


def _tag_density(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    tags = [page.tags.valueof(code) for code in (282, 283)]
    if None in tags:
        return None
    if any(not isinstance(tag, tuple) or len(tag) != 2 for tag in tags):
        raise ValueError(f"a resolution of {tags} is no fraction")
    if any(0 in tag for tag in tags):
        return None
    factor = _imagej_unit(file)
    if factor is None:
        factor = {2: 1 / 2.54, 3: 1.0}.get(int(page.tags.valueof(296, 2)))
    if factor is None:
        return None
    x, y = (top / bottom * factor for top, bottom in tags)
    return x, y


def _to_float(path: Path, text: object) -> float:
    """Return what a file says as a number; NaN for nothing and, with a warning, for what is none."""
    try:
        return math.nan if text is None else float(str(text))
    except ValueError:
        found = guard.one_line(str(text))
        logger.warning("%s has a pixel size or distance of '%s', which is no number; it is left out.", path, found)
        return math.nan


def _imagej_unit(file: tifffile.TiffFile) -> float | None:
    """Return how many of the unit that ImageJ measured in make a centimetre."""
    unit = (file.imagej_metadata or {}).get("unit")
    # ImageJ writes the micro sign as an escape.
    return _PER_CENTIMETRE.get(str(unit).replace("\\u00B5", "µ").lower()) if unit else None


def _ome_pixels(description: str) -> dict[str, str]:
    """Return the attributes of the first picture's pixels."""
    pixels = ElementTree.fromstring(description).find(".//{*}Pixels")
    return {} if pixels is None else dict(pixels.attrib)


def _ome_density(path: Path, description: str) -> tuple[float, float] | None:
    pixels = _ome_pixels(description)
    found = []
    for axis in "XY":
        size = _to_float(path, pixels.get(f"PhysicalSize{axis}"))
        factor = _PER_CENTIMETRE.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if not size or math.isnan(size) or factor is None:
            return None
        found.append(factor / size)
    return found[0], found[1]
