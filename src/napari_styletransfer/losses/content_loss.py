"""The content loss: squared differences of feature maps (Gatys et al. 2016, equations 1 and 2). Called by `objective`.

L = w Σ_layers share k Σ (F − P)²,   dL/dF = 2 w share k (F − P)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_styletransfer.losses.content_features import ContentFeatures
from napari_styletransfer.losses.terms import LossWeights
from napari_styletransfer.nn import functional
from napari_styletransfer.tiling.tiled_network import CoreSlices


class ContentLoss:
    """Feature maps P that those of an image are held to.

    Parameters
    ----------
    weights
        Of the loss and its layers.
    features
        Of the content; None: there is no loss.
    """

    def __init__(self, weights: LossWeights, features: ContentFeatures | None) -> None:
        self._features = features
        self._weight = weights.content_weight
        self._squares = {} if features is None else {name: square for name, (square, _) in features.squares.items()}
        self._shares = {name: weights.share(weights.content_layers, name) for name in self._squares}
        self._factors = {
            name: functional.content_factor(weights.normalization, square, count)
            for name, (square, count) in ({} if features is None else features.squares).items()
        }

    @property
    def layers(self) -> list[str]:
        """Names of the layers that count."""
        return list(self._factors)

    def add_gradient(self, core: CoreSlices, layer: str, features: Tensor, gradient: Tensor) -> Tensor | None:
        """Add the gradient at a part of a feature map in place; return Σ (F − P)² there, None without a loss."""
        if self._features is None or layer not in self._factors:
            return None
        difference = features - self._features.at(core, layer)
        gradient.add_(difference, alpha=2 * self._weight * self._shares[layer] * self._factors[layer])
        return functional.square_sum(difference)

    def layer_losses(self, square_errors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted loss of each layer, k Σ (F − P)²."""
        return {name: square_errors[name] * factor for name, factor in self._factors.items()}

    def total(self, layer_losses: Mapping[str, float]) -> float:
        """Return the weighted loss from those of its layers."""
        return self._weight * sum(self._shares[name] * layer_losses[name] for name in self._factors)

    @property
    def at_zero(self) -> float:
        """The loss of an image without any features."""
        return self._weight * sum(
            factor * self._shares[name] * self._squares[name] for name, factor in self._factors.items()
        )

    def release(self) -> None:
        """Drop what can be computed again."""
        if self._features is not None:
            self._features.release()
