"""Every field of a config has an editor that gives back what it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from qtpy.QtWidgets import QLineEdit

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.config.fields import parse_layer_weights, to_text
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.widget.settings.field_editors import make_choice_editor, make_editor
from napari_styletransfer.widget.settings.settings_form import FIELDS_WITHOUT_EDITOR

pytestmark = pytest.mark.usefixtures("qapp")


def editor_of(name):
    return make_editor(name, StyleConfig.model_fields[name])


@pytest.mark.parametrize("name", sorted(set(StyleConfig.model_fields) - FIELDS_WITHOUT_EDITOR))
def test_an_editor_shows_the_default_and_the_description(name):
    info = StyleConfig.model_fields[name]
    editor = editor_of(name)
    assert editor.read() == info.default
    assert editor.title == info.title
    assert info.description in editor.native.toolTip()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", None),
        ("size", 65536),
        ("scales", 10),
        ("block_size", None),
        ("seed", 2**63 - 1),
        ("content_weight", None),
        ("content_weight", 1.23456789e-7),
        ("tolerance", 0.0),
        ("balance", 0.123456789),
        ("style_scale", 0.0625),
        ("style_layers", {"relu1_1": 1.0, "relu2_1": 1 / 3}),
        ("style_layers", None),
        ("weights", Path("some") / "weights.safetensors"),
        ("weights", None),
        ("device", "cuda:1"),
    ],
)
def test_an_editor_gives_back_exactly_what_it_was_shown(name, value):
    editor = editor_of(name)
    editor.write(value)
    assert editor.read() == value


@given(weight=st.floats(0, 1e30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_numbers_survive_to_the_last_bit(weight):
    editor = editor_of("tv_weight")
    editor.write(weight)
    assert editor.read() == weight


def test_a_slider_moved_by_the_user_counts():
    editor = editor_of("balance")
    editor.write(0.123456789)
    editor.widget.value = 0.75
    assert editor.read() == 0.75


def test_a_number_with_a_decimal_comma_is_read():
    editor = editor_of("tv_weight")
    editor.widget.value = "0,5"
    assert editor.read() == 0.5


def test_a_seed_that_is_no_whole_number_is_told():
    editor = editor_of("seed")
    editor.widget.value = "1.5"
    with pytest.raises(ConfigError, match=r"Seed: '1.5' is not a whole number"):
        editor.read()


def test_text_that_is_no_number_is_told_with_the_fields_name():
    editor = editor_of("tolerance")
    editor.widget.value = "small"
    with pytest.raises(ConfigError, match=r"Tolerance: 'small' is not a number"):
        editor.read()


layers = st.sampled_from(["rgb", "relu1_1", "relu4_2", "fire9"])


@given(st.dictionaries(layers, st.integers(0, 40).map(lambda eighths: eighths / 8)))
def test_layer_weights_survive_as_text(weights):
    assert parse_layer_weights(to_text(weights, ", ")) == (weights or None)


def test_a_layer_without_a_weight_counts_one():
    assert parse_layer_weights(" relu1_1 , relu2_1 = 0.5,") == {"relu1_1": 1.0, "relu2_1": 0.5}


def test_layer_weights_that_mean_nothing_are_told():
    editor = make_editor("style_layers", StyleConfig.model_fields["style_layers"])
    editor.widget.value = "relu1_1=much"
    with pytest.raises(ConfigError, match="Style layers: 'relu1_1=much'"):
        editor.read()


def test_an_open_choice_also_shows_values_it_does_not_offer():
    editor = make_choice_editor("device", StyleConfig.model_fields["device"], [("automatic", "auto"), ("cpu", "cpu")])
    editor.write("cuda:3")
    assert editor.read() == "cuda:3"
    assert [editor.native.itemText(index) for index in range(editor.native.count())] == ["automatic", "cpu", "cuda:3"]


def test_limits_come_from_the_field():
    class Model(BaseModel):
        count: Annotated[int, Field(ge=2, le=7)] = 3

    editor = make_editor("count", Model.model_fields["count"])
    assert (editor.native.minimum(), editor.native.maximum()) == (2, 7)


def test_a_field_without_an_editor_is_refused_by_name():
    class Model(BaseModel):
        things: list[int] = []

    with pytest.raises(TypeError, match="things"):
        make_editor("things", Model.model_fields["things"])


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, info in StyleConfig.model_fields.items()
        if info.default is None and name not in {*FIELDS_WITHOUT_EDITOR, "level"}
    ),
)
def test_an_empty_field_tells_what_that_means(name):
    native = editor_of(name).native
    words = StyleConfig.model_fields[name].json_schema_extra["empty"]
    assert words
    if hasattr(native, "specialValueText"):
        assert native.text() == words
    else:
        line = native if hasattr(native, "placeholderText") else native.findChild(QLineEdit)
        assert line.placeholderText() == words


def test_a_layer_named_twice_is_refused():
    with pytest.raises(ConfigError, match="'relu1_1' is there twice"):
        parse_layer_weights("relu1_1=1, relu2_1, relu1_1=0.5")
