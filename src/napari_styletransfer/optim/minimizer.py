"""The minimisation at one scale: an optimiser, and the metric in whose terms it moves the image.

Called by `coarse_to_fine`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_styletransfer.config import Optimizer, Precision, StyleConfig
from napari_styletransfer.devices.device import empty_cache
from napari_styletransfer.errors import is_out_of_memory
from napari_styletransfer.optim.adam import Adam
from napari_styletransfer.optim.lbfgs import LBFGS
from napari_styletransfer.optim.preconditioner import SpectralMetric

_LEARN_AFTER = (3, 6, 12, 24, 40)
"""Steps of a scale after which the metric is learned from the pairs held then."""


_LOSS_NOISE = {Precision.BFLOAT16: 1e-3, Precision.FLOAT32: 1e-6, Precision.AUTO: 1e-6}
"""Relative error of a loss, by the number format of the features. In bfloat16 its standard deviation is up to 5e-4 at
24 pixels, and 1e-4 at 96. With less than the error, long runs end in refusals: the losses accepted are those that came
out low by chance, steps shrink until rounding is all that changes the gradient, and pairs of such steps give directions
that are refused as well: three to seven evaluations a step, and a higher loss."""


@dataclass
class Minimizer:
    """An optimiser with its metric."""

    optimizer: LBFGS | Adam

    @classmethod
    def create(cls, start: Tensor, config: StyleConfig, device: str, *, keep_base: bool = True) -> Minimizer:
        """Hand an image to a new optimiser.

        Its metric is that of the settings, or else one that learns. Of a coarser scale it would be a bad one: an image
        that was enlarged lacks just the octave that was the finest there.
        """
        metric = SpectralMetric(start.shape[2], start.shape[3], config.spectral_exponent, device)
        return cls(new_optimizer(start, config, device, metric, keep_base=keep_base))

    @property
    def metric(self) -> SpectralMetric:
        """What the image is moved in terms of."""
        return self.optimizer.metric

    @property
    def image(self) -> Tensor:
        """The best image so far, in the optimiser's own memory."""
        return self.optimizer.best

    @property
    def trial(self) -> Tensor:
        """The image whose loss and gradient are wanted next."""
        return self.optimizer.point

    def tell(self, loss: float, gradient: Tensor) -> bool:
        """Take the loss and its gradient at `trial`, and say whether the step there was accepted.

        The gradient is taken over: its memory is the optimiser's from now on.
        """
        accepted = self.optimizer.tell(loss, self.metric.latent_gradient_(gradient))
        if accepted and self.metric.learns and self.optimizer.iterations in _LEARN_AFTER:
            self._learn()
        return accepted

    def _learn(self) -> None:
        """Go over to the metric that the steps so far suggest; the image stays."""
        if not isinstance(self.optimizer, LBFGS):
            return
        try:
            metric = self.metric.learned(self.optimizer.pairs())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return  # the run goes on with the metric that it has
        if metric is not self.metric:
            self.optimizer.set_metric(metric)


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
                noise=_LOSS_NOISE[config.precision],
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


def copy_optimizer(optimizer: LBFGS | Adam, device: str) -> LBFGS | Adam | None:
    """Return a copy, None where there is no memory for two."""
    try:
        return copy.deepcopy(optimizer)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    empty_cache(device)
    return None
