"""Picture files keep their pixels on the way in and out, and what cannot work is refused in plain words."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from napari_styletransfer.atomic import part_name
from napari_styletransfer.errors import ImageError, StyleTransferError
from napari_styletransfer.io import (
    check_folder,
    check_writable,
    pixel_density,
    read_image,
    read_labels,
    read_stack,
    recover_stacks,
    write_image,
    writing_stack,
)

WRITABLE = [
    (".png", np.uint8),
    (".png", np.uint16),
    *((suffix, dtype) for suffix in (".tif", ".tiff") for dtype in (np.uint8, np.uint16, np.float32)),
    *((".tif", dtype) for dtype in (np.int16, np.uint32, np.int64, np.float16, np.float64)),
]


def picture(dtype, channels=3, shape=(7, 11)):
    rng = np.random.default_rng(5)
    shape = (*shape, channels) if channels > 1 else shape
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("suffix", "dtype"), WRITABLE)
def test_what_is_written_is_read_back_exactly(tmp_path, suffix, dtype, channels):
    array = picture(dtype, channels)
    path = tmp_path / f"picture{suffix}"
    write_image(path, array)
    back = read_image(path)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_jpeg_keeps_colours_closely(tmp_path, suffix):
    array = np.zeros((16, 24, 3), np.uint8)
    array[:, :11] = (220, 30, 40)
    array[:, 11:] = (30, 60, 200)
    write_image(tmp_path / f"picture{suffix}", array)
    back = read_image(tmp_path / f"picture{suffix}")
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - array).max() < 12


def test_views_and_foreign_byte_order_are_written_as_they_look(tmp_path):
    array = picture(np.uint16).astype(">u2")[::-1, ::2]
    for name in ("a.png", "a.tif"):
        write_image(tmp_path / name, array)
        np.testing.assert_array_equal(read_image(tmp_path / name), array)


def test_deep_png_is_read_alike_by_another_program(tmp_path):
    array = picture(np.uint16)
    write_image(tmp_path / "deep.png", array)
    with Image.open(tmp_path / "deep.png") as other:
        other.load()
        np.testing.assert_array_equal(np.asarray(other), array >> 8)


def test_deep_png_is_written_in_several_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_styletransfer.io.png._CHUNK_BYTES", 100)
    array = picture(np.uint16, 4, (23, 9))
    write_image(tmp_path / "deep.png", array)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), array)


def filtered_png(array, filter_type):
    """Write a 16-bit RGB PNG with one of the five row filters, value by value."""
    height, width, channels = array.shape
    step = 2 * channels
    raw = array.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    lines = b""
    for y in range(height):
        line = bytearray([filter_type])
        for x in range(raw.shape[1]):
            left = raw[y, x - step] if x >= step else 0
            up = raw[y - 1, x] if y else 0
            corner = raw[y - 1, x - step] if y and x >= step else 0
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda value: abs(guess - value))
            line.append((raw[y, x] - (0, left, up, (left + up) // 2, paeth)[filter_type]) % 256)
        lines += bytes(line)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("filter_type", range(5))
def test_deep_png_of_other_programs_keeps_all_sixteen_bits(tmp_path, filter_type):
    array = picture(np.uint16)
    (tmp_path / "deep.png").write_bytes(filtered_png(array, filter_type))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), array)


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, ".png"), (np.uint16, ".png"), (np.uint8, ".tif")])
def test_grey_stays_grey_with_its_depth(tmp_path, dtype, suffix):
    array = picture(dtype, 1)
    Image.fromarray(array).save(tmp_path / f"grey{suffix}")
    back = read_image(tmp_path / f"grey{suffix}")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_palettes_give_their_colours_and_transparency(tmp_path):
    colors = picture(np.uint8, 3, (4, 4))
    paletted = Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    paletted.save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), colors)
    paletted.save(tmp_path / "clear.png", transparency=0)
    back = read_image(tmp_path / "clear.png")
    assert back.shape == (4, 4, 4)
    assert sorted(np.unique(back[..., 3])) == [0, 255]


def test_grey_with_alpha_becomes_rgba(tmp_path):
    grey_alpha = picture(np.uint8, 2)
    Image.fromarray(grey_alpha).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), grey_alpha[..., [0, 0, 0, 1]])
    tifffile.imwrite(
        tmp_path / "la.tif", grey_alpha, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(read_image(tmp_path / "la.tif"), grey_alpha[..., [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["bits.png", "bits.tif", "squeezed.tif", "own.tif", "inverse.tif"])
def test_one_bit_pictures_become_black_and_white(tmp_path, name):
    mask = np.random.default_rng(2).random((9, 13)) > 0.5
    path = tmp_path / name
    if name == "own.tif":
        tifffile.imwrite(path, mask)
    elif name == "inverse.tif":
        tifffile.imwrite(path, ~mask, photometric="miniswhite", metadata=None)
    else:
        Image.fromarray(mask).save(path, **({"compression": "group4"} if name == "squeezed.tif" else {}))
    np.testing.assert_array_equal(read_image(path), np.where(mask, 255, 0).astype(np.uint8))


def write_turned(path, array, orientation, **options):
    """Write pixels that say how they are to be turned, and return them as another program then shows them."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    if path.suffix == ".tif" and not options:
        tifffile.imwrite(path, array, extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(array).save(path, exif=exif, **options)
    Image.fromarray(array).save(file, "PNG", exif=exif)
    with Image.open(file) as other:
        turned = np.asarray(ImageOps.exif_transpose(other))
    assert (turned.shape[:2] == array.shape[:2]) is (orientation < 5)
    return turned


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photo.jpg", {}),
        ("photo.png", {}),
        ("photo.tif", {}),
        ("photo.tif", {"compression": "tiff_lzw"}),
        ("photo.tif", {"compression": "jpeg"}),
    ],
)
def test_pictures_stand_upright(tmp_path, name, options, orientation):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:4, :8] = 250
    expected = write_turned(tmp_path / name, array, orientation, **options)
    np.testing.assert_allclose(read_image(tmp_path / name).astype(float), expected, atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "dtype"), [("8.png", "u1"), ("16.png", "u2"), ("8.tif", "u1"), ("16.tif", "u2")])
