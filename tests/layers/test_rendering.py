"""Results become layers: a channel keeps its brightness, and what regions leave alone keeps every bit."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_styletransfer.layers.compose import compose
from napari_styletransfer.layers.read import resolve
from napari_styletransfer.layers.rendering import Rendering, as_dtype, match_histogram, stylized_mask
from napari_styletransfer.layers.write import METADATA_KEY, run_metadata

U8, F32 = np.dtype(np.uint8), np.dtype(np.float32)


class Marked:
    """Labels that are at hand."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def read(self):
        return self.labels


def noise(*shape):
    return np.random.default_rng(1).random((*shape, 3), np.float32)


def values(dtype, shape):
    """Return values over the whole range of a dtype, with what floats have besides numbers."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(0)
    if dtype.kind == "b":
        return rng.random(shape) > 0.7
    if dtype.kind == "f":
        data = (rng.standard_normal(shape) * 1e3).astype(dtype)
        data.flat[::17] = np.nan
        data.flat[3::29] = np.inf
        data.flat[5::31] = -np.inf
        return data
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def disc(shape):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 < (min(shape) / 3) ** 2


DTYPES = ["bool", "u1", "u2", "i2", "i4", "f2", "f4", "f8", ">u2"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("working", [(30, 40), (11, 14)])
def test_a_channel_keeps_every_bit_outside_its_regions(dtype, working):
    data = values(dtype, (30, 40))
    # Narrower than the data, so that a way through colours would clip them.
    content = resolve(Image(data, contrast_limits=(0.2, 0.9), gamma=0.7, colormap="magma"), colored=False)
    inside = disc(data.shape)
    render = Rendering(content, channel=True, labels=Marked(inside))
    result = render(noise(*working), working)
    assert result.dtype == data.dtype
    assert result.shape == data.shape
    assert bits(result[~inside]) == bits(data[~inside])
    assert (result[inside] != data[inside]).any()
    assert np.isfinite(result[inside]).all()


@pytest.mark.parametrize("working", [(30, 40), (11, 14)])
def test_a_picture_keeps_what_the_canvas_shows_outside_its_regions(working):
    color = resolve(Image(values("u1", (30, 40, 3)), rgb=True))
    grey = resolve(Image(values("f4", (30, 40)), contrast_limits=(-500, 700), colormap="magma"))
    both = compose([grey, resolve(Image(values("u2", (30, 40)), colormap="green", blending="additive"))])
    inside = disc(color.shape)
    for place in (color, grey, both):
        result = Rendering(place, labels=Marked(inside))(noise(*working), working)
        shown = as_dtype(place.read(), U8)
        assert result.dtype == U8
        assert bits(result[~inside]) == bits(shown[~inside])
        assert (result[inside] != shown[inside]).mean() > 0.9


def test_bytes_of_a_colour_layer_stay_themselves():
    data = values("u1", (30, 40, 3))
    inside = disc(data.shape)
    result = Rendering(resolve(Image(data, rgb=True)), labels=Marked(inside))(noise(8, 10), (8, 10))
    np.testing.assert_array_equal(result[~inside], data[~inside])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_of_a_pyramid_keeps_its_own_values(level):
    data = values("u2", (2, 32, 48))
    levels = [data, data[:, ::2, ::2], data[:, ::4, ::4]]
    content = resolve(Image(levels, multiscale=True), point_world=(1, 0, 0), displayed=(2, 1), level=level)
    inside = disc(content.shape)
    result = Rendering(content, channel=True, labels=Marked(inside))(noise(9, 6), (9, 6))
    np.testing.assert_array_equal(result[~inside], levels[level][1].T[~inside])


def test_a_projected_slab_keeps_the_values_that_are_shown():
    data = values("u2", (5, 20, 30))
    layer = Image(data)
    layer.projection_mode = "mean"
    content = resolve(layer, point_world=(2, 0, 0), margins=((1, 0, 0), (1, 0, 0)))
    inside = disc(content.shape)
    result = Rendering(content, channel=True, labels=Marked(inside))(noise(20, 30), (20, 30))
    np.testing.assert_array_equal(result[~inside], content.pixels()[~inside])


def test_inside_a_region_a_picture_is_the_run_s():
    image = noise(30, 40)
    inside = disc((30, 40))
    result = Rendering(resolve(Image(values("u1", (30, 40)))), labels=Marked(inside))(image, (30, 40))
    np.testing.assert_array_equal(result[inside], as_dtype(image, U8)[inside])


@pytest.mark.parametrize("channel", [False, True])
def test_a_plane_without_a_label_comes_back_whole(channel):
    data = values("f8", (12, 16))
    content = resolve(Image(data, contrast_limits=(0, 1)), colored=not channel)
    render = Rendering(content, channel=channel, labels=Marked(np.zeros((12, 16), int)))
    render.load()
    result = render(noise(6, 8), (6, 8))
    assert bits(result) == bits(data if channel else as_dtype(content.read(), U8))


def test_what_was_read_is_let_go_and_read_again():
    data = values("u2", (12, 16))
    reads = []

    class Counted(Marked):
        def read(self):
            reads.append(1)
            return super().read()

    render = Rendering(resolve(Image(data)), channel=True, labels=Counted(disc(data.shape)))
    first = render(noise(6, 8), (6, 8))
    render(noise(6, 8), (6, 8))
    assert len(reads) == 1
    render.release()
    np.testing.assert_array_equal(render(noise(6, 8), (6, 8)), first)
    assert len(reads) == 2


def test_only_labels_that_are_given_a_style_are_stylised():
    labels = np.array([[0, 1, 2, 3]])
    np.testing.assert_array_equal(stylized_mask(labels, None), [[False, True, True, True]])
    np.testing.assert_array_equal(stylized_mask(labels, {0: 0, 1: None, 3: -1}), [[True, False, False, True]])
    np.testing.assert_array_equal(stylized_mask(labels > 1, {1: 0}), [[False, False, True, True]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_has_the_brightness_of_its_content(dtype):
    data = values(dtype, (30, 40))
    finite = np.sort(data[np.isfinite(data)])
    result = Rendering(resolve(Image(data), colored=False), channel=True)(noise(30, 40), (30, 40))
    assert result.dtype == data.dtype
    assert np.isin(result, finite).all()
    steps = np.linspace(0.05, 0.95, 19)
    places = np.searchsorted(finite, np.quantile(result, steps, method="inverted_cdf"), "left") / finite.size
    ends = np.searchsorted(finite, np.quantile(result, steps, method="inverted_cdf"), "right") / finite.size
    assert (places <= steps + 0.01).all()
    assert (ends >= steps - 0.01).all()


def test_inside_a_region_a_channel_has_the_brightness_of_that_region():
    data = np.full((20, 30), 50_000, np.uint16)
    data[:, :10] = 7
    marks = Marked(data < 10)
    result = Rendering(resolve(Image(data), colored=False), channel=True, labels=marks)(noise(20, 30), (20, 30))
    np.testing.assert_array_equal(result, data)


def test_a_dark_background_stays_dark_whatever_the_brightness_of_the_style():
    nuclei = disc((60, 80))
    data = np.where(nuclei, 3000, 100) + np.random.default_rng(0).integers(0, 40, (60, 80))
    content = resolve(Image(data.astype(np.uint16)), colored=False)
    bright = 0.6 + 0.3 * nuclei[..., None] + 0.05 * noise(60, 80)
    result = Rendering(content, channel=True)(bright.astype(np.float32), (60, 80))
    assert result[~nuclei].max() < 200
    assert result[nuclei].min() > 2900


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("gamma", [1, 0.6])
@pytest.mark.parametrize("colored", [False, True])
def test_a_channel_that_was_not_changed_comes_back_as_it_was(dtype, gamma, colored):
    data = np.random.default_rng(0).integers(20, 100, (9, 7)).astype(dtype)
    content = resolve(Image(data, contrast_limits=(10, 110), gamma=gamma, colormap="green"), colored=colored)
    result = Rendering(content, channel=True)(content.read(), content.shape)
    np.testing.assert_array_equal(result, data)


def test_pixels_of_one_shade_get_one_value():
    values = np.arange(10, dtype=np.int16)
    np.testing.assert_array_equal(match_histogram(np.full((2, 3), 0.4, np.float32), values), 5)
    np.testing.assert_array_equal(match_histogram(np.array([0, 0, 1, 1], np.float32), values), [2, 2, 7, 7])


def test_the_greatest_numbers_of_a_dtype_do_not_overflow():
    greatest = np.finfo(np.float64).max
    data = np.array([[-greatest, 0.0], [1.0, greatest]])
    content = resolve(Image(data, contrast_limits=(0, 1)), colored=False)
    ramp = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(Rendering(content, channel=True)(ramp, (2, 2)), data)


def test_a_result_says_that_it_is_no_data():
    assert run_metadata()[METADATA_KEY]["notice"] == "stylised image, not measurement data"
