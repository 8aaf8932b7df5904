"""PNG with 16-bit colours, which Pillow can neither write nor read in full depth; called by `io` alone.

Layout and filters are those of the PNG specification (W3C, third edition, sections 9 and 11).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.io import raster

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _RGBA = 2, 6
_UP = 2
_CHUNK_BYTES = 1 << 30
"""Of compressed pixels; a chunk holds less than 2 GiB."""


def is_16bit_color(start: bytes) -> bool:
    """Tell from the first 26 bytes whether a file is a PNG with 16 bits and more than one channel."""
    return start[:8] == _SIGNATURE and start[24:25] == b"\x10" and start[25:26] in (b"\2", b"\4", b"\6")


def read(path: Path) -> npt.NDArray[np.uint16]:
    """Read 16-bit RGB or RGBA; see `io.read_image`."""
    # Pillow unfilters all 16 bits and then keeps the first byte of each value. Told that the values are
    # little-endian it keeps the second one, so that two passes give both.
    with raster.opened(path) as picture:
        tile = picture.tile[0]  # type: ignore[attr-defined]
        if tile.args not in ("RGB;16B", "RGBA;16B"):
            raise ImageError(f"{path} is a 16-bit grey picture with transparency. Save it as TIFF, or without.")
        orientation = raster.orientation_of(picture)
        clear = picture.info.get("transparency")
        array = np.asarray(picture).astype(np.uint16) << 8
    with raster.opened(path) as picture:
        picture.tile = [tile._replace(args=tile.args.replace("16B", "16L"))]  # type: ignore[attr-defined]
        array |= np.asarray(picture)
    if clear is not None:
        array = raster.add_transparent_color(array, clear)
    return raster.upright(array, orientation)


def write(file: BinaryIO, array: npt.NDArray[np.uint16]) -> None:
    """Write (H, W, 3) or (H, W, 4) with 16 bits a channel."""
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array, ">u2").view(np.uint8).reshape(height, -1)
    # As differences to the row above, which compress much better than the values.
    lines = np.full((height, 1 + rows.shape[1]), _UP, np.uint8)
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    packed = zlib.compress(lines.data)
    header = struct.pack(">IIBBBBB", width, height, 16, _RGB if channels == 3 else _RGBA, 0, 0, 0)
    chunks = [(b"IDAT", packed[start : start + _CHUNK_BYTES]) for start in range(0, len(packed), _CHUNK_BYTES)]
    file.write(_SIGNATURE)
    for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
