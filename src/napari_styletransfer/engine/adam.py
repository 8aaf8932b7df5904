"""Adam by ask and tell, with the same face as `lbfgs.LBFGS`; the arithmetic is torch's.

Kingma and Ba 2015 (arXiv 1412.6980). Called by `recovery`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_styletransfer.engine.precondition import SpectralMetric
from napari_styletransfer.errors import DivergedError


class Adam:
    """State of one minimisation; see `LBFGS` for the attributes.

    Parameters
    ----------
    start
        Point to begin from; not modified.
    learning_rate
        Typical change of a value in one step.
    metric
        As in `LBFGS`: gradients are told in it, and steps are brought to the point by it.
    """

    stalled = False

    def __init__(self, start: Tensor, *, learning_rate: float = 0.02, metric: SpectralMetric | None = None) -> None:
        self.point = start.detach().clone(memory_format=torch.contiguous_format)
        self.metric = metric or SpectralMetric(1, 1, 0.0)
        self.best = self.point.clone()
        self.best_loss = math.inf
        self.loss = math.inf
        self.iterations = 0
        self.evaluations = 0
        self._move = torch.zeros_like(self.point)
        self._optimizer = torch.optim.Adam([self._move], lr=learning_rate)

    def tell(self, loss: float, gradient: Tensor) -> bool:
        """Take the loss and gradient at `point` and move it; every step is accepted.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        self.evaluations += 1
        if not (math.isfinite(loss) and bool(torch.isfinite(gradient.sum()))):
            raise DivergedError("The loss is no longer finite. Lower the learning rate, or use optimizer 'lbfgs'.")
        self.loss = loss
        if loss < self.best_loss:
            self.best_loss = loss
            self.best.copy_(self.point)
        self.iterations += self.evaluations > 1  # the first is that of the start
        self._move.zero_()
        self._move.grad = gradient
        self._optimizer.step()
        self._move.grad = None
        self.metric.add_to(self.point, self._move)
        return True
