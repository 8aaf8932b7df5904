"""A network run over the tiles of an image, and what belongs to the tiles' cores put together.

The losses never see tiles: they ask for features, Gram matrices or a gradient of the image and get those of the whole
image, whether it was worked through in one piece or in many. Called by `objective` and `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

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
    """Rows and columns that belong to a tile's core: `inner` in the tile's feature map, `target` in the whole one."""

    inner: tuple[slice, slice]
    target: tuple[slice, slice]

    def select(self, feature_map: Tensor) -> Tensor:
        """Return the inner part of a feature map, as a view."""
        return feature_map[:, :, self.inner[0], self.inner[1]]


FeatureHook = Callable[[CoreSlices, str, Tensor], None]
"""Called with a layer's name and the part of its feature map that belongs to a core."""

GradientHook = Callable[[CoreSlices, str, Tensor, Tensor], None]
"""The same with the gradient there, to which the layer's own is added in place."""


@dataclass(frozen=True)
class FeatureCollector:
    """A feature hook that puts the parts of feature maps together.

    Attributes
    ----------
    regions
        Rows and columns wanted of each layer, in the whole map.
    device
        Where the maps are collected.
    maps
        (1, C, h, w) by layer, channels last, in the network's number format.
    """

    regions: Mapping[str, tuple[slice, slice]]
    device: torch.device
    maps: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, core: CoreSlices, layer: str, features: Tensor) -> None:
        """Store the part of a feature map that belongs to a core."""
        if layer not in self.regions:
            return
        if layer not in self.maps:
            rows, columns = self.regions[layer]
            shape = (1, features.shape[1], rows.stop - rows.start, columns.stop - columns.start)
            self.maps[layer] = torch.empty(
                shape, dtype=features.dtype, device=self.device, memory_format=torch.channels_last
            )
        self.part(core, layer).copy_(features)

    def part(self, core: CoreSlices, layer: str) -> Tensor:
        """Return the part of a collected map that belongs to a core, as a view."""
        rows, columns = (
            slice(part.start - region.start, part.stop - region.start)
            for part, region in zip(core.target, self.regions[layer], strict=True)
        )
        return self.maps[layer][:, :, rows, columns]