def test_labels_stand_upright(tmp_path, name, dtype, orientation):
    labels = np.arange(24, dtype=dtype).reshape(4, 6)
    expected = write_turned(tmp_path / name, labels, orientation)
    assert np.array_equal(expected, labels) is (orientation == 1)
    np.testing.assert_array_equal(read_labels(tmp_path / name), expected)


@pytest.mark.parametrize("name", ["labels.jpg", "labels.tif"])
def test_labels_that_a_compression_has_changed_are_refused(tmp_path, name):
    Image.fromarray(picture(np.uint8, 1)).save(tmp_path / name, **({"compression": "jpeg"} if "tif" in name else {}))
    with pytest.raises(ImageError, match=r"JPEG.* changes (the )?numbers\. Save the labels"):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("orientation", [1, 6])
def test_deep_grey_with_a_transparent_value_keeps_all_sixteen_bits(tmp_path, orientation):
    grey = picture(np.uint16, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "clear.png", transparency=int(grey[2, 3]), exif=exif)
    back = read_image(tmp_path / "clear.png")
    upright = grey if orientation == 1 else np.rot90(grey, -1)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back[..., :3], np.dstack([upright] * 3))
    np.testing.assert_array_equal(back[..., 3], np.where(upright == grey[2, 3], 0, 65535))
    np.testing.assert_array_equal(read_labels(tmp_path / "clear.png"), upright)


def test_planes_of_colour_in_a_tiff_are_joined(tmp_path):
    array = picture(np.uint16)
    tifffile.imwrite(
        tmp_path / "planar.tif", np.moveaxis(array, 2, 0).copy(), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif"), array)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiff_is_read_in_native_byte_order(tmp_path, byteorder, dtype):
    array = picture(dtype, 1)
    tifffile.imwrite(tmp_path / "grey.tif", array, byteorder=byteorder)
    back = read_image(tmp_path / "grey.tif")
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)


