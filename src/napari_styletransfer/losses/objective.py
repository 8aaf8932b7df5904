"""From an image to its loss terms and their gradient, whole or tile by tile, through one interface.

Gram matrices are sums over positions, so they can be accumulated tile by tile; once they are complete, the
gradient at every feature is local again. Whole: one forward pass, one backward pass. In tiles: a first
pass sums, a second goes backward in each tile, after forward once more where nothing could be kept,
and adds up the gradients where tiles overlap. Both give the same gradient to rounding. Called by `objective_factory`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from napari_styletransfer.devices.device import malloc_trim
from napari_styletransfer.images.chunks import chunks
from napari_styletransfer.losses.content_features import ContentFeatures
from napari_styletransfer.losses.content_loss import ContentLoss
from napari_styletransfer.losses.structure import StructureLoss
from napari_styletransfer.losses.style_loss import GramKey, StyleLoss
from napari_styletransfer.losses.terms import DeferredEvaluation, Evaluation, LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, ReceptiveField
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import CoreSlices, TiledNetwork
from napari_styletransfer.tiling.tiles import Tile

RANGE_WEIGHT = 3.0
"""Factor of the out-of-range term, in units of a style loss of one hundred percent."""

_CHUNK = 1 << 17
"""Pixels that the terms on the pixels are taken of at once."""

Tiling = Callable[[tuple[int, int]], Sequence[Tile]]
"""Returns the tiles of an image (H, W)."""

Key = TypeVar("Key", bound=Hashable)


class Objective:
    """The loss of images of one size against fixed targets.

    Parameters
    ----------
    network
        Has every layer that `weights` names, `rgb` excepted.
    receptive_fields
        Of those layers.
    size
        (H, W) of the images.
    tiles
        One for the whole image, or several.
    structure
        What holds the averaged luminance; None: nothing.
    keep_content
        Whether the content's feature maps are kept, or computed again in every evaluation for less memory.
    should_stop
        Asked before every tile; `Stopped` is raised when it says yes.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        receptive_fields: dict[str, ReceptiveField],
        weights: LossWeights,
        size: tuple[int, int],
        tiles: Sequence[Tile],
        *,
        styles: Sequence[StyleTarget] = (),
        content: Tensor | None = None,
        structure: StructureLoss | None = None,
        keep_content: bool = True,
        should_stop: Callable[[], bool] = bool,
    ) -> None:
        self.size = size
        self.structure = structure
        self.weights = weights
        self.tiled = TiledNetwork(network, receptive_fields, size, tiles, should_stop)
        self.style = StyleLoss(weights, styles, self.tiled.positions)
        features = None
        if content is not None and weights.content_weight and weights.content_layers:
            features = ContentFeatures(self.tiled, content, weights.content_layers, keep=keep_content)
        self.content = ContentLoss(weights, features)
        # The loss of an image without any of the targets' features is the scale of all terms.
        self.range_weight = RANGE_WEIGHT * (self.style.at_zero + self.content.at_zero)
        self._short_of_memory = not keep_content

    def set_tiles(self, tiling: Tiling, budget: int = 0) -> None:
        """Use other tiles from now on, and keep `budget` bytes of them between passes; the loss stays the same."""
        self.tiled.tiles, self.tiled.budget = tiling(self.size), budget

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at `image`, (1, 3, H, W) float32 sRGB in or near [0, 1].

        What counts is the image as it is shown, clamped to [0, 1]; a term of their own pulls back values beyond.
        """
        deferred = self.evaluate(image)
        (values,) = to_host([deferred.values])
        return Evaluation(*self.to_losses(values), deferred.gradient)

    def evaluate(self, image: Tensor) -> DeferredEvaluation:
        """Evaluate without waiting for the device; `to_losses` makes losses of the values."""
        return EvaluationPass(self, image).run()

    def to_losses(self, values: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """Return weighted terms and their total, and the unweighted terms by layer, as an `Evaluation` has them."""
        layers = {name: value for name, value in values.items() if "/" in name}
        terms = {}
        for kind, loss in (("content", self.content), ("style", self.style)):
            if loss.layers:
                terms[kind] = loss.total({name: layers[f"{kind}/{name}"] for name in loss.layers})
        terms.update((name, value) for name, value in values.items() if "/" not in name)
        return {**terms, "total": sum(terms.values())}, layers

    def trim(self) -> None:
        """Where memory is short, give back what a pass has freed: the next one works on maps of other sizes."""
        if self._short_of_memory:
            malloc_trim(self.tiled.network.device)


class EvaluationPass:
    """One evaluation of an objective at one image; what it accumulates goes with it."""

    def __init__(self, objective: Objective, image: Tensor) -> None:
        self._objective = objective
        self._image = image
        self._gram_sums: dict[GramKey, Tensor] = {}
        self._gram_grads: dict[GramKey, Tensor] = {}
        self._content_errors: dict[str, Tensor] = {}

    def run(self) -> DeferredEvaluation:
        """Go forward, then backward with the complete Gram matrices, and add the terms on the pixels."""
        objective, tiled = self._objective, self._objective.tiled
        self._sum_pixels()
        with tiled.workspace_for_pass():
            recordings = tiled.forward(self._image, self.on_features, record=True)
            self._gram_grads = objective.style.gram_grads(self._gram_sums)
            objective.trim()
            try:
                gradient = tiled.backward(self._image, recordings, self.add_gradient)
            finally:
                objective.content.release()
        objective.trim()
        values = self._add_pixel_terms(gradient)
        values |= {f"style/{name}": value for name, value in objective.style.layer_losses(self._gram_sums).items()}
        values |= {
            f"content/{name}": value for name, value in objective.content.layer_losses(self._content_errors).items()
        }
        return DeferredEvaluation({name: value.to(tiled.network.device) for name, value in values.items()}, gradient)

    def on_features(self, core: CoreSlices, layer: str, features: Tensor) -> None:
        """Add a part of a feature map, (1, C, h, w), to the Gram matrices."""
        for key, mask in self._objective.style.masks(layer, core.target, features.device):
            _accumulate(self._gram_sums, key, functional.gram_sum(features, mask))

    def add_gradient(self, core: CoreSlices, layer: str, features: Tensor, gradient: Tensor) -> None:
        """Add the losses' own gradient at a part of a feature map in place."""
        for key, mask in self._objective.style.masks(layer, core.target, features.device):
            functional.add_gram_grad(gradient, features, self._gram_grads[key], mask)
        # The error of the content is local: it waits for this pass, so that its features are needed once.
        error = self._objective.content.add_gradient(core, layer, features, gradient)
        if error is not None:
            _accumulate(self._content_errors, layer, error)

    def _sum_pixels(self) -> None:
        """Take the layer `rgb`, which is the pixels themselves, into the Gram matrices."""
        image, device = self._image, self._objective.tiled.network.device
        if RGB not in self._objective.style.layers:
            return
        for rows in chunks(image.shape[2], image.shape[3], _CHUNK):
            shown = image[:, :, rows].clamp(0, 1)
            for key, mask in self._objective.style.masks(RGB, (rows, slice(None)), image.device):
                _accumulate(self._gram_sums, key, functional.pixel_gram_sum(shown, mask).to(device))

    def _add_pixel_terms(self, gradient: Tensor) -> dict[str, Tensor]:
        """Add the gradient of what is measured on the pixels in place; return the weighted losses but for `rgb`."""
        objective, image = self._objective, self._image
        values: dict[str, Tensor] = {}
        if objective.structure is not None:
            value, averages_grad = objective.structure.measure(image)
            values["structure"] = value * objective.weights.structure_weight
            averages_grad = averages_grad * objective.weights.structure_weight
        for rows in chunks(image.shape[2], image.shape[3], _CHUNK):
            shown = image[:, :, rows].clamp(0, 1)
            part = torch.zeros_like(shown)
            for key, mask in objective.style.masks(RGB, (rows, slice(None)), image.device):
                functional.add_pixel_gram_grad(part, shown, self._gram_grads[key].to(image.device), mask)
            if objective.structure is not None:
                objective.structure.add_gradient(part, averages_grad, rows)
            # Where the image is clamped, nothing so far depends on it.
            gradient[:, :, rows].add_(part).mul_(image[:, :, rows] == shown)
        weight = objective.range_weight
        values["range"] = functional.out_of_range(image, gradient, weight) * weight
        if weight := objective.weights.tv_weight:
            values["tv"] = functional.total_variation(image, gradient, weight) * weight
        return values


def _accumulate(sums: dict[Key, Tensor], key: Key, value: Tensor) -> None:
    sums[key] = sums[key].add_(value) if key in sums else value


def to_host(evaluations: Sequence[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Bring the values of some evaluations to the host, all at once."""
    numbers = iter(torch.stack([value for values in evaluations for value in values.values()]).tolist())
    return [{name: next(numbers) for name in values} for values in evaluations]
