"""Make the optimiser that the settings ask for, with less memory where there is not enough. Called by `minimizer`."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from napari_styletransfer.config import Optimizer, Precision, StyleConfig
from napari_styletransfer.devices.device import empty_cache
from napari_styletransfer.errors import is_out_of_memory
from napari_styletransfer.optim.adam import Adam
from napari_styletransfer.optim.lbfgs import LBFGS
from napari_styletransfer.optim.preconditioner import SpectralMetric

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
        empty_cache(device)
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
    empty_cache(device)
    return None