class TiledNetwork:
    """Runs a network over the tiles of an image and puts together what belongs to the cores.

    Attributes
    ----------
    tiles
        Of the image; can be replaced.
    budget
        Bytes that the recordings of tiles may take in all between the two passes. That of one tile is always kept: the
        second pass would need as much at once.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        receptive_fields: dict[str, ReceptiveField],
        size: tuple[int, int],
        tiles: Sequence[Tile],
        should_stop: Callable[[], bool] = bool,
    ) -> None:
        self.network = network
        self._receptive_fields = receptive_fields
        self._size = size
        self.tiles = tiles
        self.budget = 0
        self._should_stop = should_stop
        self._workspace = network.workspace()
        self._layer_sizes = network.layer_sizes(*size)

    def positions(self, layer: str) -> int:
        """Return the number of positions of a layer in the whole image."""
        height, width = self._size if layer == RGB else self._layer_sizes[layer]
        return height * width

    def core_slices(self, tile: Tile, layer: str, row: int = 0, count: int | None = None) -> CoreSlices | None:
        """Return what of some rows of a tile's feature map belongs to its core, None for nothing.

        `row` is the first of them, counted within the tile, and `count` how many there are; None for all.
        """
        height, width = self._layer_sizes[layer]
        receptive_field = self._receptive_fields[layer]
        core, target = tile.rows.core_of(receptive_field, height), tile.rows.target_of(receptive_field, height)
        start, stop = max(core.start, row), core.stop if count is None else min(core.stop, row + count)
        if start >= stop:
            return None
        shift = target.start - core.start
        return CoreSlices(
            (slice(start - row, stop - row), tile.columns.core_of(receptive_field, width)),
            (slice(start + shift, stop + shift), tile.columns.target_of(receptive_field, width)),
        )

    def feature_maps(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return whole feature maps (1, C, h, w), in the network's number format, on the image's device."""
        collector = FeatureCollector(self.layer_regions(layers), image.device)
        self.forward(image, collector)
        return collector.maps

    def layer_regions(self, layers: Iterable[str]) -> dict[str, tuple[slice, slice]]:
        """Return all rows and columns of some layers."""
        return {name: (slice(0, self._layer_sizes[name][0]), slice(0, self._layer_sizes[name][1])) for name in layers}

    def gram_means(self, image: Tensor, layers: LayerWeights) -> dict[str, Tensor]:
        """Return Gram matrices as means over positions, float32, for the layers and `rgb` if named."""
        grams: dict[str, Tensor] = {}
        if RGB in layers:
            grams[RGB] = functional.pixel_gram_sum(image).to(self.network.device)

        def on_features(core: CoreSlices, layer: str, features: Tensor) -> None:
            if layer in layers:
                total = functional.gram_sum(features)
                grams[layer] = grams[layer] + total if layer in grams else total

        self.forward(image, on_features)
        return {name: total / self.positions(name) for name, total in grams.items()}

    @contextmanager
    def workspace_for_pass(self) -> Iterator[None]:
        """Have the workspace to oneself for a pass forward and backward."""
        self._workspace.reset()
        try:
            yield
        except BaseException:
            # Whoever stops the run, or has it go on with less memory, wants this back.
            self._workspace.clear()
            raise

    def forward(self, image: Tensor, on_features: FeatureHook, *, record: bool = False) -> dict[int, Recording]:
        """Go forward through every tile; `on_features` is given what belongs to the cores.

        Returns the recordings that `backward` needs, by number of the tile, of as many tiles as the budget allows.
        """
        recordings: dict[int, Recording] = {}
        recorded_area = 0
        for number, tile in enumerate(self.tiles):
            # The recording will be as large for its area as those before it; the first is kept in any case.
            fits = not recordings or self._workspace.bytes * (1 + tile.area / recorded_area) <= self.budget
            recording = self._forward_tile(image, tile, on_features, record=record and fits)
            if record and fits:
                recordings[number] = recording
                recorded_area += tile.area
        return recordings

    def backward(self, image: Tensor, recordings: dict[int, Recording], add_gradient: GradientHook) -> Tensor:
        """Go backward through every tile and return the image's gradient; `add_gradient` adds that of the losses.

        The recordings are used up; tiles without one go forward a second time.
        """
        if len(self.tiles) == 1:
            return self._backward_tile(image, self.tiles[0], recordings.pop(0), add_gradient)
        gradient = torch.zeros_like(image)
        left = [tile for number, tile in enumerate(self.tiles) if number not in recordings]
        while recordings:
            number, recording = recordings.popitem()
            tile = self.tiles[number]
            gradient[:, :, *tile.outer] += self._backward_tile(image, tile, recording, add_gradient)
        for tile in left:
            self._workspace.reset()
            recording = self._forward_tile(image, tile, None, record=True)
            gradient[:, :, *tile.outer] += self._backward_tile(image, tile, recording, add_gradient)
        return gradient

    def tile_features(self, pixels: Tensor, tile: Tile, collector: FeatureCollector, network: FrozenNetwork) -> None:
        """Collect the feature maps of a tile's core from what is read for it, by a truncated network."""
        self._check_stop()
        network.forward(pixels.to(network.device), partial(self._call_on_core, tile, collector))

    def _forward_tile(self, image: Tensor, tile: Tile, on_features: FeatureHook | None, *, record: bool) -> Recording:
        hook = None if on_features is None else partial(self._call_on_core, tile, on_features)
        return self.network.forward(self._crop(image, tile), hook, record=record, workspace=self._workspace)

    def _backward_tile(self, image: Tensor, tile: Tile, recording: Recording, add_gradient: GradientHook) -> Tensor:
        hook = partial(self._call_on_core, tile, add_gradient)
        return self.network.backward(recording, self._crop(image, tile), hook).to(image.device)

    def _call_on_core(self, tile: Tile, hook: Callable[..., None], layer: str, row: int, *maps: Tensor) -> None:
        """Pass a hook what of some rows of a tile's maps belongs to its core."""
        core = self.core_slices(tile, layer, row, maps[0].shape[2])
        if core is not None:
            hook(core, layer, *(core.select(part) for part in maps))

    def _crop(self, image: Tensor, tile: Tile) -> Tensor:
        self._check_stop()
        rows, columns = tile.outer
        return image[:, :, rows, columns].to(self.network.device).clamp(0, 1)

    def _check_stop(self) -> None:
        if self._should_stop():
            raise Stopped
