"""What is done when memory runs out, step by step: smaller blocks, a narrower and shorter history, and a clear error.

Estimates can be wrong, and other programs take memory while a run goes on. Each step down costs time or a little
precision, never the run, and none of them changes what is optimised. Called by `transfer` and `targets`.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from torch import Tensor

from napari_styletransfer.config import Optimizer, Precision, StyleConfig
from napari_styletransfer.engine.adam import Adam
from napari_styletransfer.engine.blocks import Block, Halo, layout
from napari_styletransfer.engine.device import release
from napari_styletransfer.engine.events import Finished
from napari_styletransfer.engine.lbfgs import LBFGS
from napari_styletransfer.engine.precondition import SpectralMetric
from napari_styletransfer.errors import DivergedError, OutOfMemoryError, is_out_of_memory

Result = TypeVar("Result")


class Cutting:
    """How images are cut into blocks: as planned at first, finer from each time on that memory ran out.

    Parameters
    ----------
    core
        Side of the blocks' cores in pixels, None for whole images.
    halo
        What the blocks need around their cores.
    device
        Whose memory it is.
    budget
        Bytes for what is kept of blocks between the passes of an evaluation; none from the first time on.
    """

    def __init__(self, core: int | None, halo: Halo, device: str, budget: int = 0) -> None:
        self.budget = budget
        self._core = core
        self._halo = halo
        self._device = device

    def blocks(self, size: tuple[int, int]) -> tuple[Block, ...]:
        """Return the blocks of an image (H, W) as they are cut now."""
        return layout(*size, self._core, self._halo)

    def recovering(self, size: tuple[int, int], action: Callable[[], Result]) -> Result:
        """Do something with an image (H, W); when memory runs out, do it again in blocks half as large.

        Where more than needed is kept of blocks, it is done again without that first.
        """
        while True:
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                core = self._core
                if not self.budget:
                    core = (core or max(size)) // 2
                    if core < self._halo.before + self._halo.after:
                        raise
            # Here, not above: what the failed attempt made lives on with its error.
            self._core, self.budget = core, 0
            release(self._device)


_NOISE = {Precision.BFLOAT16: 1e-3, Precision.FLOAT32: 1e-6, Precision.AUTO: 1e-6}
"""Relative error of a loss, by the number format of the features. In bfloat16 its standard deviation is up to 5e-4 at
24 pixels, and 1e-4 at 96. With less than the error, long runs end in refusals: the losses accepted are those that came
out low by chance, steps shrink until rounding is all that changes the gradient, and pairs of such steps give directions
that are refused as well: three to seven evaluations a step, and a higher loss."""


def new_optimizer(
    start: Tensor, config: StyleConfig, device: str, metric: SpectralMetric | None = None, *, keep_base: bool = True
) -> LBFGS | Adam:
    """Make the optimiser that the settings ask for; L-BFGS with less memory where there is not enough."""
    if config.optimizer is Optimizer.ADAM:
        return Adam(start, learning_rate=config.learning_rate, metric=metric)
    pairs, narrow = config.history, config.history_precision is Precision.BFLOAT16
    while True:
        try:
            return LBFGS(
                start,
                history=pairs,
                line_search=config.line_search,
                storage=torch.bfloat16 if narrow else None,
                scaled=config.value_scaling,
                metric=metric,
                keep_base=keep_base,
                noise=_NOISE[config.precision],
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or (narrow and not keep_base and pairs == 1):
                raise
        release(device)
        # From harmless to harmful: a narrower number format, no base, and half the pairs at every further turn.
        if not narrow:
            narrow = True
        elif keep_base:
            keep_base = False
        else:
            pairs = max(1, pairs // 2)


def copied(optimizer: LBFGS | Adam, device: str) -> LBFGS | Adam | None:
    """Return a copy, None where there is no memory for two."""
    try:
        return copy.deepcopy(optimizer)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release(device)
    return None


@contextmanager
def broken_off(reached: Callable[[], Finished] | None, device: str) -> Iterator[None]:
    """Give an error that ends a run what the run has reached; of an exhausted memory one that says what to do.

    `reached` is None as long as there is no image.
    """
    try:
        yield
    except DivergedError as error:
        error.finished = reached() if reached is not None else None
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # What failed must go before anything else is made of the little there is.
        traceback.clear_frames(error.__traceback__)
        release(device)
        told = OutOfMemoryError(_BEFORE if reached is None else _UNDER_WAY)
        if reached is not None:
            with suppress(RuntimeError, MemoryError):
                told.finished = reached()
        raise told from error


_BEFORE = (
    "The device has no room for the network and the image. Choose the network 'compact', a smaller size, or another "
    "device."
)
_UNDER_WAY = (
    "The device ran out of memory, even with the smallest blocks. Choose a smaller size, a shorter history, or another "
    "device."
)
