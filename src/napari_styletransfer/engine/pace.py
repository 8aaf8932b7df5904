"""How long a run takes at most, told before it begins: from its arithmetic, and what the device does of it a second.

Convolutions run nearly as fast as a large matrix product; all else is bound by memory, or for small images by starting
one operation after another. The three are measured once for a device and number format, which takes some milliseconds.
The figure is a rough one: other programs on the machine, heat and the size of caches make it wrong by a factor of up to
two. Called by `planning`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

from napari_styletransfer.engine.backbones import Backbone
from napari_styletransfer.engine.events import Scale
from napari_styletransfer.engine.pyramid import judged_at
from napari_styletransfer.errors import is_out_of_memory

_PASSES = 4
"""Operations for each multiplication of a forward pass: with the addition, forward and backward to the input."""

_REACHED = 0.8
"""Share of the rate of a large matrix product that convolutions reach."""

_TOUCHED = 16_000
"""Bytes of memory traffic a pixel, besides the convolutions: what is kept of feature maps, Gram sums, optimiser."""

_STARTS = 4000
"""Operations that are started for an evaluation at one size, with the step that follows, whatever the size."""

_BESIDES = 4
"""Steps' worth of what a scale does besides: targets, start and metric, and trial steps that were too long."""

_SIDE = 768
_BYTES = 16 << 20
_SMALL, _MANY = 64, 200
_TRIES = 3


def longest(
    backbone: Backbone,
    scales: Iterable[Scale],
    device: str,
    dtype: torch.dtype,
    *,
    judged: Sequence[tuple[int, int]] = (),
) -> float:
    """Return roughly the seconds that a run takes if no scale ends before its last step; 0 if it cannot be told.

    Parameters
    ----------
    backbone
        Truncated to the deepest layer wanted.
    judged
        Sizes (H, W) that count in the loss of finer ones.
    """
    try:
        operations, traffic, start = rates(device, dtype)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 0.0
    pixel = _PASSES * backbone.multiplications / (_REACHED * operations) + _TOUCHED / traffic
    total = 0.0
    for scale in scales:
        sizes = judged_at((scale.height, scale.width), judged)
        evaluation = sum(height * width * pixel + _STARTS * start for height, width in sizes)
        total += (scale.iterations + _BESIDES) * evaluation
    return total


@cache
def rates(device: str, dtype: torch.dtype) -> tuple[float, float, float]:
    """Return operations of a matrix product and bytes of a copy, read and written, a second; and seconds of a start."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    source, copy = (torch.zeros(_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    small = torch.zeros(_SMALL, dtype=torch.float32, device=device)
    product, moved = _quickest(lambda: matrix @ matrix), _quickest(lambda: copy.copy_(source))
    started = _quickest(lambda: [small.add_(1) for _ in range(_MANY)][-1])
    return 2 * _SIDE**3 / product, 2 * _BYTES / moved, started / _MANY


def _quickest(work: Callable[[], Tensor]) -> float:
    """Return the seconds of the quickest of some tries, the first of which readies the libraries."""
    best = float("inf")
    for _ in range(1 + _TRIES):
        began = time.perf_counter()
        work().view(-1)[0].item()  # which waits for other devices than the CPU
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)
