"""What a run gives up to fit in the memory there is: a ladder from harmless to harmful, and the blocks on each rung.

`memory_model` says what a run takes; here the least is chosen that has to go. Called by `planner`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from napari_styletransfer.config import Optimizer, Precision
from napari_styletransfer.errors import OutOfMemoryError
from napari_styletransfer.planning.memory_model import Footprint
from napari_styletransfer.tiling.tiles import tile_layout
from napari_styletransfer.units import format_bytes

_MIN_CORE = 128

_LOW_OVERHEAD, _HIGH_OVERHEAD = 1.25, 1.6
"""Area that blocks may read, in images: as long as something else can be given up, and as long as that is the history,
which costs steps."""


def fit_to_memory(footprint: Footprint, available: int) -> tuple[Footprint, int | None]:
    """Return the footprint with the least given up that must be, and the side of the blocks' cores.

    Raises
    ------
    OutOfMemoryError
        If not even small blocks and a history of one pair fit.
    """
    for reduced, area in _savings(footprint):
        with suppress(OutOfMemoryError):
            return reduced, largest_core(reduced, available, area)
    return reduced, largest_core(reduced, available)  # once more for its error


def offload_to_host(footprint: Footprint, available: int, on_host: int) -> tuple[Footprint, int | None]:
    """Return the footprint with all but the blocks in the host's memory, and the side of the blocks' cores.

    Raises
    ------
    OutOfMemoryError
        If the host has no room for that either, or the device none for a block.
    """
    for reduced, _ in _savings(replace(footprint, offloaded=True)):
        needed = reduced.offloaded_bytes()
        if needed <= on_host:
            return reduced, largest_core(reduced, available)
    raise OutOfMemoryError(
        f"The run needs about {format_bytes(needed)} of the computer's memory besides the device's; "
        f"{format_bytes(on_host)} are available. Choose a smaller size."
    )


def largest_core(footprint: Footprint, available: int, most: float = math.inf) -> int | None:
    """Return the side of the largest blocks' cores that fit, None for the whole image.

    Raises
    ------
    OutOfMemoryError
        If none fit that read no more than `most` times the image's area.
    """
    longest, asked = max(footprint.size), footprint.config.block_size
    core: int | None = None
    if asked is not None and asked < longest:
        core = asked
    while (needed := footprint.bytes(core)) > available:
        core = (core or longest) // 2
        if core < _MIN_CORE or _area(footprint, core) > most:
            # Set apart, the history is in the host's memory, and a shorter one would not help.
            shortened = footprint.config.optimizer is Optimizer.LBFGS and not footprint.offloaded
            shortest = " and with the shortest history" if shortened else ""
            raise OutOfMemoryError(
                f"The run needs about {format_bytes(needed)} even in small blocks{shortest}; "
                f"{format_bytes(available)} are available. Choose a smaller size, a higher memory limit where "
                "one is set, or another device."
            )
    return core


def _savings(footprint: Footprint) -> Iterator[tuple[Footprint, float]]:
    """Yield what can be given up for memory, from harmless to harmful, and the area that blocks may read then."""
    config = footprint.config
    yield footprint, _LOW_OVERHEAD
    lbfgs = config.optimizer is Optimizer.LBFGS
    if lbfgs and config.history_precision is not Precision.BFLOAT16:
        config = config.changed(history_precision=Precision.BFLOAT16)
        footprint = replace(footprint, config=config)
        yield footprint, _LOW_OVERHEAD
    if lbfgs:
        footprint = replace(footprint, keeps_base=False)
        yield footprint, _LOW_OVERHEAD
    if footprint.has_content_loss:
        footprint = replace(footprint, keeps_content=False)
        yield footprint, _LOW_OVERHEAD
    yield footprint, _HIGH_OVERHEAD
    while lbfgs and config.history > 1:
        config = config.changed(history=config.history // 2)
        footprint = replace(footprint, config=config)
        yield footprint, _HIGH_OVERHEAD
    yield footprint, math.inf


def _area(footprint: Footprint, core: int) -> float:
    """Return how often the image is read in blocks with that core."""
    height, width = footprint.size
    return sum(block.area for block in tile_layout(height, width, core, footprint.halo)) / (height * width)
