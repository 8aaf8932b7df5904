"""The loss terms as pure functions of feature maps and images: values and, beside them, gradients.

Formulas: Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016
(arXiv 1508.06576), sections 2.1 and 2.2. Gram matrices are kept as means over positions, so that pictures
of different sizes compare; each normalisation is then one factor per layer. Called by `objective`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_styletransfer.config import Normalization
from napari_styletransfer.images.chunks import chunks

_CHUNK = 1 << 20
"""Values turned to float32 at once when a Gram matrix is summed."""

_MAX_PARTS = 8
_MIN_PART = 256
"""Most parts that a Gram matrix of bfloat16 features is summed in, and positions that a part has at least."""

_MIN_MEAN_SQUARE = 1e-8
"""Mean square below which a target counts as empty (a black picture, a dead channel)."""


def as_matrix(feature_map: Tensor) -> Tensor:
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
    matrix = as_matrix(feature_map)
    mask = None if weight is None else weight.reshape(-1, 1)
    if matrix.dtype is torch.bfloat16 and matrix.device.type == "cpu":
        return _bfloat16_gram_sum(matrix if mask is None else matrix * mask.to(matrix.dtype))
    total = torch.zeros(matrix.shape[1], matrix.shape[1], device=matrix.device, dtype=_accumulation_dtype(matrix.dtype))
    for part_rows in chunks(matrix.shape[0], matrix.shape[1], _CHUNK):
        part = matrix[part_rows].to(total.dtype)
        if mask is not None:
            part = part * mask[part_rows]
        total.addmm_(part.T, part)
    return total


def _bfloat16_gram_sum(matrix: Tensor) -> Tensor:
    """Sum the outer products of bfloat16 rows by the processor's own instructions for them.

    Each product is summed in float32 but comes out rounded to bfloat16. So it is taken of several parts, whose rounding
    errors cancel in part; the parts are added up in float32.
    """
    count, channels = matrix.shape
    parts = max(1, min(_MAX_PARTS, count // _MIN_PART))
    length = count // parts
    even = matrix[: parts * length].view(parts, length, channels)
    total = torch.bmm(even.transpose(1, 2), even).sum(0, dtype=torch.float32)
    rest = matrix[parts * length :].float()
    return total.addmm_(rest.T, rest)


def square_sum(values: Tensor) -> Tensor:
    """Sum of squares, accumulated in float32."""
    return torch.linalg.vector_norm(values, dtype=_accumulation_dtype(values.dtype)).square()


def add_gram_grad(gradient: Tensor, feature_map: Tensor, gram_grad: Tensor, mask: Tensor | None) -> None:
    """Add `gram_grad` times the features, times the squared mask, to the gradient in place, some rows at a time."""
    g, f = gradient[0].permute(1, 2, 0), feature_map[0].permute(1, 2, 0)
    gram_grad = gram_grad.to(f.dtype)
    if mask is None and g.is_contiguous() and f.is_contiguous():
        g.view(-1, g.shape[2]).addmm_(f.view(-1, f.shape[2]), gram_grad)
        return
    for strip in chunks(f.shape[0], f.shape[1] * f.shape[2], _CHUNK):
        part = f[strip] @ gram_grad
        if mask is not None:
            part = part * mask[strip, :, None].square().to(part.dtype)
        g[strip] += part


def pixel_gram_sum(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Second moments of the pixels and a constant one, summed: (4, 4) for an image (1, 3, H, W)."""
    planes = image[0].flatten(1)
    mask = None if weight is None else weight.flatten().to(planes.dtype)
    total = planes.new_zeros(4, 4)
    for pixels in chunks(planes.shape[1], 1, _CHUNK):
        part = planes[:, pixels]
        if mask is None:
            total[:3, 3] += part.sum(1)
            total[3, 3] += part.shape[1]
        else:
            constant = mask[pixels]
            part = part * constant
            total[:3, 3] += part @ constant
            total[3, 3] += constant @ constant
        total[:3, :3].addmm_(part, part.T)
    total[3, :3] = total[:3, 3]
    return total


