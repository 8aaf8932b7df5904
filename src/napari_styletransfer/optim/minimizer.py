"""The minimisation at one scale: an optimiser, and the metric in whose terms it moves the image.

Called by `engine.run`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import is_out_of_memory
from napari_styletransfer.optim.adam import Adam
from napari_styletransfer.optim.create import new_optimizer
from napari_styletransfer.optim.lbfgs import LBFGS
from napari_styletransfer.optim.preconditioner import SpectralMetric

_LEARNED_AT = (3, 6, 12, 24, 40)
"""Steps of a scale after which the metric is learned from the pairs held then."""


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
        if accepted and self.metric.learns and self.optimizer.iterations in _LEARNED_AT:
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
