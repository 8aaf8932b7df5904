"""The measurements. Each runs in a process of its own, so that none sees the memory or the caches of another.

`python -m benchmarks.jobs` reads one job as JSON on standard input and writes its result as JSON; `suite` calls it.
Every job is a function of plain values, which the tests call directly.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.convolutions import Convolutions
from benchmarks.memory import Peak
from benchmarks.setting import Case, Setting, save_orthogonal, save_pictures
from benchmarks.textbook import Textbook
from napari_styletransfer.config import Network, Precision
from napari_styletransfer.engine.blocks import layout
from napari_styletransfer.engine.device import choose, choose_dtype
from napari_styletransfer.engine.events import Event, Preview, Step
from napari_styletransfer.engine.features import FrozenNetwork
from napari_styletransfer.engine.lbfgs import LBFGS
from napari_styletransfer.engine.precondition import SpectralMetric
from napari_styletransfer.engine.transfer import Shared, iter_stylize

Result = dict[str, Any]

WARM_SIZE = 64
"""Side in pixels of the run that readies the convolution library before anything is measured."""

_ENDLESS = 100_000
"""Iterations that no job waits for."""

_MARGIN = 1.05
"""A run's own loss, of bfloat16 features, is checked in float32 once it is this close to a target."""


def prepare(folder: str, networks: list[str], contents: list[str], styles: list[str]) -> Result:
    """Write the pictures and the orthogonal weights that the other jobs read."""
    save_pictures(Path(folder), set(contents), set(styles))
    for name in networks:
        save_orthogonal(Path(folder) / f"{name}.safetensors", Network(name))
    return {}


def machine(device: str) -> Result:
    """Tell on what was measured, with the rate of large bfloat16 (or else float32) matrix products."""
    chosen = choose(device)
    dtype = choose_dtype(chosen.name, Precision.AUTO)
    side = 8192 if chosen.name.startswith("cuda") else 2048
    matrix = torch.randn(side, side, device=chosen.name, dtype=dtype)
    seconds = min(_timed(lambda: matrix @ matrix, chosen.name) for _ in range(5))
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
    run = _steps(setting, network)
    objective, image = setting.objective(network), setting.start()
    textbook = _textbook(setting).descend(setting.content_tensor())
    convolutions = Convolutions(setting.prepared.backbone, *setting.size, device=device, dtype=setting.prepared.dtype)
    for _ in range(warmup):
        next(run)
    work: dict[str, Callable[[], object]] = {
        "loss": lambda: objective(image),
        "textbook": lambda: next(textbook),
        "convolutions": convolutions,
    }
    seconds: dict[str, list[float]] = {"step": [], **{name: [] for name in work}}
    for index in range(rounds + 1):
        _, evaluations, spent = next(run)
        seconds["step"].append(spent / evaluations)
        for name, function in work.items():
            seconds[name].append(_timed(function, device))
        if index == 0:  # first calls choose kernels
            for values in seconds.values():
                values.clear()
    return {
        "precision": str(setting.prepared.dtype).removeprefix("torch."),
        "operations": convolutions.operations,
        **{name: statistics.median(values) for name, values in seconds.items()},
    }


def memory(case: dict[str, Any], steps: int) -> Result:
    """Take the peak memory of a run that is long enough to fill its history, and the time of its steps."""
    _warm_up(case)
    setting = Setting(Case(**case))
    network = setting.network()
    peak = Peak(setting.device)
    seconds = [spent / evaluations for _, evaluations, spent in islice(_steps(setting, network), steps)]
    return {"peak": peak.bytes(), "step": statistics.median(seconds)}


def reach(case: dict[str, Any], targets: list[float], evaluations: int) -> Result:
    """Run until the loss of the picture shown, measured in float32, is as low as each of the targets.

    Targets are taken in falling order. The time is that of the steps, with the targets of the loss measured
    on the way, without previews and checks.
    """
    _warm_up(case)
    setting = Setting(Case(**case))
    reference = Setting(Case(**case).changed(precision="float32"))
    exact = reference.objective(reference.network())
    left = sorted(targets, reverse=True)
    hits: list[tuple[int, float] | None] = []
    clock, step = 0.0, None
    for event, spent in _events(setting, setting.network(), preview_interval=0):
        if isinstance(event, Step):
            clock, step = clock + spent, event
        elif isinstance(event, Preview) and step is not None:
            shown = torch.from_numpy(event.image).permute(2, 0, 1)[None].contiguous().to(setting.device)
            if _matched(step.losses) <= _MARGIN * left[0]:
                loss = _matched(exact(shown).losses)
                while left and loss <= left[0]:
                    left.pop(0)
                    hits.append((step.evaluation, clock))
            if not left or step.evaluation >= evaluations:
                break
    return {"hits": [*hits, *[None] * len(left)]}


def variant(case: dict[str, Any], targets: list[float], evaluations: int, steps: int) -> Result:
    """Do `memory` and then `reach` in one process; in this order the peak is that of the first alone."""
    return {**memory(case, steps), **reach(case, targets, evaluations)}


