"""What a run will do and need, decided before it begins: network, device, sizes, blocks, memory.

Called by `engine.run`; the form and the command line show its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from napari_styletransfer.config import Color, LayerWeights, Network, Precision, StyleConfig
from napari_styletransfer.config.settings import MOST_ITERATIONS
from napari_styletransfer.devices.compute_context import compute_context
from napari_styletransfer.devices.device import DeviceInfo, choose, choose_dtype
from napari_styletransfer.errors import ConfigError, ImageError, OutOfMemoryError
from napari_styletransfer.events import Plan, Scale
from napari_styletransfer.images.resize import COARSEST_LOSS, schedule
from napari_styletransfer.losses.terms import LossWeights
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import RGB, Backbone, Conv, ReceptiveField, backbone, receptive_fields
from napari_styletransfer.planning import runtime_estimate
from napari_styletransfer.planning.inputs import RunInputs, check_size
from napari_styletransfer.planning.memory_model import REGION_IMAGES, Footprint
from napari_styletransfer.planning.memory_policy import fit_to_memory, offload_to_host
from napari_styletransfer.planning.runtime_estimate import estimate_seconds
from napari_styletransfer.tiling.tiles import Halo, tile_layout

MAX_AUTO_SECONDS = 120.0
"""Seconds that a run with VGG-19 may take on a processor for `auto` to choose it."""

_MEMORY_SHARE = 0.8
"""Share of the free memory that a run plans with; the rest is for everything else on the machine."""

_LARGE_IMAGE = 4_000_000
"""Pixels above which the optimiser's history is kept in bfloat16 in any case unless asked otherwise."""


@dataclass(frozen=True)
class Prepared:
    """A plan with the parts the run is built from.

    `coarse_sizes` are the sizes whose objectives count in the loss of finer ones, from coarse to fine; `budget` is how
    many bytes of what blocks leave behind can be kept between the passes of an evaluation; `seconds` is how long the
    run takes where that decides the network.
    """

    plan: Plan
    loss_weights: LossWeights
    backbone: Backbone
    receptive_fields: dict[str, ReceptiveField]
    halo: Halo
    min_side: int
    coarse_sizes: tuple[tuple[int, int], ...]
    dtype: torch.dtype
    budget: int
    seconds: float

    @property
    def layers(self) -> set[str]:
        """Layers the network has to visit."""
        return set(self.receptive_fields)


@compute_context()
def prepare(pictures: RunInputs, config: StyleConfig, images: int = 1) -> Prepared:
    """Decide everything that can be decided without weights.

    Parameters
    ----------
    images
        How many such images are to be made, for the choice of the network.

    Raises
    ------
    ConfigError, ImageError, DeviceError, OutOfMemoryError
        If the run cannot work as asked; the message says what to change.
    """
    device = choose(config.device)
    if config.network is Network.AUTO:
        return _choose_network(pictures, config, device, images)
    whole = backbone(config.network)
    loss_weights = _loss_weights(config, whole, pictures.structure_weight(config))
    named = {name for name in (*loss_weights.content_layers, *loss_weights.style_layers) if name != RGB}
    cut = whole.truncated(named)
    fields = {name: found for name, found in receptive_fields(cut).items() if name in named}
    halo = Halo.for_layers(fields.values())
    smallest = min_side(cut)
    height, width = pictures.size
    check_size(pictures, smallest, config.network.value)
    dtype = choose_dtype(device.name, config.precision)
    sizes = schedule(height, width, config.scales, smallest)
    # The loss does not depend on where a run begins, so that one that goes on from a picture keeps its look.
    coarse_sizes = schedule(height, width, None, smallest, COARSEST_LOSS) if config.coarse_weight else []
    available = int(config.memory_limit * 2**30) if config.memory_limit else int(device.free_bytes * _MEMORY_SHARE)
    decided = config.changed(
        device=device.name,
        precision=str(dtype).removeprefix("torch."),
        history_precision=_history_precision(config, dtype, height * width),
        content_layers=loss_weights.content_layers or None,
        style_layers=loss_weights.style_layers or None,
        start=config.resolved_start,
        structure_weight=loss_weights.structure_weight,
    )
    extra_images = REGION_IMAGES if pictures.regions is not None else float(config.color is Color.CONTENT)
    footprint = Footprint(cut, frozenset(named), (height, width), halo, decided, extra_images, pictures.bytes)
    footprint, core = _place(footprint, available)
    decided = footprint.config
    tiles = tile_layout(height, width, core, halo)
    budget = footprint.budget(core, available)
    scales = _scales(sizes, config)
    seconds = estimate_seconds(cut, scales, device.name, device.label, dtype, coarse_sizes=coarse_sizes)
    plan = Plan(
        config=decided,
        device=device.name,
        device_name=device.label,
        precision=decided.precision.value,
        scales=scales,
        block=core,
        blocks=len(tiles),
        memory_bytes=footprint.peak(core, budget),
        memory_available=available,
        storage_device="cpu" if footprint.offloaded else device.name,
        keeps_base=footprint.keeps_base,
        keeps_content=footprint.keeps_content,
        seconds=seconds * runtime_estimate.recent_slowdown(config.network, device.label, dtype),
        asked=config,
    )
    steady = seconds * runtime_estimate.steady_slowdown(config.network, device.label, dtype)
    return Prepared(plan, loss_weights, cut, fields, halo, smallest, tuple(coarse_sizes), dtype, budget, steady)


