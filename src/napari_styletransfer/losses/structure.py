"""The coarse structure of a picture: where it is bright and where dark.

A style loss knows nothing of places, and the features of a content loss know little of brightness: what is dark in a
micrograph may come out bright. Here the luminance of the image, averaged to at most `SIDE` pixels along its longest
side, is held to that of the content, by a squared error relative to the content's own variance. Averaging is one
matrix down the image and one across, so that value and gradient are exact at any size. Called by `objective`,
`objective_factory` and `rendering`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_styletransfer.images.chunks import chunks
from napari_styletransfer.images.pixels import LUMINANCE

SIDE = 64
"""Longest side in pixels of the averages: strokes are finer than their pixels, nuclei and tissue are not."""

_MIN_VARIANCE = 1e-3
"""Variance of the luminance below which a picture counts as flat."""

_CHUNK = 1 << 20
"""Pixels whose luminance is taken at once."""


class AreaAverage:
    """Luminance of images (1, 3, H, W) of one size, averaged with triangular weights; and the adjoint of that.

    The luminance is that of the sRGB values as they are.

    Parameters
    ----------
    size
        (H, W) of the images.
    grid
        (h, w) of what they are averaged to, no larger.
    like
        Number format and device of the images.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int], like: Tensor) -> None:
        self._down, self._across = (
            _triangle_filter(large, small).to(like) for large, small in zip(size, grid, strict=True)
        )
        self._shares = torch.tensor(LUMINANCE, dtype=like.dtype, device=like.device).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the averages (h, w) of an image, clamped to [0, 1]."""
        total = self._down.new_zeros(self._down.shape[0], self._across.shape[0])
        for rows in chunks(image.shape[2], image.shape[3], _CHUNK):
            luminance = (image[0, :, rows].clamp(0, 1) * self._shares).sum(0)
            total.addmm_(self._down[:, rows], luminance @ self._across.T)
        return total

    def add_adjoint(self, gradient: Tensor, averages: Tensor, rows: slice) -> None:
        """Add to some rows of a gradient, (1, 3, rows, W), what one at the averages (h, w) says of them, in place."""
        plane = self._down[:, rows].T @ (averages @ self._across)
        gradient[0].add_(self._shares * plane)


class StructureLoss:
    """Squared error of the averaged luminance, over the variance of the target: 1 for an even grey.

    Parameters
    ----------
    target
        Averaged luminance (h, w) that images are held to, in their number format and on their device.
    size
        (H, W) of the images.
    """

    def __init__(self, target: Tensor, size: tuple[int, int]) -> None:
        self._averaging = AreaAverage(size, (target.shape[0], target.shape[1]), target)
        self._target = target
        self._factor = 1 / (max(float(target.double().var(correction=0)), _MIN_VARIANCE) * target.numel())

    def measure(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of an image, a scalar, and its gradient with respect to the averages (h, w)."""
        miss = self._averaging(image) - self._target
        return miss.square().sum() * self._factor, miss.mul_(2 * self._factor)

    def add_gradient(self, gradient: Tensor, averages: Tensor, rows: slice) -> None:
        """Add the gradient with respect to some rows of the image, (1, 3, rows, W), in place."""
        self._averaging.add_adjoint(gradient, averages, rows)


def coarse_luminance(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the averaged luminance (h, w) of an image (1, 3, H, W) in [0, 1], at least as large as the grid."""
    return AreaAverage((image.shape[2], image.shape[3]), grid, image)(image)


def correlation(one: Tensor, other: Tensor) -> float | None:
    """Return the correlation (Pearson's) of two averaged luminances, in [-1, 1]; None where either is flat."""
    pair = torch.stack([one.flatten(), other.flatten().to(one)]).double()
    centred = pair - pair.mean(1, keepdim=True)
    spread = centred.norm(dim=1)
    if bool((spread < 1e-9 * pair.shape[1] ** 0.5).any()):
        return None
    return float((centred[0] @ centred[1] / spread.prod()).clamp(-1, 1))


def match_tones(averages: Tensor, style: Tensor) -> Tensor:
    """Return averages (h, w) with the mean and contrast of a style's, brought into [0, 1] without clipping.

    The map is linear, so that the ratios of differences stay: a contrast that does not fit is taken weaker.
    """
    mean, spread = float(style.mean()), float(style.std(correction=0))
    below, above = (float(abs(end - averages.mean())) for end in (averages.min(), averages.max()))
    gain = spread / max(float(averages.std(correction=0)), _MIN_VARIANCE**0.5)
    gain = min(gain, mean / max(below, 1e-6), (1 - mean) / max(above, 1e-6))
    return (averages - averages.mean()) * gain + mean


def coarse_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (h, w) of the averages of a picture of a size (H, W)."""
    factor = max(1.0, max(size) / SIDE)
    height, width = (max(1, round(side / factor)) for side in size)
    return height, width


def _triangle_filter(large: int, small: int) -> Tensor:
    """Return the matrix (small, large) of an average with triangular weights; the identity where sizes are equal."""
    scale = max(large / small, 1.0)
    centre = (np.arange(small) + 0.5) * (large / small)
    distance = np.abs(np.arange(large) + 0.5 - centre[:, None]) / scale
    weights = np.maximum(1 - distance, 0)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True))
