"""An image judged at its own size and at coarser ones together, so that size does not change the look.

The network sees a patch of a fixed number of pixels. At twice the size that is half as much of the picture, and a loss
at that size alone lets whatever is larger drift away: strokes become finer as pictures grow. Here a picture, brought to
each coarser size, is judged as one made at that size would be. Called by `targets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from napari_styletransfer.engine.enlarging import Enlarging
from napari_styletransfer.engine.objective import Cut, Evaluation, Objective
from napari_styletransfer.engine.pyramid import resized


class MultiscaleObjective:
    """The weighted mean of objectives at several sizes, with the face of one of them.

    Parameters
    ----------
    objectives
        From coarse to fine; the last is of the images' own size.
    weight
        Of each of the coarser ones; that of the last is 1.
    """

    def __init__(self, objectives: Sequence[Objective], weight: float) -> None:
        *self._coarser, self._own = objectives
        self._weight = weight
        self._enlarging: list[Enlarging] = []

    def set_blocks(self, cut: Cut) -> None:
        """Work in other blocks from now on; the loss stays the same."""
        for objective in (*self._coarser, self._own):
            objective.set_blocks(cut)

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at `image`, (1, 3, H, W) float32 sRGB in or near [0, 1]; all numbers are means over the sizes."""
        own = self._own(image)
        if not self._coarser:
            return own
        # Each size is made from the one above it.
        levels = [image]
        for objective in reversed(self._coarser):
            levels.append(resized(levels[-1], *objective.size))
        evaluations = [objective(level) for objective, level in zip(reversed(self._coarser), levels[1:], strict=True)]
        del levels
        gradients = [own.gradient, *(evaluation.gradient for evaluation in evaluations)]
        pairs = list(pairwise(gradients))
        if not self._enlarging:
            self._enlarging = [Enlarging(finer, coarser) for finer, coarser in pairs]
        # From the coarsest up, each gradient goes into that of the size above.
        for enlarging, (finer, coarser) in reversed(list(zip(self._enlarging, pairs, strict=True))):
            enlarging.add(finer, coarser, self._weight if finer is own.gradient else 1.0)
        total = 1 + self._weight * len(evaluations)
        return Evaluation(
            self._mean(own.losses, [evaluation.losses for evaluation in evaluations]),
            self._mean(own.layers, [evaluation.layers for evaluation in evaluations]),
            own.gradient.div_(total),
        )

    def _mean(self, own: dict[str, float], coarser: Sequence[dict[str, float]]) -> dict[str, float]:
        total = 1 + self._weight * len(coarser)
        return {
            name: (value + self._weight * sum(values[name] for values in coarser)) / total
            for name, value in own.items()
        }
