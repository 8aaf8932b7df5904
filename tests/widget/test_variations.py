"""The contact sheet: nine small runs in one layer, and one of them chosen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_styletransfer.config import Start, StyleConfig
from napari_styletransfer.outputs.captions import caption_height, draw_caption, font_for, wrap_captions
from napari_styletransfer.outputs.contact_sheet import caption_of, make_variations
from napari_styletransfer.session.status import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

SHEET = "Variations of cells"


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


def ended(form, qtbot, timeout=20_000):
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=timeout)


def test_variations_lie_around_the_settings():
    base = StyleConfig(balance=0.5, style_scale=1.5, size=512, iterations=150, seed=4)
    tiles = make_variations(base)
    assert [tile.balance for tile in tiles] == [0.25] * 3 + [0.5] * 3 + [0.75] * 3
    assert [tile.style_scale for tile in tiles] == [0.75, 1.5, 3.0] * 3
    assert {(tile.size, tile.iterations, tile.seed) for tile in tiles} == {(160, 30, 4)}


def test_variations_stay_within_the_limits():
    tiles = make_variations(StyleConfig(balance=0.95, style_scale=6, size=64, iterations=3, start=Start.IMAGE))
    assert max(tile.balance for tile in tiles) == 1
    assert max(tile.style_scale for tile in tiles) == 8
    assert {(tile.size, tile.iterations, tile.start) for tile in tiles} == {(64, 3, Start.AUTO)}


def test_the_sheet_fills_in_over_the_content(form, engine, viewer, qtbot):
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert form.session.status.message.startswith("Done: 9 variations")
    sheet = viewer.layers[SHEET]
    tiles = sheet.metadata["napari-styletransfer"]["tiles"]
    assert len(tiles) == 9
    words = tiles[3]["box"][0] - 5 * 48
    assert 15 < words < 40
    assert [tile["box"] for tile in tiles] == [
        [row * (240 + words), column * 324, 240, 320] for row in range(3) for column in range(3)
    ]
    assert sheet.data.shape == (3 * (240 + words), 3 * 320 + 8, 3)
    for number, tile in enumerate(tiles):
        top, left, height, width = tile["box"]
        np.testing.assert_allclose(sheet.data[top : top + height, left : left + width], 25.5 * (number + 1), atol=1)
        caption = sheet.data[top + height : top + height + words, left : left + width]
        assert caption.max() > 200
        # Words neither touch the picture nor its neighbours.
        assert caption[[0, -1]].max() == caption[:, [0, -1]].max() == 24
    assert StyleConfig.from_recipe(tiles[5]["settings"]) == make_variations(StyleConfig())[5]
    assert not form.controls.resume.isEnabled()


def test_the_sheet_is_as_wide_as_the_content_and_tiles_keep_its_proportions(form, engine, viewer, qtbot):
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    sheet, content = viewer.layers[SHEET], viewer.layers["cells"]
    first, across = sheet.data_to_world((-0.5, -0.5)), sheet.data_to_world((-0.5, sheet.data.shape[1] - 0.5))
    np.testing.assert_allclose(first, content.data_to_world((-0.5, -0.5)))
    np.testing.assert_allclose(across, content.data_to_world((-0.5, 63.5)))
    height, width = np.subtract(sheet.data_to_world((240, 320)), sheet.data_to_world((0, 0)))
    assert height / width == pytest.approx(48 * 0.5 / (64 * 2), rel=0.01)


def test_a_sheet_tells_how_many_images_the_run_makes_that_it_is_for(form, engine, viewer, qtbot):
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    form.pictures.choose(viewer.add_image(np.zeros((5, 40, 30))), [viewer.layers["waves"]])
    form.output.choose(axes=(0,))
    form.try_variations()
    ended(form, qtbot)
    assert [call["images"] for call in engine.calls] == [1, 5]


def test_captions_tell_what_differs():
    assert caption_of(StyleConfig(balance=0.25, style_scale=2)) == "content/style 0.25 · style scale 2x"
    assert caption_of(StyleConfig(balance=0.5)) == "content/style 0.5 · style scale 1x"


@pytest.mark.parametrize(("width", "size"), [(400, 28), (320, 28), (160, 15), (20, 9)])
def test_the_words_are_as_large_as_the_tiles_allow(width, size):
    assert font_for(("balance 0.25 · style 2x",), width).size == size


def test_words_that_are_too_wide_are_broken():
    captions = tuple(caption_of(StyleConfig(balance=balance, style_scale=2)) for balance in (0.25, 0.5))
    assert wrap_captions(captions, 320) == captions
    lines = wrap_captions(captions, 110)
    assert lines == ("content/style 0.25\nstyle scale 2x", "content/style 0.5\nstyle scale 2x")
    font = font_for(lines, 110)
    rows = np.full((caption_height(lines, font), 110, 3), 24, np.uint8)
    draw_caption(rows, lines[0], font)
    assert rows.max() > 200
    assert rows[[0, -1]].max() == rows[:, [0, -1]].max() == 24


def test_a_sheet_is_offered_for_nothing(form, engine, viewer, qtbot):
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    form.pictures.flush()
    assert [form.pictures.content.itemText(index) for index in range(form.pictures.content.count())] == [
        "cells",
        "waves",
    ]
    assert [row.picture.name for row in form.pictures._rows] == ["waves"]


def test_a_double_click_takes_over_the_settings_of_a_tile(window, form, engine, viewer, qtbot):
    form.show_config(StyleConfig(iterations=77, balance=0.5))
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    sheet = viewer.layers[SHEET]
    (callback,) = sheet.mouse_double_click_callbacks
    callback(sheet, SimpleNamespace(position=sheet.data_to_world((10, 322))))
    assert form.config() == StyleConfig(iterations=77, balance=0.5)
    callback(sheet, SimpleNamespace(position=sheet.data_to_world((700, 800))))
    assert form.config() == StyleConfig(iterations=77, balance=0.75, style_scale=2)


def test_a_tile_changes_nothing_but_what_it_varies(form, engine, viewer, qtbot):
    """Not even the colours, which a channel takes otherwise than the form says."""
    channel = viewer.add_image(np.random.default_rng(0).random((48, 64)), name="channel")
    form.pictures.choose(channel, [viewer.layers["waves"]])
    form.output.choose(channel=True)
    form.settings.editors["balance"].write(0.5)
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    before = form.settings.config()
    form.session.output.choose(8)
    assert form.settings.config() == before.changed(balance=0.75, style_scale=2)


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
    form.output.choose(axes=(0,), channel=True)
    engine.go.set()
    form.try_variations()
    ended(form, qtbot)
    assert viewer.layers["Variations of stack"].data.shape[::2] == (1, 968)
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
    boxes = [tile["box"] for tile in viewer.layers[SHEET].metadata["napari-styletransfer"]["tiles"]]
    first, last = (
        data[top : top + height, left : left + width].astype(int) for top, left, height, width in (boxes[0], boxes[-1])
    )
    assert np.abs(first - last).mean() > 1
    form.release()


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"mode": "colors"}, "mode is 'colors'"), ({"content_weight": 0.01}, "'Content weight' is set")],
)
def test_variations_that_would_all_be_alike_are_refused(form, engine, fields, told):
    form.show_config(StyleConfig(**fields))
    form.try_variations()
    assert form.session.status.state is State.FAILED
    assert told in form.session.status.message