def packed_tiff(values, bits, order="big", photometric=1, **announced):
    """Return a plain TIFF of whole numbers with so many bits, packed without gaps in each row."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    if bits % 8:
        rows = ["".join(f"{value:0{bits}b}" for value in row.ravel()) for row in values]
        data = b"".join(int(row + "0" * (-len(row) % 8), 2).to_bytes((len(row) + 7) // 8, "big") for row in rows)
    else:
        data = b"".join(int(value).to_bytes(bits // 8, order) for value in values.ravel())
    sign = "<" if order == "little" else ">"
    tags = {256: width, 257: height, 259: 1, 262: photometric, 277: samples, 278: height, 279: len(data)}
    tags |= {code: announced[name] for name, code in (("width", 256), ("height", 257), ("packing", 259)) if announced}
    begin = 8 + 2 + 12 * (len(tags) + 2) + 4
    depths = struct.pack(f"{sign}{max(samples, 2)}H", bits, *[bits if samples > 1 else 0] * max(samples - 1, 1))
    entries = {code: struct.pack(f"{sign}HHII", code, 4, 1, value) for code, value in tags.items()}
    place = struct.pack(f"{sign}I", begin)
    entries[258] = struct.pack(f"{sign}HHI", 258, 3, samples) + (depths if samples < 3 else place)
    entries[273] = struct.pack(f"{sign}HHII", 273, 4, 1, begin + len(depths))
    directory = struct.pack(f"{sign}H", len(entries)) + b"".join(entries[code] for code in sorted(entries)) + bytes(4)
    return (b"II*\0\x08\0\0\0" if order == "little" else b"MM\0*\0\0\0\x08") + directory + depths + data


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 24, 32])
def test_tiffs_of_any_depth_are_read_or_refused_in_a_line(tmp_path, bits, samples, order):
    path = tmp_path / "depth.tif"
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, samples)).squeeze()
    path.write_bytes(packed_tiff(values, bits, order, photometric=1 if samples == 1 else 2))
    if bits in (1, 8, 16, 32) or (samples == 1 and bits in (2, 4)) or (samples, bits, order) == (1, 12, "little"):
        # As bright as before: of less than a byte the whole range is used.
        expected = np.rint(values * (255 / (2**bits - 1))) if bits < 8 else values
        np.testing.assert_array_equal(read_image(path), expected)
    elif importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(ImageError, match=r"^.* without a further package: .*imagecodecs.* 8 or 16 bits\.$"):
            read_image(path)


@pytest.mark.parametrize("kind", ["grey", "deflate", "planes", "png"])
def test_a_file_of_some_bytes_that_announces_tebibytes_is_refused_by_what_it_says(tmp_path, kind):
    path = tmp_path / "huge"
    side = 6_550_000
    if kind == "png":
        header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 2, 0, 0, 0)
        chunks = [header, b"IDAT" + zlib.compress(b"")]
        body = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    elif kind == "planes":
        tifffile.imwrite(path, np.zeros((2, 5, 7), np.uint8), imagej=True, metadata={"axes": "ZYX"})
        data = path.read_bytes()
        for code, value in ((256, 7), (257, 5)):
            found = struct.pack("<HHII", code, 4, 1, value)
            assert found in data
            data = data.replace(found, struct.pack("<HHII", code, 4, 1, side))
        path.write_bytes(data)
    else:
        size = {"width": side, "height": side, "packing": 8 if kind == "deflate" else 1}
        path.write_bytes(packed_tiff(np.zeros((5, 7), int), 8, **size))
        assert path.stat().st_size < 222
    read = read_image if kind != "planes" else lambda path: read_stack(path).plane(1)
    with pytest.raises(ImageError, match=rf"says that it holds {side} × {side}.* TiB, but .* GiB of memory are free"):
        read(path)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_file_that_holds_less_than_it_says_is_refused_and_a_blank_one_is_not(tmp_path, kind):
    path = tmp_path / "blank"
    Image.new("1" if kind == "PNG" else "P", (4000, 3000)).save(path, kind, optimize=True)
    assert not read_image(path)[..., :3].any()
    assert path.stat().st_size < 4000 * 3000 / 1000
    data = bytearray(path.read_bytes())
    if kind == "PNG":
        data[16:24] = struct.pack(">2I", 20000, 20000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        data = data[:300]
    else:
        data[6:10] = struct.pack("<2H", 20000, 20000)
        place = data.index(struct.pack("<2H", 4000, 3000))
        data[place : place + 4] = struct.pack("<2H", 20000, 20000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="it holds less than it says"):
        read_image(path)


def test_tiff_with_white_as_zero_is_inverted(tmp_path):
    array = picture(np.uint16, 1)
    tifffile.imwrite(tmp_path / "white.tif", array, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif"), 65535 - array)


def test_tiff_with_premultiplied_alpha_gets_its_colours_back(tmp_path):
    color = np.array([[[200, 100, 50], [10, 20, 30]]], np.uint8)
    alpha = np.array([[[128], [0]]], np.uint8)
    multiplied = np.rint(color * (alpha / 255)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "pre.tif", np.concatenate((multiplied, alpha), 2), photometric="rgb", extrasamples=["assocalpha"]
    )
    back = read_image(tmp_path / "pre.tif")
    assert np.abs(back[0, 0].astype(int) - [200, 100, 50, 128]).max() <= 1
    np.testing.assert_array_equal(back[0, 1], [0, 0, 0, 0])


def test_tiff_palette_gives_its_colours(tmp_path):
    table = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    index = picture(np.uint8, 1)
    tifffile.imwrite(tmp_path / "palette.tif", index, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.tif"), np.moveaxis(table // 257, 0, -1)[index])


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_common_compressed_tiffs_are_read(tmp_path, compression):
    array = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    Image.fromarray(array).save(tmp_path / "packed.tif", compression=compression)
    assert np.abs(read_image(tmp_path / "packed.tif").astype(int) - array).max() < 6


def test_a_thumbnail_in_a_tiff_is_not_a_second_picture(tmp_path):
    array = picture(np.uint8)
    with tifffile.TiffWriter(tmp_path / "thumb.tif") as file:
        file.write(array, metadata=None)
        file.write(array[::2, ::2], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "thumb.tif"), array)


def test_colours_with_a_profile_come_as_srgb(tmp_path):
    array = np.full((4, 4, 3), (40, 120, 200), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Another profile: red and blue primaries change places, and the name changes with them.
    other = srgb.replace(b"rXYZ", b"swap").replace(b"bXYZ", b"rXYZ").replace(b"swap", b"bXYZ")
    other = other.replace("sRGB".encode("utf-16-be"), "sBGR".encode("utf-16-be"))
    Image.fromarray(array).save(tmp_path / "other.png", icc_profile=other)
    Image.fromarray(array).save(tmp_path / "usual.png", icc_profile=srgb)
    Image.fromarray(array).save(tmp_path / "broken.png", icc_profile=b"not a profile")
    tifffile.imwrite(tmp_path / "other.tif", array, iccprofile=other)
    np.testing.assert_array_equal(read_image(tmp_path / "usual.png"), array)
    np.testing.assert_array_equal(read_image(tmp_path / "broken.png"), array)
    converted = read_image(tmp_path / "other.png")
    assert np.abs(converted[0, 0].astype(int) - [200, 120, 40]).max() <= 2
    np.testing.assert_array_equal(read_image(tmp_path / "other.tif"), converted)


def test_the_suffix_does_not_matter_for_reading(tmp_path):
    array = picture(np.uint16)
    write_image(tmp_path / "really.tif", array)
    (tmp_path / "really.tif").rename(tmp_path / "named.png")
    np.testing.assert_array_equal(read_image(tmp_path / "named.png"), array)


def spoil(path: Path, kind: str) -> None:
    grey = picture(np.uint8, 1)
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("Dear reader, this is no picture.")
    elif kind == "cut png":
        write_image(path.with_suffix(".png"), picture(np.uint8, 3, (64, 64)))
        path.write_bytes(path.with_suffix(".png").read_bytes()[:300])
    elif kind == "cut tiff":
        tifffile.imwrite(path, picture(np.uint8, 3, (64, 64)))
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "headless tiff":
        path.write_bytes(b"II*\0\xff\xff\0\0")
    elif kind == "stack":
        tifffile.imwrite(path, np.stack([grey] * 5))
    elif kind == "pages":
        tifffile.imwrite(path, grey)
        tifffile.imwrite(path, grey[::2], append=True)
    elif kind == "channels":
        planes = np.stack([grey] * 2)
        tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "CYX"})
    elif kind == "many samples":
        tifffile.imwrite(path, picture(np.uint8, 6), photometric="minisblack", planarconfig="contig")
    elif kind == "complex":
        tifffile.imwrite(path, picture(np.float32, 1).astype(np.complex64))
    elif kind == "cmyk":
        tifffile.imwrite(path, picture(np.uint8, 4), photometric="separated")
    elif kind == "animation":
        frames = [Image.fromarray(picture(np.uint8, 1)), Image.fromarray(255 - picture(np.uint8, 1))]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("kind", "what", "advice"),
    [
        ("missing", "There is no file", "Check"),
        ("folder", "is a folder", "Give one picture"),
        ("empty", "is empty", "again"),
        ("text", "not a picture", "Convert"),
        ("cut png", "damaged or cut off", "again"),
        ("cut tiff", "damaged or cut off", "again"),
        ("headless tiff", "damaged or cut off", "again"),
        ("stack", "a stack (Q: 5 × Y: 7 × X: 11)", "Save the plane you want"),
        ("pages", "holds 2 pictures", "Save the one you want"),
        ("channels", "channels one behind the other (C: 2", "merged to RGB"),
        ("many samples", "6 channels", "Save one channel"),
        ("complex", "complex64", "magnitude"),
        ("cmyk", "SEPARATED", "Save it as RGB"),
        ("animation", "animation of 2 frames", "Save one of them"),
    ],
)
def test_what_is_not_one_picture_is_refused_with_advice(tmp_path, kind, what, advice):
    path = tmp_path / "thing.tif"
    spoil(path, kind)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert what in message
    assert advice in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "dtype", "channels", "told"),
    [
        ("out.bmp", np.uint8, 3, ["'.bmp'", ".png, .jpg"]),
        ("out", np.uint8, 3, ["no suffix"]),
        ("out.jpg", np.uint16, 3, ["uint16", "out.tif"]),
        ("out.jpeg", np.float32, 3, ["float32", "out.tif"]),
        ("out.jpg", np.uint8, 4, ["transparency", "out.png"]),
        ("out.png", np.float32, 3, ["float32", "out.tif"]),
        ("out.png", np.int16, 3, ["int16", "out.tif"]),
        ("out.tif", np.bool_, 3, ["bool"]),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_beforehand(tmp_path, name, dtype, channels, told):
    with pytest.raises(ImageError) as caught:
        check_writable(tmp_path / name, dtype, channels=channels)
    assert all(part in str(caught.value) for part in told)
    with pytest.raises(ImageError):
        write_image(tmp_path / name, np.zeros((4, 4, channels), dtype))
    assert not list(tmp_path.iterdir())


def test_checking_leaves_nothing_behind_and_existing_output_may_be_replaced(tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    check_writable(out, np.uint8, keep=[tmp_path / "gone.png"])
    assert out.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]
    write_image(out, picture(np.uint8))
    np.testing.assert_array_equal(read_image(out), picture(np.uint8))


def test_the_pictures_read_are_never_replaced(tmp_path):
    content = tmp_path / "content.png"
    write_image(content, picture(np.uint8))
    (tmp_path / "link.png").symlink_to(content)
    for name in ("content.png", "link.png", "../" + tmp_path.name + "/content.png"):
        with pytest.raises(ImageError, match="one of the pictures to read"):
            check_writable(tmp_path / name, np.uint8, keep=[content])


def test_a_folder_is_no_output(tmp_path):
    with pytest.raises(ImageError, match=r"is a folder.*result\.png"):
        check_folder(tmp_path)
    with pytest.raises(ImageError, match=r"no folder.*Create it"):
        check_folder(tmp_path / "nowhere" / "out.png")


def test_a_folder_that_refuses_is_told_beforehand(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"Permission denied.*another folder"):
        check_folder(tmp_path / "out.png")


# ------------------------------------------------------------------------------------- what cannot be written


@contextmanager
def room_for(size):
    """Let no file grow beyond so many bytes, as on a disk that is full; nothing may be printed meanwhile."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 300])
