"""How much memory a run will take, and the blocks that keep it within what there is.

The estimate follows the code: the vectors of the optimiser, what the network's tape holds, and the stage at
work. Called by `planning`; `benchmarks` compares it with what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_styletransfer.config import Optimizer, Precision, StyleConfig
from napari_styletransfer.engine.backbones import Backbone, Conv, Pool
from napari_styletransfer.engine.blocks import Halo, layout
from napari_styletransfer.errors import OutOfMemoryError

_PIXEL = 3 * 4
"""Bytes of an image a pixel: three float32 channels."""

_VECTORS = 9
"""Images that a run holds at once besides the history: content, point, base, two gradients, direction, the pair
being made, and what is shown."""

_SPECTRAL_VECTORS = 3
"""Images' worth of Fourier transforms while the metric is applied."""

_FRAGMENTS = 1.6
"""Measured on Linux: feature maps of changing sizes leave gaps in the heap, and the convolution library copies."""

_FIXED = 24 << 20
"""What the libraries take at any size."""

_SMALLEST_CORE = 128


@dataclass(frozen=True)
class Footprint:
    """What the memory of a run depends on besides its block size.

    `wanted` are the layers whose feature maps are kept; in `config` every `auto` is decided.
    """

    backbone: Backbone
    wanted: frozenset[str]
    size: tuple[int, int]
    halo: Halo
    config: StyleConfig

    def bytes(self, core: int | None) -> int:
        """Return the expected peak beyond the weights, at the finest scale, with blocks of that core."""
        height, width = self.size
        largest = max(layout(height, width, core, self.halo), key=lambda block: block.area)
        rows, columns = largest.outer
        network = self._network_bytes(rows.stop - rows.start, columns.stop - columns.start)
        return int(height * width * _PIXEL * self._vectors() + _FRAGMENTS * network) + _FIXED

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
                raise OutOfMemoryError(
                    f"The run needs about {needed / 2**30:.1f} GiB even in small blocks; {available / 2**30:.1f} GiB "
                    "are available. Choose a smaller size, a shorter history, or another device."
                )
        return core

    def _vectors(self) -> float:
        pairs = 2.0 * self.config.history if self.config.optimizer is Optimizer.LBFGS else 2.0
        if self.config.history_precision is Precision.BFLOAT16:
            pairs /= 2
        if self.config.optimizer is Optimizer.LBFGS and self.config.value_scaling:
            pairs += pairs / (2 * self.config.history)
        return pairs + _VECTORS + (_SPECTRAL_VECTORS if self.config.spectral_exponent != 0 else 0)

    def _network_bytes(self, height: int, width: int) -> int:
        """Peak of a forward and a backward pass over an image of that size."""
        value = 2 if self.config.precision is Precision.BFLOAT16 else 4
        kept = peak = scratch = 0
        channels = 3
        for index, stage in enumerate(self.backbone.stages):
            before = channels * height * width
            if isinstance(stage, Conv) and stage.pad:
                scratch = max(scratch, channels * (height + 2) * (width + 2) * value)
            height, width = stage.out_size(height), stage.out_size(width)
            channels = stage.out_channels if isinstance(stage, Conv) else channels
            after = channels * height * width
            # Forward, the padded copy in the scratch memory has taken the input's place; backward, output and
            # input gradients lie side by side.
            peak = max(peak, kept + (before + after) * value)
            if isinstance(stage, Pool):
                kept += after if stage.kind == "max" else 0
            elif index:
                kept += after * value if stage.name in self.wanted else after // 8
        return peak + scratch
