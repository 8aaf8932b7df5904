"""Settings as a recipe: plain values for a file or metadata, and what is wrong in words. The base of `settings`."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_styletransfer.errors import ConfigError

RECIPE_FORMAT = 2
"""Version of the recipe file; raised when an older reader could misunderstand a newer file, or a newer one an older."""

_FORMAT_1: dict[str, Any] = {
    "pooling": "average",
    "iterations": 150,
    "coarse_iterations": 1.0,
    "balance": 0.5,
    "tv_weight": 0.5,
}
"""What fields that a recipe of format 1 leaves out meant there."""

_MAX_FILE_BYTES = 1 << 20
"""Bytes of a recipe file, at most: a thousand times what one has."""

_MAX_MESSAGE = 450
"""Characters of a message that names wrong fields, about, before it only counts them; one is named in any case."""


class _ShortRepr(reprlib.Repr):
    """Writes any value in less than a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        """Write a number, however long: Python itself refuses more than some thousand digits."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 1000 else f"a number of about {bits * 0.30103:,.0f} digits"


short_repr = _ShortRepr().repr
"""Writes any value in less than a line, for messages."""


class Recipe(BaseModel):
    """Immutable, validated settings that can be written to recipes and read from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Make one line of each docstring that describes a field."""
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())

    if not TYPE_CHECKING:  # there, pydantic's own names and types of the fields are better

        def __init__(self, /, **fields: Any) -> None:
            with _config_error():
                super().__init__(**fields)

        # As pydantic's own: validation then goes on without it, so that each wrong field is reported once.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, with wrong fields reported as one `ConfigError`."""
        with _config_error():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As pydantic's, with wrong fields reported as one `ConfigError`."""
        with _config_error():
            return super().model_validate_json(json_data, **options)

    def changed(self, **fields: Any) -> Self:
        """Return a copy with `fields` replaced, validated again."""
        return type(self)(**{**self.model_dump(), **fields})

    def recipe(self, styles: Sequence[str] = ()) -> dict[str, Any]:
        """Return the config as plain JSON values, with the format version.

        `styles` names the style pictures in the order in which regions and blend weights count them, for people: they
        hand in the pictures in that order.
        """
        named = {"styles": list(styles)} if styles else {}
        return {"recipe": RECIPE_FORMAT, **named, **self.model_dump(mode="json")}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """Read what `recipe` wrote.

        Raises
        ------
        ConfigError
            If it is no mapping, the format is newer than this version reads, or a field is wrong.
        """
        if not isinstance(recipe, Mapping):
            raise ConfigError(f"A recipe is one JSON object with the settings as its fields, not {short_repr(recipe)}.")
        fields = dict(recipe)
        version = fields.pop("recipe", RECIPE_FORMAT)
        fields.pop("styles", None)
        if type(version) is not int or not 1 <= version <= RECIPE_FORMAT:
            raise ConfigError(
                f"This recipe has format {short_repr(version)}; this version reads formats 1 to {RECIPE_FORMAT}. "
                "Update napari-styletransfer to use it."
            )
        if version == 1:
            fields = {**_FORMAT_1, **fields}
            network = fields.get("network")
            if isinstance(network, str) and network.startswith("vgg"):
                fields = {"content_layers": {"relu4_2": 1.0}, **fields}
                if network == "vgg19":
                    fields["network"] = "vgg19_torchvision"  # the only weights of VGG-19 there were
        return cls.model_validate(fields)

    def save(self, path: str | os.PathLike[str], styles: Sequence[str] = ()) -> None:
        """Write the recipe as a JSON file; see `recipe`."""
        Path(path).write_text(json.dumps(self.recipe(styles), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe file: JSON in UTF-8, 16 or 32, with or without a byte-order mark.

        Raises
        ------
        ConfigError
            If the file cannot be read, is not JSON, or holds wrong fields.
        """
        name = shorten(path)
        try:
            with open(path, "rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        # A ValueError is that of a name which no file can have.
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"The recipe {name} cannot be read: {reason}.") from error
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError(f"{name} is no recipe: it is larger than {_MAX_FILE_BYTES // 1024:,} KiB.")
        try:
            recipe = json.loads(content)
        except RecursionError as error:
            raise ConfigError(f"{name} is no recipe: its brackets are nested too deeply.") from error
        except ValueError as error:
            # Not only of the syntax: bytes that are no text, numbers of too many digits.
            reason = str(error).partition(";")[0]
            raise ConfigError(f"The recipe {name} is not JSON: {reason}.") from error
        return cls.from_recipe(recipe)


@contextmanager
def _config_error() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ConfigError(error_summary(error)) from error


def shorten(name: object, most: int = 200) -> str:
    """Return a name as it is if it is printable and not too long for a message."""
    text = short_repr(name) if isinstance(name, int) else str(name)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def error_summary(error: ValidationError, titles: Mapping[str, str] | None = None) -> str:
    """Turn pydantic's report into a few lines a user can act on; `titles` stand in place of the names of fields."""
    found = error.errors(include_url=False)
    sentences: list[str] = []
    for item in found:
        what = item["msg"].removeprefix("Value error, ")
        first, *rest = (shorten(part, 80) for part in item["loc"] or ("",))
        where = ".".join([(titles or {}).get(first, first), *rest])
        if item["type"] == "extra_forbidden":
            sentence = f"There is no setting '{where}'. Leave it out, or correct its name."
        else:
            sentence = f"{where}: {what} (got {short_repr(item['input'])})." if where else f"{what}."
        if sentences and len(" ".join([*sentences, sentence])) > _MAX_MESSAGE:
            break
        sentences.append(sentence)
    omitted = len(found) - len(sentences)
    return " ".join([*sentences, f"And {omitted} more."] if omitted else sentences)
