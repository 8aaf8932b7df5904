"""How much memory a run will take, and the blocks that keep it within what there is.

The estimate follows the code: the vectors of the optimiser, what the network's tape holds, and the stage at
work. Called by `planning`; `benchmarks` compares it with what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_styletransfer.config import Optimizer, Pooling, Precision, StyleConfig
from napari_styletransfer.engine.backbones import Backbone, Conv, Pool
from napari_styletransfer.engine.blocks import Halo, layout
from napari_styletransfer.engine.features import BAND_BYTES
from napari_styletransfer.engine.pyramid import schedule
from napari_styletransfer.engine.rows import bands, segments
from napari_styletransfer.errors import OutOfMemoryError

_PIXEL = 3 * 4
"""Bytes of an image a pixel: three float32 channels."""

_VECTORS = 4
"""Images that a run holds throughout: the optimiser's base and its gradient, the point tried next, and its image."""

_EVALUATED = 2
"""Images' worth that an evaluation makes besides: a gradient, and that of a pixel term or of the coarser sizes."""

_TOLD = 5
"""Images' worth at work while the metric is applied to a gradient: the gradient, what comes out, and what the
transforms need."""

_COARSER = 1 / 3
"""All coarser sizes together, as a share of the finest."""

_MAPS_AT_WORK = {4: 2, 2: 4}
"""Feature maps that a stage has at once, by the bytes of a value: what goes in and what comes out, and in bfloat16 the
library's copies of both."""

_KERNEL = 160 << 10
"""Bytes of the program that the library makes for a convolution of maps of one shape."""

_MOST_KERNELS = 1024
"""How many of them it keeps."""

_LAYOUTS = 5
"""Room in units of the largest kernel's weights that the library takes to lay weights out anew."""

_FROM_HEAP = 32 << 20
"""Size of an image in bytes below which memory is taken from the C library's heap. Then what one phase of an evaluation
had at work is of no use to the next, whose pieces have other sizes."""

_FIXED = 9 << 20
"""What the libraries take at any size."""

GUIDED = 44 / 12
"""Images' worth that regions keep besides: content below, its share and what is seen of it, masks and labels."""

_SMALLEST_CORE = 128


