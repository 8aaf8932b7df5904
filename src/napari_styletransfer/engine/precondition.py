"""The metric in which an image is optimised: coarse structure moves first.

The gradient of a style loss is strong at the finest scale and weak at coarse ones, while natural images are
the other way round. Optimising z with x = F⁻¹ diag(max(f, 1/N)^−a) F z, which is L-BFGS with that operator
squared as its initial inverse Hessian, evens this out. Called by `descent`.

How strong gradients are at fine scales differs between networks. So `a` can be left to the first gradient: it is
chosen for the first step to have the spectrum of natural images, whose amplitudes fall as 1/f (Field 1987,
J. Opt. Soc. Am. A 4), within limits: there is no metric where gradients fall as steeply by themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEEPEST = 0.25
"""Largest exponent chosen from a gradient: with 0.5 losses fall faster at first and more slowly later."""

_FINEST, _OCTAVES = 0.5, 8
"""Octaves of frequency that the spectrum of a gradient is measured in, from the finest, in cycles per pixel."""

_FEWEST = 3
"""Octaves below which no power law is fitted."""

_LARGEST = 1024
"""Side in pixels of the part at the centre whose spectrum is measured."""

_AT_ONCE = 1 << 22
"""Values of a spectrum made at once: those of a large image, all channels together, take as much memory as it."""


class SpectralMetric:
    """Symmetric operator that weights spatial frequencies by a power of their wavelength.

    Parameters
    ----------
    height, width
        Size of the images in pixels.
    exponent
        `a` in max(f, 1/N)^−a, with f in cycles per pixel and N the longest side; 0 is the identity, and so is
        None until `fit` has chosen one.
    device
        Where it is applied.
    """

    def __init__(self, height: int, width: int, exponent: float | None, device: torch.device | str = "cpu") -> None:
        self._size = (height, width)
        self._device = device
        self._gain: Tensor | None = None
        self.exponent = exponent
        if exponent:
            self._gain = self._power(exponent)

    def fit(self, gradient: Tensor) -> bool:
        """Choose the exponent from the first gradient, where none was given, and say whether the metric changed."""
        if self.exponent is not None:
            return False
        self.exponent = min(max((1 - _falloff(gradient)) / 2, 0.0), _STEEPEST)
        if not self.exponent:
            return False
        self._gain = self._power(self.exponent)
        return True

    def _power(self, exponent: float) -> Tensor:
        gain = _frequencies(self._size, self._device) ** -exponent
        # Unit mean square over all frequencies: white noise keeps its power.
        return gain / ((gain.square() * _twice(self._size, self._device)).sum() / math.prod(self._size)).sqrt()

    def to_image(self, z: Tensor) -> Tensor:
        """Return x for z; the operator is its own adjoint, so gradients go to z by the same call."""
        return z if self._gain is None else self._filtered(z, self._gain)

    to_latent_gradient = to_image

    def to_latent(self, x: Tensor) -> Tensor:
        """Return z for x."""
        return x if self._gain is None else self._filtered(x, 1 / self._gain)

    def _filtered(self, image: Tensor, gain: Tensor) -> Tensor:
        result = torch.empty_like(image)
        channels = max(1, _AT_ONCE // gain.numel())
        parts, targets = (torch.split(whole.flatten(0, -3), channels) for whole in (image, result))
        for part, target in zip(parts, targets, strict=True):
            target.copy_(torch.fft.irfft2(torch.fft.rfft2(part).mul_(gain), s=self._size))
        return result


def _frequencies(size: tuple[int, int], device: torch.device | str) -> Tensor:
    """Frequencies of a half spectrum in cycles per pixel, not below one wave over the longest side."""
    down = torch.fft.fftfreq(size[0], device=device).view(-1, 1)
    across = torch.fft.rfftfreq(size[1], device=device).view(1, -1)
    return torch.hypot(down, across).clamp_(min=1 / max(size))


def _twice(size: tuple[int, int], device: torch.device | str) -> Tensor:
    """How often each column of a half spectrum stands in the whole one."""
    twice = torch.full((size[1] // 2 + 1,), 2.0, device=device)
    twice[0] = 1.0
    if size[1] % 2 == 0:
        twice[-1] = 1.0
    return twice


def _falloff(gradient: Tensor) -> float:
    """Return b of the power law f^−b that amplitudes follow, fitted by octaves; 1 where there are too few."""
    height, width = (min(side, _LARGEST) for side in gradient.shape[-2:])
    top, left = (gradient.shape[-2] - height) // 2, (gradient.shape[-1] - width) // 2
    part = gradient[..., top : top + height, left : left + width].flatten(0, -3)
    count = _twice((height, width), gradient.device).expand(height, -1)
    power = torch.fft.rfft2(part).abs().square_().sum(0) * count
    # The corners of the spectrum lie beyond the finest octave and count with it; the last bin takes the rest.
    octave = (_FINEST / _frequencies((height, width), gradient.device)).log2_().floor_().clamp_(0, _OCTAVES)
    sums = torch.zeros(2, _OCTAVES + 1, device=gradient.device, dtype=power.dtype)
    sums.index_add_(1, octave.long().flatten(), torch.stack([power, count.to(power.dtype)]).flatten(1))
    # An octave of fewer than two waves over the longest side is no spectrum.
    octaves = min(int(math.log2(max(height, width, 4) / 4)), _OCTAVES)
    total, number = sums[:, :octaves].double().cpu()
    usable = total > 0
    if int(usable.sum()) < _FEWEST:
        return 1.0
    level = (total[usable] / number[usable]).log2() / 2
    place = torch.arange(octaves, dtype=torch.float64)[usable]
    place -= place.mean()
    return float((place * level).sum() / place.square().sum())
