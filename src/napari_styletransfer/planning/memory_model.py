"""How much memory a run will take.

The estimate follows the code: the vectors of the optimiser, what is kept of the content, what the network's recordings
hold, and the stage at work. Called by `planner` and `memory_policy`; `benchmarks` compares it with what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from napari_styletransfer.config import LineSearch, Optimizer, Pooling, Precision, StyleConfig
from napari_styletransfer.images.resize import MAX_PREVIEW_PIXELS, schedule
from napari_styletransfer.networks.architectures import Backbone, Conv, Pool
from napari_styletransfer.nn.bands import band_bytes, bands, segments
from napari_styletransfer.nn.frozen_network import TRIM_ABOVE
from napari_styletransfer.tiling.tiles import Halo, Tile, tile_layout

_PIXEL = 3 * 4
"""Bytes of an image a pixel: three float32 channels."""

_VECTORS = 3
"""Images that a run holds throughout: the optimiser's base, which it can do without, its gradient, and the point tried
next; with Adam the best image, the step, and the point."""

_GRADIENTS = 1
"""Images' worth that an evaluation makes: a gradient."""

_MEASURING = 3
"""Images that there are while targets are measured: a style as it is fitted, the start, and what it is made with."""

_COARSE_GRADIENTS = 1 / 3
"""A plane, which the share of the coarser sizes in the gradient takes, and the metric; the gradient of the next coarser
size, which is there while blocks are worked on, takes somewhat less."""

_FRAGMENTATION, _TRIMMED_FRAGMENTATION = 0.35, 0.2
"""Memory lost between what passes over the network keep, as a share of it. Less in a network whose passes give back
what was freed."""

_PACKED = 2 * 3
"""Bytes a pixel, at most, of a content picture that is kept in place of its feature maps."""

_COARSER = 1 / 3
"""All coarser sizes together, as a share of the finest."""

_MAPS_AT_WORK = {4: 2, 2: 4}
"""Feature maps that a stage has at once, by the bytes of a value: what goes in and what comes out, and in bfloat16 the
library's copies of both."""

_MAX_POOL_VALUE = 6 * 8
"""Bytes for a value that comes out of a max pooling, while the indices are made: four integers, and the gaps between
them."""

_KERNEL = 160 << 10
"""Bytes of the program that the library makes for a convolution of maps of one shape."""

_MAX_KERNELS = 1024
"""How many of them it keeps."""

_OVERLAP = 1.05
"""What is kept of a block, in units of what its share of the area would be if bands did not overlap."""

_LAYOUTS = {4: 1, 2: 4}
"""Memory in units of the largest kernel's weights that the library takes to reorder them: in float32 in every call."""

_HEAP_IMAGE = 32 << 20
"""Size of an image in bytes below which memory is taken from the C library's heap. Then what one phase of an evaluation
had at work is of no use to the next, whose pieces have other sizes."""

_FIXED = 14 << 20
"""What the libraries take at any size."""

REGION_IMAGES = 44 / 12
"""Images' worth that regions keep: content, alpha, the blended image, masks and labels."""


