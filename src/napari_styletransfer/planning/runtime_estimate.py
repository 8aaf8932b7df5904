"""How long a run takes at most, estimated before it begins: from its arithmetic, the device's rates, and earlier runs.

A run does mostly convolutions; all else is bound by memory, or for small images by starting one operation after
another. The three rates are measured once in a session for a device and number format, in the thread that makes the
first plan, in a fraction of a second. The quickest of many short tries counts, as other programs only make them slower.
They are remembered between sessions (`runtime_history`), and change only where a session finds the device much quicker
than an earlier, busy one did. Every run that ends remembers how its time compared with what its arithmetic and these
rates say. Called by `planner` and, when a run ends, by `coarse_to_fine`.

The figure shown is that of the network's last runs (`recent_slowdown`). The choice of network `auto` needs a steadier
one (`steady_slowdown`): the rates decide it until two runs of VGG-19 were slower than they say, so that neither a busy
moment nor a measurement near the limit makes the network another from one run to the next.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.config import Network
from napari_styletransfer.errors import is_out_of_memory
from napari_styletransfer.events import Scale
from napari_styletransfer.images.resize import loss_sizes
from napari_styletransfer.networks.architectures import Backbone
from napari_styletransfer.planning import runtime_history

_OPERATIONS = 4
"""Operations for each multiplication of a forward pass: with the addition, forward and backward to the input."""

_EFFICIENCY = 0.8
"""Share of the rate of one convolution after another of the same kind that those of a network reach."""

_TRAFFIC = 16_000
"""Bytes of memory traffic a pixel, besides the convolutions: what is kept of feature maps, Gram sums, optimiser."""

_LAUNCHES = 4000
"""Operations that are started for an evaluation at one size, with the step that follows, whatever the size."""

_OVERHEAD_STEPS = 4
"""Steps' worth of what a scale does besides: targets, start and metric, and trial steps that were too long."""

_CHANNELS, _SIDE = 128, 64
_BYTES = 16 << 20
_SMALL, _MANY = 64, 200
_MIN_TRIES, _MAX_TRIES, _MAX_SECONDS = 2, 12, 0.15
"""Tries at each rate, and seconds after which there are no more."""

_FASTER = 1.25
"""By how much a rate must be higher than the one remembered to take its place."""

_MIN_RUN_SECONDS = 1.0
"""Seconds below which a run tells nothing of others."""

_MAX_RATIO = 10.0
"""How many times longer or shorter than expected a run tells of something else: a paused consumer, a sleeping host."""

_RECENT = 3
"""Runs whose median is shown."""


def estimate_seconds(
    backbone: Backbone,
    scales: Iterable[Scale],
    device: str,
    label: str,
    dtype: torch.dtype,
    *,
    coarse_sizes: Sequence[tuple[int, int]] = (),
) -> float:
    """Return roughly the seconds that a run takes if no scale ends before its last step; 0 if it cannot be known.

    Parameters
    ----------
    backbone
        Truncated to the deepest layer wanted.
    device, label
        The device's name, and as `DeviceInfo.label` calls it, with its threads.
    coarse_sizes
        Sizes (H, W) that count in the loss of finer ones.
    """
    try:
        operations, traffic, start = rates(device, label, dtype)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 0.0
    pixel = _OPERATIONS * backbone.multiplications / (_EFFICIENCY * operations) + _TRAFFIC / traffic
    total = 0.0
    for scale in scales:
        sizes = loss_sizes((scale.height, scale.width), coarse_sizes)
        evaluation = sum(height * width * pixel + _LAUNCHES * start for height, width in sizes)
        total += (scale.iterations + _OVERHEAD_STEPS) * evaluation
    return total


def recent_slowdown(network: Network, label: str, dtype: torch.dtype) -> float:
    """Return how long the last few runs of a network took, as a share of `estimate_seconds`; 1 if none is known.

    Parameters
    ----------
    label
        As in `estimate_seconds`.
    """
    return statistics.median_low(_slowdowns(network, label, dtype)[-_RECENT:] or [1.0])


def steady_slowdown(network: Network, label: str, dtype: torch.dtype) -> float:
    """Return the same for the choice of a network: more than 1 only after two runs that were slower."""
    return statistics.median_low((1.0, *_slowdowns(network, label, dtype)))


def learn(
    backbone: Backbone,
    done: Sequence[Scale],
    seconds: float,
    device: str,
    label: str,
    dtype: torch.dtype,
    *,
    coarse_sizes: Sequence[tuple[int, int]] = (),
) -> None:
    """Remember how long a run took.

    Parameters
    ----------
    done
        The scales that it went through, each with the steps taken.
    seconds
        That it took.
    backbone, device, label, dtype, coarse_sizes
        As in `estimate_seconds`.
    """
    expected = estimate_seconds(backbone, done, device, label, dtype, coarse_sizes=coarse_sizes)
    # Of a run that was stopped at once, what was done before its steps would be most.
    if (
        seconds < _MIN_RUN_SECONDS
        or not done
        or done[-1].iterations < 2
        or not seconds / _MAX_RATIO < expected < seconds * _MAX_RATIO
    ):
        return
    known = runtime_history.read(label, _name(dtype))
    runs = [*known.get(backbone.network, []), seconds / expected][-runtime_history.MAX_RUNS :]
    runtime_history.write(label, _name(dtype), {**known, backbone.network.value: runs})


@cache
def rates(device: str, label: str, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return operations of a convolution and bytes of a copy, read and written, a second; and seconds of a start."""
    known, measured = (
        runtime_history.read(label, _name(dtype)).get(runtime_history.RATES),
        _measure_rates(device, dtype),
    )
    if known is not None and len(known) == len(measured):
        operations, traffic, start = known
        gains = (measured[0] / operations, measured[1] / traffic, start / measured[2])
        if max(gains) < _FASTER:
            return operations, traffic, start
        measured = (max(measured[0], operations), max(measured[1], traffic), min(measured[2], start))
    # Runs that were compared with other rates tell nothing beside these.
    runtime_history.write(label, _name(dtype), {runtime_history.RATES: [*measured]})
    return measured


def _measure_rates(device: str, dtype: torch.dtype) -> tuple[float, float, float]:
    # As the engine has its maps: with channels last, a convolution of bfloat16 is ten times quicker on old processors.
    image = torch.zeros(1, _CHANNELS, _SIDE, _SIDE, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    kernel = torch.zeros(_CHANNELS, _CHANNELS, 3, 3, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    source, copy = (torch.zeros(_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    small = torch.zeros(_SMALL, dtype=torch.float32, device=device)
    convolved = _min_seconds(lambda: F.conv2d(image, kernel, padding=1))
    moved = _min_seconds(lambda: copy.copy_(source))
    started = _min_seconds(lambda: [small.add_(1) for _ in range(_MANY)][-1])
    operations = 2 * 9 * _CHANNELS**2 * _SIDE**2
    return operations / convolved, 2 * _BYTES / moved, started / _MANY


def _min_seconds(work: Callable[[], Tensor]) -> float:
    """Return the seconds of the quickest of some tries, the first of which readies the libraries."""
    spent: list[float] = []
    while len(spent) < _MIN_TRIES or (len(spent) < _MAX_TRIES and sum(spent) < _MAX_SECONDS):
        began = time.perf_counter()
        work().flatten()[0].item()  # which waits for other devices than the CPU
        spent.append(time.perf_counter() - began)
    return max(min(spent), 1e-9)


def _slowdowns(network: Network, label: str, dtype: torch.dtype) -> list[float]:
    return runtime_history.read(label, _name(dtype)).get(network, [])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
