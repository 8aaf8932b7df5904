"""The target `api`: `plan` and `stylize` with anything for pictures, labels and settings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from napari_styletransfer import StyleConfig, stylize
from napari_styletransfer.engine.run import plan

from .odd import odd, told
from .outcomes import Call
from .settings import likely

_DTYPES = (
    "?", "u1", "i1", "u2", ">u2", "i2", "u4", "i4", "u8", "i8", ">i8", "f2", "f4", ">f4", "f8", "g", "F", "D",
    "U3", "S2", "O", "M8[s]", "m8[s]", "V4", "u1,f4",
)  # fmt: skip
_SHAPES = (
    (), (0,), (7,), (0, 5), (1, 1), (3, 3), (8, 8), (24, 32), (24, 32), (32, 24), (40, 40), (3, 24, 32), (24, 32, 0),
    (24, 32, 1), (24, 32, 2), (24, 32, 3), (24, 32, 3), (24, 32, 4), (24, 32, 5), (2, 24, 32, 3), (3000, 2),
    (1, 500, 3), (700, 500),
)  # fmt: skip
_SOUND = ((24, 32), (24, 32, 3), (24, 32, 4), (40, 33, 3))


def api(rng: random.Random, folder: Path) -> Iterable[Call]:
    """Plan a run, or run it: mostly one that is stopped at once, and now and then one of an iteration or two."""
    content = _picture(rng)
    styles: Any = [_picture(rng) for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3)))]
    if rng.random() < 0.1:
        styles = rng.choice((lambda: _picture(rng), lambda: tuple(styles), lambda: iter(styles), lambda: odd(rng)))()
    labels = _labels(rng) if rng.random() < 0.2 else None
    fields = likely(rng, rng.choice((0, 0, 1, 2, 4)))
    what = f"({told(content)}, {told(styles)}, labels={told(labels)}, {told(fields)})"
    if rng.random() < 0.6:
        yield Call(f"plan{what}", lambda: plan(content, styles, StyleConfig(**fields), labels=labels))
        return
    init = _picture(rng) if rng.random() < 0.2 else None
    small = {"network": "compact", "weights": None, "weights_sha256": None, "iterations": rng.choice((1, 2))}
    fields |= {"size": rng.choice((32, 48, None if _few(content) else 48)), "device": "cpu", "scales": 1, **small}
    stopped = rng.random() < 0.7

    def run() -> None:
        picture = stylize(content, styles, labels=labels, init=init, should_stop=lambda: stopped, **fields)
        assert isinstance(picture, np.ndarray), f"a result of type {type(picture)}"
        assert picture.ndim == 3, f"a result of shape {picture.shape}"
        assert picture.shape[2] in (3, 4), f"a result of shape {picture.shape}"
        if isinstance(content, np.ndarray):
            assert picture.dtype == content.dtype, f"a result of {picture.dtype} for {content.dtype}"

    yield Call(f"stylize{what[:-1]}, init={told(init)}, stopped={stopped})", run)


def _few(content: Any) -> bool:
    return (
        getattr(content, "size", 0) is not None
        and np.size(getattr(content, "shape", ())) > 0
        and max(content.shape) < 50
    )


def _picture(rng: random.Random) -> Any:
    """Return something for a picture; most are arrays, and most of these are pictures."""
    way = rng.random()
    if way < 0.05:
        return odd(rng)
    array = _array(rng)
    if way < 0.12:
        return rng.choice(_WRAPPED)(array)
    return array


def _array(rng: random.Random) -> Any:
    shape = rng.choice(_SOUND if rng.random() < 0.7 else _SHAPES)
    dtype = np.dtype(rng.choice(_DTYPES[:15] if rng.random() < 0.85 else _DTYPES))
    source = np.random.default_rng(rng.getrandbits(32))
    array = np.asarray(_filled(rng, source, shape, dtype))
    memory = rng.randrange(8)
    if memory == 0 and array.ndim > 1:
        return array[::-1, ::2]
    if memory == 1:
        return np.asfortranarray(array)
    if memory == 2 and array.size:
        return np.broadcast_to(array.flat[0], array.shape)
    if memory == 3:
        array.flags.writeable = False
    return array


def _filled(rng: random.Random, source: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    values = source.random(shape)
    if dtype.kind not in "iufc":
        with np.errstate(all="ignore"):
            return (values * 9).astype(dtype) if dtype.kind in "bOmM" else np.zeros(shape, dtype)
    way = rng.randrange(6)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = rng.choice(((0, 1), (0, 100), (limits.min, limits.max), (limits.max, limits.max)))
        return np.asarray(source.integers(low, high, shape, dtype.newbyteorder("="), endpoint=True)).astype(dtype)
    limit = float(np.finfo(dtype).max) if dtype.itemsize <= 8 or dtype.kind == "c" else 1e300
    spans = ((0, 1), (-1, 1), (0, 4095), (-limit / 2, limit / 2), (limit, limit), (1e-30, 1e-30))
    with np.errstate(all="ignore"):
        array = np.asarray(spans[way][0] + values * (spans[way][1] - spans[way][0])).astype(dtype)
    if array.size and array.ndim and rng.random() < 0.3:
        array.flat[: rng.choice((1, array.size))] = rng.choice((np.nan, np.inf, -np.inf))
    return array


def _tensor(array: Any) -> torch.Tensor:
    return torch.zeros(array.shape, dtype=torch.float32)


_WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda array: array.tolist(),
    lambda array: tuple(array.tolist()) if array.ndim else (),
    lambda array: [[1, 2], [3]],
    lambda array: [array, array[:1]] if array.ndim else [array],
    lambda array: np.ma.masked_array(array, mask=np.zeros(array.shape, bool)),
    lambda array: np.ma.masked_all(array.shape, array.dtype),
    lambda array: np.matrix(np.zeros((24, 32))),
    lambda array: memoryview(np.zeros((24, 32))),
    lambda array: PIL.Image.new("RGB", (32, 24), (200, 30, 9)),
    lambda array: PIL.Image.new("P", (32, 24)),
    lambda array: Path("picture.png"),
    lambda array: _tensor(array),
    lambda array: _tensor(array).to(torch.bfloat16),
    lambda array: _tensor(array).requires_grad_(),
    lambda array: _tensor(array).to_sparse(),
    lambda array: _tensor(array).to("meta"),
    lambda array: _tensor(array).to(torch.complex64).conj(),
    lambda array: torch.zeros(1, 3, 24, 32),
    lambda array: None,
)
"""Containers of pictures, made from an array or in place of one."""


def _labels(rng: random.Random) -> Any:
    if rng.random() < 0.3:
        return _picture(rng)
    source = np.random.default_rng(rng.getrandbits(32))
    return source.integers(0, rng.choice((1, 2, 4)), rng.choice(_SOUND)[:2]).astype(rng.choice(_DTYPES[:15]))
