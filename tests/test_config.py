"""What is told of settings that cannot work."""

from __future__ import annotations

import pytest

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError


@pytest.mark.parametrize("number", [1, 2, 5, 40])
def test_wrong_fields_are_named_up_to_the_length_of_a_message_and_then_counted(number):
    wrong = {name: "a" * 10_000 for name in list(StyleConfig.model_fields)[:number]}
    with pytest.raises(ConfigError) as caught:
        StyleConfig.make(**wrong)
    message = str(caught.value)
    assert len(message) <= 500
    assert message.startswith("mode: Input should be 'transfer'")
    if number > 2:
        named = message.count("(got ")
        assert message.endswith(f" And {caught.value.__cause__.error_count() - named} more.")


def test_all_of_a_few_wrong_fields_are_named():
    with pytest.raises(ConfigError) as caught:
        StyleConfig.make(balance=2, size="large", iterations=0)
    assert [word in str(caught.value) for word in ("balance:", "size:", "iterations:")] == [True] * 3
