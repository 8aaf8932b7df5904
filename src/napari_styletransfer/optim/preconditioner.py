"""The metric in which an image is optimised: coarse structure moves first.

The gradient of a style loss is strong at the finest scale and weak at coarse ones, while natural images are
the other way round. Optimising z with x = F⁻¹ diag(max(f, 1/N)^−a) F z, which is L-BFGS with that operator
squared as its initial inverse Hessian, evens this out. Called by `minimizer` and the optimisers.

How curved the loss is at fine scales differs between networks and styles. So the metric can be left open: it begins as
the identity and is learned. Steps s and the changes y of the gradient that they brought, as the image has them, tell
how curved the loss is in every octave of brightness and of two opponent colours: c² = Σ|Fy|² / Σ|Fs|², with sums over
the frequencies of the octave and the pairs. With the gain c^−0.5 all would be about alike; it is c^−0.6
(`_CURVATURE_POWER`), a line in log₂ from octave to octave, scaled to unit mean square.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from napari_styletransfer.images.chunks import chunks
from napari_styletransfer.optim.spectrum import (
    CHUNK,
    MAX_WHOLE,
    filter_spectrum,
    frequencies,
    hermitian_weights,
    octave_of,
    row_rfft,
)

_MAX_OCTAVES = 8
"""Octaves of frequency that the spectrum of a gradient is measured in, from the finest, in cycles per pixel."""

_MIN_OCTAVES = 3
"""Octaves below which nothing is learned."""

_CURVATURE_POWER = 0.6
"""Of the curvature in a learned gain: a little more than evens it out, 0.5, as the octaves act on each other."""

_MIN_COLOR_POWER = 1e-9
"""Share of the power of the brightness below which a colour counts as none."""

_MIN_SQUARE = 1e-30
"""Squared length below which a step counts as none."""

_OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
"""Brightness, red against blue, green against both: rows of an orthonormal matrix."""


class SpectralMetric:
    """Operator that weights spatial frequencies: by a power of their wavelength, or as was learned.

    Parameters
    ----------
    height, width
        Size of the images in pixels.
    exponent
        `a` in max(f, 1/N)^−a, with f in cycles per pixel and N the longest side; 0 is the identity, and so is
        None, where the metric is to be learned.
    device
        Where it is applied.

    Attributes
    ----------
    exponent
        As given.
    learns
        Whether it was left open, and is to be replaced by what `learned` returns.
    """

    def __init__(self, height: int, width: int, exponent: float | None, device: torch.device | str = "cpu") -> None:
        self._size = (height, width)
        self._device = device
        self._unit = 1.0
        self._gains: Tensor | None = None
        self._log_gains: Sequence[Sequence[float]] | None = None
        self.exponent = exponent
        self.learns = exponent is None
        if exponent:
            self._normalize()

    @property
    def is_identity(self) -> bool:
        """Whether it is the identity."""
        return not self.exponent and self._log_gains is None

    def learned(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> SpectralMetric:
        """Return a metric in which the loss is about as curved in every octave and colour.

        Parameters
        ----------
        pairs
            Steps and the changes of the gradient that they brought, in terms of this metric.
        """
        octaves = _count_octaves(self._size)
        if octaves < _MIN_OCTAVES:
            return self
        sums = torch.zeros(2, 3, octaves, dtype=torch.float32, device=self._device)
        for step, change in pairs:
            # Pairs count alike, whatever the length of their step.
            square = torch.linalg.vector_norm(step, dtype=torch.promote_types(step.dtype, torch.float32)).square()
            weight = 1 / max(float(square), _MIN_SQUARE)
            for number in range(3):
                for total, image, inverse in ((sums[0, number], step, False), (sums[1, number], change, True)):
                    self._add_power(total, self._opponent(image, number), number, weight, inverse=inverse)
        moved, changed = sums.cpu().double()
        # A picture without colours moves in brightness alone: what is left of colours is rounding.
        grey = moved < _MIN_COLOR_POWER * moved[:1]
        moved, changed = torch.where(grey, moved[:1], moved), torch.where(grey, changed[:1], changed)
        if not bool(((moved > 0) & (changed > 0)).all()):
            return self
        metric = copy.copy(self)
        metric._set_log_gains(((moved / changed).log2() / 2 * _CURVATURE_POWER).tolist())
        return metric

    def _opponent(self, z: Tensor, number: int) -> Tensor:
        """Return a plane of brightness or of an opponent colour, of what is given in terms of this metric."""
        planes = z.view(3, *self._size)
        wide = torch.promote_types(z.dtype, torch.float32)
        if self._log_gains is not None:
            return planes[number].to(wide)
        total = torch.zeros(self._size, dtype=wide, device=z.device)
        for plane, share in zip(planes, _OPPONENT[number], strict=True):
            total.add_(plane, alpha=share)
        return total

    def _add_power(self, total: Tensor, plane: Tensor, number: int, weight: float, *, inverse: bool) -> None:
        """Add the power of every octave of a plane as an image has it."""
        twice = hermitian_weights(self._size, self._device)
        spectrum = row_rfft(plane)
        for columns in chunks(spectrum.shape[1], self._size[0], CHUNK):
            gain = self._gain(number, columns)
            waves = torch.fft.fft(spectrum[:, columns], dim=0)
            power = (waves.div_(gain) if inverse else waves.mul_(gain)).abs().square_().mul_(twice[columns])
            octave = octave_of(self._size, self._device, columns).clamp_(0, len(total) - 1).int()
            # Bins of their own for every strip: a long sum of small numbers loses digits.
            bins = torch.zeros_like(total).index_add_(0, octave.flatten(), power.flatten().float())
            total.add_(bins, alpha=weight)

    def _set_log_gains(self, levels: Sequence[Sequence[float]]) -> None:
        """Make gains from their logarithms at the middle of every octave, for each colour."""
        self._log_gains = levels
        self._normalize()

    def _normalize(self) -> None:
        """Scale the gains to unit mean square over all frequencies: white noise keeps its power."""
        self._unit, self._gains = 1.0, None
        twice, numbers = hermitian_weights(self._size, self._device), range(1 if self._log_gains is None else 3)
        powers = [
            (self._gain(number, columns).square_() * twice[columns]).sum()
            for number in numbers
            for columns in chunks(len(twice), self._size[0], CHUNK)
        ]
        total = float(torch.stack(powers).cpu().double().sum())
        self._unit = math.sqrt(len(numbers) * math.prod(self._size) / total)
        if math.prod(self._size) <= MAX_WHOLE:
            self._gains = torch.stack([self._gain(number, slice(None)) for number in numbers])

    def _gain(self, number: int, columns: slice) -> Tensor:
        """Return the gains of some columns of the spectrum of a plane."""
        if self._gains is not None:
            return self._gains[number if self._log_gains is not None else 0][:, columns]
        if self._log_gains is None:
            return frequencies(self._size, self._device, columns).pow_(-(self.exponent or 0.0)).mul_(self._unit)
        row = self._log_gains[number]
        place = octave_of(self._size, self._device, columns).sub_(0.5)
        # A line from octave to octave, as a sum of ramps.
        level = torch.full_like(place, row[0])
        for octave, (low, high) in enumerate(pairwise(row)):
            level.add_((place - octave).clamp_(0, 1), alpha=high - low)
        return level.exp2_().mul_(self._unit)

    def _filter(self, plane: Tensor, number: int) -> None:
        filter_spectrum(plane, lambda columns: self._gain(number, columns))

    def latent_gradient_(self, gradient: Tensor) -> Tensor:
        """Turn a gradient with respect to x into the one with respect to z, in place, and return it."""
        if self.is_identity:
            return gradient
        if self._log_gains is not None:
            _rotate_colors(gradient)
        for number, plane in enumerate(gradient.view(3, *self._size)):
            self._filter(plane, number)
        return gradient

    def add_to(self, point: Tensor, z: Tensor) -> None:
        """Add to x what z makes of it; z is used up."""
        if self.is_identity:
            point.add_(z)
            return
        for number, plane in enumerate(z.view(3, *self._size)):
            self.add_plane(point, plane, number)

    def add_plane(self, point: Tensor, plane: Tensor, number: int) -> None:
        """Add to x what one plane of z makes of it; the plane is used up."""
        channels = point.view(3, *self._size)
        self._filter(plane, number)
        if self._log_gains is None:
            channels[number].add_(plane)
            return
        for channel, share in zip(channels, _OPPONENT[number], strict=True):
            channel.add_(plane, alpha=share)

    def convert_step_(self, before: SpectralMetric, z: Tensor) -> None:
        """Turn a step given in terms of another metric into one in terms of this, in place."""
        self._convert(before, z, gradient=False)

    def convert_gradient_(self, before: SpectralMetric, gradient: Tensor) -> None:
        """Turn a gradient, or a change of it, given in terms of another metric, in place."""
        self._convert(before, gradient, gradient=True)

    def _convert(self, before: SpectralMetric, z: Tensor, *, gradient: bool) -> None:
        if before._log_gains is None and self._log_gains is not None:
            _rotate_colors(z)
        for number, plane in enumerate(z.view(3, *self._size)):

            def factor(columns: slice, number: int = number) -> Tensor:
                ours, theirs = self._gain(number, columns), before._gain(number, columns)
                return ours / theirs if gradient else theirs / ours

            wide = plane.to(torch.promote_types(plane.dtype, torch.float32))
            filter_spectrum(wide, factor)
            plane.copy_(wide)
        if before._log_gains is not None and self._log_gains is None:
            _rotate_colors(z, back=True)


def _rotate_colors(image: Tensor, *, back: bool = False) -> None:
    """Rotate the colours of three planes to brightness and opponent colours in place, or back."""
    planes = image.view(3, -1)
    wide = torch.promote_types(image.dtype, torch.float32)
    rotation = torch.tensor(_OPPONENT, dtype=wide, device=image.device)
    if back:
        rotation = rotation.T
    for part in torch.split(planes, CHUNK, 1):
        part.copy_(rotation @ part.to(wide))


def _count_octaves(size: tuple[int, int]) -> int:
    """Return how many octaves a spectrum is measured in: one of fewer than two waves over the longest side is none."""
    return min(int(math.log2(max(*size, 4) / 4)), _MAX_OCTAVES)
