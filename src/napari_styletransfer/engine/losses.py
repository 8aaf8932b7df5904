"""The loss terms as pure functions of feature maps and images: values and, beside them, gradients.

Formulas: Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016
(arXiv 1508.06576), sections 2.1 and 2.2. Gram matrices are kept as means over positions, so that pictures
of different sizes compare; each normalisation is then one factor per layer. Called by `objective`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_styletransfer.config import Normalization

_CHUNK = 1 << 20
"""Values turned to float32 at once when a Gram matrix is summed."""

_SMALLEST = 1e-8
"""Mean square below which a target counts as empty (a black picture, a dead channel)."""


def rows(feature_map: Tensor) -> Tensor:
    """View a channels-last feature map (1, C, h, w) as a matrix (h·w, C)."""
    return feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1])


def gram_sum(feature_map: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of the outer products over positions, `F Fᵀ`, accumulated in float32.

    Parameters
    ----------
    feature_map
        (1, C, h, w), any float type.
    weight
        Optional mask (h, w); features are multiplied by it first (Gatys et al. 2017, arXiv 1611.07865,
        section 4.1).

    Returns
    -------
    Tensor
        (C, C) float32.
    """
    matrix = rows(feature_map)
    mask = None if weight is None else weight.reshape(-1, 1)
    step = max(1, _CHUNK // matrix.shape[1])
    total = torch.zeros(matrix.shape[1], matrix.shape[1], device=matrix.device, dtype=_wide(matrix.dtype))
    for first in range(0, matrix.shape[0], step):
        part = matrix[first : first + step].to(total.dtype)
        if mask is not None:
            part = part * mask[first : first + step]
        total.addmm_(part.T, part)
    return total


def square_sum(values: Tensor) -> Tensor:
    """Sum of squares, accumulated in float32."""
    return torch.linalg.vector_norm(values, dtype=_wide(values.dtype)).square()


def pixel_gram_sum(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Second moments of the pixels and a constant one, summed: (4, 4) for an image (1, 3, H, W)."""
    return gram_sum(with_constant(image), weight)


def with_constant(image: Tensor) -> Tensor:
    """Append a channel of ones, so that second moments hold the mean as well."""
    return torch.cat([image, torch.ones_like(image[:, :1])], dim=1)


def style_factor(normalization: Normalization, target: Tensor) -> float:
    """Factor k of a layer's style loss `k · ‖G − A‖²`, with G and A as means over positions.

    `relative`: 1/‖A‖². `gatys`: 1/(4 N²), which is 1/(4 N² M²) on sums. `notebook`: 10¹²/N⁴, which is the
    mean squared error of Gram sums times 10⁶/(N·M).
    """
    channels = target.shape[0]
    if normalization is Normalization.RELATIVE:
        return 1.0 / max(float(target.square().sum()), _SMALLEST * channels**2)
    if normalization is Normalization.GATYS:
        return 1.0 / (4 * channels**2)
    return 1e12 / channels**4


def content_factor(normalization: Normalization, square_sum: float, values: int) -> float:
    """Factor k of a layer's content loss `k · Σ (F − P)²`.

    `relative`: 1/ΣP². `gatys`: 1/2. `notebook`: 10⁶ over the number of values.
    """
    if normalization is Normalization.RELATIVE:
        return 1.0 / max(square_sum, _SMALLEST * values)
    if normalization is Normalization.GATYS:
        return 0.5
    return 1e6 / values


def total_variation(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared difference of neighbouring pixels, down and across, and its gradient.

    Mahendran and Vedaldi 2015 (arXiv 1412.0035), equation 4, with exponent 2, per pixel value.
    """
    count = image.numel()
    down = image[:, :, 1:] - image[:, :, :-1]
    across = image[..., 1:] - image[..., :-1]
    value = (down.square().sum() + across.square().sum()) / count
    gradient = torch.zeros_like(image)
    gradient[:, :, 1:] += down
    gradient[:, :, :-1] -= down
    gradient[..., 1:] += across
    gradient[..., :-1] -= across
    return value, gradient.mul_(2 / count)


def out_of_range(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distance of the values from [0, 1], and its gradient.

    Keeps the optimised image close to what can be shown, so that clamping what is shown changes little;
    clamping inside the closure would change the point behind the optimiser's back.
    """
    beyond = image - image.clamp(0, 1)
    return beyond.square().mean(), beyond.mul_(2 / image.numel())


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the number format sums are taken in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)
