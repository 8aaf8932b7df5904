"""Fields of the settings as text and back, and their types; the flags and the editors of the form are made with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from napari_styletransfer.errors import ConfigError

NONE = "none"
"""Stands for an empty field."""

_BETWEEN_LAYERS = re.compile(r",(?!\d)")
"""A comma before a digit is a decimal one: no layer's name begins with a digit."""


def unwrap(annotation: Any) -> tuple[Any, bool]:
    """Return a type without `Annotated` and ``| None``, and whether it may be None."""
    if get_origin(annotation) is Annotated:
        return unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        if len(kinds) == 1:
            return unwrap(kinds[0])[0], True
    return annotation, False


def to_text(value: Any, separator: str = ",") -> str:
    """Write the value of a field as it is typed: ``relu1_1=1,relu2_1=0.5``."""
    if value is None:
        return NONE
    if isinstance(value, Mapping):
        return separator.join(f"{key}={item:g}" for key, item in value.items())
    if isinstance(value, tuple):
        return separator.join(f"{item:g}" for item in value)
    return str(value)


def parse_layer_weights(text: str) -> dict[str, float] | None:
    """Read what `to_text` wrote of layer weights; a name alone counts 1, no text at all is None.

    Raises
    ------
    ConfigError
        If a part is not of the form ``layer=weight``, or a layer is there twice.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in _BETWEEN_LAYERS.split(text))):
        layer, equals, weight = (piece.strip() for piece in part.partition("="))
        if layer in weights:
            raise ConfigError(f"'{layer}' is there twice. Name each layer once.")
        try:
            if not layer:
                raise ValueError
            weights[layer] = parse_decimal(weight) if equals else 1.0
        except ValueError as error:
            raise ConfigError(
                f"'{part}' should be a layer and its weight, such as relu2_1=0.5, with commas between."
            ) from error
    return weights or None


def parse_decimal(text: str) -> float:
    """Read a number with a decimal point or a decimal comma.

    Raises
    ------
    ValueError
        If it is no number, or has separators of thousands.
    """
    return float(text.replace(",", "."))
