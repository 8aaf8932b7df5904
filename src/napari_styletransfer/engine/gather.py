"""A network run over the blocks of an image, and what belongs to the blocks' cores put together.

The optimiser's side never sees blocks: `objective` asks for features, Gram matrices or a gradient of the image
and gets those of the whole image, whether it was worked through in one piece or in many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from napari_styletransfer.config import LayerWeights
from napari_styletransfer.engine import losses
from napari_styletransfer.engine.backbones import RGB, Reach
from napari_styletransfer.engine.blocks import Block
from napari_styletransfer.engine.features import FrozenNetwork


class Stopped(Exception):
    """Raised inside an evaluation when the run is asked to stop: a request, not an error."""


class Gatherer:
    """Runs a network over the blocks of an image and puts together what belongs to the cores."""

    def __init__(
        self,
        network: FrozenNetwork,
        reaches: dict[str, Reach],
        size: tuple[int, int],
        blocks: Sequence[Block],
        should_stop: Callable[[], bool] = bool,
    ) -> None:
        self.network = network
        self._reaches = reaches
        self._size = size
        self.blocks = blocks
        self._should_stop = should_stop
        self._layer_sizes = network.layer_sizes(*size)

    def positions(self, name: str) -> int:
        """Return the number of positions of a layer in the whole image."""
        height, width = self._size if name == RGB else self._layer_sizes[name]
        return height * width

    def core(self, block: Block, name: str, feature_map: Tensor) -> Tensor:
        """Return the part of a block's feature map that belongs to its core, as a view."""
        height, width = self._layer_sizes[name]
        reach = self._reaches[name]
        return feature_map[:, :, block.rows.core_of(reach, height), block.columns.core_of(reach, width)]

    def target(self, block: Block, name: str) -> tuple[slice, slice]:
        """Return where the core of a block lies in the whole feature map."""
        height, width = self._layer_sizes[name]
        reach = self._reaches[name]
        return block.rows.target_of(reach, height), block.columns.target_of(reach, width)

    def feature_maps(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return whole feature maps (1, C, h, w), in the network's number format, on the image's device."""
        maps: dict[str, Tensor] = {}

        def visit(block: Block, name: str, feature_map: Tensor) -> None:
            if name not in layers:
                return
            if name not in maps:
                maps[name] = torch.empty(
                    (1, feature_map.shape[1], *self._layer_sizes[name]), dtype=feature_map.dtype, device=image.device
                ).contiguous(memory_format=torch.channels_last)
            rows, columns = self.target(block, name)
            maps[name][:, :, rows, columns] = self.core(block, name, feature_map)

        self.one_pass(image, visit)
        return maps

    def gram_means(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return Gram matrices as means over positions, float32, for the layers and `rgb` if named."""
        grams: dict[str, Tensor] = {}
        if RGB in layers:
            grams[RGB] = losses.pixel_gram_sum(image).to(self.network.device)

        def visit(block: Block, name: str, feature_map: Tensor) -> None:
            if name in layers:
                total = losses.gram_sum(self.core(block, name, feature_map))
                grams[name] = grams[name] + total if name in grams else total

        self.one_pass(image, visit)
        return {name: total / self.positions(name) for name, total in grams.items()}

    def one_pass(self, image: Tensor, visit: Callable[[Block, str, Tensor], None]) -> None:
        """Go forward through every block, keeping nothing."""
        with torch.no_grad():
            for block in self.blocks:
                self.network.forward(self._piece(image, block), partial(visit, block), keep=False)

    def both_passes(
        self,
        image: Tensor,
        visit: Callable[[Block, str, Tensor], None],
        between: Callable[[], None],
        seed: Callable[[Block, str, Tensor, Tensor], None],
    ) -> Tensor:
        """Go forward everywhere, call `between`, then go backward everywhere; return the image's gradient."""
        if len(self.blocks) == 1:
            (block,) = self.blocks
            tape = self.network.forward(self._piece(image, block), partial(visit, block), keep=True)
            between()
            return self.network.backward(tape, partial(seed, block)).to(image.device)
        self.one_pass(image, visit)
        between()
        gradient = torch.zeros_like(image)
        for block in self.blocks:
            tape = self.network.forward(self._piece(image, block), _ignore, keep=True)
            rows, columns = block.outer
            gradient[:, :, rows, columns] += self.network.backward(tape, partial(seed, block)).to(image.device)
        return gradient

    def _piece(self, image: Tensor, block: Block) -> Tensor:
        if self._should_stop():
            raise Stopped
        rows, columns = block.outer
        return image[:, :, rows, columns].to(self.network.device)


def _ignore(name: str, feature_map: Tensor) -> None:
    """Visit nothing: in the second pass everything was gathered before."""
