"""Adam by ask and tell, with the same interface as `lbfgs.LBFGS`.

Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1. Not `torch.optim.Adam`: making one imports torch's compiler and
triton, which together with a software OpenGL in the same process ends in a segmentation fault. Called by `minimizer`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_styletransfer.errors import DivergedError
from napari_styletransfer.optim.preconditioner import SpectralMetric

_BETA1, _BETA2 = 0.9, 0.999
"""Decay rates of the means of the gradient and of its square."""

_EPSILON = 1e-8


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
        self._learning_rate = learning_rate
        self._mean = torch.zeros_like(self.point)
        self._square = torch.zeros_like(self.point)

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
        self._mean.lerp_(gradient, 1 - _BETA1)
        self._square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        # θ ← θ − α m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ), as the means begin at zero.
        correction1, correction2 = (1 - beta**self.evaluations for beta in (_BETA1, _BETA2))
        step = self._square.sqrt().div_(math.sqrt(correction2)).add_(_EPSILON)
        torch.div(self._mean, step, out=step)
        self.metric.add_to(self.point, step.mul_(-self._learning_rate / correction1))
        return True
