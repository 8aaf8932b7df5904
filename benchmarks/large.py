"""A run on a picture far larger than the others, as a user has it: with optimiser and previews. Called by `jobs`."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.memory import Peak
from benchmarks.runs import settle, warm_up
from benchmarks.setting import Case, Setting
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.errors import OutOfMemoryError
from napari_styletransfer.events import Plan, Started, Step
from napari_styletransfer.tiling.tiles import tile_layout

_TILE = 256
"""Side in pixels of the picture that is repeated."""


def large(case: dict[str, Any], evaluations: int) -> dict[str, Any]:
    """Take some evaluations of a run, in the blocks that its settings ask for.

    The peak is what comes on top of the loaded network and of the picture as its owner holds it, 8 bits a value. The
    seconds are the median of those of the steps but the first, which takes two evaluations and measures the targets
    of the loss. A run that the plan refuses is told as that: its message in place of the figures.
    """
    warm_up(case)
    small = Setting(Case(**{**case, "height": _TILE, "width": _TILE}))
    network, halo = small.network(), small.prepared.halo
    height, width = case["height"], case["width"]
    tile = (small.content * 255).round().astype(np.uint8)
    content = np.tile(tile, (-(-height // _TILE), -(-width // _TILE), 1))[:height, :width].copy()
    config = small.config.changed(iterations=evaluations)
    peak = Peak(small.device)
    run = iter_stylize(content, [small.style], config, shared=Shared(network))
    plan: Plan | None = None
    before, paces = 0, list[float]()
    while before < evaluations:
        began = time.perf_counter()
        try:
            event = next(run)
        except OutOfMemoryError as error:
            return {"refused": str(error)}
        settle(small.device)
        if isinstance(event, Started):
            plan = event.plan
        elif isinstance(event, Step):
            paces.append((time.perf_counter() - began) / (event.evaluation - before))
            before = event.evaluation
    if plan is None:
        raise AssertionError("a run tells its plan before its first step")
    cut = tile_layout(height, width, plan.block, halo)
    return {
        "blocks": len(cut),
        "core": plan.block,
        "area": sum(block.area for block in cut) / (height * width),
        "history": f"{plan.config.history} × {plan.config.history_precision}",
        "peak": peak.bytes(),
        "planned": plan.memory_bytes,
        "seconds": statistics.median(paces[1:] or paces),
    }