@dataclass(frozen=True)
class Footprint:
    """What the memory of a run depends on besides its block size.

    Attributes
    ----------
    layers
        Those whose feature maps are recorded.
    config
        With every `auto` decided.
    extra_images
        Images' worth that the run keeps for regions or the content's colours.
    pictures
        Bytes of the pictures at their own sizes.
    offloaded
        Whether image, targets and optimiser stay in the host's memory, and only tiles visit the device.
    keeps_base, keeps_content
        Those of the plan.
    """

    backbone: Backbone
    layers: frozenset[str]
    size: tuple[int, int]
    halo: Halo
    config: StyleConfig
    extra_images: float = 0.0
    pictures: int = 0
    offloaded: bool = False
    keeps_base: bool = True
    keeps_content: bool = True

    def bytes(self, core: int | None, budget: int = 0) -> int:
        """Return the expected peak beyond weights and pictures, with blocks of that core.

        `budget` is for what is kept of all blocks together between the passes of an evaluation.
        """
        return max(self._finest_bytes(core, budget), self._measuring_bytes(core))

    def peak(self, core: int | None, budget: int) -> int:
        """Return the expected peak beyond the weights: while the finest scale runs, the pictures are gone."""
        on_host = self.config.device == "cpu"
        before = self._measuring_bytes(core) + (self.pictures if on_host else 0)
        return max(self._finest_bytes(core, budget), before)

    def _measuring_bytes(self, core: int | None) -> int:
        """Return the expected peak before the finest scale runs, the pictures themselves left out."""
        if self.offloaded:
            return 0
        height, width = self.size
        _, passing, at_work = self._network_bytes(*_largest_tile_size(tile_layout(height, width, core, self.halo)))
        measuring = _MEASURING * height * width * _PIXEL + self._target_bytes() + passing + at_work + _FIXED
        if self.config.scales == 1:
            return measuring
        coarser = replace(self, size=(max(1, height // 2), max(1, width // 2)), pictures=0)
        return max(measuring, coarser._finest_bytes(core))

    def _finest_bytes(self, core: int | None, budget: int = 0) -> int:
        """Return the expected peak while the finest scale runs."""
        height, width = self.size
        outer = _largest_tile_size(tile_layout(height, width, core, self.halo))
        recording, passing, at_work = self._network_bytes(*outer)
        kept = max(recording, budget) + passing
        if not self.keeps_content:
            at_work += self._maps_bytes(*outer)
        if self.offloaded:
            return kept + at_work + _FIXED
        image = height * width * _PIXEL
        shown = image if height * width <= MAX_PREVIEW_PIXELS else 0
        held = self._persistent_bytes() + kept + shown
        phases = (at_work + _GRADIENTS * image, (_GRADIENTS + _COARSE_GRADIENTS) * image)
        if self.config.device != "cpu":
            return int(held + max(phases)) + _FIXED
        gaps = _TRIMMED_FRAGMENTATION if self.backbone.multiplications > TRIM_ABOVE else _FRAGMENTATION
        held += int(self._kernels(core) * _KERNEL + gaps * (recording + passing))
        return int(held + (sum(phases) if image < _HEAP_IMAGE else max(phases))) + _FIXED

    def budget(self, core: int | None, available: int) -> int:
        """Return the bytes that what is kept of blocks may take: for as many of them as there is room for."""
        cut = tile_layout(*self.size, core, self.halo)
        if len(cut) == 1:
            return 0
        outer = _largest_tile_size(cut)
        recording, _, _ = self._network_bytes(*outer)
        room = recording + max(0, available - self.bytes(core))
        budget = 0
        for block in cut:
            needed = budget + int(_OVERLAP * recording * block.area / math.prod(outer))
            budget = needed if needed <= room else budget
        return budget

    def offloaded_bytes(self) -> int:
        """Return what the host's memory has to hold while the device sees blocks alone."""
        image = self.size[0] * self.size[1] * _PIXEL
        return int((_GRADIENTS + _COARSE_GRADIENTS) * image + self._persistent_bytes())

    @property
    def has_content_loss(self) -> bool:
        """Whether the loss has a term for the content, whose feature maps are kept or computed again."""
        return bool(self.config.content_layers) and self.config.term_weights[0] > 0

    def _persistent_bytes(self) -> int:
        """Bytes that a run holds throughout: images, history, targets."""
        images = _VECTORS - (not self.keeps_base) + self.extra_images
        if self.config.optimizer is Optimizer.LBFGS and self.config.line_search is LineSearch.NONE:
            images += 1  # the best image, which need not be the last one accepted
        return int(images * self.size[0] * self.size[1] * _PIXEL) + self._history_bytes() + self._target_bytes()

    def _history_bytes(self) -> int:
        values = 3 * self.size[0] * self.size[1]
        if self.config.optimizer is not Optimizer.LBFGS:
            return 2 * values * 4
        rows = 2 * self.config.history + self.config.value_scaling
        return rows * values * (2 if self.config.history_precision is Precision.BFLOAT16 else 4)

    def _target_bytes(self) -> int:
        """Bytes kept of the content, at the finest size and, where they count, at the coarser ones."""
        if not self.has_content_loss:
            return 0
        height, width = self.size
        total = self._maps_bytes(height, width) if self.keeps_content else height * width * _PACKED
        return int(total * (1 + (_COARSER if self.config.coarse_weight else 0)))

    def _maps_bytes(self, height: int, width: int) -> int:
        """Bytes of the content's feature maps for a picture of a size."""
        total = 0
        for stage in self.backbone.stages:
            height, width = stage.out_size(height), stage.out_size(width)
            if isinstance(stage, Conv) and stage.name in (self.config.content_layers or ()):
                total += stage.out_channels * height * width * self._value_bytes
        return total

    def _kernels(self, core: int | None) -> int:
        """Return for how many shapes of maps convolutions are made, forward and backward, at all sizes that count."""
        total = 0
        for height, width in schedule(*self.size, None if self.config.coarse_weight else 1, smallest=1):
            outer = [block.outer for block in tile_layout(height, width, core, self.halo)]
            for size in {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in outer}:
                total += self._shapes(*size)
        return min(total, _MAX_KERNELS)

    def _shapes(self, height: int, width: int) -> int:
        total = 0
        for segment in segments(self.backbone.stages):
            stages = self.backbone.stages[segment.start : segment.stop]
            cut = bands(stages, height, width, self._band_values)
            rows = {(band.core.at_top, band.core.at_bottom, band.core.stop - band.core.first) for band in cut}
            branches = [branch for stage in stages if isinstance(stage, Conv) for branch in stage.branches]
            # Forward and backward; kernels of one position are half as long.
            total += len(rows) * sum(2 if branch.kernel > 1 else 1 for branch in branches)
            for stage in stages:
                height, width = stage.out_size(height), stage.out_size(width)
        return total

    @property
    def _value_bytes(self) -> int:
        return 2 if self.config.precision is Precision.BFLOAT16 else 4

    @property
    def _band_values(self) -> int:
        return band_bytes(self.config.device.partition(":")[0]) // self._value_bytes

    def _is_max_pool(self, stage: Pool) -> bool:
        """Tell whether a pooling takes the maximum."""
        kind = stage.kind if self.config.pooling is Pooling.NATIVE else self.config.pooling.value
        return kind == "max"

    def _network_bytes(self, height: int, width: int) -> tuple[int, int, int]:
        """Return what passes over an image of that size keep, hand on, and have at once besides at most."""
        value = self._value_bytes
        kept = passing = most = 0
        entering = height * width * _PIXEL
        for segment in segments(self.backbone.stages):
            stages = self.backbone.stages[segment.start : segment.stop]
            count = len(bands(stages, height, width, self._band_values))
            largest, channels, pooling = 0, 3, 0
            for index, stage in zip(segment, stages, strict=True):
                before = channels * height * width
                height, width = stage.out_size(height), stage.out_size(width)
                channels = stage.out_channels if isinstance(stage, Conv) else channels
                after = channels * height * width
                largest = max(largest, after * value)
                if isinstance(stage, Pool) and self._is_max_pool(stage):
                    kept += after
                    pooling = (before + after) * value + after * _MAX_POOL_VALUE
                elif index and isinstance(stage, Conv):
                    kept += after * value if stage.name in self.layers else after // 8
            leaving = after * value
            passing += leaving if count > 1 else 0
            # Backward, the gradients of what enters and of what leaves a segment are whole.
            at_once = max(_MAPS_AT_WORK[value] * largest // count + entering + leaving, pooling // count + entering)
            most = max(most, at_once)
            entering = leaving
        kernels = [
            branch.in_channels * branch.out_channels * branch.kernel**2
            for stage in self.backbone.stages
            if isinstance(stage, Conv)
            for branch in stage.branches
        ]
        weights = max(kernels, default=0)
        return kept, passing, most + _LAYOUTS[value] * value * weights


def _largest_tile_size(blocks: Iterable[Tile]) -> tuple[int, int]:
    """Return height and width of what is read for the largest block."""
    rows, columns = max(blocks, key=lambda block: block.area).outer
    return rows.stop - rows.start, columns.stop - columns.start
