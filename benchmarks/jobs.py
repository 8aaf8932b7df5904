"""The measurements. Each runs in a process of its own, so that none sees the memory or the caches of another.

`python -m benchmarks.jobs` reads one job as JSON on standard input and writes its result as JSON; `measurement` calls
it. Every job is a function of plain values, which the tests call directly.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks import clock, large, looks
from benchmarks.convolutions import Convolutions
from benchmarks.memory import Peak
from benchmarks.runs import events, settle, steps, textbook, timed, warm_up
from benchmarks.setting import Case, Setting, save_pictures
from benchmarks.textbook import Textbook
from napari_styletransfer.config import Precision
from napari_styletransfer.devices.device import choose, choose_dtype
from napari_styletransfer.events import Preview, Started, Step

Result = dict[str, Any]

_MARGIN = 1.05
"""A run's own loss, of bfloat16 features, is checked in float32 once it is this close to a target."""


def prepare(folder: str, contents: list[str], styles: list[str]) -> Result:
    """Write the pictures that the other jobs read, and tell the contents' sizes."""
    return {"sizes": save_pictures(Path(folder), set(contents), set(styles))}


def machine(device: str) -> Result:
    """Tell on what was measured, with the rate of large bfloat16 (or else float32) matrix products."""
    chosen = choose(device)
    dtype = choose_dtype(chosen.name, Precision.AUTO)
    side = 8192 if chosen.name.startswith("cuda") else 2048
    matrix = torch.randn(side, side, device=chosen.name, dtype=dtype)
    seconds = min(timed(lambda: matrix @ matrix, chosen.name) for _ in range(5))
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "device": chosen.name,
        "label": chosen.label,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "precision": str(dtype).removeprefix("torch."),
        "matrix_rate": 2 * side**3 / seconds,
    }


def speed(case: dict[str, Any], warmup: int, rounds: int) -> Result:
    """Time a step of a run, the loss alone, the textbook loop and the bare convolutions, in turn.

    In turn, so that whatever else the machine does falls on all of them alike.
    """
    setting = Setting(Case(**case))
    device = setting.device
    network = setting.network()
    run = steps(setting, network)
    objective, image = setting.objective(network), setting.start()
    descent = textbook(setting).descend(setting.content_tensor())
    convolutions = Convolutions(setting.prepared.backbone, *setting.size, device=device, dtype=setting.prepared.dtype)
    for _ in range(warmup):
        next(run)
    work: dict[str, Callable[[], object]] = {
        "loss": lambda: objective(image),
        "textbook": lambda: next(descent),
        "convolutions": convolutions,
    }
    seconds: dict[str, list[float]] = {"step": [], **{name: [] for name in work}}
    for index in range(rounds + 1):
        _, spent = next(run)
        seconds["step"].append(spent)
        for name, function in work.items():
            seconds[name].append(timed(function, device))
        if index == 0:  # first calls choose kernels
            for values in seconds.values():
                values.clear()
    return {
        "precision": str(setting.prepared.dtype).removeprefix("torch."),
        "operations": convolutions.operations,
        **{name: statistics.median(values) for name, values in seconds.items()},
    }


def pace(cases: list[dict[str, Any]], warmup: int, rounds: int) -> Result:
    """Time an evaluation, with its step, of several runs in turn."""
    runs = []
    for case in cases:
        setting = Setting(Case(**case))
        run = steps(setting, setting.network())
        for _ in range(warmup):
            next(run)
        runs.append(run)
    rows = [[spent for _, spent in (next(run) for run in runs)] for _ in range(rounds)]
    return {"seconds": [statistics.median(values) for values in zip(*rows, strict=True)]}


def memory(case: dict[str, Any], steps_done: int) -> Result:
    """Take the peak memory of a run that is long enough to fill its history."""
    warm_up(case)
    setting = Setting(Case(**case))
    network = setting.network()
    plan = setting.prepared.plan
    peak = Peak(setting.device)
    at_full_size = (step for step, _ in steps(setting, network) if step.scale == len(plan.scales) - 1)
    for _ in islice(at_full_size, steps_done):
        pass
    return {"peak": peak.bytes(), "planned": plan.memory_bytes}


