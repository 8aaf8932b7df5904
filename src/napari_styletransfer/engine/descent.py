"""The minimisation at one scale: an optimiser, and the metric in whose terms it holds the image.

Called by `transfer`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.adam import Adam
from napari_styletransfer.engine.lbfgs import LBFGS
from napari_styletransfer.engine.precondition import SpectralMetric
from napari_styletransfer.engine.recovery import new_optimizer


@dataclass
class Descent:
    """An optimiser and its metric, which belong together: neither knows the image alone."""

    metric: SpectralMetric
    optimizer: LBFGS | Adam

    @classmethod
    def begun(cls, start: Tensor, config: StyleConfig, device: str, before: SpectralMetric | None = None) -> Descent:
        """Hand an image to a new optimiser, in the metric of the settings or else as strong as the one before."""
        exponent = config.spectral_exponent
        if exponent is None and before is not None:
            exponent = before.exponent
        metric = SpectralMetric(start.shape[2], start.shape[3], exponent, device)
        return cls(metric, new_optimizer(metric.to_latent(start), config, device))

    @property
    def image(self) -> Tensor:
        """The best image so far."""
        return self.metric.to_image(self.optimizer.best)

    @property
    def trial(self) -> Tensor:
        """The image whose loss and gradient are wanted next."""
        return self.metric.to_image(self.optimizer.point)

    def tell(self, loss: float, gradient: Tensor) -> bool:
        """Take the loss and its gradient at `trial`, and say whether the step there was accepted."""
        self._fit(gradient)
        return self.optimizer.tell(loss, self.metric.to_latent_gradient(gradient))

    def _fit(self, gradient: Tensor) -> None:
        """Choose the metric from the first gradient where the settings leave it open; the image stays."""
        if self.metric.exponent is not None:
            return
        # Memory may run out on the way: until all of it is done, nothing must have changed.
        metric = copy.copy(self.metric)
        if metric.fit(gradient):
            latent = metric.to_latent(self.optimizer.point)
            self.optimizer.best.copy_(latent)
            self.optimizer.point.copy_(latent)
        self.metric = metric
