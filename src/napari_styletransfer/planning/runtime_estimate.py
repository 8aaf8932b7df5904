"""How long a run takes at most, told before it begins: from its arithmetic, the device's rates, and earlier runs.

A run does mostly convolutions; all else is bound by memory, or for small images by starting one operation after
another. The three rates are measured once in a session for a device and number format, in the thread that makes the
first plan, in a fraction of a second. The quickest of many short tries counts, as other programs only make them slower.
They are remembered between sessions (`runtime_history`), and change only where a session finds the device much quicker
than an earlier, busy one did. Every run that ends remembers how its time compared with what its arithmetic and these
rates say. Called by `planner` and, when a run ends, by `engine.run`.

The figure told is that of the network's last runs (`lately`). The choice of network `auto` needs a steadier one
(`mostly`): the rates decide it until two runs of VGG-19 were slower than they say, so that neither a busy moment nor a
measurement near the limit makes the network another from one run to the next.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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

_PASSES = 4
"""Operations for each multiplication of a forward pass: with the addition, forward and backward to the input."""

_REACHED = 0.8
"""Share of the rate of one convolution after another of the same kind that those of a network reach."""

_TOUCHED = 16_000
"""Bytes of memory traffic a pixel, besides the convolutions: what is kept of feature maps, Gram sums, optimiser."""

_STARTS = 4000
"""Operations that are started for an evaluation at one size, with the step that follows, whatever the size."""

_BESIDES = 4
"""Steps' worth of what a scale does besides: targets, start and metric, and trial steps that were too long."""

_CHANNELS, _SIDE = 128, 64
_BYTES = 16 << 20
_SMALL, _MANY = 64, 200
_FEWEST, _MOST, _ENOUGH = 2, 12, 0.15
"""Tries at each rate, and seconds after which there are no more."""

_QUICKER = 1.25
"""By how much a rate must be higher than the one remembered to take its place."""

_SHORT = 1.0
"""Seconds below which a run tells nothing of others."""

_ODD = 10.0
"""How many times longer or shorter than expected a run tells of something else: a paused consumer, a sleeping host."""

_NEWEST = 3
"""Runs whose time is told."""


def estimate_seconds(
    backbone: Backbone,
    scales: Iterable[Scale],
    device: str,
    label: str,
    dtype: torch.dtype,
    *,
    judged: Sequence[tuple[int, int]] = (),
) -> float:
    """Return roughly the seconds that a run takes if no scale ends before its last step; 0 if it cannot be told.

    Parameters
    ----------
    backbone
        Truncated to the deepest layer wanted.
    device, label
        The device's name, and as `DeviceInfo.label` calls it, with its threads.
    judged
        Sizes (H, W) that count in the loss of finer ones.
    """
    try:
        operations, traffic, start = rates(device, label, dtype)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 0.0
    pixel = _PASSES * backbone.multiplications / (_REACHED * operations) + _TOUCHED / traffic
    total = 0.0
    for scale in scales:
        sizes = loss_sizes((scale.height, scale.width), judged)
        evaluation = sum(height * width * pixel + _STARTS * start for height, width in sizes)
        total += (scale.iterations + _BESIDES) * evaluation
    return total


def lately(network: Network, label: str, dtype: torch.dtype) -> float:
    """Return how long the last few runs of a network took, as a share of `estimate_seconds`; 1 if none is known.

    Parameters
    ----------
    label
        As in `estimate_seconds`.
    """
    return statistics.median_low(_runs(network, label, dtype)[-_NEWEST:] or (1.0,))


def mostly(network: Network, label: str, dtype: torch.dtype) -> float:
    """Return the same for the choice of a network: more than 1 only after two runs that were slower."""
    return statistics.median_low((1.0, *_runs(network, label, dtype)))


def learn(
    backbone: Backbone,
    done: Sequence[Scale],
    seconds: float,
    device: str,
    label: str,
    dtype: torch.dtype,
    *,
    judged: Sequence[tuple[int, int]] = (),
) -> None:
    """Remember how long a run took.

    Parameters
    ----------
    done
        The scales that it went through, each with the steps taken.
    seconds
        That it took.
    backbone, device, label, dtype, judged
        As in `estimate_seconds`.
    """
    expected = estimate_seconds(backbone, done, device, label, dtype, judged=judged)
    # Of a run that was stopped at once, what was done before its steps would be most.
    if seconds < _SHORT or not done or done[-1].iterations < 2 or not seconds / _ODD < expected < seconds * _ODD:
        return
    known = runtime_history.read(label, _name(dtype))
    runs = (*known.runs.get(backbone.network, ()), seconds / expected)[-runtime_history.MOST_RUNS :]
    runtime_history.write(label, _name(dtype), replace(known, runs={**known.runs, backbone.network.value: runs}))


@cache
def rates(device: str, label: str, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return operations of a convolution and bytes of a copy, read and written, a second; and seconds of a start."""
    known, measured = runtime_history.read(label, _name(dtype)), _measured(device, dtype)
    if known.rates is not None:
        operations, traffic, start = known.rates
        gains = (measured[0] / operations, measured[1] / traffic, start / measured[2])
        if max(gains) < _QUICKER:
            return known.rates
        measured = (max(measured[0], operations), max(measured[1], traffic), min(measured[2], start))
    # Runs that were compared with other rates tell nothing beside these.
    runtime_history.write(label, _name(dtype), runtime_history.Known(measured))
    return measured


def _measured(device: str, dtype: torch.dtype) -> tuple[float, float, float]:
    # As the engine has its maps: with channels last, a convolution of bfloat16 is ten times quicker on old processors.
    image = torch.zeros(1, _CHANNELS, _SIDE, _SIDE, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    kernel = torch.zeros(_CHANNELS, _CHANNELS, 3, 3, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    source, copy = (torch.zeros(_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    small = torch.zeros(_SMALL, dtype=torch.float32, device=device)
    convolved = _quickest(lambda: F.conv2d(image, kernel, padding=1))
    moved = _quickest(lambda: copy.copy_(source))
    started = _quickest(lambda: [small.add_(1) for _ in range(_MANY)][-1])
    operations = 2 * 9 * _CHANNELS**2 * _SIDE**2
    return operations / convolved, 2 * _BYTES / moved, started / _MANY


def _quickest(work: Callable[[], Tensor]) -> float:
    """Return the seconds of the quickest of some tries, the first of which readies the libraries."""
    spent: list[float] = []
    while len(spent) < _FEWEST or (len(spent) < _MOST and sum(spent) < _ENOUGH):
        began = time.perf_counter()
        work().flatten()[0].item()  # which waits for other devices than the CPU
        spent.append(time.perf_counter() - began)
    return max(min(spent), 1e-9)


def _runs(network: Network, label: str, dtype: torch.dtype) -> tuple[float, ...]:
    return runtime_history.read(label, _name(dtype)).runs.get(network, ())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
