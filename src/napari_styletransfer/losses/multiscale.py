"""The loss of an image at its own size and at coarser ones together, so that size does not change the style.

The network sees a patch of a fixed number of pixels. At twice the size that is half as much of the picture, and a loss
at that size alone lets whatever is larger drift away: strokes become finer as pictures grow. Here the
losses of the image at coarser sizes count as well. Called by `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from napari_styletransfer.images.resize import resize
from napari_styletransfer.images.resize_adjoint import ResizeAdjoint
from napari_styletransfer.losses.objective import Objective, Tiling, to_host
from napari_styletransfer.losses.terms import Evaluation


class MultiscaleObjective:
    """The weighted mean of objectives at several sizes, called as one of them is.

    Parameters
    ----------
    objectives
        From coarse to fine; the last is of the images' own size.
    weight
        Of each of the coarser ones; that of the last is 1.
    """

    def __init__(self, objectives: Sequence[Objective], weight: float) -> None:
        self._objectives = objectives
        self._adjoints = [ResizeAdjoint(finer.size, coarser.size) for coarser, finer in pairwise(objectives)]
        self._weight = weight
        self._total_weight = 1 + weight * (len(objectives) - 1)

    def set_tiles(self, tiling: Tiling, budget: int = 0) -> None:
        """Use other tiles from now on, and keep `budget` bytes of them between passes; the loss stays the same."""
        for objective in self._objectives:
            objective.set_tiles(tiling, budget)

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at `image`, (1, 3, H, W) float32 sRGB in or near [0, 1]; all numbers are means over the sizes."""
        if len(self._objectives) == 1:
            return self._objectives[0](image)
        found: list[dict[str, Tensor]] = []
        gradient = self._add_sizes(image, len(self._objectives) - 1, found).div_(self._total_weight)
        # All sizes have gone to the device before the first number is waited for.
        *coarser, own = (
            objective.to_losses(values) for objective, values in zip(self._objectives, to_host(found), strict=True)
        )
        losses, layers = (self._mean(one, others) for one, *others in zip(own, *reversed(coarser), strict=True))
        return Evaluation(losses, layers, gradient)

    def _add_sizes(self, image: Tensor, level: int, found: list[dict[str, Tensor]]) -> Tensor:
        """Evaluate at `image` and all coarser sizes; return its gradient with what those add to it.

        The coarser sizes come first, so that only one of their gradients is left while the image's own is made.
        """
        coarser = None
        if level > 0:
            coarser = self._add_sizes(resize(image, *self._objectives[level - 1].size), level - 1, found)
        evaluation = self._objectives[level].evaluate(image)
        if coarser is not None:
            weight = self._weight if level == len(self._objectives) - 1 else 1.0
            self._adjoints[level - 1].add(evaluation.gradient, coarser, weight)
        found.append(evaluation.values)
        return evaluation.gradient

    def _mean(self, own: dict[str, float], coarser: Sequence[dict[str, float]]) -> dict[str, float]:
        return {
            name: (value + self._weight * sum(values[name] for values in coarser)) / self._total_weight
            for name, value in own.items()
        }
