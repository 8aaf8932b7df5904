"""A network run over the blocks of an image, and what belongs to the blocks' cores put together.

The optimiser's side never sees blocks: `objective` asks for features, Gram matrices or a gradient of the image
and gets those of the whole image, whether it was worked through in one piece or in many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_styletransfer.config import LayerWeights
from napari_styletransfer.networks.architectures import RGB, Reach
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork, Recording
from napari_styletransfer.tiling.tiles import Block


class Stopped(Exception):
    """Raised inside an evaluation when the run is asked to stop: a request, not an error."""


@dataclass(frozen=True)
class Place:
    """Rows and columns that belong to a block's core: `inner` of what is at hand, `target` of the whole map."""

    inner: tuple[slice, slice]
    target: tuple[slice, slice]

    def of(self, piece: Tensor) -> Tensor:
        """Return the inner part of a piece of a feature map, as a view."""
        return piece[:, :, self.inner[0], self.inner[1]]


Visit = Callable[[Place, str, Tensor], None]
Seed = Callable[[Place, str, Tensor, Tensor], None]


class Gatherer:
    """Runs a network over the blocks of an image and puts together what belongs to the cores.

    Attributes
    ----------
    blocks
        Of the image; can be replaced.
    budget
        Bytes that what is kept of blocks between the two passes may take in all. One block's recording always is: the
        second pass would need as much at once.
    """

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
        self.budget = 0
        self._should_stop = should_stop
        self._workspace = network.workspace()
        self._layer_sizes = network.layer_sizes(*size)

    def positions(self, name: str) -> int:
        """Return the number of positions of a layer in the whole image."""
        height, width = self._size if name == RGB else self._layer_sizes[name]
        return height * width

    def place(self, block: Block, name: str, row: int, count: int) -> Place | None:
        """Return what of some rows of a block's feature map belongs to its core, None for nothing.

        `row` is the first of them, counted within the block, and `count` how many there are.
        """
        height, width = self._layer_sizes[name]
        reach = self._reaches[name]
        core, target = block.rows.core_of(reach, height), block.rows.target_of(reach, height)
        first, stop = max(core.start, row), min(core.stop, row + count)
        if first >= stop:
            return None
        shift = target.start - core.start
        return Place(
            (slice(first - row, stop - row), block.columns.core_of(reach, width)),
            (slice(first + shift, stop + shift), block.columns.target_of(reach, width)),
        )

    def feature_maps(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return whole feature maps (1, C, h, w), in the network's number format, on the image's device."""
        maps: dict[str, Tensor] = {}

        def visit(place: Place, name: str, core: Tensor) -> None:
            if name not in layers:
                return
            if name not in maps:
                maps[name] = torch.empty(
                    (1, core.shape[1], *self._layer_sizes[name]),
                    dtype=core.dtype,
                    device=image.device,
                    memory_format=torch.channels_last,
                )
            maps[name][:, :, place.target[0], place.target[1]] = core

        self.one_pass(image, visit)
        return maps

    def gram_means(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return Gram matrices as means over positions, float32, for the layers and `rgb` if named."""
        grams: dict[str, Tensor] = {}
        if RGB in layers:
            grams[RGB] = functional.pixel_gram_sum(image).to(self.network.device)

        def visit(place: Place, name: str, core: Tensor) -> None:
            if name in layers:
                total = functional.gram_sum(core)
                grams[name] = grams[name] + total if name in grams else total

        self.one_pass(image, visit)
        return {name: total / self.positions(name) for name, total in grams.items()}

    def one_pass(self, image: Tensor, visit: Visit) -> None:
        """Go forward through every block, keeping nothing; `visit` is given what belongs to the cores."""
        for block in self.blocks:
            self._forward(image, block, visit)

    def both_passes(self, image: Tensor, visit: Visit, between: Callable[[], None], seed: Seed) -> Tensor:
        """Go forward everywhere, call `between`, then go backward everywhere; return the image's gradient.

        Blocks whose recordings did not fit in the budget go forward a second time.
        """
        self._workspace.restart()
        try:
            kept, left = self._first_pass(image, visit)
            between()
            if len(self.blocks) == 1:
                return self._backward(image, *kept.pop(), seed).to(image.device)
            gradient = torch.zeros_like(image)
            while kept:
                self._add_backward(gradient, image, *kept.pop(), seed)
            for block in left:
                self._workspace.restart()
                self._add_backward(gradient, image, block, self._recorded(image, block), seed)
        except BaseException:
            # Whoever stops the run, or has it go on with less memory, wants this back.
            self._workspace.clear()
            raise
        return gradient

    def _first_pass(self, image: Tensor, visit: Visit) -> tuple[list[tuple[Block, Recording]], list[Block]]:
        """Go forward through every block; return those with a recording that is kept, and those without."""
        kept: list[tuple[Block, Recording]] = []
        left: list[Block] = []
        area = 0
        for block in self.blocks:
            # It will be as large for its area as those before it; the first is kept in any case.
            if kept and self._workspace.bytes * (1 + block.area / area) > self.budget:
                self._forward(image, block, visit)
                left.append(block)
            else:
                kept.append((block, self._recorded(image, block, visit)))
                area += block.area
        return kept, left

    def _forward(self, image: Tensor, block: Block, visit: Visit) -> None:
        self.network.forward(
            self._piece(image, block), self._visiting(block, visit), keep=False, workspace=self._workspace
        )

    def _recorded(self, image: Tensor, block: Block, visit: Visit | None = None) -> Recording:
        visit_rows = _ignore if visit is None else self._visiting(block, visit)
        return self.network.forward(self._piece(image, block), visit_rows, keep=True, workspace=self._workspace)

    def _backward(self, image: Tensor, block: Block, recording: Recording, seed: Seed) -> Tensor:
        return self.network.backward(recording, self._piece(image, block), self._seeding(block, seed))

    def _add_backward(self, gradient: Tensor, image: Tensor, block: Block, recording: Recording, seed: Seed) -> None:
        rows, columns = block.outer
        gradient[:, :, rows, columns] += self._backward(image, block, recording, seed).to(image.device)

    def _visiting(self, block: Block, visit: Visit) -> Callable[[str, Tensor, int], None]:
        def visit_rows(name: str, feature_map: Tensor, row: int) -> None:
            place = self.place(block, name, row, feature_map.shape[2])
            if place is not None:
                visit(place, name, place.of(feature_map))

        return visit_rows

    def _seeding(self, block: Block, seed: Seed) -> Callable[[str, Tensor, Tensor, int], None]:
        def seed_rows(name: str, feature_map: Tensor, gradient: Tensor, row: int) -> None:
            place = self.place(block, name, row, feature_map.shape[2])
            if place is not None:
                seed(place, name, place.of(feature_map), place.of(gradient))

        return seed_rows

    def _piece(self, image: Tensor, block: Block) -> Tensor:
        if self._should_stop():
            raise Stopped
        rows, columns = block.outer
        return image[:, :, rows, columns].to(self.network.device).clamp(0, 1)


def _ignore(name: str, feature_map: Tensor, row: int) -> None:
    """Visit nothing: in the second pass everything was gathered before."""
