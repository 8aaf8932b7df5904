"""The target `config`: settings by name, recipes as dictionaries, and recipe files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from napari_styletransfer.config import PRESETS, StyleConfig

from .odd import NUMBERS, damaged, mutated, odd, told
from .outcomes import Call

_EXTREMES = (0, 1e-300, 1e-30, 1e-3, 0.3, 1, 1.5, 2, 8, 16, 64, 1000, 65536, 1e9, 1e30, 1e300)
_LAYERS = ("relu1_1", "relu2_2", "relu4_2", "relu5_4", "conv1_1", "fire4", "rgb", "")
_TOKENS = (
    "1" * 5000,
    "[" * 100_000,
    '{"a":' * 3000,
    "NaN",
    "-Infinity",
    "1e999",
    '"\\ud800"',
    "null",
    "\\",
    "\0",
    "//",
)


def config(rng: random.Random, folder: Path) -> Iterable[Call]:
    """Make, change, write and read settings."""
    way = rng.randrange(4)
    if way == 0:
        fields = {name: odd(rng) for name in rng.sample(list(StyleConfig.model_fields), rng.choice((1, 1, 2, 4)))}
        yield Call(f"StyleConfig({told(fields)})", lambda: _used(StyleConfig(**fields)))
    elif way == 1:
        base, fields = _base(rng), likely(rng, rng.choice((1, 3, 8)))
        yield Call(f"changed({told(fields)})", lambda: _used(base.changed(**fields)))
    elif way == 2:
        recipe = mutated(rng, _base(rng).recipe())
        recipe = recipe if isinstance(recipe, dict) else {"recipe": recipe}
        yield Call(f"from_recipe({told(recipe)})", lambda: _used(StyleConfig.from_recipe(recipe)))
    else:
        path = folder / "recipe.json"
        path.write_bytes(_text(rng))
        yield Call(f"load(file of {told(path.read_bytes())})", lambda: _used(StyleConfig.load(path)))


def likely(rng: random.Random, count: int) -> dict[str, Any]:
    """Return some fields of a config, most of them within their limits."""
    names = rng.sample(list(StyleConfig.model_fields), count)
    return {name: odd(rng) if rng.random() < 0.05 else _of_its_kind(rng, name) for name in names}


def _of_its_kind(rng: random.Random, name: str) -> Any:
    annotation = StyleConfig.model_fields[name].annotation
    kinds = set(get_args(annotation) or (annotation,))
    if type(None) in kinds and rng.random() < 0.2:
        return None
    if choice := next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None):
        return rng.choice(list(choice))
    if name in ("content_layers", "style_layers"):
        return {rng.choice(_LAYERS): rng.choice(_EXTREMES) for _ in range(rng.randrange(4))}
    if name == "style_weights":
        return tuple(rng.choice(_EXTREMES) for _ in range(rng.choice((0, 1, 2, 2, 3))))
    if name == "regions":
        return {
            rng.choice((0, 1, 2, -1, 2**31, 2**63)): rng.choice((None, -1, 0, 1, 5)) for _ in range(rng.randrange(4))
        }
    if name == "device":
        return rng.choice(("cpu", "auto", "cuda", "cuda:7", "cuda:" + "9" * 30, "mps", "xpu"))
    if name == "weights":
        return rng.choice(("", "nowhere.pth", "/", "a" * 300, "\udcff"))
    if name == "weights_sha256":
        return rng.choice("0f") * 64
    if bool in kinds:
        return rng.random() < 0.5
    number = rng.choice(_EXTREMES if rng.random() < 0.8 else NUMBERS)
    return int(number) if int in kinds and abs(number) < 1e300 else number


@lru_cache(maxsize=1)
def _bases() -> tuple[StyleConfig, ...]:
    full = StyleConfig(
        content_layers={"relu4_2": 1.0}, style_layers={"relu1_1": 0.5, "rgb": 1.0}, style_weights=(1.0, 2.0),
        regions={1: 0, 2: None, 3: -1}, weights="weights.pth", weights_sha256="0" * 64, scales=2, max_seconds=5.0,
    )  # fmt: skip
    return (StyleConfig(), full, *(StyleConfig.from_preset(name) for name in PRESETS))


def _base(rng: random.Random) -> StyleConfig:
    return rng.choice(_bases())


def _text(rng: random.Random) -> bytes:
    """Return the text of a recipe with other values, other characters, or in another encoding."""
    recipe = _base(rng).recipe(styles=["painting.png"])
    way = rng.randrange(4)
    if way == 0:
        return json.dumps(mutated(rng, recipe, plain=True)).encode()
    text = json.dumps(recipe, indent=rng.choice((None, 2)))
    if way == 1:
        return damaged(rng, text.encode(), head=60)
    if way == 2:
        at = rng.choice([place for place, sign in enumerate(text) if sign in ' :,{"']) + 1
        return (text[:at] + rng.choice(_TOKENS) + text[at:]).encode()
    return rng.choice((b"", b"[]", b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), b"[" * 100_000, b"9" * 5000))


def _used(config: StyleConfig) -> None:
    """Do with a config what everybody does, and expect of its recipe that it makes the same one."""
    written = json.dumps(config.recipe())
    again = StyleConfig.from_recipe(json.loads(written))
    assert again == config, f"another config comes out of the recipe {told(written)}"
    assert again.term_weights == config.term_weights
    assert config.resolved_start
