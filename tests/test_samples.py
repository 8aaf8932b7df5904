"""The sample pictures: offline, valid as napari layers, and safe to change in place."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from napari_styletransfer import samples
from napari_styletransfer.errors import ImageError
from napari_styletransfer.paintings import PAINTINGS

SHAPES = {
    "histology": ((512, 512, 3), np.uint8),
    "fluorescence": ((512, 512), np.uint16),
    "retina": ((1411, 1411, 3), np.uint8),
    "phase": ((660, 550), np.uint8),
}


@pytest.fixture
def no_network(monkeypatch):
    """Make every attempt to reach another machine fail, and forget what earlier tests loaded."""

    def refuse(*args, **kwargs):
        raise AssertionError("a sample tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    samples._load.cache_clear()
    samples._paint.cache_clear()


@pytest.fixture
def small_styles(monkeypatch):
    """Keep the styles small; their full size only costs time here."""
    monkeypatch.setattr(samples, "STYLE_SIZE", 48)


@pytest.mark.usefixtures("no_network")
def test_every_content_loads_without_network():
    assert list(samples.CONTENTS) == list(SHAPES)
    for name, (shape, dtype) in SHAPES.items():
        picture = samples.content(name)
        assert picture.shape == shape
        assert picture.dtype == dtype
        assert np.ptp(picture) > 200


@pytest.mark.usefixtures("no_network", "small_styles")
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (samples.content_and_style, ["Histology", "Brush swirls"]),
        (samples.fluorescence_and_style, ["Fluorescence", "Stained glass"]),
        (samples.paintings_gallery, [painting.title for painting in PAINTINGS.values()]),
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


@pytest.mark.usefixtures("no_network", "small_styles")
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


@pytest.mark.usefixtures("small_styles")
def test_the_fluorescence_layer_is_shown_with_contrast():
    picture, settings, _ = samples.fluorescence_and_style()[0]
    low, high = settings["contrast_limits"]
    assert picture.min() < low < high < picture.max()


def test_a_style_is_made_at_the_size_asked_for():
    assert samples.style("mosaic", 40).shape == (40, 40, 3)
    assert samples.style("mosaic", (32, 50), seed=2).shape == (32, 50, 3)


def test_a_style_without_a_size_is_512_pixels_wide():
    assert samples.style("mosaic").shape == (512, 512, 3)


def test_a_picture_is_painted_once_and_changing_it_does_not_change_the_next():
    samples._paint.cache_clear()
    first = samples.style("riso-dots", 32)
    before = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(samples.style("riso-dots", 32), before)
    assert samples._paint.cache_info().misses == 1
    content = samples.content("histology")
    content[:] = 0
    assert samples.content("histology").any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samples.content("cat"), "histology"),
        (lambda: samples.style("cubism"), "brush-swirls"),
        (lambda: samples.style("mosaic", 4), "at least 16"),
        (lambda: samples.style("mosaic", 40.5), "whole pixels"),
        (lambda: samples.style("mosaic", 32, seed=-1), "not negative"),
    ],
)
def test_what_does_not_exist_or_cannot_be_made_is_refused_in_words(call, message):
    with pytest.raises(ImageError, match=message):
        call()
