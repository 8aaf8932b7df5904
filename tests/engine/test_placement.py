"""Every tensor of a run on a GPU lies where it should, seen without a GPU.

The run works on tensors that have shapes and devices but no values; an operation on tensors of two devices raises as it
would on a machine that has both. What the program reads off a tensor is made up: it only has to fall.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.devices import device
from napari_styletransfer.devices.device import DeviceInfo
from napari_styletransfer.engine import coarse_to_fine
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.events import Finished, Preview, Started, Step
from napari_styletransfer.networks import weights
from napari_styletransfer.planning import planner

GPU = DeviceInfo("cuda:0", "pretended GPU", 8 << 30, 8 << 30)
SIZE = (256, 320)
TOO_LITTLE = 0.027
"""GiB of the device that hold a block, but not the image and the optimiser."""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, compact_weights: dict[str, Tensor]) -> Iterator[None]:
    """Pretend a GPU, and values where the program reads them off a tensor."""
    read = 0

    def value(_: Tensor) -> float:
        nonlocal read
        read += 1
        return 1.0 / read

    def values(tensor: Tensor) -> Any:
        first = value(tensor)
        return np.full(tuple(tensor.shape), first).tolist()

    def array(tensor: Tensor, **_: bool) -> np.ndarray:
        assert tensor.device.type == "cpu"
        return np.full(tuple(tensor.shape), 0.5, np.float32)

    monkeypatch.setattr(planner, "choose", lambda name: GPU)
    monkeypatch.setattr(device, "_has_fast_bfloat16", lambda name: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(coarse_to_fine, "copy_optimizer", lambda optimizer, _: optimizer)  # a deep copy needs values
    monkeypatch.setattr(weights, "fetch", lambda *_: _given({k: t.clone() for k, t in compact_weights.items()}))
    for name, answer in (("__float__", value), ("item", value), ("tolist", values), ("numpy", array)):
        monkeypatch.setattr(Tensor, name, answer)
    monkeypatch.setattr(Tensor, "__int__", lambda tensor: 0)
    monkeypatch.setattr(Tensor, "__bool__", lambda tensor: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def _given(tensors: dict[str, Tensor]) -> Any:
    yield from ()
    return weights.Weights(tensors, "0" * 64)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((*SIZE, 3), np.float32)


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("settings", "guided"),
    [
        ({}, False),
        ({"block_size": 128, "color": "content", "history_precision": "bfloat16"}, True),
        pytest.param(
            {"precision": "float32", "spectral_exponent": 0.25, "color": "match", "start": "white-noise"},
            False,
            marks=pytest.mark.slow,
        ),
        ({"history": 5, "memory_limit": TOO_LITTLE}, True),
        pytest.param({"optimizer": "adam", "normalization": "gatys"}, True, marks=pytest.mark.slow),
    ],
    ids=["default", "blocks", "recoloured", "apart", "adam"],
)
def test_no_operation_mixes_devices(settings: dict[str, Any], guided: bool) -> None:
    config = StyleConfig(network=Network.COMPACT, device="cuda:0", iterations=1, scales=1, **settings)
    labels = None
    if guided:
        labels = np.zeros(SIZE, np.int32)
        labels[:, :100], labels[:, 200:] = 1, 2
        config = config.changed(regions={1: 1, 2: 0}, feather=2)
    styles = [picture(1), picture(2)]
    events = list(iter_stylize(picture(0), styles, config, labels=labels, preview_interval=0))

    (plan,) = [event.plan for event in events if isinstance(event, Started)]
    assert plan.storage_device == ("cpu" if "memory_limit" in settings else "cuda:0")
    assert {Preview, Step} <= {type(event) for event in events}
    assert isinstance(events[-1], Finished)
    again = list(iter_stylize(picture(0), styles, config, labels=labels, resume=events[-1].state))
    assert isinstance(again[-1], Finished)
    assert again[-1].iterations > events[-1].iterations > 0
