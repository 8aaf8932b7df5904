"""Visible layers of one pixel grid serve as one picture: as the content and as a style."""

from __future__ import annotations

import numpy as np
import pytest

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

RAMP = np.linspace(0, 1, 40 * 60).reshape(40, 60)


@pytest.fixture
def viewer(model):
    return model


@pytest.fixture
def channels(form, viewer):
    """Return a green and a red channel on one grid."""
    options = {"blending": "additive", "contrast_limits": (0, 1), "scale": (3, 3)}
    data = {"green": RAMP, "red": 1 - RAMP}
    return [viewer.add_image(data[name], name=name, colormap=name, **options) for name in data]


@pytest.fixture
def seen(form, channels):
    """Return what is offered in place of the channels."""
    (group,) = form.pictures.groups
    return group


def ended(form, qtbot, timeout=5000):
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=timeout)


def test_channels_are_a_style_as_they_were_seen_at_the_start(form, engine, viewer, channels, seen, qtbot):
    form.pictures.choose(viewer.layers["cells"], [seen])
    form.run()
    qtbot.waitUntil(engine.halfway.is_set)
    channels[0].contrast_limits = (0, 0.1)
    channels[1].visible = False
    engine.go.set()
    ended(form, qtbot)
    (style,) = engine.calls[0]["styles"]
    np.testing.assert_allclose(style.read()[..., 0], 1 - RAMP, atol=0.01)
    np.testing.assert_allclose(style.read()[..., 1], RAMP, atol=0.01)
    result = viewer.layers["cells × green + red"]
    assert result.metadata[METADATA_KEY]["styles"] == ["green + red"]
    assert result.metadata[METADATA_KEY]["content"] == "cells"


def test_channels_alone_make_a_texture_on_their_own_grid(form, engine, viewer, channels, seen, qtbot):
    form.settings.editors["mode"].write(Mode.STYLE)
    form.pictures.choose(styles=[seen])
    engine.shape = (40, 60)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    result = viewer.layers["green + red (style alone)"]
    np.testing.assert_allclose(result.data_to_world((5, 7)), channels[0].data_to_world((5, 7)))


def test_labels_are_given_channels_as_their_style(form, viewer, seen, qtbot):
    labels = np.zeros((48, 64), np.int32)
    labels[4:20, 4:30] = 1
    form.regions.choose(viewer.add_labels(labels, scale=(0.5, 2), translate=(3, 4)))
    form.pictures.choose(viewer.layers["cells"], [seen, viewer.layers["waves"]])
    qtbot.waitUntil(lambda: len(form.regions.rows) == 2)
    combo = form.regions.rows[1]
    assert [combo.itemText(index) for index in range(combo.count())] == ["all styles", "green + red", "waves", "none"]
    combo.setCurrentIndex(1)
    assert form.config().regions == {0: None, 1: 0}
    assert [style.name for style in form.job().styles] == ["green + red", "waves"]


def test_channels_are_chosen_again_once_the_viewer_is_flat_again(form, viewer, qtbot):
    for name in ("green", "red"):
        viewer.add_image(np.zeros((3, 20, 30)), name=name, blending="additive")
    (seen,) = form.pictures.groups
    form.pictures.choose(seen, [viewer.layers["waves"]])
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: form.pictures.groups == [])
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: form.pictures.content_layer == seen)


def test_a_real_run_in_the_manner_of_channels(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    qtbot.addWidget(form)
    for name, data in (("green", RAMP), ("red", 1 - RAMP)):
        viewer.add_image(data, name=name, colormap=name, blending="additive", contrast_limits=(0, 1))
    form.pictures.choose(viewer.layers["cells"], form.pictures.groups)
    form.show_config(StyleConfig(network="compact", mode="colors", device="cpu"))
    form.run()
    ended(form, qtbot, 120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    colors = form.session.output.layer.data.mean(axis=(0, 1))
    assert colors[2] < 0.2 * min(colors[:2])
    form.release()
