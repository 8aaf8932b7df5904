"""Weights and pictures that the tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import Network
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import Backbone, backbone

Tensors = dict[str, Tensor]


# Of each module, as a fixture of the session would stay in force for the tests of other folders that follow.
@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: on small images several only wait for each other, on a busy machine for long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Network], Tensors]:
    """Return a network's weights: the embedded ones, or seeded random ones that keep activations alive."""
    # Two, not all: those of the VGG family are 60 to 80 MB each.
    return lru_cache(maxsize=2)(lambda network: _embedded() if network is Network.COMPACT else _random(network))


@pytest.fixture(scope="session")
def compact() -> Backbone:
    return backbone(Network.COMPACT)


@pytest.fixture(scope="session")
def compact_weights() -> Tensors:
    return _embedded()


@pytest.fixture
def random_image() -> Callable[..., Tensor]:
    """Return a function that makes a seeded random image (1, 3, H, W) with values in [0.1, 0.9]."""

    def image(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 0.1 + 0.8 * torch.rand(1, 3, height, width, generator=generator, dtype=dtype)

    return image


def _embedded() -> Tensors:
    return finished(weights.fetch(Network.COMPACT, backbone(Network.COMPACT).state_dict_shapes())).tensors


def _random(network: Network) -> Tensors:
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for key, shape in backbone(network).state_dict_shapes().items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            tensors[key] = values * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif key.endswith("running_var"):
            tensors[key] = 0.5 + values.square()
        elif key.endswith(".weight"):
            tensors[key] = 1 + 0.2 * values
        else:
            tensors[key] = 0.1 * values
    return tensors


def finished(generator: Iterator[Any]) -> Any:
    """Run a generator to its end and return what it returned."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value
