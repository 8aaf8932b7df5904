"""Odd values, and good ones gone bad: plain values as settings and metadata hold them, and bytes as files do."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np


class _Name(StrEnum):
    AUTO = "auto"


NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 64, 255, 256, 1000, 65536, 10**6, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63) - 1,
    10**400, 0.0, -0.0, 0.5, 1.5, 1e-320, 1e-300, 1e-9, 1e9, 1e30, 1e300, 1.7e308, math.nan, math.inf, -math.inf,
)  # fmt: skip

_PLAIN: tuple[Any, ...] = (
    None, True, False, "", " ", "auto", "nan", "1e999", "0.5", "0,5", "none", "vgg19", "\0", "a\nb\nc", "\ud800",
    "ﷺ" * 50, "../..", "/dev/null", "relu1_1", "rgb", [], {}, [[]], [None], {"": None}, [1, "a"], {"rgb": 1.0},
    {"relu1_1": "x"},
)  # fmt: skip
"""What JSON can hold."""

_LARGE: tuple[Callable[[], Any], ...] = (
    lambda: "a" * 100_000,
    lambda: list(range(10_000)),
    lambda: {str(key): key for key in range(10_000)},
    lambda: _nested(200),
    lambda: "é\n" * 1000,
)

_OBJECTS: tuple[Callable[[], Any], ...] = (
    lambda: b"bytes",
    tuple,
    set,
    object,
    lambda: 1j,
    lambda: Decimal("1e999"),
    lambda: np.float32(1.5),
    lambda: np.float64("nan"),
    lambda: np.int64(3),
    lambda: np.array([1.0, 2.0]),
    lambda: np.array(["a"], object),
    lambda: Path("a\0b"),
    lambda: Path("\udcff.pth"),
    lambda: _Name.AUTO,
    lambda: range(3),
    lambda: {1: 2},
    lambda: {None: {(): []}},
    lambda: len,
    lambda: 10**5000,
)


def odd(rng: random.Random, *, plain: bool = False) -> Any:
    """Return a value that hardly anything expects; a plain one survives JSON."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(NUMBERS)
    if kind < 0.8 or (plain and kind < 0.92):
        return copy.deepcopy(rng.choice(_PLAIN))
    if kind < 0.92:
        return rng.choice(_OBJECTS)()
    return rng.choice(_LARGE)()


def mutated(rng: random.Random, tree: Any, *, plain: bool = False) -> Any:
    """Return a copy of plain values in which one to three of them, at any depth, are changed, missing, or too many."""
    holder = [copy.deepcopy(tree)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(holder))
        container, key = rng.choice(places)
        change = rng.randrange(7)
        if change == 0 and container is not holder:
            del container[key]
        elif change == 1 and isinstance(container, dict):
            container[_key(rng, plain)] = container.pop(key) if rng.random() < 0.5 else container[key]
        elif change == 2 and isinstance(container, list) and container is not holder:
            container.insert(key, copy.deepcopy(container[key]))
        elif change == 3:
            container[key] = [container[key]]
        elif change == 4:
            other, there = rng.choice(places)
            container[key] = copy.deepcopy(other[there])
        elif change == 5 and type(container[key]) in (int, float):
            container[key] = rng.choice((-container[key], container[key] + 1, str(container[key]), rng.choice(NUMBERS)))
        else:
            container[key] = odd(rng, plain=plain)
    return holder[0]


def damaged(rng: random.Random, data: bytes, *, head: int = 256) -> bytes:
    """Return bytes with one to eight places changed, of which every other lies in the first `head` bytes."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not result:
            break
        at = rng.randrange(min(head, len(result)) if rng.random() < 0.5 else len(result))
        change = rng.randrange(8)
        if change <= 1:
            result[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            result[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == 3:
            width = rng.choice((2, 4, 8))
            result[at : at + width] = number_bytes(rng, width)
        elif change == 4:
            del result[at : at + rng.choice((1, 2, 16, 200))]
        elif change == 5:
            result[at:at] = rng.randbytes(rng.choice((1, 4, 50)))
        elif change == 6:
            there, length = rng.randrange(len(result)), rng.choice((2, 12, 64))
            result[at : at + length] = result[there : there + length]
        else:
            del result[at:]
    return bytes(result)


def number_bytes(rng: random.Random, width: int, order: str | None = None) -> bytes:
    """Return a number at the edge of something, of so many bytes."""
    number = rng.choice((0, 1, 2, 3, 8, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
    return (number % (1 << 8 * width)).to_bytes(width, order or rng.choice(("little", "big")))  # type: ignore[arg-type]


def told(value: object, most: int = 400) -> str:
    """Return how a value looks, in so many characters that can be printed."""
    try:
        with np.printoptions(threshold=4, edgeitems=1):
            text = repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"({type(value).__name__} of too many digits)"
    text = " ".join(text.encode(errors="backslashreplace").decode().split())
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


def _key(rng: random.Random, plain: bool) -> Any:
    names = ("", "recipe", "name", "size", "\ud800", "x" * 2000, "a\nb")
    return rng.choice(names if plain else (*names, 1, None, (), 1.5))


def _places(container: Any, depth: int = 20) -> Any:
    """Yield each place of a value in nested lists and dictionaries, of so much depth."""
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        if depth and isinstance(container[key], (dict, list)) and len(container[key]) < 1000:
            yield from _places(container[key], depth - 1)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