@pytest.mark.parametrize(
    ("name", "dtype"), [("out.png", "u1"), ("out.png", "u2"), ("out.jpg", "u1"), ("out.tif", "u1")]
)
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_rest(tmp_path, name, dtype, room):
    out = tmp_path / name
    out.write_bytes(b"old")
    with room_for(room), pytest.raises(StyleTransferError, match="File too large") as caught:
        write_image(out, picture(dtype, shape=(20, 30)))
    assert "The result is lost" in str(caught.value)
    assert out.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_picture_that_its_format_cannot_hold_after_all_is_written_part_name(tmp_path):
    wide = np.tile(picture(np.uint8), (1, 6000, 1))
    with pytest.raises(StyleTransferError) as caught:
        write_image(tmp_path / "out.jpg", wide, density=(20000.0, 20000.0))
    assert str(caught.value).endswith(f"The result is in {tmp_path / 'out-result.tif'} instead.")
    assert [file.name for file in tmp_path.iterdir()] == ["out-result.tif"]
    np.testing.assert_array_equal(read_image(tmp_path / "out-result.tif"), wide)
    assert pixel_density(tmp_path / "out-result.tif") == pytest.approx((20000, 20000))


def test_a_picture_whose_place_is_taken_is_kept_part_name(tmp_path):
    (tmp_path / "out.png").mkdir()
    for name in ("out-result.png", "out-result-2.png"):
        with pytest.raises(StyleTransferError, match=f"The result is in .*{name} instead"):
            write_image(tmp_path / "out.png", picture(np.uint8))
        np.testing.assert_array_equal(read_image(tmp_path / name), picture(np.uint8))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_picture_whose_folder_is_gone_is_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StyleTransferError) as caught:
        write_image(tmp_path / "gone" / ("näme" * 60 + ".png"), picture(np.uint16))
    (kept,) = tmp_path.iterdir()
    assert str(caught.value).endswith(f"The result is in {kept} instead.")
    np.testing.assert_array_equal(read_image(kept), picture(np.uint16))


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_stack_without_room_is_refused_before_its_first_plane(tmp_path, room):
    with (
        room_for(room),
        pytest.raises(ImageError) as caught,
        writing_stack(tmp_path / "out.tif", (3,), "T", (60, 70, 3), np.uint8),
    ):
        pytest.fail("there is no room")
    assert "out.tif needs 0.04 MiB: File too large. Free some space" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_all_the_space_of_a_stack_is_taken_first(tmp_path):
    with writing_stack(tmp_path / "out.tif", (5,), "Z", (300, 200, 3), np.uint16) as put:
        (part,) = tmp_path.iterdir()
        if hasattr(os, "posix_fallocate"):
            assert part.stat().st_blocks * 512 >= 5 * 300 * 200 * 3 * 2
        put(4, np.full((300, 200, 3), 7))
    assert [file.name for file in tmp_path.iterdir()] == ["out.tif"]
    planes = tifffile.imread(tmp_path / "out.tif")
    assert [set(np.unique(plane)) for plane in planes] == [{0}, {0}, {0}, {0}, {7}]