def reach(case: dict[str, Any], targets: list[float], evaluations: int) -> Result:
    """Run until the loss of the picture shown, measured in float32, is as low as each of the targets.

    Returns the hits in the order of the targets. Evaluations count by area, so that those of a coarse scale are parts
    of one. The time is that of the steps and of the images that scales begin with, with what the loss aims at measured
    on the way, without previews and checks.
    """
    warm_up(case)
    setting = Setting(Case(**case))
    exact = textbook(setting)
    left = sorted(targets, reverse=True)
    found: list[tuple[float, float] | None] = []
    shares: list[float] = []
    clock, counted, before, begun, step = 0.0, 0.0, 0, -1, None
    for event, spent in events(setting, setting.network(), preview_interval=0):
        if isinstance(event, Started):
            areas = [scale.height * scale.width for scale in event.plan.scales]
            shares = [area / areas[-1] for area in areas]
        elif isinstance(event, Step):
            clock, step = clock + spent, event
            counted += (event.evaluation - before) * shares[event.scale]
            before = event.evaluation
        elif isinstance(event, Preview) and event.scale > begun:
            clock, begun = clock + spent, event.scale
        elif isinstance(event, Preview) and step is not None and step.scale == len(shares) - 1:
            if step.losses["content"] + step.losses["style"] <= _MARGIN * left[0]:
                shown = torch.from_numpy(event.image).permute(2, 0, 1)[None].contiguous().to(setting.device)
                with torch.no_grad():
                    loss = float(exact(shown))
                while left and loss <= left[0]:
                    left.pop(0)
                    found.append((counted, clock))
            if not left or counted >= evaluations:
                break
    hits = dict(zip(sorted(targets, reverse=True), [*found, *[None] * len(left)], strict=True))
    return {"hits": [hits[target] for target in targets]}


def variant(case: dict[str, Any], targets: list[float], evaluations: int, steps_done: int) -> Result:
    """Do `memory` and then `reach` in one process; in this order the peak is that of the first alone."""
    return {**memory(case, steps_done), **reach(case, targets, evaluations)}


def textbook_loop(case: dict[str, Any], evaluations: int, steps_done: int) -> Result:
    """Run the textbook loop and return its losses and time after every evaluation, and its peak after `steps_done`.

    `losses` are those of the picture that it would show or save, clamped to [0, 1], measured beside the clock; `own`
    are those that it minimises, of values in any range.
    """
    warm_up(case, by_textbook=True)
    setting = Setting(Case(**case))
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device)
    peak = Peak(setting.device)
    shown, own, seconds, most = [], [], [], None
    began = time.perf_counter()
    image = setting.content_tensor()
    run = model.aim(image, setting.style_tensor()).descend(image)
    settle(setting.device)
    clock = time.perf_counter() - began
    for number in range(1, max(evaluations, steps_done) + 1):
        with torch.no_grad():
            shown.append(float(model(image.detach().clamp(0, 1))))
        began = time.perf_counter()
        loss, image = next(run)
        settle(setting.device)
        clock += time.perf_counter() - began
        own.append(loss)
        seconds.append(clock)
        if number == steps_done:
            most = peak.bytes()
    return {"losses": shown[:evaluations], "own": own[:evaluations], "seconds": seconds[:evaluations], "peak": most}


JOBS: dict[str, Callable[..., Result]] = {
    job.__name__: job
    for job in (
        prepare,
        machine,
        speed,
        pace,
        memory,
        reach,
        variant,
        textbook_loop,
        clock.ours_by_then,
        clock.textbook_by_then,
        large.large,
        looks.render,
        looks.judge,
    )
}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    json.dump(JOBS[job["job"]](**job["arguments"]), sys.stdout)


if __name__ == "__main__":
    main()
