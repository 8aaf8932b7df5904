"""The target `weights`: files of weights that are damaged, hold something else, or would run code.

A canary is a file that a pickle would make if it were run.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from napari_styletransfer.config import Network
from napari_styletransfer.networks.weights import fetch

from .odd import damaged, mutated, odd
from .outcomes import Call

_EXPECTED = {"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,)}
_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", "")
_CANARY = "canary"


def weights(rng: random.Random, folder: Path) -> Iterable[Call]:
    """Take the weights of a network out of a file."""
    make = rng.choice(
        (_damaged, _damaged, _other_header, _other_members, _other_state, _other_state, _with_canary, _no_file)
    )
    path = folder / f"weights{rng.choice(_SUFFIXES)}"
    what = make(rng, path)
    network = rng.choice((Network.VGG16, Network.COMPACT, Network.SQUEEZENET))
    yield Call(f"fetch({network}, {path.name} with {what})", lambda: _fetched(network, path))


def _fetched(network: Network, path: Path) -> None:
    found = fetch(network, _EXPECTED, path)
    try:
        while True:
            next(found)
    except StopIteration as end:
        tensors = end.value.tensors
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == _EXPECTED
        assert all(tensor.dtype is torch.float32 and tensor.isfinite().all() for tensor in tensors.values())
    finally:
        assert not (path.parent / _CANARY).exists(), "a pickle was run"


def _state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in _EXPECTED.items()}


def _torch_bytes(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


@lru_cache(maxsize=1)
def _whole() -> dict[str, bytes]:
    return {
        "safetensors": save(_state(), {"format": "pt"}),
        "zip": _torch_bytes({"state_dict": _state(), "epoch": 3}),
        "legacy": _torch_bytes(_state(), _use_new_zipfile_serialization=False),
        "pickle": pickle.dumps({"features.0.bias": [1.0]}),
    }


def _damaged(rng: random.Random, path: Path) -> str:
    name = rng.choice(list(_whole()))
    path.write_bytes(damaged(rng, _whole()[name], head=64))
    return f"damaged {name}"


def _other_header(rng: random.Random, path: Path) -> str:
    """Change what the header of a safetensors file says."""
    data = _whole()["safetensors"]
    length = int.from_bytes(data[:8], "little")
    header = mutated(rng, json.loads(data[8 : 8 + length]), plain=True)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return f"the header {text[:200]!r}"


def _other_members(rng: random.Random, path: Path) -> str:
    """Change, drop or double a member of a torch archive, with the checksum that it needs to be read at all."""
    with zipfile.ZipFile(io.BytesIO(_whole()["zip"])) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    number = rng.randrange(len(members))
    name, body = members[number]
    change = rng.randrange(4)
    if change <= 1:
        members[number] = (name, damaged(rng, body))
    elif change == 2:
        members[number] = (rng.choice(("x", "../x", "archive/data/99", "x/constants.pkl", name * 50)), body)
    else:
        del members[number]
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for each, content in members:
            archive.writestr(each, content)
    return f"{name} changed"


def _other_state(rng: random.Random, path: Path) -> str:
    """Save something else than a dictionary of ordinary tensors."""
    state: Any = _state()
    key = rng.choice(list(state))
    name, make = rng.choice(list(_TENSORS.items()))
    state[key] = make(state[key])
    if rng.random() < 0.3:
        name, state = "odd values", rng.choice((odd(rng, plain=True), {**state, "state_dict": odd(rng, plain=True)}))
    elif rng.random() < 0.2:
        name, state = (
            f"{name} of other names",
            {rng.choice(("module.", "0.", "x" * 5000)) + key: state[key] for key in state},
        )
    path.write_bytes(_torch_bytes(state, _use_new_zipfile_serialization=rng.random() < 0.7))
    return f"{name} as {key}"


_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "nested": lambda tensor: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "complex": lambda tensor: tensor.to(torch.complex64).conj(),
    "bfloat16": lambda tensor: tensor.to(torch.bfloat16),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "float64": lambda tensor: tensor.double() * 1e300,
    "int64": lambda tensor: tensor.long(),
    "bool": lambda tensor: tensor > 0,
    "parameter": torch.nn.Parameter,
    "nan": lambda tensor: tensor * float("nan"),
    "expanded": lambda tensor: torch.zeros(()).expand(tensor.shape),
    "terabytes": lambda tensor: torch.zeros(()).expand(1 << 20, 1 << 20),
    "empty": lambda tensor: torch.empty(0),
    "transposed": lambda tensor: tensor.clone().transpose(0, -1).contiguous().transpose(0, -1),
    "other shape": lambda tensor: tensor[:1],
    "number": lambda tensor: 1.5,
    "list": lambda tensor: tensor.tolist(),
}


class _Canary:
    """Runs something when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._called = (function, arguments)

    def __reduce__(self) -> Any:
        return self._called


def _with_canary(rng: random.Random, path: Path) -> str:
    file = str(path.parent / _CANARY)
    canary = rng.choice(
        (
            _Canary(os.mkdir, file),
            _Canary(exec, f"open({file!r}, 'w').close()"),
            _Canary(open, file, "w"),
            _Canary(os.system, f"touch '{file}'"),
            _Canary(torch.save, 1, file),
        )
    )
    state: Any = rng.choice(([canary], {"state_dict": canary}, {**_state(), "x": canary}, {"features.0.bias": canary}))
    way = rng.choice(("zip", "legacy", "pickle"))
    if way == "pickle":
        path.write_bytes(pickle.dumps(state, protocol=rng.choice((2, 4, 5))))
    else:
        path.write_bytes(_torch_bytes(state, _use_new_zipfile_serialization=way == "zip"))
    return f"a canary in a {way}"


def _no_file(rng: random.Random, path: Path) -> str:
    kind = rng.choice(("nothing", "a folder", "a pipe", "a link to itself", "zeros"))
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif kind == "a link to itself":
        path.symlink_to(path)
    elif kind == "zeros":
        path.write_bytes(bytes(rng.choice((1, 8, 9, 500))))
    return kind