def test_a_disk_that_cannot_set_space_aside_is_filled_with_zeros(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    test_all_the_space_of_a_stack_is_taken_first(tmp_path)
    (tmp_path / "out.tif").unlink()
    test_a_stack_without_room_is_refused_before_its_first_plane(tmp_path, 5000)


def test_planes_of_a_process_that_was_killed_are_found_again(tmp_path):
    out, shape = tmp_path / "out.tif", (6, 7, 3)
    with writing_stack(out, (4,), "T", shape, np.uint8) as put:
        (part,) = tmp_path.iterdir()
        assert part.name.startswith(".")
        put(1, np.ones(shape))  # after a black one
        assert recover_stacks(out) == {}  # of somebody who still writes it
        left = part.read_bytes()
    for name in (part_name(out), part_name(out), part_name(tmp_path / "other.tif"), tmp_path / ".out-0123abcd.tif"):
        name.write_bytes(left)
    for name in (part_name(out), part_name(out.with_suffix(".png"))):
        name.write_bytes(left[:100])
    found = recover_stacks(out)
    assert found == {tmp_path / "out-unfinished.tif": 2, tmp_path / "out-unfinished-2.tif": 2}
    assert all(tifffile.imread(path)[1].all() for path in found)
    assert recover_stacks(out.with_suffix(".png")) == recover_stacks(out) == {}
    names = {file.name for file in tmp_path.iterdir()}
    assert {"out.tif", ".out-0123abcd.tif", *(path.name for path in found)} < names
    assert len(names) == 5  # with that of the other output


def test_a_folder_that_cannot_be_looked_into_has_no_planes_of_earlier(tmp_path):
    assert recover_stacks(tmp_path / "gone" / "out.tif") == {}


# ------------------------------------------------------------------------------------------------ pixel size


def test_pixel_size_is_read_from_the_ways_microscopes_write_it(tmp_path):
    grey = picture(np.uint8, 1)
    path = tmp_path / "scale.tif"
    tifffile.imwrite(path, grey, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "um"})
    assert pixel_density(path) == pytest.approx((25000, 25000))
    tifffile.imwrite(path, grey, resolution=(254, 508), resolutionunit="inch")
    assert pixel_density(path) == pytest.approx((100, 200))
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "scale.ome.tif", grey, metadata={"axes": "YX", **size})
    assert pixel_density(tmp_path / "scale.ome.tif") == pytest.approx((20000, 40000))
    tifffile.imwrite(path, grey, resolution=(254, 508), resolutionunit="centimeter", extratags=[(274, "H", 1, 6, True)])
    assert pixel_density(path) == pytest.approx((508, 254))


