"""The picture part follows the viewer's layers and keeps what the user chose."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_styletransfer.config import Mode, Start
from napari_styletransfer.widget.pictures import WHAT_YOU_SEE, PicturePanel


@pytest.fixture
def model():
    return ViewerModel()


@pytest.fixture
def panel(model, qtbot):
    panel = PicturePanel(model)
    qtbot.addWidget(panel)
    yield panel
    panel.release()


def add(model, name, **settings):
    return model.add_image(np.random.default_rng(0).random((8, 8)), name=name, **settings)


def test_an_empty_viewer_is_told(panel):
    assert panel.missing() == "The viewer has no image yet."
    assert panel.content_layer is None
    assert panel.style_layers == []


def test_the_first_picture_is_the_content_and_the_next_the_style(panel, model):
    content = add(model, "a")
    assert panel.missing() == "Add a second picture as the style."
    style = add(model, "b")
    assert panel.missing() == ""
    assert panel.content_layer is content
    assert panel.style_layers == [style]
    assert panel.style_weights is None


def test_layers_there_before_the_form_are_found(model, qtbot):
    content, style = add(model, "a"), add(model, "b")
    panel = PicturePanel(model)
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
    assert panel.content.currentText() == "cells"
    assert [panel.content.itemText(index) for index in range(panel.content.count())] == ["cells", "waves"]
    assert "waves" in panel.styles.findChild(type(panel._rows[0])).check.toolTip()


def test_several_styles_are_blended_by_weight(panel, model):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(a, [b, c])
    assert panel.style_layers == [c, b]
    assert panel.style_weights is None
    panel.set_style_weights((0.25, 1.0))
    assert panel.style_weights == (0.25, 1.0)
    panel.set_style_weights(None)
    assert panel.style_weights is None


def test_weights_are_shown_only_where_styles_are_blended(panel, model):
    a, b, c = (add(model, name) for name in "abc")
    panel.choose(a, [b])
    assert all(row.weight.isHidden() for row in panel._rows)
    panel.choose(a, [b, c])
    assert not any(row.weight.isHidden() for row in panel._rows)


def test_the_content_is_not_offered_as_its_own_style(panel, model):
    a, b = add(model, "a"), add(model, "b")
    panel.choose(b, [a])
    assert [row.layer for row in panel._rows] == [a]


@pytest.mark.parametrize(
    ("mode", "has_content", "has_style"),
    [(Mode.TRANSFER, True, True), (Mode.CONTENT, True, False), (Mode.STYLE, False, True)],
)
def test_a_mode_asks_only_for_the_pictures_it_needs(panel, model, mode, has_content, has_style):
    add(model, "a")
    add(model, "b")
    panel.follow_settings(mode, Start.AUTO)
    assert (panel.content_layer is not None, bool(panel.style_layers)) == (has_content, has_style)
    assert (not panel.content.isHidden(), not panel.styles.isHidden()) == (has_content, has_style)
    assert panel.missing() == ""


def test_a_start_image_is_asked_for_only_by_that_start(panel, model):
    add(model, "a")
    start = add(model, "b")
    assert panel.init_layer is None
    panel.follow_settings(Mode.TRANSFER, Start.IMAGE)
    panel.init.setCurrentIndex(1)
    assert panel.init_layer is start


def test_a_released_panel_follows_the_viewer_no_more(model, qtbot):
    panel = PicturePanel(model)
    qtbot.addWidget(panel)
    layer = add(model, "a")
    panel.release()
    add(model, "b")
    layer.name = "renamed"
    assert panel.content.count() == 1
    assert panel.content.currentText() == "a"


def items(combo):
    return [combo.itemText(index) for index in range(combo.count())]


def test_channels_of_one_grid_can_be_taken_together(panel, model):
    first, second = add(model, "green"), add(model, "red", blending="additive")
    style = model.add_image(np.zeros((5, 9)), name="style")
    assert items(panel.content) == ["What you see", "green", "red", "style"]
    assert panel.content_layer is first
    panel.choose(WHAT_YOU_SEE)
    assert panel.content_visible
    assert panel.content_layer is None
    assert panel.together == [first, second]
    assert [row.layer for row in panel._rows] == [style]
    assert panel.missing() == ""
    third = add(model, "blue", blending="additive")
    assert panel.content_visible
    assert panel.together == [first, second, third]
    second.visible = third.visible = False
    assert not panel.content_visible
    assert panel.content_layer is first
    assert items(panel.content)[0] == "green"


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
