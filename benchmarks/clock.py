"""What a run shows when so many seconds have gone by: the engine's with its default settings, and the textbook loop's.

The clock starts with the pictures in memory and the network loaded, and stands still for nothing: targets, the image to
start from, optimiser and previews all count. Called by `jobs`.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from benchmarks.runs import events, settle, warm_up
from benchmarks.setting import Case, Setting
from benchmarks.textbook import Textbook
from napari_styletransfer.events import Finished, Preview, Started, Step
from napari_styletransfer.nn.frozen_network import FrozenNetwork

_TRIED = 2
"""Iterations of the run that tells how long one takes."""

_FULL = 0.97
"""Share of the time that a run is planned to take."""


def ours_by_then(case: dict[str, Any], budgets: list[float], paths: list[str]) -> dict[str, Any]:
    """Make one run for each time, with as many iterations as fit, and write the picture that it shows by then.

    Everything but the iterations is as shipped: scales, their shares of the iterations, and stopping rules. How many
    fit is told by a short run before; a run that is over early keeps its result, and one that is late shows its last
    preview. Returns the iterations asked for, the evaluations done, and when the picture was there.
    """
    warm_up(case)
    setting = Setting(Case(**case))
    network = setting.network()
    before, each = _paces(setting, network)
    found = []
    for budget, path in zip(budgets, paths, strict=True):
        iterations = max(1, int((_FULL * budget - before) / each))
        evaluations, clock, there, image = 0, 0.0, 0.0, setting.content
        config = setting.whole.changed(iterations=iterations)
        for event, spent in events(setting, network, preview_interval=0, config=config):
            clock += spent
            if clock > budget:
                break
            if isinstance(event, Step):
                evaluations = event.evaluation
            elif isinstance(event, Preview | Finished):
                image, there = event.image, clock
        np.save(path, image)
        found.append({"iterations": iterations, "evaluations": evaluations, "seconds": there})
    return {"runs": found}


def textbook_by_then(case: dict[str, Any], budgets: list[float], paths: list[str]) -> dict[str, Any]:
    """Run the textbook loop once, from the content at its full size, and write what it would save at each time."""
    warm_up(case, by_textbook=True)
    setting = Setting(Case(**case))
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device)
    found: list[dict[str, Any]] = []
    image, evaluations, there = setting.content_tensor(), 0, 0.0
    clock, began = 0.0, time.perf_counter()
    run = model.aim(image, setting.style_tensor()).descend(image)
    left = list(zip(budgets, paths, strict=True))
    while left:
        ahead = next(run)[1]
        settle(setting.device)
        clock += time.perf_counter() - began
        while left and clock > left[0][0]:
            np.save(left.pop(0)[1], _array(image))
            found.append({"evaluations": evaluations, "seconds": there})
        image, evaluations, there = ahead, evaluations + 1, clock
        began = time.perf_counter()
    return {"runs": found}


def _paces(setting: Setting, network: FrozenNetwork) -> tuple[float, float]:
    """Return the seconds that a run takes whatever its iterations, and those of one with its share of coarser steps."""
    config = setting.whole.changed(iterations=_TRIED, tolerance=0.0)
    total, since, paces, steps = 0.0, 0.0, dict[int, list[float]](), list[int]()
    for event, spent in events(setting, network, preview_interval=0, config=config):
        total, since = total + spent, since + spent
        if isinstance(event, Started):
            steps = [scale.iterations for scale in event.plan.scales]
        elif isinstance(event, Step):
            paces.setdefault(event.scale, []).append(since)
            since = 0.0
    # The first step of a scale has what came before it: the targets, the image to start from.
    stepping = sum(steps[scale] * statistics.median(each[1:] or each) for scale, each in paces.items())
    return total - stepping, stepping / _TRIED


def _array(image: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy())
