"""Command-line flags made from the fields of `StyleConfig`, and the settings that come of them.

A field added to `StyleConfig` is a flag at once: name, help, choices, limits and default are read from the
model. The flags arrive as text and are judged by the model itself, so that the command line, recipes and the
form accept the same values and complain in the same words. Used by `cli.app` alone.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from napari_styletransfer.config import ALL_STYLES, PRESETS, StyleConfig
from napari_styletransfer.errors import ConfigError

NONE = "none"
"""What to write for an empty field."""

_ANY_STYLE = {NONE: None, "all": str(ALL_STYLES)}
"""Words for what a label can be given besides the number of a style."""

_ROOM = 32
"""Characters up to which choices stand beside their flag; more would break across lines."""


def flag(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def with_config_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag for each field of `StyleConfig`, in place of its `**flags`.

    The command receives the flags that were given, by field name, as text.
    """
    own = inspect.signature(command, eval_str=True)
    fixed = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    # Keyword-only, because flags have defaults and may come before arguments without.
    fixed = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in fixed]
    flags = [_parameter(name, field) for name, field in StyleConfig.model_fields.items()]

    def wrapper(**values: Any) -> Any:
        given = {name: values.pop(name) for name in StyleConfig.model_fields}
        return command(**values, **{name: text for name, text in given.items() if text is not None})

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature([*fixed, *flags])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*fixed, *flags)}
    return wrapper


def resolve(preset: str | None, recipe: Path | None, flags: dict[str, str]) -> StyleConfig:
    """Build the settings: flags before the recipe, the recipe before the preset, the preset before the defaults.

    Parameters
    ----------
    preset
        A name from `PRESETS`.
    recipe
        A recipe file; only the fields it names count.
    flags
        Text by field name, as `with_config_flags` hands it on.

    Raises
    ------
    ConfigError
        Naming each flag or field that is wrong.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"There is no preset '{preset}'. Presets: {', '.join(PRESETS)}.")
    fields: dict[str, Any] = dict(PRESETS[preset]) if preset else {}
    if recipe is not None:
        read = StyleConfig.load(recipe)
        fields |= {name: getattr(read, name) for name in read.model_fields_set}
    given: dict[str, Any] = {}
    for name, text in flags.items():
        try:
            given[name] = _value(StyleConfig.model_fields[name], text)
        except ValueError as error:
            raise ConfigError(f"{flag(name)}: {error}") from error
    # As a change, so that another network than the recipe's goes without the checksum of the recipe's weights.
    return StyleConfig(**fields).changed(**given)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    extra = field.json_schema_extra
    group = extra.get("group", "Settings") if isinstance(extra, dict) else "Settings"
    plain, _ = _kind(field)
    choices = list(plain) if _is_enum(plain) else []
    option = typer.Option(
        flag(name),
        help=escape(_help(field)),
        metavar=_metavar(field),
        show_default=False,
        rich_help_panel=str(group),
        autocompletion=(lambda incomplete: [c for c in choices if c.startswith(incomplete)]) if choices else None,
    )
    annotation = Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(field: FieldInfo) -> tuple[Any, bool]:
    """Return the type of a field without `None`, and whether it may be None."""
    annotation = field.annotation
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 else annotation, len(kinds) < len(typing.get_args(annotation))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _metavar(field: FieldInfo) -> str:
    kind, nullable = _kind(field)
    if _is_enum(kind):
        word = "|".join(kind)
        word = word if len(word) <= _ROOM else "NAME"
    elif typing.get_origin(kind) is dict:
        word = "LABEL=STYLE,…" if typing.get_args(kind)[0] is int else "LAYER=WEIGHT,…"
    elif typing.get_origin(kind) is tuple:
        word = "NUMBER,…"
    else:
        word = {int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "FILE"}.get(kind, "TEXT")
    return f"{word}|{NONE}" if nullable else word


def _help(field: FieldInfo) -> str:
    """Return the description with choices, limits and default."""
    kind, _ = _kind(field)
    facts = [f"one of {', '.join(kind)}"] if _is_enum(kind) and _metavar(field).startswith("NAME") else []
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for limit in field.metadata:
        facts += [f"{word} {getattr(limit, key)}" for key, word in words.items() if hasattr(limit, key)]
    facts.append(f"default {_text(field.get_default(call_default_factory=True))}")
    return f"{field.description or ''} ({'; '.join(facts)})".strip()


def _text(value: Any) -> str:
    """Write a value as it would be given on the command line."""
    if value is None:
        return NONE
    if isinstance(value, dict):
        return ",".join(f"{key}={item:g}" for key, item in value.items())
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" for item in value)
    return str(value)


def _value(field: FieldInfo, text: str) -> Any:
    """Turn text into what the model can judge."""
    kind, nullable = _kind(field)
    if nullable and text.strip().lower() in ("", NONE):
        return None
    if typing.get_origin(kind) is dict:
        key = typing.get_args(kind)[0]
        return _regions(text) if getattr(key, "__origin__", key) is int else _weights(text)
    if typing.get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",")]
    return text


def _weights(text: str) -> dict[str, str]:
    """Read "relu1_1=1,relu2_1=0.5"; a layer alone has weight 1."""
    layers: dict[str, str] = {}
    for part in text.split(","):
        layer, _, weight = (word.strip() for word in part.partition("="))
        if not layer or layer in layers:
            raise ValueError(f"expected layers such as relu1_1=1,relu2_1=0.5, each once, but got '{text}'.")
        layers[layer] = weight or "1"
    return layers


def _regions(text: str) -> dict[str, str | None]:
    """Read "1=0,2=all,3=none": label and number of its style."""
    regions: dict[str, str | None] = {}
    for part in text.split(","):
        label, _, style = (word.strip() for word in part.partition("="))
        if not label or not style or label in regions:
            raise ValueError(
                f"expected labels with their styles such as 1=0,2=1,3=none,4=all, each once, but got '{text}'."
            )
        regions[label] = _ANY_STYLE.get(style.lower(), style)
    return regions
