"""Octaves of a picture, and bringing them to the colours and contrasts of others.

An octave is what a picture loses when it is made half as large and large again: a level of the Laplacian pyramid (Burt
and Adelson 1983). Its colours vary about zero, so that their covariance says how strong they are and how they go
together. Giving every octave that of the style brings the content closer to the style's Gram matrices before the
network has seen it; noise treated so, with whole histograms, is the texture synthesis of Heeger and Bergen 1995. Images
are (1, 3, H, W) float sRGB in [0, 1]. Called by `inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_styletransfer.config import ColorMatch
from napari_styletransfer.engine.color import map_between, match_colors, parts
from napari_styletransfer.engine.pyramid import resized

_COUNT = 5
"""Octaves that are matched; coarser ones hold the composition."""

_SMALLEST = 16
"""Shorter side in pixels below which a picture has no octave worth matching."""

_GREATEST_GAIN = 10.0
"""By which no colour of an octave grows more: what is not there cannot be made stronger, only its noise."""


_AT_ONCE = 1 << 22
"""Pixels of a target whose finest octave is made at once."""


def finest(image: Tensor) -> Tensor:
    """Return the finest octave of an image."""
    return image - resized(_halved(image), *image.shape[2:])


def match_octaves(
    image: Tensor, targets: Sequence[Tensor], weights: Sequence[float], method: ColorMatch = ColorMatch.TRANSPORT
) -> Tensor:
    """Return `image` with the colours of `targets`, as `match_colors` does, and the contrasts of their octaves.

    Several targets count by their weights. They may have other sizes than the image, but octaves are those of pixels.
    """
    result = _matched(match_colors(image, targets, weights, method), targets, weights, _COUNT)
    return match_colors(result, targets, weights, method)


def match_finest(
    image: Tensor, targets: Sequence[Tensor], weights: Sequence[float], method: ColorMatch = ColorMatch.TRANSPORT
) -> Tensor:
    """Return the finest octave of `image`, with the colours and the contrast that it has in `targets`."""
    recolored = match_colors(image, targets, weights, method)
    octave = recolored.sub_(resized(_halved(recolored), *image.shape[2:]))
    return _brought(octave, targets, weights)


def _matched(image: Tensor, targets: Sequence[Tensor], weights: Sequence[float], count: int) -> Tensor:
    """Match octaves from the finest on, in place."""
    if not count or min(min(picture.shape[2:]) for picture in (image, *targets)) < _SMALLEST:
        return image
    size = image.shape[2:]
    coarse = _halved(image)
    octave = image.sub_(resized(coarse, *size))
    _brought(octave, targets, weights)
    coarse = _matched(coarse, [_halved(target) for target in targets], weights, count - 1)
    return octave.add_(resized(coarse, *size))


def _brought(octave: Tensor, targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Give an octave, in place, the covariance of the finest octaves of the targets."""
    target = torch.zeros(3, 3, dtype=torch.float64)
    for picture, weight in zip(targets, weights, strict=True):
        # Some rows at a time, as nothing else of the size of a large picture is to be made; a few at the cuts are off.
        bands = torch.split(picture, max(_SMALLEST, _AT_ONCE // picture.shape[3]), dim=2)
        for band in bands:
            share = weight / sum(weights) * band.shape[2] / picture.shape[2]
            target += share * _moment(finest(band))
    floor = float(target.diagonal().mean()) / _GREATEST_GAIN**2
    between = map_between(_moment(octave) + floor * torch.eye(3, dtype=target.dtype), target, ColorMatch.TRANSPORT)
    for part in parts(octave):
        part.copy_(between @ part.double())
    return octave


def _moment(octave: Tensor) -> Tensor:
    """Return the mean product of each two colours, (3, 3) float64."""
    total = torch.zeros(3, 3, dtype=torch.float64)
    for part in parts(octave):
        wide = part.double()
        total += wide @ wide.T
    return total * (3 / octave.numel())


def _halved(image: Tensor) -> Tensor:
    height, width = image.shape[2:]
    return resized(image, (height + 1) // 2, (width + 1) // 2)
