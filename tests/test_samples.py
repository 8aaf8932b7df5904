"""The sample pictures: offline, valid as napari layers, and safe to change in place."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from napari_styletransfer import samples
from napari_styletransfer.errors import ImageError

SHAPES = {
    "histology": ((512, 512, 3), np.uint8),
    "fluorescence": ((512, 512), np.uint16),
    "retina": ((1411, 1411, 3), np.uint8),
    "phase": ((660, 550), np.uint8),
}


@pytest.fixture
def no_network(monkeypatch):
    """Make every attempt to reach another machine fail."""

    def refuse(*args, **kwargs):
        raise AssertionError("a sample tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def windows(grey: np.ndarray, side: int) -> np.ndarray:
    """Cut a picture into squares, one row each."""
    h, w = (n // side for n in grey.shape)
    return grey.reshape(h, side, w, side).swapaxes(1, 2).reshape(-1, side * side)


@pytest.mark.usefixtures("no_network")
def test_every_content_loads_without_network():
    assert list(samples.CONTENTS) == list(SHAPES)
    for name, (shape, dtype) in SHAPES.items():
        picture = samples.content(name)
        assert picture.shape == shape
        assert picture.dtype == dtype
        assert np.ptp(picture) > 200


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (samples.content_and_style, ["Histology", "Brush swirls"]),
        (samples.fluorescence_and_style, ["Fluorescence", "Stained glass"]),
        (samples.paintings_gallery, [style.title for style in samples.STYLES.values()]),
    ],
)
def test_sample_layers_are_valid_and_do_not_overlap(make, names):
    layer_class = pytest.importorskip("napari.layers").Layer
    layers = [layer_class.create(*layer_tuple) for layer_tuple in make()]
    assert [layer.name for layer in layers] == names
    corners = []
    for layer in layers:
        assert layer.rgb == (layer.data.ndim == 3)
        assert layer.metadata["source"]
        low = np.asarray(layer.translate)
        corners.append((low, low + layer.data.shape[:2]))
    for i, (low, high) in enumerate(corners):
        for other_low, other_high in corners[:i]:
            assert (high <= other_low).any() or (other_high <= low).any()


@pytest.mark.usefixtures("no_network")
def test_channels_make_one_picture_with_labels_of_what_is_where():
    layer_class = pytest.importorskip("napari.layers").Layer
    made = samples.fluorescence_channels()
    nuclei, cytoplasm, labels, style = (layer_class.create(*layer_tuple) for layer_tuple in made)
    assert [layer.name for layer in (nuclei, cytoplasm, style)] == ["Nuclei", "Cytoplasm", "Marbling"]
    assert nuclei.data.shape == cytoplasm.data.shape == labels.data.shape
    assert style.translate[1] > nuclei.data.shape[1]
    for channel, label in ((nuclei, 1), (cytoplasm, 2)):
        assert (channel.blending, channel.data.dtype, channel.rgb) == ("additive", np.uint16, False)
        inside, outside = channel.data[labels.data == label], channel.data[labels.data != label]
        assert np.median(inside) > 1.5 * np.median(outside)
    assert nuclei.colormap.name != cytoplasm.colormap.name
    assert set(np.unique(labels.data)) == {0, 1, 2}
    made[0][0][:] = 0
    assert samples.fluorescence_channels()[0][0].any()


def test_the_fluorescence_layer_is_shown_with_contrast():
    picture, settings, _ = samples.fluorescence_and_style()[0]
    low, high = settings["contrast_limits"]
    assert picture.min() < low < high < picture.max()


def test_the_fluorescence_picture_looks_like_a_camera_frame():
    low, middle, high = np.percentile(samples.content("fluorescence"), (1, 50, 99))
    assert 110 < low < middle < high < 65535
    assert high > 8 * low


def test_there_are_at_least_six_styles_and_each_says_what_it_is():
    assert len(samples.STYLES) >= 6
    assert len({style.title for style in samples.STYLES.values()}) == len(samples.STYLES)
    assert all(style.description.endswith(".") for style in samples.STYLES.values())


@pytest.mark.parametrize("name", samples.STYLES)
def test_a_style_has_texture_everywhere_and_uses_the_whole_range(name):
    grey = samples.style(name).mean(axis=-1)
    low, high = np.percentile(grey, (1, 99))
    assert high - low > 110
    assert (windows(grey, 32).std(axis=1) > 10).mean() > 0.95


@pytest.mark.parametrize("name", samples.STYLES)
def test_the_quarters_of_a_style_are_alike(name):
    spread = samples.style(name).astype(float).reshape(2, 256, 2, 256, 3).std(axis=(1, 3)).reshape(4, 3)
    assert spread.min() > 0.5 * spread.max(axis=0).min()


def test_a_style_without_a_size_is_512_pixels_wide():
    picture = samples.style("mosaic")
    assert picture.shape == (512, 512, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(("size", "shape"), [(40, (40, 40)), ((32, 50), (32, 50)), (700, (700, 700))])
def test_a_style_comes_in_the_size_asked_for(size, shape):
    picture = samples.style("mosaic", size)
    assert picture.shape == (*shape, 3)
    assert picture.mean() == pytest.approx(samples.style("mosaic").mean(), rel=0.05)


def test_a_wide_style_is_the_middle_of_the_square_one():
    wide = samples.style("riso-dots", (256, 512)).astype(int)
    np.testing.assert_array_equal(wide, samples.style("riso-dots")[128:384])


def test_changing_a_picture_does_not_change_the_next():
    for load, name in ((samples.style, "riso-dots"), (samples.content, "histology"), (samples.content, "fluorescence")):
        first = load(name)
        before = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(load(name), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samples.content("cat"), "histology"),
        (lambda: samples.style("cubism"), "brush-swirls"),
        (lambda: samples.style("mosaic", 4), "at least 16"),
        (lambda: samples.style("mosaic", 40.5), "whole pixels"),
        (lambda: samples.style("mosaic", (64, 15)), "at least 16"),
        (lambda: samples.style("mosaic", (64.5, 64)), "whole pixels"),
        (lambda: samples.style("mosaic", (64,)), "height, width"),
        (lambda: samples.style("mosaic", "64"), "height, width"),
        (lambda: samples.style("mosaic", None), "height, width"),
    ],
)
def test_what_does_not_exist_or_cannot_be_made_is_refused_in_words(call, message):
    with pytest.raises(ImageError, match=message):
        call()