def _place(footprint: Footprint, available: int) -> tuple[Footprint, int | None]:
    """Place image and optimiser on the device, or where that is too small for them, in the memory of its host."""
    try:
        return fit_to_memory(footprint, available)
    except OutOfMemoryError:
        if footprint.config.device in ("cpu", "mps"):
            raise
    return offload_to_host(footprint, available, int(choose("cpu").free_bytes * _MEMORY_SHARE))


def min_side(backbone: Backbone) -> int:
    """Return the shortest side in pixels that leaves every layer at least one position."""
    side = 1
    while not _fits(backbone, side):
        side += 1
    return side


def _choose_network(pictures: RunInputs, config: StyleConfig, device: DeviceInfo, images: int) -> Prepared:
    """Decide for VGG-19 where its weights are here and a run takes little enough time, else for the compact network."""
    if config.weights is not None:
        raise ConfigError("A file of weights belongs to one network: name it in place of network 'auto'.")

    def chosen(network: Network, why: str) -> Prepared:
        decided = config.changed(network=network, weights_sha256=config.weights_sha256)
        prepared = prepare(pictures, decided)
        return replace(prepared, plan=replace(prepared.plan, asked=config, why_network=why))

    if not weights.status(Network.VGG19).cached:
        return chosen(Network.COMPACT, f"the weights of {Network.VGG19} are not installed")
    on_gpu = device.name != "cpu"
    try:
        large = chosen(Network.VGG19, "there is a GPU" if on_gpu else "it takes little enough time")
    except (ImageError, OutOfMemoryError) as error:
        reason = "is too small" if isinstance(error, ImageError) else "takes too much memory"
        return chosen(Network.COMPACT, f"the image {reason} for {Network.VGG19}")
    seconds = large.seconds * images
    if seconds > MAX_AUTO_SECONDS and not on_gpu:
        return chosen(Network.COMPACT, f"{Network.VGG19} would take about {seconds / 60:.0f} min")
    return large


def _scales(sizes: Sequence[tuple[int, int]], config: StyleConfig) -> tuple[Scale, ...]:
    """Give every scale its steps: those of the finest, and of each coarser one a multiple."""
    factors = (config.coarse_iterations**coarser for coarser in reversed(range(len(sizes))))
    return tuple(
        Scale(*size, min(round(config.iterations * factor), MOST_ITERATIONS))
        for size, factor in zip(sizes, factors, strict=True)
    )


def _history_precision(config: StyleConfig, dtype: torch.dtype, pixels: int) -> Precision:
    if config.history_precision is not Precision.AUTO:
        return config.history_precision
    # Where gradients come from features of this format, a history of it leaves the course of a run as it is.
    return Precision.BFLOAT16 if dtype is torch.bfloat16 or pixels > _LARGE_IMAGE else Precision.FLOAT32


def _loss_weights(config: StyleConfig, whole: Backbone, structure_weight: float) -> LossWeights:
    content_weight, style_weight = config.term_weights
    content = config.content_layers or whole.content_layers
    style = config.style_layers or whole.style_layers
    whole.check(content, pixels=False)
    whole.check(style, pixels=True)
    return LossWeights(
        _positive(content) if config.mode.uses_content else {},
        _positive(style) if config.mode.uses_styles else {},
        content_weight,
        style_weight,
        config.tv_weight,
        config.normalization,
        structure_weight,
    )


def _positive(layers: LayerWeights) -> LayerWeights:
    return {name: weight for name, weight in layers.items() if weight > 0}


def _fits(backbone: Backbone, side: int) -> bool:
    for stage in backbone.stages:
        # A convolution without padding, like a pool, needs its whole window.
        if side + 2 * (stage.pad if isinstance(stage, Conv) else 0) < stage.kernel:
            return False
        side = stage.out_size(side)
    return side >= 1
