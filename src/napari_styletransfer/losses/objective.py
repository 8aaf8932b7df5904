"""From an image to its loss terms and their gradient, whole or block by block, through one interface.

Gram matrices are sums over positions, so they can be gathered block by block; once they are complete, the
gradient at every feature is local again. Whole: one forward pass, one backward pass. In blocks: a first
pass gathers, a second goes backward in each block, after forward once more where nothing could be kept,
and adds up the gradients where blocks overlap. Both give the same gradient to rounding. Called by `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_styletransfer.devices.device import malloc_trim
from napari_styletransfer.images.chunks import chunks
from napari_styletransfer.losses.content_features import CachedContentFeatures, RecomputedContentFeatures
from napari_styletransfer.losses.structure import StructureLoss
from napari_styletransfer.losses.terms import DeferredEvaluation, Evaluation, LossWeights, Region, StyleTarget
from napari_styletransfer.networks.architectures import RGB, ReceptiveField
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import CoreSlices, TiledNetwork
from napari_styletransfer.tiling.tiles import Tile

RANGE_WEIGHT = 3.0
"""Factor of the out-of-range term, in units of a style loss of one hundred percent."""

_AT_ONCE = 1 << 17
"""Pixels that the terms on the pixels are taken of at once."""


Tiling = Callable[[tuple[int, int]], Sequence[Tile]]
"""Returns the blocks of an image (H, W)."""

GramKey = tuple[Region | None, str]
"""A region and a layer: what a Gram matrix is of."""


class Objective:
    """The loss of images of one size against fixed targets.

    Parameters
    ----------
    network
        Visits every layer that `terms` names, `rgb` excepted.
    reaches
        Reach of those layers.
    size
        (H, W) of the images.
    blocks
        One block for the whole image, or several.
    structure
        What holds the image's brightness, seen coarsely; None: nothing.
    keep_content
        Whether the content's feature maps are kept, or made again in every evaluation for less memory.
    should_stop
        Asked before every block; `Stopped` is raised when it says yes.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        reaches: dict[str, ReceptiveField],
        terms: LossWeights,
        size: tuple[int, int],
        blocks: Sequence[Tile],
        *,
        styles: Sequence[StyleTarget] = (),
        content: Tensor | None = None,
        structure: StructureLoss | None = None,
        keep_content: bool = True,
        should_stop: Callable[[], bool] = bool,
    ) -> None:
        self.size = size
        self._plenty = keep_content
        self._terms = terms
        self._styles = styles
        self._structure = structure
        self._regions = list(dict.fromkeys(style.region for style in styles))
        self._tiled = TiledNetwork(network, reaches, size, blocks, should_stop)
        self._style_names = [name for name in terms.style_layers if terms.style_weight and styles]
        self._content: CachedContentFeatures | RecomputedContentFeatures | None = None
        if content is not None and terms.content_weight and terms.content_layers:
            if keep_content:
                self._content = CachedContentFeatures(self._tiled, content, terms.content_layers)
            else:
                self._content = RecomputedContentFeatures(self._tiled, content, terms.content_layers, should_stop)
        found = {} if self._content is None else self._content.squares
        self._content_squares = {name: square for name, (square, _) in found.items()}
        self._content_factors = {
            name: functional.content_factor(terms.normalization, square, count)
            for name, (square, count) in found.items()
        }
        self._style_factors = [
            {name: functional.style_factor(terms.normalization, style.grams[name]) for name in self._style_names}
            for style in styles
        ]
        self._mask_sums = {
            (region, name): max(float(mask.square().sum()), 1.0)
            for region in self._regions
            if region is not None
            for name, mask in region.masks.items()
        }
        self._range_weight = RANGE_WEIGHT * self._loss_scale()

    def set_tiles(self, cut: Tiling, budget: int = 0) -> None:
        """Work in other blocks from now on, and keep so much of them between passes; the loss stays the same."""
        self._tiled.blocks, self._tiled.budget = cut(self.size), budget

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at `image`, (1, 3, H, W) float32 sRGB in or near [0, 1].

        What counts is the image as it is shown, clamped to [0, 1]; a term of their own pulls back values beyond.
        """
        measured = self.measure(image)
        losses, layers = self.to_losses(measured.names, measured.values.tolist())
        return Evaluation(losses, layers, measured.gradient)

    def measure(self, image: Tensor) -> DeferredEvaluation:
        """Evaluate without waiting for the device; `to_losses` makes losses of the values."""
        grams: dict[GramKey, Tensor] = {}
        content: dict[str, Tensor] = {}

        def visit(place: CoreSlices, name: str, core: Tensor) -> None:
            for region in self._regions if name in self._style_names else ():
                total = functional.gram_sum(core, self._mask(region, place, name))
                whose = (region, name)
                grams[whose] = grams[whose].add_(total) if whose in grams else total

        def seed(place: CoreSlices, name: str, core: Tensor, gradient: Tensor) -> None:
            for region in self._regions if name in self._style_names else ():
                functional.add_gram_grad(gradient, core, gram_grads[region, name], self._mask(region, place, name))
            if self._content is not None and name in self._content_factors:
                # The error too is local, so that it waits for the second pass: targets are wanted once.
                miss = core - self._content.at(place, name)
                error = functional.square_sum(miss)
                content[name] = content[name] + error if name in content else error
                factor = 2 * self._terms.content_weight * self._content_share(name) * self._content_factors[name]
                gradient.add_(miss, alpha=factor)

        # The seeds need the complete Gram matrices, so the gram_grads are made between the two passes.
        gram_grads: dict[GramKey, Tensor] = {}
        for region in self._regions if RGB in self._style_names else ():
            total = torch.zeros(4, 4, dtype=image.dtype, device=image.device)
            for rows in chunks(image.shape[2], image.shape[3], _AT_ONCE):
                mask = None if region is None else region.masks[RGB][rows]
                total += functional.pixel_gram_sum(image[:, :, rows].clamp(0, 1), mask)
            grams[region, RGB] = total.to(self._tiled.network.device)

        def between() -> None:
            gram_grads.update(self._gram_grads(grams))
            self._trim()

        try:
            gradient = self._tiled.forward_backward(image, visit, between, seed)
        finally:
            if self._content is not None:
                self._content.release()
        self._trim()
        return self._combined(image, gradient, grams, content, gram_grads)

    def _combined(
        self,
        image: Tensor,
        gradient: Tensor,
        grams: dict[GramKey, Tensor],
        content: dict[str, Tensor],
        gram_grads: dict[GramKey, Tensor],
    ) -> DeferredEvaluation:
        """Add the terms that live on the pixels, and put all values together."""
        values: dict[str, Tensor] = {}
        weight = self._terms.structure_weight
        if self._structure is not None:
            value, averages = self._structure.measure(image)
            values["structure"] = value * weight
        for rows in chunks(image.shape[2], image.shape[3], _AT_ONCE):
            shown = image[:, :, rows].clamp(0, 1)
            share = torch.zeros_like(shown)
            for region in self._regions if RGB in self._style_names else ():
                mask = None if region is None else region.masks[RGB][rows]
                functional.add_pixel_gram_grad(share, shown, gram_grads[region, RGB].to(image.device), mask)
            if self._structure is not None:
                self._structure.add_gradient(share, averages * weight, rows)
            # Where the image is clamped, nothing so far depends on it.
            gradient[:, :, rows].add_(share).mul_(image[:, :, rows] == shown)
        for name in self._style_names:
            misses = []
            for style, factors in zip(self._styles, self._style_factors, strict=True):
                error = (self._mean(grams, style.region, name) - style.grams[name]).square().sum()
                misses.append(style.weight * factors[name] * error)
            values[f"style/{name}"] = torch.stack(misses).sum()
        for name, factor in self._content_factors.items():
            values[f"content/{name}"] = content[name] * factor
        values["range"] = functional.out_of_range(image, gradient, self._range_weight) * self._range_weight
        if self._terms.tv_weight:
            values["tv"] = functional.total_variation(image, gradient, self._terms.tv_weight) * self._terms.tv_weight
        device = self._tiled.network.device
        return DeferredEvaluation(tuple(values), torch.stack([value.to(device) for value in values.values()]), gradient)

    def to_losses(self, names: Sequence[str], values: Sequence[float]) -> tuple[dict[str, float], dict[str, float]]:
        """Return weighted terms and their total, and the unweighted terms by layer, as an `Evaluation` has them."""
        found = dict(zip(names, values, strict=True))
        layers = {name: value for name, value in found.items() if "/" in name}
        terms = {}
        if self._content_factors:
            terms["content"] = self._terms.content_weight * sum(
                self._content_share(name) * layers[f"content/{name}"] for name in self._content_factors
            )
        if self._style_names:
            terms["style"] = self._terms.style_weight * sum(
                self._style_share(name) * layers[f"style/{name}"] for name in self._style_names
            )
        terms.update((name, value) for name, value in found.items() if "/" not in name)
        return {**terms, "total": sum(terms.values())}, layers

    def _gram_grads(self, grams: dict[GramKey, Tensor]) -> dict[GramKey, Tensor]:
        """Return for each layer the matrix that turns its features into the gradient of the style loss.

        d/dF of k ‖FFᵀ/M − A‖² is 4 k/M (FFᵀ/M − A) F (Gatys et al. 2016, equation 6).
        """
        gram_grads = {}
        for region, name in grams:
            mean = self._mean(grams, region, name)
            grad = torch.zeros_like(mean)
            for style, factors in zip(self._styles, self._style_factors, strict=True):
                if style.region is region:
                    grad.add_(mean - style.grams[name], alpha=style.weight * factors[name])
            factor = 4 * self._terms.style_weight * self._style_share(name) / self._positions(region, name)
            gram_grads[region, name] = grad * factor
        return gram_grads

    def _trim(self) -> None:
        """Where memory is short, keep none of what a pass had at work: the next one works on maps of other sizes."""
        if not self._plenty:
            malloc_trim(self._tiled.network.device)

    def _mean(self, grams: dict[GramKey, Tensor], region: Region | None, name: str) -> Tensor:
        return grams[region, name] / self._positions(region, name)

    def _mask(self, region: Region | None, place: CoreSlices, name: str) -> Tensor | None:
        if region is None:
            return None
        rows, columns = place.target
        return region.masks[name][rows, columns].to(self._tiled.network.device)

    def _loss_scale(self) -> float:
        """Return the loss of an image without any of the targets' features: the scale of all terms."""
        style = sum(
            style.weight * factors[name] * self._style_share(name) * float(style.grams[name].square().sum())
            for style, factors in zip(self._styles, self._style_factors, strict=True)
            for name in self._style_names
        )
        content = sum(
            factor * self._content_share(name) * self._content_squares[name]
            for name, factor in self._content_factors.items()
        )
        return self._terms.style_weight * style + self._terms.content_weight * content

    def _positions(self, region: Region | None, name: str) -> float:
        return self._tiled.positions(name) if region is None else self._mask_sums[region, name]

    def _style_share(self, name: str) -> float:
        return self._terms.share(self._terms.style_layers, name)

    def _content_share(self, name: str) -> float:
        return self._terms.share(self._terms.content_layers, name)
