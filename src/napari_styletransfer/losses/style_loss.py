"""The style loss: squared differences of Gram matrices, by layer, style and region.

    L = w Σ_layers share Σ_styles weight k ‖G − A‖²,   G = F Fᵀ / M

with F the features (C, positions), M their number or the sum of the squared mask, A the Gram matrix of the style, and k
the factor of the normalisation (Gatys et al. 2016, equations 4 and 5; regions: Gatys et al. 2017, section 4.1). Holds
the targets alone; the sums F Fᵀ of one evaluation are those of its `EvaluationPass`. Called by `objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from napari_styletransfer.losses.terms import LossWeights, Region, StyleTarget
from napari_styletransfer.nn import functional

GramKey = tuple[Region | None, str]
"""A region and a layer: what a Gram matrix is of."""


class StyleLoss:
    """Gram matrices that an image is held to.

    Parameters
    ----------
    weights
        Of the loss and its layers.
    styles
        Gram matrices of the styles; without any, or with a weight of 0, there is no loss.
    positions
        Returns the number of positions of a layer.
    """

    def __init__(self, weights: LossWeights, styles: Sequence[StyleTarget], positions: Callable[[str], int]) -> None:
        self._weight = weights.style_weight
        self._styles = styles if self._weight else ()
        self._shares = {name: weights.share(weights.style_layers, name) for name in weights.style_layers}
        self.layers = list(self._shares) if self._styles else []
        self._regions = list(dict.fromkeys(style.region for style in self._styles))
        self._factors = [
            {name: functional.style_factor(weights.normalization, style.grams[name]) for name in self.layers}
            for style in self._styles
        ]
        self._positions: dict[GramKey, float] = {
            (region, name): positions(name) if region is None else max(float(region.masks[name].square().sum()), 1.0)
            for region in self._regions
            for name in self.layers
        }

    def masks(
        self, layer: str, where: tuple[slice, slice], device: torch.device
    ) -> Iterator[tuple[GramKey, Tensor | None]]:
        """Yield each Gram matrix that a part of a layer counts in, with the mask (h, w) there; None for no mask."""
        for region in self._regions if layer in self.layers else ():
            yield (region, layer), None if region is None else region.masks[layer][where].to(device)

    def gram_grads(self, gram_sums: Mapping[GramKey, Tensor]) -> dict[GramKey, Tensor]:
        """Return for each layer and region the matrix that turns features into the gradient of the loss.

        d/dF of k ‖FFᵀ/M − A‖² is 4 k/M (FFᵀ/M − A) F (Gatys et al. 2016, equation 6).
        """
        grads = {}
        for (region, name), total in gram_sums.items():
            gram = total / self._positions[region, name]
            grad = torch.zeros_like(gram)
            for style, factors in zip(self._styles, self._factors, strict=True):
                if style.region is region:
                    grad.add_(gram - style.grams[name], alpha=style.weight * factors[name])
            grads[region, name] = grad * (4 * self._weight * self._shares[name] / self._positions[region, name])
        return grads

    def layer_losses(self, gram_sums: Mapping[GramKey, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted loss of each layer, Σ_styles weight k ‖G − A‖²."""
        losses = {}
        for name in self.layers:
            errors = []
            for style, factors in zip(self._styles, self._factors, strict=True):
                gram = gram_sums[style.region, name] / self._positions[style.region, name]
                errors.append(style.weight * factors[name] * (gram - style.grams[name]).square().sum())
            losses[name] = torch.stack(errors).sum()
        return losses

    def total(self, layer_losses: Mapping[str, float]) -> float:
        """Return the weighted loss from those of its layers."""
        return self._weight * sum(self._shares[name] * layer_losses[name] for name in self.layers)

    @property
    def at_zero(self) -> float:
        """The loss of an image without any features."""
        return self._weight * sum(
            style.weight * factors[name] * self._shares[name] * float(style.grams[name].square().sum())
            for style, factors in zip(self._styles, self._factors, strict=True)
            for name in self.layers
        )
