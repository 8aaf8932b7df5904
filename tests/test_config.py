"""What is told of settings that cannot work."""

from __future__ import annotations

import json

import pytest

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError


@pytest.mark.parametrize("number", [1, 2, 5, 40])
def test_wrong_fields_are_named_up_to_the_length_of_a_message_and_then_counted(number):
    wrong = {name: "a" * 10_000 for name in list(StyleConfig.model_fields)[:number]}
    with pytest.raises(ConfigError) as caught:
        StyleConfig(**wrong)
    message = str(caught.value)
    assert len(message) <= 500
    assert message.startswith("mode: Input should be 'transfer'")
    if number > 2:
        named = message.count("(got ")
        assert message.endswith(f" And {caught.value.__cause__.error_count() - named} more.")


@pytest.mark.parametrize(
    "make",
    [
        lambda fields: StyleConfig(**fields),
        StyleConfig.model_validate,
        lambda fields: StyleConfig.model_validate_json(json.dumps(fields)),
        lambda fields: StyleConfig().changed(**fields),
        lambda fields: StyleConfig.from_preset("microscopy", **fields),
        StyleConfig.from_recipe,
    ],
    ids=["constructor", "model_validate", "model_validate_json", "changed", "from_preset", "from_recipe"],
)
def test_every_way_to_settings_tells_of_wrong_ones_alike(make):
    assert make({"size": 40}).size == 40
    with pytest.raises(ConfigError) as caught:
        make({"size": 3, "sise": 40})
    assert str(caught.value) == (
        "size: Input should be greater than or equal to 32 (got 3). "
        "There is no setting 'sise'. Leave it out, or correct its name."
    )


def test_all_of_a_few_wrong_fields_are_named():
    with pytest.raises(ConfigError) as caught:
        StyleConfig(balance=2, size="large", iterations=0)
    assert [word in str(caught.value) for word in ("balance:", "size:", "iterations:")] == [True] * 3
