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
from napari_styletransfer.networks.architectures import RGB, ReceptiveField
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork, Recording
from napari_styletransfer.tiling.tiles import Tile


class Stopped(Exception):
    """Raised inside an evaluation when the run is asked to stop: a request, not an error."""


@dataclass(frozen=True)
class CoreSlices:
    """Rows and columns that belong to a block's core: `inner` of what is at hand, `target` of the whole map."""

    inner: tuple[slice, slice]
    target: tuple[slice, slice]

    def select(self, piece: Tensor) -> Tensor:
        """Return the inner part of a piece of a feature map, as a view."""
        return piece[:, :, self.inner[0], self.inner[1]]


FeatureHook = Callable[[CoreSlices, str, Tensor], None]
GradientHook = Callable[[CoreSlices, str, Tensor, Tensor], None]


class TiledNetwork:
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
        reaches: dict[str, ReceptiveField],
        size: tuple[int, int],
        blocks: Sequence[Tile],
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

    def core_slices(self, block: Tile, name: str, row: int, count: int) -> CoreSlices | None:
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
        return CoreSlices(
            (slice(first - row, stop - row), block.columns.core_of(reach, width)),
            (slice(first + shift, stop + shift), block.columns.target_of(reach, width)),
        )

    def feature_maps(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return whole feature maps (1, C, h, w), in the network's number format, on the image's device."""
        maps: dict[str, Tensor] = {}

        def visit(place: CoreSlices, name: str, core: Tensor) -> None:
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

        self.forward(image, visit)
        return maps

    def gram_means(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return Gram matrices as means over positions, float32, for the layers and `rgb` if named."""
        grams: dict[str, Tensor] = {}
        if RGB in layers:
            grams[RGB] = functional.pixel_gram_sum(image).to(self.network.device)

        def visit(place: CoreSlices, name: str, core: Tensor) -> None:
            if name in layers:
                total = functional.gram_sum(core)
                grams[name] = grams[name] + total if name in grams else total

        self.forward(image, visit)
        return {name: total / self.positions(name) for name, total in grams.items()}

    def forward(self, image: Tensor, visit: FeatureHook) -> None:
        """Go forward through every block, keeping nothing; `visit` is given what belongs to the cores."""
        for block in self.blocks:
            self._forward(image, block, visit)

    def forward_backward(
        self, image: Tensor, visit: FeatureHook, between: Callable[[], None], seed: GradientHook
    ) -> Tensor:
        """Go forward everywhere, call `between`, then go backward everywhere; return the image's gradient.

        Blocks whose recordings did not fit in the budget go forward a second time.
        """
        self._workspace.restart()
        try:
            kept, left = self._forward_all(image, visit)
            between()
            if len(self.blocks) == 1:
                return self._backward(image, *kept.pop(), seed).to(image.device)
            gradient = torch.zeros_like(image)
            while kept:
                self._add_backward(gradient, image, *kept.pop(), seed)
            for block in left:
                self._workspace.restart()
                self._add_backward(gradient, image, block, self._record(image, block), seed)
        except BaseException:
            # Whoever stops the run, or has it go on with less memory, wants this back.
            self._workspace.clear()
            raise
        return gradient

    def _forward_all(self, image: Tensor, visit: FeatureHook) -> tuple[list[tuple[Tile, Recording]], list[Tile]]:
        """Go forward through every block; return those with a recording that is kept, and those without."""
        kept: list[tuple[Tile, Recording]] = []
        left: list[Tile] = []
        area = 0
        for block in self.blocks:
            # It will be as large for its area as those before it; the first is kept in any case.
            if kept and self._workspace.bytes * (1 + block.area / area) > self.budget:
                self._forward(image, block, visit)
                left.append(block)
            else:
                kept.append((block, self._record(image, block, visit)))
                area += block.area
        return kept, left

    def _forward(self, image: Tensor, block: Tile, visit: FeatureHook) -> None:
        self.network.forward(
            self._crop(image, block), self._on_core_features(block, visit), keep=False, workspace=self._workspace
        )

    def _record(self, image: Tensor, block: Tile, visit: FeatureHook | None = None) -> Recording:
        visit_rows = _no_features if visit is None else self._on_core_features(block, visit)
        return self.network.forward(self._crop(image, block), visit_rows, keep=True, workspace=self._workspace)

    def _backward(self, image: Tensor, block: Tile, recording: Recording, seed: GradientHook) -> Tensor:
        return self.network.backward(recording, self._crop(image, block), self._on_core_gradients(block, seed))

    def _add_backward(
        self, gradient: Tensor, image: Tensor, block: Tile, recording: Recording, seed: GradientHook
    ) -> None:
        rows, columns = block.outer
        gradient[:, :, rows, columns] += self._backward(image, block, recording, seed).to(image.device)

    def _on_core_features(self, block: Tile, visit: FeatureHook) -> Callable[[str, Tensor, int], None]:
        def visit_rows(name: str, feature_map: Tensor, row: int) -> None:
            place = self.core_slices(block, name, row, feature_map.shape[2])
            if place is not None:
                visit(place, name, place.select(feature_map))

        return visit_rows

    def _on_core_gradients(self, block: Tile, seed: GradientHook) -> Callable[[str, Tensor, Tensor, int], None]:
        def seed_rows(name: str, feature_map: Tensor, gradient: Tensor, row: int) -> None:
            place = self.core_slices(block, name, row, feature_map.shape[2])
            if place is not None:
                seed(place, name, place.select(feature_map), place.select(gradient))

        return seed_rows

    def _crop(self, image: Tensor, block: Tile) -> Tensor:
        if self._should_stop():
            raise Stopped
        rows, columns = block.outer
        return image[:, :, rows, columns].to(self.network.device).clamp(0, 1)


def _no_features(name: str, feature_map: Tensor, row: int) -> None:
    """Visit nothing: in the second pass everything was gathered before."""
