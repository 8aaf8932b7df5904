"""What a run works towards at a size: the objective, made from the styles' Gram matrices and the content there.

Called by `coarse_to_fine` once a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from napari_styletransfer.config import Color
from napari_styletransfer.engine.oom import TilingPolicy
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.images.resize import loss_sizes, resize
from napari_styletransfer.losses.multiscale import MultiscaleObjective
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.regions import region_masks
from napari_styletransfer.losses.structure import StructureLoss, coarse_size
from napari_styletransfer.losses.terms import Evaluation, StyleTarget
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import Prepared
from napari_styletransfer.tiling.tiled_network import TiledNetwork


@dataclass(frozen=True)
class ScaleObjective:
    """The loss of what is seen of an image at one scale, in tiles that fit in the memory.

    Attributes
    ----------
    objective
        The loss of what is seen.
    tiling
        How images are cut; finer from each time on that memory ran out.
    achromatic
        Whether gradients are averaged over the channels, as no picture has any colours.
    content, alpha
        What lies under the image where regions leave it free, and the share (1, 1, H, W) of the image that is seen;
        None without regions.
    """

    objective: MultiscaleObjective
    tiling: TilingPolicy
    achromatic: bool
    content: Tensor | None = None
    alpha: Tensor | None = None

    def __call__(self, image: Tensor) -> Evaluation:
        """Evaluate at an image (1, 3, H, W)."""
        shown = image
        if self.content is not None and self.alpha is not None:
            shown = self.content.lerp(image, self.alpha)

        def evaluate() -> Evaluation:
            self.objective.set_tiles(self.tiling.tiles, self.tiling.budget)
            return self.objective(shown)

        evaluation = self.tiling.retry_on_oom((image.shape[2], image.shape[3]), evaluate)
        if self.achromatic:
            average_channels_(evaluation.gradient)
        if self.alpha is not None:
            evaluation.gradient.mul_(self.alpha)
        return evaluation


class ObjectiveFactory:
    """The pictures of a run as its losses see them, measured at one size after another.

    Parameters
    ----------
    pictures
        Coloured as they enter the losses; dropped once the last scale is measured.
    shared
        The network, loaded before anything is measured, and what is known of the styles at any size; added to.
    tiling
        How styles and content are cut when they are measured.
    should_stop
        Asked before every tile; `Stopped` is raised when it says yes.
    """

    def __init__(
        self,
        pictures: RunInputs,
        prepared: Prepared,
        shared: Shared,
        tiling: TilingPolicy,
        should_stop: Callable[[], bool],
    ) -> None:
        self._pictures = pictures
        self._prepared = prepared
        self._config = prepared.plan.config
        self._device = prepared.plan.storage_device
        self._shared = shared
        # In other colours a style is recoloured to each run's own content: nothing to share.
        self._grams = shared.grams if self._config.color is Color.STYLE else {}
        self._tiling = tiling
        self._should_stop = should_stop
        self._objectives: dict[tuple[int, int], Objective] = {}

    def start(self, size: tuple[int, int]) -> Tensor:
        """Return the image to start from at a size, where the run keeps it."""
        return self._achromatic(self._pictures.start_at(*size, self._config).to(self._device))

    def refined(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what a coarser scale made, enlarged, with the detail of the start at that size."""
        detail = self._pictures.detail_at(*size, self._config)
        image = resize(coarse, *size)
        return self._achromatic(image if detail is None else image.add_(detail.to(self._device)).clamp_(0, 1))

    def _achromatic(self, image: Tensor) -> Tensor:
        """Take the colours off an image in place where no picture has any; gradients without any keep it so."""
        return average_channels_(image) if self._pictures.achromatic else image

    def objective(self, size: tuple[int, int]) -> ScaleObjective:
        """Return the objective at a size, in which coarser ones count too; each is measured once in a run."""
        sizes = loss_sizes(size, self._prepared.coarse_sizes)
        self._objectives = {each: known for each, known in self._objectives.items() if each in sizes}

        def measure() -> list[Objective]:
            for each in sizes:
                if each not in self._objectives:
                    self._objectives[each] = self._measure(each)
            return [self._objectives[each] for each in sizes]

        objective = MultiscaleObjective(self._tiling.retry_on_oom(size, measure), self._config.coarse_weight)
        content = alpha = None
        if self._pictures.regions is not None:
            content, alpha = self._pictures.content_at(*size), self._pictures.regions.alpha(*size).to(self._device)
            content = None if content is None else content.to(self._device)
        achromatic = self._pictures.achromatic
        if size == self._prepared.plan.sizes[-1]:
            self._pictures = replace(self._pictures, content=None, styles=(), init=None)
            self._objectives = {}
        return ScaleObjective(objective, self._tiling, achromatic, content, alpha)

    def _measure(self, size: tuple[int, int]) -> Objective:
        """Measure content and styles at a size."""
        weights = self._prepared.loss_weights
        content = self._pictures.content_at(*size) if weights.content_layers else None
        structure = None
        if weights.structure_weight:
            target = self._pictures.target_luminance(coarse_size(size), self._config)
            structure = StructureLoss(target.to(self._device), size)
        return Objective(
            self._shared.loaded_network,
            self._prepared.receptive_fields,
            weights,
            size,
            self._tiling.tiles(size),
            styles=self._style_targets(size),
            content=None if content is None else content.to(self._device),
            structure=structure,
            keep_content=self._prepared.plan.keeps_content,
            should_stop=self._should_stop,
        )

    def _style_targets(self, size: tuple[int, int]) -> list[StyleTarget]:
        """Give every style its weight, and its region where there are regions."""
        region_map = self._pictures.regions
        blend = {number: weight for number, weight in enumerate(self._pictures.weights) if weight}
        if region_map is None:
            grams = self._style_grams(size, blend)
            return [StyleTarget(grams[number], weight) for number, weight in blend.items()]
        groups = {style: blend if style is None else {style: 1.0} for style in region_map.labels_by_style()}
        grams = self._style_grams(size, {number for group in groups.values() for number in group})
        targets: list[StyleTarget] = []
        for style, labels in region_map.labels_by_style().items():
            mask = region_map.mask(labels, *size)
            region = region_masks(
                mask, self._prepared.receptive_fields, self._shared.loaded_network.layer_sizes(*size), self._device
            )
            # By area, so that content and style balance in a region as they would in the whole image.
            share = float(mask.mean())
            targets.extend(
                StyleTarget(grams[number], weight * share, region) for number, weight in groups[style].items()
            )
        return targets

    def _style_grams(self, size: tuple[int, int], numbers: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """Return the Gram matrices of some styles, fitted to content of a size; only what is not known is measured."""
        known = self._grams.setdefault(size, {})
        for number in sorted(numbers):
            if number in known:
                continue
            alone = replace(self._pictures, styles=(self._pictures.styles[number],))
            (picture,) = alone.styles_at(*size, self._config, self._prepared.min_side)
            shape = (picture.shape[2], picture.shape[3])
            tiles = self._tiling.tiles(shape)
            tiled = TiledNetwork(
                self._shared.loaded_network, self._prepared.receptive_fields, shape, tiles, self._should_stop
            )
            known[number] = tiled.gram_means(picture.to(self._device), self._prepared.loss_weights.style_layers)
        return known


def average_channels_(image: Tensor) -> Tensor:
    """Give all channels (1, 3, H, W) their mean, in place."""
    return image.copy_(image.mean(1, keepdim=True))
