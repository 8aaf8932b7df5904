"""How close a picture is to its style and its content, for the original VGG-19; and how fine a pattern it has.

Called by `clock`, by the tests and by tools. The network looks at pictures as they are saved (8 bits a value), with
the pooling it was trained with and zero padding, in float32, whatever the run that made them did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from napari_styletransfer.config import Network, Padding, Pooling
from napari_styletransfer.images.pixels import LUMINANCE
from napari_styletransfer.networks import weights
from napari_styletransfer.networks.architectures import ReceptiveField, backbone, receptive_fields
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.tiling.tiled_network import TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"

FINE = 0.25
"""Lowest frequency, in cycles a pixel along either axis, that counts as fine: periods of 4 pixels and less."""

_FLAT = 1e-12
"""Fine power below which a style counts as having none."""

Picture = npt.NDArray[Any]
"""(H, W, 3), of 8 bits a value, or floats in [0, 1]."""


@dataclass(frozen=True)
class Verdict:
    """Distances of a picture from its style, 1 for the untouched content, and from its content."""

    style: float
    content: float


class VGGJudge:
    """The original VGG-19, looking at what was made of one content and one style.

    Parameters
    ----------
    content, style
        Pictures (H, W, 3), 8 bits a value or floats in [0, 1].
    side
        Longest side in pixels to which every picture is brought before it is looked at; None: as they are.

    Raises
    ------
    WeightsError
        Where the weights of VGG-19 are not installed.
    """

    def __init__(self, content: Picture, style: Picture, side: int | None = 512) -> None:
        self._side = side
        seen = self._features(content)
        self._content = seen[CONTENT_LAYER]
        self._grams = _grams(self._features(style))
        self.untouched = self._from_style(seen)
        """Style distance of the content itself, absolute."""

    def __call__(self, image: Picture) -> Verdict:
        """Return both distances, from one look at the picture."""
        seen = self._features(image)
        return Verdict(self._from_style(seen) / self.untouched, self._from_content(seen))

    def style_distance(self, image: Picture) -> float:
        """Return ‖G − A‖² / ‖A‖² of the Gram matrices, mean over the layers, over that of the untouched content."""
        return self._from_style(self._features(image)) / self.untouched

    def content_distance(self, image: Picture) -> float:
        """Return ‖F − P‖² / ‖P‖² of the features in the content layer."""
        return self._from_content(self._features(image))

    def _from_style(self, seen: Mapping[str, Tensor]) -> float:
        errors = [
            float((gram - self._grams[name]).square().sum() / self._grams[name].square().sum())
            for name, gram in _grams(seen).items()
        ]
        return sum(errors) / len(errors)

    def _from_content(self, seen: Mapping[str, Tensor]) -> float:
        found, wanted = seen[CONTENT_LAYER], self._content
        if found.shape != wanted.shape:
            found = F.interpolate(found, size=wanted.shape[2:], mode="bilinear")
        return float((found - wanted).square().sum() / wanted.square().sum())

    def _features(self, image: Picture) -> dict[str, Tensor]:
        network, reach = _network()
        pixels = torch.from_numpy(at_side(image, self._side)).permute(2, 0, 1)[None].contiguous()
        size = (pixels.shape[2], pixels.shape[3])
        tiled = TiledNetwork(network, reach, size, tile_layout(*size, None, Halo.for_layers(reach.values())))
        return tiled.feature_maps(pixels, dict.fromkeys(reach, 1.0))


def fine_energy(image: Picture, style: Picture) -> float:
    """Return how much finest texture a picture has, over that of its style: the figure for grids and pixel noise.

    Both are those of `fine_power`; the style is first brought to the longest side of the picture.
    """
    side = max(image.shape[:2])
    return fine_power(image) / max(fine_power(at_side(style, side)), _FLAT)


def fine_power(image: Picture) -> float:
    """Return the mean square of the luminance in frequencies of `FINE` and more along either axis.

    The luminance, in [0, 1] and freed of its mean, is multiplied by a Hann window, so that borders do not count as
    texture; the result is that of a picture without the window.
    """
    luminance = at_side(image, None).astype(np.float64) @ LUMINANCE
    height, width = luminance.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    power = np.abs(np.fft.fft2((luminance - luminance.mean()) * window)) ** 2
    down, across = (np.abs(np.fft.fftfreq(length)) for length in (height, width))
    frequency = np.maximum(down[:, None], across[None])
    # Parseval: the mean square of a picture is the sum of its power over the square of the number of its pixels.
    return float(power[frequency >= FINE].sum() / (height * width * np.square(window).sum()))


def at_side(image: Picture, side: int | None) -> npt.NDArray[np.float32]:
    """Return a picture as it is saved, in [0, 1], brought to a longest side unless that is None."""
    eight = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if side is not None and side != max(eight.shape[:2]):
        factor = side / max(eight.shape[:2])
        size = (round(eight.shape[1] * factor), round(eight.shape[0] * factor))
        eight = np.asarray(Image.fromarray(eight).resize(size, Image.Resampling.LANCZOS))
    return eight.astype(np.float32) / 255


def _grams(seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: functional.gram_sum(seen[name]) / seen[name][0, 0].numel() for name in STYLE_LAYERS}


@lru_cache(maxsize=1)
def _network() -> tuple[FrozenNetwork, dict[str, ReceptiveField]]:
    layers = {*STYLE_LAYERS, CONTENT_LAYER}
    cut = backbone(Network.VGG19).truncated(layers)
    fetching = weights.fetch(Network.VGG19, cut.state_dict_shapes())
    while True:
        try:
            next(fetching)
        except StopIteration as end:
            tensors = end.value.tensors
            break
    network = FrozenNetwork(cut, tensors, layers, pooling=Pooling.NATIVE, padding=Padding.ZERO)
    return network, {name: reach for name, reach in receptive_fields(cut).items() if name in layers}
