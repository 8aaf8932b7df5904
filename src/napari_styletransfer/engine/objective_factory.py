"""What a run works towards at a size: the objective, made from the styles' Gram matrices and the content there.

Called by `engine.run` once a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_styletransfer.config import Color
from napari_styletransfer.engine.oom import TilingPolicy
from napari_styletransfer.images.resize import loss_sizes, resize
from napari_styletransfer.losses.multiscale import MultiscaleObjective
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.regions import region_masks
from napari_styletransfer.losses.structure import StructureLoss, coarse_size
from napari_styletransfer.losses.terms import StyleTarget
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import Prepared
from napari_styletransfer.tiling.tiled_network import TiledNetwork

Grams = dict[tuple[int, int], dict[int, dict[str, Tensor]]]
"""Gram matrices of the styles: by the size of the content they are fitted to, the style's number, and layer."""


@dataclass(frozen=True)
class AlphaBlend:
    """What lies under the stylised image where regions leave it free, and the share of the image that is seen."""

    below: Tensor
    share: Tensor

    def blend(self, image: Tensor) -> Tensor:
        """Return what is seen of an image."""
        return torch.lerp(self.below, image, self.share)


class ObjectiveFactory:
    """The pictures of a run as its losses see them, measured at one size after another.

    Parameters
    ----------
    pictures
        Coloured as they enter the losses.
    grams
        What is known of the styles at any size; added to.
    tiling
        How styles and content are cut when they are measured.
    should_stop
        Asked before every block; `Stopped` is raised when it says yes.
    """

    def __init__(
        self,
        pictures: RunInputs,
        prepared: Prepared,
        network: FrozenNetwork,
        grams: Grams,
        tiling: TilingPolicy,
        should_stop: Callable[[], bool],
    ) -> None:
        self._pictures = pictures
        self._prepared = prepared
        self._config = prepared.plan.config
        self._device = prepared.plan.storage_device
        self._network = network
        # In other colours a style is recoloured to each run's own content: nothing to share.
        self._grams = grams if self._config.color is Color.STYLE else {}
        self._tiling = tiling
        self._should_stop = should_stop
        self._objectives: dict[tuple[int, int], Objective] = {}

    def start(self, size: tuple[int, int]) -> Tensor:
        """Return the image to start from at a size, where the run keeps it."""
        return self._pictures.start_at(*size, self._config).to(self._device)

    def refined(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """Return what a coarser scale made, enlarged, with the detail of the start at that size."""
        detail = self._pictures.detail_at(*size, self._config)
        image = resize(coarse, *size)
        return image if detail is None else image.add_(detail.to(self._device)).clamp_(0, 1)

    def objective(self, size: tuple[int, int]) -> MultiscaleObjective:
        """Return the objective at a size, in which coarser ones count too; each is measured once in a run."""
        sizes = loss_sizes(size, self._prepared.judged)
        self._objectives = {each: known for each, known in self._objectives.items() if each in sizes}
        for each in sizes:
            if each not in self._objectives:
                self._objectives[each] = self._measure(each)
        return MultiscaleObjective([self._objectives[each] for each in sizes], self._config.coarse_weight)

    def _measure(self, size: tuple[int, int]) -> Objective:
        """Measure content and styles at a size."""
        terms = self._prepared.terms
        content = self._pictures.content_at(*size) if terms.content_layers else None
        return Objective(
            self._network,
            self._prepared.reaches,
            terms,
            size,
            self._tiling.tiles(size),
            styles=self._styles(size),
            content=None if content is None else content.to(self._device),
            structure=self._structure(size),
            keep_content=self._prepared.plan.keeps_content,
            should_stop=self._should_stop,
        )

    def _structure(self, size: tuple[int, int]) -> StructureLoss | None:
        """Return what holds the brightness at a size; the target is as small as a thumbnail."""
        if not self._prepared.terms.structure_weight:
            return None
        target = self._pictures.brightness(coarse_size(size), self._config)
        return StructureLoss(target.to(self._device), size)

    def alpha_blend(self, size: tuple[int, int]) -> AlphaBlend | None:
        """Return what lies under the image at a size; None without regions."""
        region_map = self._pictures.regions
        below = None if region_map is None else self._pictures.content_at(*size)
        if region_map is None or below is None:
            return None
        return AlphaBlend(below.to(self._device), region_map.alpha(*size).to(self._device))

    def release(self) -> None:
        """Drop the pictures: there is nothing left to measure."""
        self._pictures = replace(self._pictures, content=None, styles=(), init=None)
        self._objectives = {}

    def _styles(self, size: tuple[int, int]) -> list[StyleTarget]:
        """Give every style its weight, and its region where there are regions."""
        region_map = self._pictures.regions
        blend = {number: weight for number, weight in enumerate(self._pictures.weights) if weight}
        if region_map is None:
            grams = self._style_grams(size, blend)
            return [StyleTarget(grams[number], weight) for number, weight in blend.items()]
        groups = {style: blend if style is None else {style: 1.0} for style in region_map.groups()}
        grams = self._style_grams(size, {number for group in groups.values() for number in group})
        targets: list[StyleTarget] = []
        for style, labels in region_map.groups().items():
            mask = region_map.mask(labels, *size)
            region = region_masks(mask, self._prepared.reaches, self._network.layer_sizes(*size), self._device)
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
            (picture,) = alone.styles_at(*size, self._config, self._prepared.smallest)
            shape = (picture.shape[2], picture.shape[3])
            blocks = self._tiling.tiles(shape)
            tiled = TiledNetwork(self._network, self._prepared.reaches, shape, blocks, self._should_stop)
            known[number] = tiled.gram_means(picture.to(self._device), self._prepared.terms.style_layers)
        return known
