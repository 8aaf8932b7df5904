"""What a loss is made of, what it works towards, and what an evaluation of it gives: the records of `objective`.

Made by `planner`, `regions` and `objective_factory`, and consumed by whoever evaluates.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_styletransfer.config import LayerWeights, Normalization


@dataclass(frozen=True)
class LossWeights:
    """What the loss is made of; layer weights need not sum to one."""

    content_layers: LayerWeights
    style_layers: LayerWeights
    content_weight: float
    style_weight: float
    tv_weight: float
    normalization: Normalization
    structure_weight: float = 0.0

    def share(self, layers: LayerWeights, name: str) -> float:
        """Weight of a layer: averaged over layers, or summed as the notebook does."""
        if self.normalization is Normalization.NOTEBOOK:
            return layers[name]
        return layers[name] / sum(layers.values())


@dataclass(frozen=True, eq=False)
class Region:
    """Where a style counts: a mask (h, w) in [0, 1] for every style layer, `rgb` included."""

    masks: dict[str, Tensor]


@dataclass(frozen=True)
class StyleTarget:
    """Gram matrices of one style picture, means over positions, by layer.

    `weight` is its share of the style loss; `region` is where it counts, None for everywhere. The Gram
    matrices of a region are those of the masked features, over the sum of the squared mask (Gatys et al.
    2017, arXiv 1611.07865, section 4.1).
    """

    grams: dict[str, Tensor]
    weight: float
    region: Region | None = None


@dataclass(frozen=True)
class Evaluation:
    """Loss terms and gradient at one image.

    Attributes
    ----------
    losses
        Weighted terms by name, and "total".
    layers
        Unweighted terms by layer.
    gradient
        (1, 3, H, W) float32, on the image's device.
    """

    losses: dict[str, float]
    layers: dict[str, float]
    gradient: Tensor


@dataclass(frozen=True)
class DeferredEvaluation:
    """An evaluation whose terms have not been brought to the host yet.

    Attributes
    ----------
    values
        Scalars on the network's device: unweighted terms by layer, such as "style/relu1_1", and those on the pixels.
    gradient
        As in `Evaluation`.
    """

    values: dict[str, Tensor]
    gradient: Tensor
