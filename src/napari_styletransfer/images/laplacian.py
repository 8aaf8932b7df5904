"""Octaves of a picture, and bringing them to the colours and contrasts of others.

An octave is what a picture loses when it is made half as large and large again: a level of the Laplacian pyramid (Burt
and Adelson 1983). Its colours vary about zero, so that their covariance says how strong they are and how they go
together. Giving every octave that of the style brings the content closer to the style's Gram matrices before the
network has seen it; noise treated so, with whole histograms, is the texture synthesis of Heeger and Bergen 1995. Images
are (1, 3, H, W) float sRGB in [0, 1]. Called by `inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from napari_styletransfer.config import ColorMatch
from napari_styletransfer.images.color import Moments, covariance_map, match_moments, pixel_chunks
from napari_styletransfer.images.resize import resize

_OCTAVES = 5
"""Octaves that are matched; coarser ones hold the composition."""

_MIN_SIDE = 16
"""Shorter side in pixels below which a picture has no octave worth matching."""

_MAX_GAIN = 10.0
"""By which no colour of an octave grows more: what is not there cannot be made stronger, only its noise."""

_MIN_VARIANCE = 1e-12
"""Variance below which an octave is rounding alone."""

_CHUNK = 1 << 22
"""Pixels of a style whose finest octave is made at once."""


@dataclass(frozen=True)
class StyleStatistics:
    """What a start takes over from styles: the moments of their colours, and the covariance of each octave, (3, 3)."""

    colors: Moments
    octaves: tuple[Tensor, ...]

    @classmethod
    def from_image(cls, picture: Tensor, count: int = _OCTAVES) -> StyleStatistics:
        """Measure a picture and so many of its octaves, from the finest on; a small one has fewer."""
        colors = Moments.from_image(picture)
        octaves: list[Tensor] = []
        while len(octaves) < count and min(picture.shape[2:]) >= _MIN_SIDE:
            octaves.append(_covariance_of_finest(picture))
            picture = _downsample(picture)
        return cls(colors, tuple(octaves))

    @classmethod
    def blended(cls, each: Sequence[StyleStatistics], weights: Sequence[float]) -> StyleStatistics:
        """Return that of several pictures together; those that lack an octave do not count in it."""
        octaves = []
        for level in zip_longest(*(one.octaves for one in each)):
            known = [(octave, weight) for octave, weight in zip(level, weights, strict=True) if octave is not None]
            total = sum(weight for _, weight in known)
            octaves.append(torch.stack([weight / total * octave for octave, weight in known]).sum(0))
        return cls(Moments.blended([one.colors for one in each], weights), tuple(octaves))


def finest_octave(image: Tensor) -> Tensor:
    """Return the finest octave of an image."""
    return image - resize(_downsample(image), *image.shape[2:])


def match_statistics(image: Tensor, target: StyleStatistics, method: ColorMatch = ColorMatch.TRANSPORT) -> Tensor:
    """Return `image` with the colours and the octaves of styles, clamped to [0, 1].

    The octaves are those of pixels, whatever sizes the pictures had that were measured.
    """
    result = _match_octaves(match_moments(image, target.colors, method), target.octaves)
    return match_moments(result, target.colors, method)


def match_finest_octave(image: Tensor, target: StyleStatistics, method: ColorMatch = ColorMatch.TRANSPORT) -> Tensor:
    """Return the finest octave of `image`, with the colours and the contrast that it has in styles."""
    recolored = match_moments(image, target.colors, method)
    octave = recolored.sub_(resize(_downsample(recolored), *image.shape[2:]))
    return _match_covariance(octave, target.octaves[0]) if target.octaves else octave


def _match_octaves(image: Tensor, octaves: Sequence[Tensor]) -> Tensor:
    """Match octaves from the finest on, in place."""
    if not octaves or min(image.shape[2:]) < _MIN_SIDE:
        return image
    size = image.shape[2:]
    coarse = _downsample(image)
    octave = _match_covariance(image.sub_(resize(coarse, *size)), octaves[0])
    return octave.add_(resize(_match_octaves(coarse, octaves[1:]), *size))


def _match_covariance(octave: Tensor, covariance: Tensor) -> Tensor:
    """Give an octave a covariance, in place."""
    # The map depends on the ratio of the two alone: in this unit no digits are lost.
    unit = float(torch.linalg.eigvalsh(covariance)[-1])
    if unit < _MIN_VARIANCE:
        return octave.zero_()
    floor = torch.eye(3, dtype=covariance.dtype, device=covariance.device) / _MAX_GAIN**2
    mapping = covariance_map(_covariance(octave) / unit + floor, covariance / unit, ColorMatch.TRANSPORT)
    for part in pixel_chunks(octave):
        part.copy_(mapping @ part.double())
    return octave


def _covariance_of_finest(picture: Tensor) -> Tensor:
    """Return it for the finest octave of a picture, some rows at a time; a few at the cuts are off."""
    total = torch.zeros(3, 3, dtype=torch.float64, device="cpu")
    for rows in torch.split(picture, max(_MIN_SIDE, _CHUNK // picture.shape[3]), dim=2):
        total += _covariance(finest_octave(rows)) * (rows.shape[2] / picture.shape[2])
    return total


def _covariance(octave: Tensor) -> Tensor:
    """Return the mean product of each two colours of an octave, (3, 3) float64; their mean is zero."""
    total = torch.zeros(3, 3, dtype=torch.float64, device="cpu")
    for part in pixel_chunks(octave):
        wide = part.double()
        total += wide @ wide.T
    return total * (3 / octave.numel())


def _downsample(image: Tensor) -> Tensor:
    height, width = image.shape[2:]
    return resize(image, (height + 1) // 2, (width + 1) // 2)
