"""What several runs can share: the network with its weights, and what is measured of the styles.

Handed from run to run by `stack` and whoever makes variations; used by `coarse_to_fine` and `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from torch import Tensor

from napari_styletransfer.engine.oom import attach_partial_result
from napari_styletransfer.events import Fetching
from napari_styletransfer.networks import weights
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning.planner import Prepared

Grams = dict[tuple[int, int], dict[int, dict[str, Tensor]]]
"""Gram matrices of the styles: by the size of the content they are fitted to, the style's number, and layer."""


@dataclass
class Shared:
    """What does not change between runs with the same styles and settings: the network, the style targets."""

    network: FrozenNetwork | None = None
    grams: Grams = field(default_factory=dict)
    weights_sha256: str | None = None

    @property
    def loaded_network(self) -> FrozenNetwork:
        """The network, which has to be loaded."""
        if self.network is None:
            raise AssertionError("the network is loaded before a run begins")
        return self.network

    def load(self, prepared: Prepared) -> Generator[Fetching, None, None]:
        """Make the network of a run, unless there is one; tells of a download."""
        if self.network is not None:
            return
        config = prepared.plan.config
        with attach_partial_result(None, prepared.plan.device):
            shapes = prepared.backbone.state_dict_shapes()
            fetched = yield from weights.fetch(config.network, shapes, config.weights, config.weights_sha256)
            self.weights_sha256 = fetched.sha256
            self.network = FrozenNetwork(
                prepared.backbone,
                fetched.tensors,
                prepared.layers,
                pooling=config.pooling,
                padding=config.padding,
                device=prepared.plan.device,
                dtype=prepared.dtype,
            )