@dataclass(frozen=True)
class Footprint:
    """What the memory of a run depends on besides its block size.

    `wanted` are the layers whose feature maps are kept; in `config` every `auto` is decided. `apart`: image, targets
    and optimiser stay in the host's memory, and only blocks visit the device. `beside` are images' worth that the run
    keeps for regions or the content's colours.
    """

    backbone: Backbone
    wanted: frozenset[str]
    size: tuple[int, int]
    halo: Halo
    config: StyleConfig
    beside: float = 0.0
    apart: bool = False

    def bytes(self, core: int | None) -> int:
        """Return the expected peak beyond the weights, at the finest scale, with blocks of that core."""
        height, width = self.size
        largest = max(layout(height, width, core, self.halo), key=lambda block: block.area)
        rows, columns = largest.outer
        kept, at_work = self._network_bytes(rows.stop - rows.start, columns.stop - columns.start)
        if self.apart:
            return kept + at_work + _FIXED
        image = height * width * _PIXEL
        held = (_VECTORS + self.beside) * image + self._history_bytes() + self._target_bytes() + kept
        phases = (at_work + _EVALUATED * image, 0 if self.config.spectral_exponent == 0 else _TOLD * image)
        if self.config.device != "cpu":
            return int(held + max(phases)) + _FIXED
        held += self._kernels(core) * _KERNEL
        return int(held + (sum(phases) if image < _FROM_HEAP else max(phases))) + _FIXED

    def host_bytes(self) -> int:
        """Return what the host's memory has to hold while the device sees blocks alone."""
        image = self.size[0] * self.size[1] * _PIXEL
        return int((_VECTORS + _TOLD + self.beside) * image) + self._history_bytes() + self._target_bytes()

    def set_apart(self, available: int, on_host: int) -> tuple[Footprint, int | None]:
        """Return the footprint with all but the blocks in the host's memory, and the side of the blocks' cores.

        Raises
        ------
        OutOfMemoryError
            If the host has no room for that either, or the device none for a block.
        """
        footprint = replace(self, apart=True)
        while (needed := footprint.host_bytes()) > on_host:
            less = footprint._less_history()
            if less is None:
                raise OutOfMemoryError(
                    f"The run needs about {needed / 2**30:.2f} GiB of the computer's memory besides the device's; "
                    f"{on_host / 2**30:.2f} GiB are available. Choose a smaller size."
                )
            footprint = replace(footprint, config=less)
        return footprint, footprint.core_within(available)

    def fitted(self, available: int) -> tuple[Footprint, int | None]:
        """Return the footprint with as long a history as fits, and the side of the blocks' cores as `core_within`.

        Raises
        ------
        OutOfMemoryError
            If not even small blocks and a history of one pair fit.
        """
        footprint = self
        while True:
            try:
                return footprint, footprint.core_within(available)
            except OutOfMemoryError:
                less = footprint._less_history()
                if less is None:
                    raise
            footprint = replace(footprint, config=less)

    def _less_history(self) -> StyleConfig | None:
        """Return the settings with half the memory for the history, None where there is no less."""
        if self.config.optimizer is not Optimizer.LBFGS:
            return None
        if self.config.history_precision is not Precision.BFLOAT16:
            return self.config.changed(history_precision=Precision.BFLOAT16)
        return self.config.changed(history=self.config.history // 2) if self.config.history > 1 else None

    def core_within(self, available: int) -> int | None:
        """Return the side of the largest blocks' cores that fit, None for the whole image.

        Raises
        ------
        OutOfMemoryError
            If not even small blocks fit.
        """
        longest, asked = max(self.size), self.config.block_size
        core: int | None = None
        if asked is not None and asked < longest:
            core = asked
        while (needed := self.bytes(core)) > available:
            core = (core or longest) // 2
            if core < _SMALLEST_CORE:
                shortest = " and with the shortest history" if self.config.optimizer is Optimizer.LBFGS else ""
                raise OutOfMemoryError(
                    f"The run needs about {needed / 2**30:.2f} GiB even in small blocks{shortest}; "
                    f"{available / 2**30:.2f} GiB are available. Choose a smaller size, a higher memory limit where "
                    "one is set, or another device."
                )
        return core

    def _history_bytes(self) -> int:
        values = 3 * self.size[0] * self.size[1]
        if self.config.optimizer is not Optimizer.LBFGS:
            return 2 * values * 4
        rows = 2 * self.config.history + self.config.value_scaling
        return rows * values * (2 if self.config.history_precision is Precision.BFLOAT16 else 4)

    def _target_bytes(self) -> int:
        """Bytes of the content's feature maps, at the finest size and, where they count, at the coarser ones."""
        height, width = self.size
        total = 0
        for stage in self.backbone.stages:
            height, width = stage.out_size(height), stage.out_size(width)
            if isinstance(stage, Conv) and stage.name in (self.config.content_layers or ()):
                total += stage.out_channels * height * width * self._value
        return int(total * (1 + (_COARSER if self.config.coarse_weight else 0)))

    def _kernels(self, core: int | None) -> int:
        """Return for how many shapes of maps convolutions are made, forward and backward, at all sizes that count."""
        total = 0
        for height, width in schedule(*self.size, None if self.config.coarse_weight else 1, smallest=1):
            outer = [block.outer for block in layout(height, width, core, self.halo)]
            for size in {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in outer}:
                total += self._shapes(*size)
        return min(total, _MOST_KERNELS)

    def _shapes(self, height: int, width: int) -> int:
        total = 0
        for segment in segments(self.backbone.stages):
            stages = self.backbone.stages[segment.start : segment.stop]
            cut = bands(stages, height, width, BAND_BYTES // self._value)
            rows = {(band.core.top, band.core.bottom, band.core.stop - band.core.first) for band in cut}
            branches = [branch for stage in stages if isinstance(stage, Conv) for branch in stage.branches]
            # Forward and backward; kernels of one position are half as long.
            total += len(rows) * sum(2 if branch.kernel > 1 else 1 for branch in branches)
            for stage in stages:
                height, width = stage.out_size(height), stage.out_size(width)
        return total

    @property
    def _value(self) -> int:
        return 2 if self.config.precision is Precision.BFLOAT16 else 4

    def _network_bytes(self, height: int, width: int) -> tuple[int, int]:
        """Return what passes over an image of that size keep, and what else they have at once at most."""
        value = self._value
        kept = most = 0
        entering = height * width * _PIXEL
        for segment in segments(self.backbone.stages):
            stages = self.backbone.stages[segment.start : segment.stop]
            count = len(bands(stages, height, width, BAND_BYTES // value))
            largest, channels = 0, 3
            for index, stage in zip(segment, stages, strict=True):
                height, width = stage.out_size(height), stage.out_size(width)
                channels = stage.out_channels if isinstance(stage, Conv) else channels
                after = channels * height * width
                largest = max(largest, after * value)
                if isinstance(stage, Pool):
                    kept += after if stage.kind == "max" and self.config.pooling is not Pooling.AVERAGE else 0
                elif index:
                    kept += after * value if stage.name in self.wanted else after // 8
            leaving = after * value
            kept += leaving if count > 1 else 0
            # Backward, the gradients of what enters and of what leaves a segment are whole.
            most = max(most, _MAPS_AT_WORK[value] * largest // count + entering + leaving)
            entering = leaving
        kernels = [
            branch.in_channels * branch.out_channels * branch.kernel**2
            for stage in self.backbone.stages
            if isinstance(stage, Conv)
            for branch in stage.branches
        ]
        weights = max(kernels, default=0)
        return kept, most + _LAYOUTS * value * weights
