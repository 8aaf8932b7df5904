"""The target `files`: picture files of every kind that is read, damaged."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from napari_styletransfer.io import level_shapes, pixel_density, read_image, read_labels, read_stack, write_image

from .odd import damaged, number_bytes
from .outcomes import Call

_TAG_TYPES = (0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 99)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def files(rng: random.Random, folder: Path) -> Iterable[Call]:
    """Read a damaged file in every way there is."""
    name = rng.choice(list(_whole()))
    data = _whole()[name]
    change: Callable[[random.Random, bytes], bytes] = damaged
    if rng.random() < 0.6:
        change = {b"\x89PNG": _other_chunk, b"II*\0": _other_tag, b"MM\0*": _other_tag}.get(data[:4], damaged)
    path = folder / name
    path.write_bytes(change(rng, data))
    what = f"{change.__name__} {name}"
    yield Call(f"read_image({what})", lambda: read_image(path))
    yield Call(f"read_labels({what})", lambda: read_labels(path))
    yield Call(f"planes of read_stack({what})", lambda: _planes(path))
    yield Call(
        f"levels of {what}", lambda: [read_image(path, level=level) for level in range(len(level_shapes(path)[:3]))]
    )
    yield Call(f"pixel_density({what})", lambda: pixel_density(path))


def _planes(path: Path) -> object:
    stack = read_stack(path)
    return stack and [stack.plane(number).sum() for number in {0, 1, len(stack) - 1} if 0 <= number < len(stack)]


@lru_cache(maxsize=1)
def _whole() -> dict[str, bytes]:
    """Return small files by name."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (13, 17, 3), np.uint8)
    grey, deep = rgb[..., 0].copy(), rgb.astype(np.uint16) * 250
    colors, shades = Image.fromarray(rgb), Image.fromarray(grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = {
        "rgb.png": _by_pillow(colors, "PNG", exif=exif),
        "rgba.png": _by_pillow(colors.convert("RGBA"), "PNG"),
        "grey.png": _by_pillow(shades, "PNG"),
        "grey16.png": _by_pillow(Image.fromarray(deep[..., 0]), "PNG"),
        "palette.png": _by_pillow(colors.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=0),
        "bits.png": _by_pillow(shades.convert("1"), "PNG"),
        "photo.jpg": _by_pillow(colors, "JPEG", exif=exif),
        "progressive.jpg": _by_pillow(colors, "JPEG", progressive=True),
        "cmyk.jpg": _by_pillow(colors.convert("CMYK"), "JPEG"),
        "rgb.bmp": _by_pillow(colors, "BMP"),
        "palette.bmp": _by_pillow(colors.convert("P"), "BMP"),
        "one.gif": _by_pillow(colors, "GIF"),
        "two.gif": _by_pillow(colors, "GIF", save_all=True, append_images=[shades]),
        "packed.tif": _by_pillow(colors, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": _by_pillow(colors, "TIFF", compression="jpeg"),
        "fax.tif": _by_pillow(shades.convert("1"), "TIFF", compression="group4"),
        "rgb.tif": _by_tifffile(rgb, photometric="rgb", resolution=(300, 300)),
        "deflated.tif": _by_tifffile(deep, photometric="rgb", compression="zlib", predictor=True),
        "large.tif": _by_tifffile(grey, bigtiff=True),
        "big-endian.tif": _by_tifffile(deep[..., 0], byteorder=">"),
        "float.tif": _by_tifffile(rng.random((13, 17), np.float32), tile=(16, 16)),
        "mask.tif": _by_tifffile(grey > 99),
        "planar.tif": _by_tifffile(np.moveaxis(rgb, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        "palette.tif": _by_tifffile(grey, photometric="palette", colormap=np.zeros((3, 256), np.uint16)),
        "imagej.tif": _by_tifffile(
            deep[..., 0][None].repeat(3, 0), imagej=True, metadata={"axes": "ZYX", "spacing": 2}
        ),
        "ome.tif": _by_tifffile(rgb[None].repeat(4, 0), ome=True, photometric="rgb", metadata={"axes": "TYXS"}),
        "pages.tif": _by_tifffile(rng.integers(0, 9, (5, 13, 17), np.uint8), photometric="minisblack"),
        "pyramid.tif": _pyramid(rng.integers(0, 255, (64, 64), np.uint8)),
    }
    with tempfile.TemporaryDirectory() as folder:
        write_image(path := Path(folder) / "deep.png", deep)
        found["deep.png"] = path.read_bytes()
    return found


def _by_pillow(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _by_tifffile(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def _pyramid(array: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(array, subifds=1, tile=(16, 16))
        tif.write(array[::2, ::2], subfiletype=1, tile=(16, 16))
    return file.getvalue()


def _other_chunk(rng: random.Random, data: bytes) -> bytes:
    """Damage, drop or double a chunk of a PNG and give it the checksum that it needs to be read at all."""
    chunks, at = [], len(_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(chunks))
        kind, body = chunks[number]
        change = rng.randrange(4)
        if change == 0:
            kind = rng.choice(
                (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL", b"fdAT", b"zTXt", b"IEND")
            )
        if change <= 1:
            body = damaged(rng, body, head=13)
        if change == 2:
            chunks.insert(rng.randrange(len(chunks)), (kind, body))
        chunks[number : number + 1] = [(kind, body)] if change < 3 or len(chunks) == 1 else []
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _other_tag(rng: random.Random, data: bytes) -> bytes:
    """Change the code, type, count or value of a tag of a TIFF."""
    result = bytearray(data)
    order = "little" if data[:2] == b"II" else "big"
    number = lambda at, width: int.from_bytes(data[at : at + width], order)  # noqa: E731
    first = number(4, 4)
    for _ in range(rng.choice((1, 1, 2))):
        entry = first + 2 + 12 * rng.randrange(number(first, 2))
        place, width = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 2)))
        if place == 2:
            result[entry + 2 : entry + 4] = rng.choice(_TAG_TYPES).to_bytes(2, order)  # type: ignore[arg-type]
        else:
            result[entry + place : entry + place + width] = number_bytes(rng, width, order)
        value, count = number(entry + 8, 4), number(entry + 4, 4)
        if rng.random() < 0.3 and count > 4 and value < len(result):
            result[value : value + min(count, 64)] = damaged(rng, result[value : value + min(count, 64)])
    return bytes(result)