def test_pixel_size_unknown_is_none(tmp_path):
    path = tmp_path / "scale.tif"
    tifffile.imwrite(path, picture(np.uint8, 1))
    assert pixel_density(path) is None
    tifffile.imwrite(tmp_path / "plain.ome.tif", picture(np.uint8, 1), metadata={"axes": "YX"})
    assert pixel_density(tmp_path / "plain.ome.tif") is None
    write_image(tmp_path / "a.png", picture(np.uint8))
    assert pixel_density(tmp_path / "a.png") is None


def test_pixel_size_is_written(tmp_path):
    write_image(tmp_path / "out.tif", picture(np.float32), density=(20000.0, 12345.5))
    assert pixel_density(tmp_path / "out.tif") == pytest.approx((20000, 12345.5))


@pytest.mark.parametrize("said", ["abcd", "0,50", "1e99", "-0.5", "nan0", "inf0", "0.00", "0.5<", "\u0663.50"])
def test_a_pixel_size_that_is_no_number_is_told_and_left_out(tmp_path, caplog, said):
    path = tmp_path / "scale.ome.tif"
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 0.25}
    tifffile.imwrite(path, np.zeros((2, 6, 7), np.uint8), photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    data = path.read_bytes()
    assert data.count(b'"0.25"') == 3
    path.write_bytes(data.replace(b'"0.25"', f'"{said}"'.encode().ljust(6)[:6]))
    assert pixel_density(path) is None
    assert read_stack(path).increments == ({"Z": 1e99} if said == "1e99" else {})
    assert said == "0.00" or all(str(path) in message and "left out" in message for message in caplog.messages)
    assert bool(caplog.messages) is (said != "0.00")


@pytest.mark.parametrize("resolution", [(0, 0), (1, 0), (0, 1), (2**32 - 1, 1)])
def test_a_resolution_that_cannot_be_is_left_out(tmp_path, resolution):
    tags = [(code, "2I", 1, resolution, True) for code in (282, 283)]
    tifffile.imwrite(tmp_path / "scale.tif", picture(np.uint8, 1), extratags=[*tags, (296, "H", 1, 3, True)])
    assert pixel_density(tmp_path / "scale.tif") is None


OME_STEPS = {"axes": "TZYX", "PhysicalSizeZ": 0.3, "TimeIncrement": 2, "TimeIncrementUnit": "min"}
IMAGEJ_STEPS = {"axes": "TZYX", "spacing": 500, "unit": "nm", "finterval": 1.5}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ome": True, "metadata": OME_STEPS}, {"Z": 0.3, "T": 120.0}),
        ({"ome": True, "metadata": {"axes": "TZYX", "PhysicalSizeZ": 3, "PhysicalSizeZUnit": "pixel"}}, {}),
        ({"imagej": True, "metadata": IMAGEJ_STEPS}, {"Z": 0.5, "T": 1.5}),
        ({"imagej": True, "metadata": {**IMAGEJ_STEPS, "tunit": "min"}}, {"Z": 0.5, "T": 90.0}),
        ({"imagej": True, "metadata": {**IMAGEJ_STEPS, "tunit": "frames", "spacing": "0,3"}}, {}),
        ({"imagej": True, "metadata": {"axes": "TZYX", "spacing": 2, "unit": "pixel"}}, {}),
        ({}, {}),
    ],
)
def test_how_far_planes_are_apart_is_read_and_written(tmp_path, options, expected):
    path, out = tmp_path / "stack.tif", tmp_path / "out.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 6, 7), np.uint8), photometric="minisblack", **options)
    stack = read_stack(path)
    assert stack.increments == pytest.approx(expected)
    with writing_stack(out, stack.counts, stack.axes, (6, 7, 3), stack.dtype, increments=stack.increments):
        pass
    assert read_stack(out).increments == pytest.approx(expected)