def add_pixel_gram_grad(gradient: Tensor, image: Tensor, gram_grad: Tensor, weight: Tensor | None = None) -> None:
    """Add `gram_grad` (4, 4) times the pixels and a constant one, times the squared mask, to the gradient in place."""
    out, planes = gradient[0].view(3, -1), image[0].flatten(1)
    linear, constant = gram_grad[:3, :3].T, gram_grad[3, :3].view(3, 1)
    if weight is None:
        out.addmm_(linear, planes).add_(constant)
        return
    mask = weight.flatten().to(planes.dtype)
    for part in chunks(planes.shape[1], 1, _CHUNK):
        out[:, part] += (linear @ planes[:, part]).add_(constant).mul_(mask[part].square())


def style_factor(normalization: Normalization, target: Tensor) -> float:
    """Factor k of a layer's style loss `k · ‖G − A‖²`, with G and A as means over positions.

    `relative`: 1/‖A‖². `gatys`: 1/(4 N²), which is 1/(4 N² M²) on sums. `notebook`: 10¹²/N⁴, which is the
    mean squared error of Gram sums times 10⁶/(N·M).
    """
    channels = target.shape[0]
    if normalization is Normalization.RELATIVE:
        return 1.0 / max(float(target.square().sum()), _MIN_MEAN_SQUARE * channels**2)
    if normalization is Normalization.GATYS:
        return 1.0 / (4 * channels**2)
    return 1e12 / channels**4


def content_factor(normalization: Normalization, square_sum: float, values: int) -> float:
    """Factor k of a layer's content loss `k · Σ (F − P)²`.

    `relative`: 1/ΣP². `gatys`: 1/2. `notebook`: 10⁶ over the number of values.
    """
    if normalization is Normalization.RELATIVE:
        return 1.0 / max(square_sum, _MIN_MEAN_SQUARE * values)
    if normalization is Normalization.GATYS:
        return 0.5
    return 1e6 / values


def total_variation(image: Tensor, gradient: Tensor, weight: float = 1.0) -> Tensor:
    """Mean squared difference of neighbouring pixels, down and across; `weight` times its gradient is added in place.

    Mahendran and Vedaldi 2015 (arXiv 1412.0035), equation 4, with exponent 2, per pixel value.
    """
    value = torch.zeros((), dtype=_accumulation_dtype(image.dtype), device=image.device)
    scale = 2 * weight / image.numel()
    # Some rows at a time: the differences of a large image would take several times its memory.
    for strip in chunks(image.shape[2], image.shape[3], _CHUNK):
        step = strip.stop - strip.start
        part = image[:, :, strip.start : strip.stop + 1]
        down = part[:, :, 1:] - part[:, :, :-1]
        across = part[:, :, :step, 1:] - part[:, :, :step, :-1]
        value += square_sum(down) + square_sum(across)
        below = gradient[:, :, strip.start : strip.stop + 1]
        below[:, :, 1:].add_(down, alpha=scale)
        below[:, :, :-1].sub_(down, alpha=scale)
        below[:, :, :step, 1:].add_(across, alpha=scale)
        below[:, :, :step, :-1].sub_(across, alpha=scale)
    return value / image.numel()


def out_of_range(image: Tensor, gradient: Tensor, weight: float = 1.0) -> Tensor:
    """Mean squared distance of the values from [0, 1]; `weight` times its gradient is added in place.

    The other terms see the image clamped, as it is shown; without this one, values beyond would never come back.
    """
    value = torch.zeros((), dtype=_accumulation_dtype(image.dtype), device=image.device)
    for strip in chunks(image.shape[2], image.shape[3], _CHUNK):
        part = image[:, :, strip]
        beyond = part - part.clamp(0, 1)
        value += square_sum(beyond)
        gradient[:, :, strip].add_(beyond, alpha=2 * weight / image.numel())
    return value / image.numel()


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the number format sums are taken in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)
