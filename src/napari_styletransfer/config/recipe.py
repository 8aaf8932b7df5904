"""Settings as a recipe: plain values for a file or metadata, and what is wrong in words. The base of `settings`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

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


class Recipe(BaseModel):
    """Immutable, validated settings that can be written to recipes and read from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False, allow_inf_nan=False)

    @classmethod
    def make(cls, **fields: Any) -> Self:
        """Build a config, with wrong fields told as one `ConfigError`."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigError(_told(error)) from error

    def changed(self, **fields: Any) -> Self:
        """Return a copy with `fields` replaced, validated again."""
        return type(self).make(**{**self.model_dump(), **fields})

    def recipe(self, styles: Sequence[str] = ()) -> dict[str, Any]:
        """Return the config as plain JSON values, with the format version.

        `styles` names the style pictures in the order in which regions and blend weights count them, for people: they
        hand in the pictures in that order.
        """
        named = {"styles": list(styles)} if styles else {}
        return {"recipe": RECIPE_FORMAT, **named, **self.model_dump(mode="json")}

    @classmethod
    def from_recipe(cls, recipe: dict[str, Any]) -> Self:
        """Read what `recipe` wrote.

        Raises
        ------
        ConfigError
            If the format is newer than this version reads, or a field is wrong.
        """
        fields = dict(recipe)
        version = fields.pop("recipe", RECIPE_FORMAT)
        fields.pop("styles", None)
        if version == 1:
            fields = {**_FORMAT_1, **fields}
            if str(fields.get("network")).startswith("vgg"):
                fields = {"content_layers": {"relu4_2": 1.0}, **fields}
            if fields.get("network") == "vgg19":
                fields["network"] = "vgg19_torchvision"  # the only weights of VGG-19 there were
        elif version != RECIPE_FORMAT:
            raise ConfigError(
                f"This recipe has format {version!r}; this version reads formats 1 to {RECIPE_FORMAT}. "
                "Update napari-styletransfer to use it."
            )
        return cls.make(**fields)

    def save(self, path: str | os.PathLike[str], styles: Sequence[str] = ()) -> None:
        """Write the recipe as a JSON file; see `recipe`."""
        Path(path).write_text(json.dumps(self.recipe(styles), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe file.

        Raises
        ------
        ConfigError
            If the file cannot be read, is not JSON, or holds wrong fields.
        """
        try:
            recipe = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The recipe {path} cannot be read: {error}.") from error
        except json.JSONDecodeError as error:
            raise ConfigError(f"The recipe {path} is not JSON: {error}.") from error
        if not isinstance(recipe, dict):
            raise ConfigError(f"The recipe {path} should hold one JSON object with the settings as its fields.")
        return cls.from_recipe(recipe)


def _told(error: ValidationError) -> str:
    """Turn pydantic's report into one line a user can act on."""
    return " ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg'].removeprefix('Value error, ')} "
        f"(got {item['input']!r})."
        if item["loc"]
        else f"{item['msg'].removeprefix('Value error, ')}."
        for item in error.errors()
    )
