"""Colour handling: matching one picture's colours to another's, and changing lightness alone.

Matching follows Gatys et al. 2017 (arXiv 1611.07865, section 5.1): the affine map that gives the pixels of one
picture the mean and covariance of the other's. Lightness is that of Oklab (Björn Ottosson, 2020), a space
in which equal steps look equal. Images are (1, 3, H, W) float sRGB in [0, 1]. Called by `inputs` and `laplacian`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_styletransfer.config import ColorMatch

_VARIANCE_FLOOR = 1e-5
"""Variance added to each colour axis, so that flat and grey pictures can be matched."""

_CHUNK = 1 << 20
"""Pixels worked on in double precision at once."""

_TO_LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
           (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
_TO_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
           (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """Mean (3, 1) and covariance (3, 3) of colours, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_image(cls, image: Tensor) -> Moments:
        """Measure the pixels of an image."""
        count = image.numel() // 3
        total = torch.zeros(3, 1, dtype=torch.float64, device=image.device)
        for part in pixel_chunks(image):
            total += part.double().sum(dim=1, keepdim=True)
        mean = total / count
        covariance = torch.zeros(3, 3, dtype=torch.float64, device=image.device)
        for part in pixel_chunks(image):
            centred = part.double() - mean
            covariance += centred @ centred.T
        return cls(mean, covariance / count + _VARIANCE_FLOOR * torch.eye(3, dtype=torch.float64, device=image.device))

    @classmethod
    def blended(cls, each: Sequence[Moments], weights: Sequence[float]) -> Moments:
        """Return those of several pictures together, as if each gave the share of the pixels that its weight says."""
        shares = [weight / sum(weights) for weight in weights]
        mean = torch.stack([share * own.mean for share, own in zip(shares, each, strict=True)]).sum(0)
        spread = [own.covariance + (own.mean - mean) @ (own.mean - mean).T for own in each]
        return cls(mean, torch.stack([share * part for share, part in zip(shares, spread, strict=True)]).sum(0))


def match_colors(
    image: Tensor,
    targets: Sequence[Tensor],
    weights: Sequence[float],
    method: ColorMatch = ColorMatch.TRANSPORT,
) -> Tensor:
    """Return `image` with the mean and covariance of the pixels of `targets`, clamped to [0, 1].

    Several targets count by their weights, as if each gave that share of the pixels.

    Of the affine maps that do this, `transport` is the optimal one between two normal distributions: it moves
    the pixels least, so that colours keep their order. `pca` and `cholesky` are those of arXiv 1611.07865.
    """
    return match_moments(image, Moments.blended([Moments.from_image(target) for target in targets], weights), method)


def match_moments(image: Tensor, target: Moments, method: ColorMatch = ColorMatch.TRANSPORT) -> Tensor:
    """Return `image` with a mean and covariance, as `match_colors` does."""
    own = Moments.from_image(image)
    mapping = covariance_map(own.covariance, target.covariance, method)
    result = torch.empty_like(image, memory_format=torch.contiguous_format)
    for part, out in zip(pixel_chunks(image), pixel_chunks(result), strict=True):
        out.copy_((mapping @ (part.double() - own.mean) + target.mean).clamp_(0, 1))
    return result


def lightness(image: Tensor) -> Tensor:
    """Oklab lightness as a grey picture: (1, 3, H, W) with equal channels in [0, 1]."""
    return _to_oklab(image)[:, :1].clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def with_lightness(image: Tensor, grey: Tensor) -> Tensor:
    """Return the colours of `image` with the lightness given by the mean channel of `grey`, in [0, 1]."""
    lab = _to_oklab(image)
    lab[:, :1] = grey.mean(dim=1, keepdim=True)
    return _from_oklab(lab)


def match_lightness(grey: Tensor, target: Tensor) -> Tensor:
    """Return `grey` with the mean and standard deviation of `target`, clamped to [0, 1].

    Arxiv 1611.07865, section 5.2: a dark painting must not turn the content dark.
    """
    spread = (target.var() + _VARIANCE_FLOOR).sqrt() / (grey.var() + _VARIANCE_FLOOR).sqrt()
    return ((grey - grey.mean()) * spread + target.mean()).clamp(0, 1)


def pixel_chunks(image: Tensor) -> tuple[Tensor, ...]:
    """Cut the pixels into pieces (3, n): in double precision all at once would take many times the image's memory."""
    return torch.split(image.reshape(3, -1), _CHUNK, dim=1)


def covariance_map(source: Tensor, target: Tensor, method: ColorMatch) -> Tensor:
    """Return the matrix that turns colours of one covariance into colours of another, (3, 3) float64 each."""
    if method is ColorMatch.CHOLESKY:
        return torch.linalg.cholesky(target.cpu()) @ torch.linalg.inv(torch.linalg.cholesky(source.cpu()))
    if method is ColorMatch.PCA:
        return _power(target, 0.5) @ _power(source, -0.5)
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def _power(symmetric: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric.cpu())
    result = (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
    return result.to(symmetric.device)


def _apply_matrix(matrix: tuple[tuple[float, ...], ...] | Tensor, image: Tensor) -> Tensor:
    table = torch.as_tensor(matrix, dtype=image.dtype, device=image.device)
    return torch.einsum("ij,njhw->nihw", table, image)


def _to_oklab(image: Tensor) -> Tensor:
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055).clamp(min=0) ** 2.4)
    return _apply_matrix(_TO_LAB, _apply_matrix(_TO_LMS, linear).clamp(min=0) ** (1 / 3))


def _from_oklab(lab: Tensor) -> Tensor:
    cones = _apply_matrix(torch.linalg.inv(torch.tensor(_TO_LAB, dtype=torch.float64, device="cpu")), lab) ** 3
    linear = _apply_matrix(torch.linalg.inv(torch.tensor(_TO_LMS, dtype=torch.float64, device="cpu")), cones).clamp(
        0, 1
    )
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055).clamp(
        0, 1
    )
