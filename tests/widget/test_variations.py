"""The contact sheet: nine small runs in one layer, and one of them chosen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_styletransfer.config import Start, StyleConfig
from napari_styletransfer.widget.form import StyleTransferWidget
from napari_styletransfer.widget.session import State
from napari_styletransfer.widget.variations import variations_of

SHEET = "Variations of cells"


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


def ended(form, qtbot, timeout=20_000):
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=timeout)


def test_variations_lie_around_the_settings():
    base = StyleConfig(balance=0.5, style_scale=1.5, size=512, iterations=150, seed=4)
    tiles = variations_of(base)
    assert [tile.balance for tile in tiles] == [0.25] * 3 + [0.5] * 3 + [0.75] * 3
    assert [tile.style_scale for tile in tiles] == [0.75, 1.5, 3.0] * 3
    assert {(tile.size, tile.iterations, tile.seed) for tile in tiles} == {(160, 30, 4)}


def test_variations_stay_within_the_limits():
    tiles = variations_of(StyleConfig(balance=0.95, style_scale=6, size=64, iterations=3, start=Start.IMAGE))
    assert max(tile.balance for tile in tiles) == 1
    assert max(tile.style_scale for tile in tiles) == 8
    assert {(tile.size, tile.iterations, tile.start) for tile in tiles} == {(64, 3, Start.AUTO)}


def test_the_sheet_fills_in_over_the_content(form, engine, viewer, qtbot):
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert form.session.status.message.startswith("Done: 9 variations")
    sheet, content = viewer.layers[SHEET], viewer.layers["cells"]
    assert sheet.data.shape == (3 * 48 + 8, 3 * 64 + 8, 3)
    np.testing.assert_array_equal(sheet.data[:48, :64], 26)
    np.testing.assert_array_equal(sheet.data[-48:, -64:], 230)
    np.testing.assert_allclose(sheet.data_to_world((-0.5, -0.5)), content.data_to_world((-0.5, -0.5)))
    np.testing.assert_allclose(sheet.data_to_world((151.5, 199.5)), content.data_to_world((47.5, 63.5)))
    tiles = sheet.metadata["napari-styletransfer"]["tiles"]
    assert len(tiles) == 9
    assert tiles[5]["box"] == [52, 136, 48, 64]
    assert StyleConfig.from_recipe(tiles[5]["settings"]) == variations_of(StyleConfig())[5]
    assert not form.controls.go_on.isEnabled()


def test_a_double_click_takes_over_the_settings_of_a_tile(window, form, engine, viewer, qtbot):
    form.settings.editors["iterations"].write(77)
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    sheet = viewer.layers[SHEET]
    (callback,) = sheet.mouse_double_click_callbacks
    callback(sheet, SimpleNamespace(position=sheet.data_to_world((50, 10))))
    assert form.config() == StyleConfig(iterations=77)
    callback(sheet, SimpleNamespace(position=sheet.data_to_world((120, 150))))
    assert form.config() == StyleConfig(iterations=77, balance=0.75, style_scale=2)


def test_stop_keeps_the_tiles_that_are_done(form, engine, viewer, qtbot):
    engine.pause_after = 1
    engine.go.set()
    form.try_variations()
    qtbot.waitUntil(lambda: form.session.status.message.startswith("Variation 3 of 9"))
    form.stop()
    ended(form, qtbot)
    assert form.session.status.message.startswith("Stopped: 2 variations")
    assert len(viewer.layers[SHEET].metadata["napari-styletransfer"]["tiles"]) == 2
    viewer.layers.remove(SHEET)


def test_of_a_stack_the_plane_shown_is_tried(form, engine, viewer, qtbot):
    stack = viewer.add_image(np.random.default_rng(0).random((3, 48, 64)), name="stack")
    form.pictures.choose(stack, [viewer.layers["waves"]])
    form.result.choose(axes=(0,), channel=True)
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    assert viewer.layers["Variations of stack"].data.shape == (1, 152, 200, 3)
    assert engine.calls[0].get("planes") is None


@pytest.mark.slow
def test_real_variations_differ(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    qtbot.addWidget(form)
    form.show_config(StyleConfig(network="compact", size=32, iterations=2, scales=1, device="cpu"))
    form.try_variations()
    ended(form, qtbot, 120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    data = viewer.layers[SHEET].data
    height, width = (data.shape[0] - 8) // 3, (data.shape[1] - 8) // 3
    assert np.abs(data[:height, :width].astype(int) - data[-height:, -width:]).mean() > 1
    form.release()
