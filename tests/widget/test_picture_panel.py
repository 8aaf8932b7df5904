"""The picture part follows the viewer's layers and keeps what the user chose."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtWidgets import QApplication

from napari_styletransfer.config import Mode, Start, StyleConfig
from napari_styletransfer.session.form_state import FormState
from napari_styletransfer.session.layer_group import LayerGroup
from napari_styletransfer.widget.panels.picture_panel import PicturePanel
from napari_styletransfer.widget.panels.style_list import ICON_SIZE, thumbnail_icon
from napari_styletransfer.widget.settings.levels import AUTOMATIC, level_editor


@pytest.fixture
def model():
    return ViewerModel()


@pytest.fixture
def level(qtbot):
    return level_editor("level", StyleConfig.model_fields["level"])


@pytest.fixture
def state():
    return FormState()


@pytest.fixture
def panel(model, state, level, qtbot):
    panel = PicturePanel(model, state, level)
    qtbot.addWidget(panel)
    yield panel
    panel.release()


def add(model, name, **settings):
    return model.add_image(np.random.default_rng(0).random((8, 8)), name=name, **settings)


def test_an_empty_viewer_is_told(panel):
    assert panel.missing() == "The viewer has no image yet."
    assert panel.content_layer is None
    assert panel.style_layers == []


def test_the_first_picture_is_the_content_and_the_next_the_style(panel, model, state):
    content = add(model, "a")
    assert panel.missing() == "Add a second picture as the style."
    style = add(model, "b")
    assert panel.missing() == ""
    assert panel.content_layer is content
    assert panel.style_layers == [style]
    assert state.style_weights is None


def test_layers_there_before_the_form_are_found(model, state, level, qtbot):
    content, style = add(model, "a"), add(model, "b")
    panel = PicturePanel(model, state, level)
    qtbot.addWidget(panel)
    assert (panel.content_layer, panel.style_layers) == (content, [style])
    panel.release()


def test_a_choice_stays_when_layers_come_and_go(panel, model):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(b, [a])
    d = add(model, "d")
    assert (panel.content_layer, panel.style_layers) == (b, [a])
    model.layers.remove(c)
    model.layers.move(model.layers.index(d), 0)
    assert (panel.content_layer, panel.style_layers) == (b, [a])


def test_a_result_is_the_first_guess_for_nothing(panel, model):
    content, style = add(model, "a"), add(model, "b")
    add(model, "result", metadata={"napari-styletransfer": {"recipe": {}}})
    assert (panel.content_layer, panel.style_layers) == (content, [style])


def test_deleted_layers_are_forgotten(panel, model):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(a, [c])
    model.layers.remove(c)
    assert panel.style_layers == [b]
    model.layers.remove(a)
    assert panel.content_layer is b
    assert panel.missing() == "Add a second picture as the style."


def test_other_kinds_of_layer_are_not_offered(panel, model):
    model.add_labels(np.zeros((8, 8), int))
    model.add_points(np.zeros((1, 2)))
    assert panel.image_layers == []


def test_names_and_thumbnails_follow_the_layers(panel, model):
    content, style = add(model, "a"), add(model, "b")
    content.name, style.name = "cells", "waves"
    assert items(panel.content) == ["cells", "waves"]
    assert panel.content.currentText() == "cells"
    assert "waves" in panel.styles.findChild(type(panel._rows[0])).check.toolTip()


def test_several_styles_are_blended_by_weight(panel, model, state):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(a, [b, c])
    assert panel.style_layers == [c, b]
    assert state.style_weights is None
    panel.set_style_weights((0.25, 1.0))
    assert state.style_weights == (0.25, 1.0)
    panel.set_style_weights(None)
    assert state.style_weights is None


def test_weights_are_shown_only_where_styles_are_blended(panel, model):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(a, [b])
    assert all(row.weight.isHidden() for row in panel._rows)
    panel.choose(a, [b, c])
    assert not any(row.weight.isHidden() for row in panel._rows)


def test_layers_are_followed_in_the_turn_after_they_came(panel, model, state):
    told = []
    state.changed.connect(lambda: told.append(panel.content.count()))
    for name in "abc":
        add(model, name)
    assert (panel.content.count(), told) == (0, [])
    assert items(panel.content) == ["a", "b", "c"]
    assert told == [3]


def test_the_content_is_not_offered_as_its_own_style(panel, model):
    a, b = add(model, "a"), add(model, "b")
    panel.choose(b, [a])
    assert [row.picture for row in panel._rows] == [a]


@pytest.mark.parametrize(
    ("mode", "has_content", "has_style"),
    [(Mode.TRANSFER, True, True), (Mode.CONTENT, True, False), (Mode.STYLE, False, True)],
)
def test_a_mode_asks_only_for_the_pictures_it_needs(panel, model, mode, has_content, has_style, state):
    add(model, "a")
    add(model, "b")
    state.settings = StyleConfig(mode=mode, start=Start.AUTO)
    panel.update_settings()
    assert (panel.content_layer is not None, bool(panel.style_layers)) == (has_content, has_style)
    assert (not panel.content.isHidden(), not panel.styles.isHidden()) == (has_content, has_style)
    assert panel.missing() == ""


def test_a_start_image_is_asked_for_only_by_that_start(panel, model, state):
    add(model, "a")
    start = add(model, "b")
    assert panel.init_layer is None
    state.settings = StyleConfig(mode=Mode.TRANSFER, start=Start.IMAGE)
    panel.update_settings()
    assert items(panel.init) == ["a", "b"]
    panel.init.setCurrentIndex(1)
    assert panel.init_layer is start


def test_a_released_panel_follows_the_viewer_no_more(model, state, level, qtbot):
    panel = PicturePanel(model, state, level)
    qtbot.addWidget(panel)
    layer = add(model, "a")
    assert panel.content_layer is layer
    add(model, "too late")
    panel.release()
    add(model, "b")
    layer.name = "renamed"
    assert items(panel.content) == ["a"]


def items(combo):
    QApplication.processEvents()
    return [combo.itemText(index) for index in range(combo.count())]


def rows(panel):
    QApplication.processEvents()
    return [row.picture for row in panel._rows]


def channels(model, *names, **settings):
    return [add(model, name, blending="additive", **settings) for name in names]


def test_channels_of_one_grid_can_be_taken_together(panel, model):
    first, second = channels(model, "green", "red")
    style = model.add_image(np.zeros((5, 9)), name="style")
    assert items(panel.content) == ["What you see", "green", "red", "style"]
    assert panel.content_layer is first
    panel.choose(panel.groups[0])
    assert panel.content_layer.layers == [first, second]
    assert rows(panel) == [style]
    assert panel.missing() == ""
    (third,) = channels(model, "blue")
    assert panel.content_layer.layers == [first, second, third]
    second.visible = third.visible = False
    assert panel.content_layer is first
    assert items(panel.content)[0] == "green"


def test_channels_of_one_grid_can_be_a_style(panel, model):
    content = model.add_image(np.zeros((5, 9)), name="content")
    first, second = channels(model, "green", "red")
    (group,) = panel.groups
    assert rows(panel) == [group, second, first]
    assert panel.style_layers == [second]
    panel.choose(content, [group])
    assert panel.style_layers == [group]
    assert panel._rows[0].check.text().startswith("What")
    assert group.name == "green + red"
    assert "green + red, as the canvas shows them" in panel._rows[0].check.toolTip()
    (third,) = channels(model, "blue")
    assert panel.style_layers == [group]
    assert group.layers == [first, second, third]
    first.name = "nuclei"
    assert "nuclei + red + blue" in panel._rows[0].check.toolTip()
    second.visible = first.visible = False
    assert panel.groups == []
    assert panel.style_layers == [third]


def test_what_is_hidden_for_a_while_is_chosen_again_when_it_is_shown(panel, model):
    first, second = channels(model, "green", "red")
    others = [model.add_image(np.zeros((5, 9)), name=name, blending="additive") for name in ("dots", "lines")]
    seen, styles = panel.groups
    panel.choose(seen, [styles])
    for layer in (first, second, *others):
        layer.visible = False
    assert panel.content_layer is first
    assert panel.style_layers == [others[1]]
    for layer in (first, second, *others):
        layer.visible = True
    assert panel.content_layer is seen
    assert panel.style_layers == [styles]
    first.visible = others[0].visible = False
    assert panel.groups == []
    panel.choose(second, [first])
    first.visible = others[0].visible = True
    assert panel.content_layer is second
    assert panel.style_layers == [first]


def test_what_is_deleted_while_it_is_hidden_is_let_go_of(panel, model):
    first, second = channels(model, "green", "red")
    panel.choose(panel.groups[0])
    group = weakref.ref(panel.groups[0])
    second.visible = False
    assert panel.content_layer is first
    assert group() is not None
    model.layers.remove(second)
    assert panel.groups == []
    gc.collect()
    assert group() is None


def test_what_holds_the_content_is_not_offered_as_its_style(panel, model):
    first, second = channels(model, "green", "red")
    others = [model.add_image(np.zeros((5, 9)), name=name, blending="additive") for name in ("dots", "lines")]
    seen, styles = panel.groups
    assert items(panel.content)[:2] == ["green + red (what you see)", "dots + lines (what you see)"]
    panel.choose(first)
    assert rows(panel) == [styles, *reversed(others), second]
    panel.choose(styles)
    assert rows(panel) == [seen, second, first]


def test_the_thumbnail_of_several_layers_shows_them_all():
    layers = [Image(np.eye(8) * on, colormap=name, contrast_limits=(0, 1)) for name, on in (("red", 1), ("green", 0))]
    icon = thumbnail_icon(LayerGroup(layers)).pixmap(ICON_SIZE).toImage()
    alone = thumbnail_icon(layers[0]).pixmap(ICON_SIZE).toImage()
    assert icon == alone
    assert icon != thumbnail_icon(layers[1]).pixmap(ICON_SIZE).toImage()


def test_a_picture_that_covers_the_others_is_no_composite(panel, model):
    add(model, "content")
    top = add(model, "style", blending="translucent")
    assert items(panel.content) == ["content", "style"]
    top.opacity = 0.5
    assert items(panel.content) == ["What you see", "content", "style"]


def test_a_result_is_no_part_of_what_you_see(panel, model):
    add(model, "a")
    add(model, "result", blending="additive", metadata={"napari-styletransfer": {"recipe": {}}})
    assert items(panel.content) == ["a", "result"]


def pyramid(model, side, count=3, **settings):
    levels = [np.zeros((side // 2**n, 2 * side // 2**n)) for n in range(count)]
    return model.add_image(levels, multiscale=True, **settings)


def test_levels_are_offered_with_their_sizes_where_the_content_has_several(panel, model, level, state):
    plain = add(model, "plain")
    assert level.native.isHidden()
    large = pyramid(model, 64)
    panel.choose(large)
    assert not level.native.isHidden()
    assert items(level.native) == [
        AUTOMATIC,
        "Level 0 · 128 × 64 px",
        "Level 1 · 64 × 32 px",
        "Level 2 · 32 × 16 px",
    ]
    model.dims.order = (1, 0)
    assert items(level.native)[1] == "Level 0 · 64 × 128 px"
    panel.choose(plain)
    assert level.native.isHidden()
    panel.choose(large)
    state.settings = StyleConfig(mode=Mode.STYLE, start=Start.AUTO)
    panel.update_settings()
    assert level.native.isHidden()


def test_a_chosen_level_stays_and_says_where_there_is_none(panel, model, level):
    large, small = pyramid(model, 64), pyramid(model, 32, 2)
    panel.choose(large)
    level.write(2)
    assert level.native.currentText() == "Level 2 · 32 × 16 px"
    panel.choose(small)
    assert level.read() == 2
    assert level.native.currentText() == "Level 2 · not in this picture"
    level.write(None)
    assert level.native.currentText() == AUTOMATIC
    panel.choose(large)
    assert items(level.native)[-1] == "Level 2 · 32 × 16 px"


def test_layers_taken_together_have_the_levels_they_share(panel, model, level):
    pyramid(model, 64, blending="additive")
    pyramid(model, 64, blending="additive")
    panel.choose(panel.groups[0])
    assert len(items(level.native)) == 4
    model.add_image(np.zeros((64, 128)), blending="additive")
    assert len(panel.content_layer.layers) == 3
    assert level.native.isHidden()
