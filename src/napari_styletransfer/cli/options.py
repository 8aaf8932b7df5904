"""Command-line flags made from the fields of `StyleConfig`, and the settings that come of them.

A field added to `StyleConfig` is a flag at once: name, help, choices, limits and default are read from the
model. The flags arrive as text and are judged by the model itself, so that the command line, recipes and the
form accept the same values and complain in the same words. Used by `cli.app` alone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from napari_styletransfer.config import ALL_STYLES, StyleConfig
from napari_styletransfer.config.fields import NONE, parse_layer_weights, to_text, unwrap
from napari_styletransfer.errors import ConfigError

_STYLE_WORDS = {NONE: None, "all": str(ALL_STYLES)}
"""Words for what a label can be given besides the number of a style."""

_MAX_METAVAR = 32
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


def resolve_settings(preset: str | None, recipe: Path | None, flags: dict[str, str]) -> StyleConfig:
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
    config = StyleConfig() if preset is None else StyleConfig.from_preset(preset)
    if recipe is not None:
        read = StyleConfig.load(recipe)
        config = config.changed(**{name: getattr(read, name) for name in read.model_fields_set})
    # As a change, so that another network than the recipe's goes without the checksum of the recipe's weights.
    return config.changed(**{name: _value(name, text) for name, text in flags.items()})


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    extra = field.json_schema_extra
    group = extra.get("group", "Settings") if isinstance(extra, dict) else "Settings"
    plain, _ = unwrap(field.annotation)
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


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _is_regions(kind: Any) -> bool:
    return unwrap(typing.get_args(kind)[0])[0] is int


def _metavar(field: FieldInfo) -> str:
    kind, optional = unwrap(field.annotation)
    if _is_enum(kind):
        word = "|".join(kind)
        word = word if len(word) <= _MAX_METAVAR else "NAME"
    elif typing.get_origin(kind) is dict:
        word = "LABEL=STYLE,…" if _is_regions(kind) else "LAYER=WEIGHT,…"
    elif typing.get_origin(kind) is tuple:
        word = "NUMBER,…"
    else:
        word = {int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "FILE"}.get(kind, "TEXT")
    return f"{word}|{NONE}" if optional else word


def _help(field: FieldInfo) -> str:
    """Return the description with choices, limits and default."""
    kind, _ = unwrap(field.annotation)
    facts = [f"one of {', '.join(kind)}"] if _is_enum(kind) and _metavar(field).startswith("NAME") else []
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for limit in field.metadata:
        facts += [f"{word} {getattr(limit, key)}" for key, word in words.items() if hasattr(limit, key)]
    facts.append(f"default {to_text(field.get_default(call_default_factory=True))}")
    return f"{field.description or ''} ({'; '.join(facts)})".strip()


def _value(name: str, text: str) -> Any:
    """Turn the text of a flag into what the model can judge."""
    kind, optional = unwrap(StyleConfig.model_fields[name].annotation)
    if optional and text.strip().lower() in ("", NONE):
        return None
    if typing.get_origin(kind) is dict:
        try:
            return _regions(text) if _is_regions(kind) else parse_layer_weights(text)
        except ConfigError as error:
            raise ConfigError(f"{flag(name)}: {error}") from error
    if typing.get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",")]
    return text


def _regions(text: str) -> dict[str, str | None]:
    """Read "1=0,2=all,3=none": label and number of its style."""
    regions: dict[str, str | None] = {}
    for part in text.split(","):
        label, _, style = (word.strip() for word in part.partition("="))
        if not label or not style or label in regions:
            raise ConfigError(
                f"expected labels with their styles such as 1=0,2=1,3=none,4=all, each once, but got '{text}'."
            )
        regions[label] = _STYLE_WORDS.get(style.lower(), style)
    return regions
