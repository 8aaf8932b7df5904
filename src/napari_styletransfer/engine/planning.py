"""What a run will do and need, decided before it begins: network, device, sizes, blocks, memory.

Called by `transfer`; the form and the command line show its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from napari_styletransfer.config import LayerWeights, Mode, Network, Optimizer, StyleConfig
from napari_styletransfer.engine import weights
from napari_styletransfer.engine.backbones import RGB, Backbone, Conv, Pool, Reach, backbone, reaches
from napari_styletransfer.engine.blocks import Halo, layout
from napari_styletransfer.engine.device import DeviceInfo, choose, choose_dtype
from napari_styletransfer.engine.events import Plan, Scale
from napari_styletransfer.engine.inputs import Pictures, check_size
from napari_styletransfer.engine.objective import Terms
from napari_styletransfer.engine.pyramid import schedule
from napari_styletransfer.errors import OutOfMemoryError

_PIXEL = 3 * 4
"""Bytes of an image a pixel: three float32 channels."""

_SPARE = 0.8
"""Share of the free memory that a run plans with; the rest is for everything else on the machine."""

_SMALLEST_CORE = 128


@dataclass(frozen=True)
class Prepared:
    """A plan with the parts the run is built from."""

    plan: Plan
    terms: Terms
    backbone: Backbone
    reaches: dict[str, Reach]
    halo: Halo
    smallest: int
    dtype: torch.dtype

    @property
    def layers(self) -> set[str]:
        """Layers the network has to visit."""
        return set(self.reaches)


def prepare(pictures: Pictures, config: StyleConfig) -> Prepared:
    """Decide everything that can be decided without weights.

    Raises
    ------
    ConfigError, ImageError, DeviceError, OutOfMemoryError
        If the run cannot work as asked; the message says what to change.
    """
    device = choose(config.device)
    network = _network(config, device)
    whole = backbone(network)
    terms = _terms(config, whole)
    named = {name for name in (*terms.content_layers, *terms.style_layers) if name != RGB}
    cut = whole.truncated(named)
    reach = {name: found for name, found in reaches(cut).items() if name in named}
    halo = Halo.of(reach.values())
    smallest = smallest_side(cut)
    height, width = pictures.size
    check_size(pictures.size, smallest, network.value)
    dtype = choose_dtype(device.name, config.precision)
    sizes = schedule(height, width, config.scales, smallest)
    available = int(config.memory_limit * 2**30) if config.memory_limit else int(device.free_bytes * _SPARE)
    footprint = Footprint.of(cut, named, (height, width), halo, dtype, config)
    core = _core(footprint, config.block_size, available)
    blocks = layout(height, width, core, halo)
    decided = config.changed(
        network=network,
        device=device.name,
        precision=str(dtype).removeprefix("torch."),
        content_layers=terms.content_layers or None,
        style_layers=terms.style_layers or None,
        start=config.resolved_start,
    )
    plan = Plan(
        config=decided,
        device=device.name,
        device_name=device.label,
        precision=decided.precision.value,
        scales=tuple(Scale(*size, config.iterations) for size in sizes),
        block=core,
        blocks=len(blocks),
        memory_bytes=footprint.bytes(core),
        memory_available=available,
    )
    return Prepared(plan, terms, cut, reach, halo, smallest, dtype)


def smallest_side(backbone: Backbone) -> int:
    """Return the shortest side in pixels that leaves every layer at least one position."""
    side = 1
    while not _reaches_the_end(backbone, side):
        side += 1
    return side


@dataclass(frozen=True)
class Footprint:
    """What the memory of a run depends on besides its block size."""

    backbone: Backbone
    wanted: frozenset[str]
    size: tuple[int, int]
    halo: Halo
    dtype: torch.dtype
    vectors: int

    @classmethod
    def of(
        cls, backbone: Backbone, wanted: Iterable[str], size: tuple[int, int], halo: Halo, dtype: torch.dtype,
        config: StyleConfig,
    ) -> Footprint:  # fmt: skip
        """Count the image-sized vectors that the settings ask for."""
        pairs = 2 * config.history if config.optimizer is Optimizer.LBFGS else 2
        spectral = 3 if config.spectral_exponent else 0
        return cls(backbone, frozenset(wanted), size, halo, dtype, pairs + 7 + spectral)

    def bytes(self, core: int | None) -> int:
        """Return the expected peak beyond the weights, at the finest scale, with blocks of that core."""
        height, width = self.size
        largest = max(layout(height, width, core, self.halo), key=lambda block: block.area)
        rows, columns = largest.outer
        block = (rows.stop - rows.start, columns.stop - columns.start)
        return height * width * _PIXEL * self.vectors + _network_bytes(self.backbone, self.wanted, block, self.dtype)


def _network_bytes(backbone: Backbone, wanted: Collection[str], size: tuple[int, int], dtype: torch.dtype) -> int:
    """Peak of a forward and a backward pass: what the tape holds, and the stage at work."""
    width = torch.finfo(dtype).bits // 8
    height, columns = size
    kept = peak = scratch = 0
    channels = 3
    for index, stage in enumerate(backbone.stages):
        before = channels * height * columns
        if isinstance(stage, Conv):
            scratch = max(scratch, channels * (height + 2) * (columns + 2) * width)
        height, columns = stage.out_size(height), stage.out_size(columns)
        channels = stage.out_channels if isinstance(stage, Conv) else channels
        after = channels * height * columns
        peak = max(peak, kept + (before + after) * width, kept + 2 * after * width)
        if isinstance(stage, Pool):
            kept += after if stage.kind == "max" else 0
        elif index:
            kept += after * width if stage.name in wanted else after // 8
    return peak + scratch


def _core(footprint: Footprint, asked: int | None, available: int) -> int | None:
    """Return the side of the blocks' cores that fits, None for the whole image."""
    longest = max(footprint.size)
    if asked is not None:
        return asked if asked < longest else None
    core: int | None = None
    while (needed := footprint.bytes(core)) > available:
        core = (core or longest) // 2
        if core < _SMALLEST_CORE:
            raise OutOfMemoryError(
                f"The run needs about {needed / 2**30:.1f} GiB even in small blocks, and {available / 2**30:.1f} GiB "
                "are available. Choose a smaller size, a shorter history, or another device."
            )
    return core


def _network(config: StyleConfig, device: DeviceInfo) -> Network:
    if config.network is not Network.AUTO:
        return config.network
    large = device.name != "cpu" and weights.status(Network.VGG19).cached
    return Network.VGG19 if large else Network.COMPACT


def _terms(config: StyleConfig, whole: Backbone) -> Terms:
    content_weight, style_weight = config.term_weights
    content = config.content_layers or whole.content_layers
    style = config.style_layers or whole.style_layers
    whole.check(content, pixels=False)
    whole.check(style, pixels=True)
    return Terms(
        _counting(content) if config.mode is not Mode.STYLE else {},
        _counting(style) if config.mode is not Mode.CONTENT else {},
        content_weight,
        style_weight,
        config.tv_weight,
        config.normalization,
    )


def _counting(layers: LayerWeights) -> LayerWeights:
    return {name: weight for name, weight in layers.items() if weight > 0}


def _reaches_the_end(backbone: Backbone, side: int) -> bool:
    for stage in backbone.stages:
        # A convolution without padding, like a pool, needs its whole window.
        if side + 2 * (stage.pad if isinstance(stage, Conv) else 0) < stage.kernel:
            return False
        side = stage.out_size(side)
    return side >= 1
