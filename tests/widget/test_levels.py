"""A run reads the resolution level that was chosen, and its result lies on the whole picture."""

from __future__ import annotations

import numpy as np
import pytest

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.session.run_session import State

PLACE = {"scale": (2, 0.5), "translate": (7, -3), "rotate": 20}


@pytest.fixture
def viewer(model):
    return model


@pytest.fixture
def pyramid(form, viewer):
    """Return a content of three levels, and make it the content of the form."""
    levels = [np.full((512 // 2**n, 1024 // 2**n), n, np.uint8) for n in range(3)]
    layer = viewer.add_image(levels, multiscale=True, name="pyramid", contrast_limits=(0, 255), **PLACE)
    form.pictures.choose(layer, [viewer.layers["waves"]])
    return layer


def run(form, engine, qtbot, shape):
    """Run to the end with an engine that gives back a result of this size."""
    engine.shape = shape
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=20_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    return form.session.output.layer


@pytest.mark.parametrize("level", [1, 2])
def test_a_chosen_level_is_read_and_written_down(form, engine, pyramid, qtbot, level):
    form.settings.editors["level"].native.setCurrentIndex(level + 1)
    assert form.config() == StyleConfig(level=level)
    result = run(form, engine, qtbot, (64, 128))
    assert engine.calls[0]["content"].read().shape == (512 // 2**level, 1024 // 2**level, 3)
    made = result.metadata[METADATA_KEY]
    assert (made["level"], made["recipe"]["level"]) == (level, level)
    for pixel, full in (((0, 0), (3.5, 3.5)), ((63, 127), (507.5, 1019.5)), ((-0.5, 127.5), (-0.5, 1023.5))):
        np.testing.assert_allclose(pyramid.world_to_data(result.data_to_world(pixel)), full)


def test_a_level_chosen_by_size_is_written_down(form, engine, pyramid, qtbot):
    form.settings.editors["size"].write(64)
    result = run(form, engine, qtbot, (32, 64))
    made = result.metadata[METADATA_KEY]
    assert (made["level"], made["recipe"]["level"]) == (2, None)


def test_a_level_that_is_not_there_is_told(form, engine, pyramid, qtbot):
    form.show_config(StyleConfig(level=7))
    assert form.settings.editors["level"].native.currentText() == "Level 7 · not in this picture"
    form.run()
    assert "0 (finest) to 2" in form.session.status.message


def test_a_stack_of_a_level_lies_on_the_whole_stack(form, engine, viewer, qtbot):
    levels = [np.zeros((6 // 2**n, 48 // 2**n, 64 // 2**n), np.uint8) for n in range(2)]
    layer = viewer.add_image(levels, multiscale=True, name="stack", scale=(5, 2, 2), contrast_limits=(0, 255))
    form.pictures.choose(layer, [viewer.layers["waves"]])
    form.settings.editors["level"].write(1)
    form.output.choose(axes=(0,))
    result = run(form, engine, qtbot, (24, 32))
    assert result.data.shape == (3, 24, 32, 3)
    assert result.metadata[METADATA_KEY]["level"] == 1
    np.testing.assert_allclose(layer.world_to_data(result.data_to_world((2, 0, 31))), (4.5, 0.5, 62.5))


def test_a_channel_with_labels_of_a_level_lies_on_the_whole_picture(form, engine, viewer, pyramid, qtbot):
    labels = np.zeros((512, 1024), np.int32)
    labels[128:256, 256:512] = 1
    form.regions.choose(viewer.add_labels(labels, **PLACE))
    form.settings.editors["level"].write(2)
    form.output.choose(channel=True)
    (region,) = form.job().labels
    expected = np.zeros((128, 256), int)
    expected[32:64, 64:128] = 1
    np.testing.assert_array_equal(region.read(), expected)
    result = run(form, engine, qtbot, (128, 256))
    assert result.data.shape == (128, 256)
    np.testing.assert_allclose(pyramid.world_to_data(result.data_to_world((32, 64))), (129.5, 257.5))