def textbook(case: dict[str, Any], evaluations: int) -> Result:
    """Run the textbook loop and return its loss and time after every evaluation, and its peak memory."""
    _warm_up(case, textbook=True)
    setting = Setting(Case(**case))
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device)
    peak = Peak(setting.device)
    losses, seconds = [], []
    began = time.perf_counter()
    run = model.aim(setting.content_tensor(), setting.style_tensor()).descend(setting.content_tensor())
    for loss, _ in islice(run, evaluations):
        losses.append(loss)
        seconds.append(time.perf_counter() - began)
    return {"losses": losses, "seconds": seconds, "peak": peak.bytes()}


def autograd(case: dict[str, Any], targets: list[float], evaluations: int, steps: int) -> Result:
    """Run the engine's optimiser on the textbook's loss and gradient: what the engine's own backward pass replaces."""
    _warm_up(case, textbook=True)
    setting = Setting(Case(**case))
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device)
    peak = Peak(setting.device)
    model.aim(setting.content_tensor(), setting.style_tensor())
    config = setting.config
    metric = SpectralMetric(*setting.size, config.spectral_exponent, setting.device)
    optimizer = LBFGS(metric.to_latent(setting.start()), history=config.history, line_search=config.line_search)
    left = sorted(targets, reverse=True)
    hits: list[tuple[int, float] | None] = []
    seconds, clock, most = [], 0.0, None
    for index in range(evaluations):
        began = time.perf_counter()
        image = metric.to_image(optimizer.point).requires_grad_()
        loss = model(image)
        (gradient,) = torch.autograd.grad(loss, image)
        value = loss.item()
        accepted = optimizer.tell(value, metric.to_latent_gradient(gradient))
        seconds.append(time.perf_counter() - began)
        clock += seconds[-1]
        if index + 1 == steps:
            most = peak.bytes()
        if accepted and left and value <= _MARGIN * left[0]:
            with torch.no_grad():
                shown = float(model(metric.to_image(optimizer.best).clamp(0, 1)))
            while left and shown <= left[0]:
                left.pop(0)
                hits.append((index + 1, clock))
        if not left and index + 1 >= steps:
            break
    return {"hits": [*hits, *[None] * len(left)], "peak": most, "step": statistics.median(seconds)}


def blocks(case: dict[str, Any], rounds: int) -> Result:
    """Evaluate loss and gradient of a large image in blocks; without the optimiser."""
    _warm_up(case)
    start = Setting(Case(**{**case, "height": WARM_SIZE, "width": WARM_SIZE}))
    network = start.network()
    peak = Peak(start.device)
    setting = Setting(Case(**case))
    objective = setting.objective(network)
    image = setting.start()
    seconds = [_timed(lambda: objective(image), setting.device) for _ in range(rounds)]
    height, width = setting.size
    cut = layout(height, width, setting.prepared.plan.block, setting.prepared.halo)
    return {
        "blocks": len(cut),
        "area": sum(block.area for block in cut) / (height * width),
        "peak": peak.bytes(),
        "seconds": min(seconds),
    }


JOBS: dict[str, Callable[..., Result]] = {
    job.__name__: job for job in (prepare, machine, speed, memory, reach, variant, textbook, autograd, blocks)
}


def _events(setting: Setting, network: FrozenNetwork, preview_interval: float) -> Iterator[tuple[Event, float]]:
    """Yield the events of a run with the seconds that each took to come."""
    config = setting.config.changed(iterations=_ENDLESS)
    run = iter_stylize(
        setting.content, [setting.style], config, shared=Shared(network), preview_interval=preview_interval
    )
    while True:
        began = time.perf_counter()
        event = next(run, None)
        if event is None:
            return
        _settle(setting.device)
        yield event, time.perf_counter() - began


def _steps(setting: Setting, network: FrozenNetwork) -> Iterator[tuple[Step, int, float]]:
    """Yield the steps of a run with the evaluations and the seconds that each took."""
    before = 0
    for event, spent in _events(setting, network, preview_interval=float("inf")):
        if isinstance(event, Step):
            yield event, event.evaluation - before, spent
            before = event.evaluation


def _textbook(setting: Setting) -> Textbook:
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device)
    return model.aim(setting.content_tensor(), setting.style_tensor())


def _matched(losses: dict[str, float]) -> float:
    """Return the terms that the textbook loop has too."""
    return losses["content"] + losses["style"]


def _warm_up(case: dict[str, Any], *, textbook: bool = False) -> None:
    small = Setting(Case(**{**case, "height": WARM_SIZE, "width": WARM_SIZE}))
    if textbook:
        next(_textbook(small).descend(small.content_tensor()))
    else:
        next(_steps(small, small.network()))


def _timed(function: Callable[[], object], device: str) -> float:
    _settle(device)
    began = time.perf_counter()
    function()
    _settle(device)
    return time.perf_counter() - began


def _settle(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


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
