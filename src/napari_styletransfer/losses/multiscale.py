"""An image judged at its own size and at coarser ones together, so that size does not change the look.

The network sees a patch of a fixed number of pixels. At twice the size that is half as much of the picture, and a loss
at that size alone lets whatever is larger drift away: strokes become finer as pictures grow. Here a picture, brought to
each coarser size, is judged as one made at that size would be. Called by `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from napari_styletransfer.images.resize import resize
from napari_styletransfer.images.resize_adjoint import Upsampling
from napari_styletransfer.losses.objective import Objective, Tiling
from napari_styletransfer.losses.terms import Evaluation


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
        self._enlarging: list[Upsampling] = []

    def set_tiles(self, cut: Tiling, budget: int = 0) -> None:
        """Work in other blocks from now on, and keep so much of them between passes; the loss stays the same."""
        for objective in (*self._coarser, self._own):
            objective.set_tiles(cut, budget)

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at `image`, (1, 3, H, W) float32 sRGB in or near [0, 1]; all numbers are means over the sizes."""
        if not self._coarser:
            return self._own(image)
        # The coarser sizes first: while the image's own gradient is made, no more than one of theirs is left.
        gradients: list[Tensor] = []
        names: list[tuple[str, ...]] = []
        values: list[Tensor] = []

        def measured(objective: Objective, level: Tensor) -> Tensor:
            found = objective.measure(level)
            names.append(found.names)
            values.append(found.values)
            return found.gradient

        level = image
        for objective in reversed(self._coarser):
            level = resize(level, *objective.size)  # from the size above
            gradients.append(measured(objective, level))
        del level
        if not self._enlarging:
            self._enlarging = [Upsampling(finer, coarser) for finer, coarser in pairwise([image, *gradients])]
        # From the coarsest up, each gradient goes into that of the size above.
        for enlarging in reversed(self._enlarging[1:]):
            enlarging.add(gradients[-2], gradients[-1], 1.0)
            del gradients[-1]
        gradient = measured(self._own, image)
        self._enlarging[0].add(gradient, gradients.pop(), self._weight)
        gradient.div_(1 + self._weight * len(self._coarser))
        # All sizes have gone to the device before the first number is waited for.
        numbers = torch.stack(values).tolist()
        sizes = (*reversed(self._coarser), self._own)
        *coarser, own = (objective.to_losses(*found) for objective, *found in zip(sizes, names, numbers, strict=True))
        losses, layers = (self._mean(one, others) for one, *others in zip(own, *coarser, strict=True))
        return Evaluation(losses, layers, gradient)

    def _mean(self, own: dict[str, float], coarser: Sequence[dict[str, float]]) -> dict[str, float]:
        total = 1 + self._weight * len(coarser)
        return {
            name: (value + self._weight * sum(values[name] for values in coarser)) / total
            for name, value in own.items()
        }
