"""A metric's two sides, as the tests compare them; the engine turns steps and gradients in place only."""

from __future__ import annotations

from torch import Tensor

from napari_styletransfer.optim.preconditioner import SpectralMetric


def to_image(metric: SpectralMetric, z: Tensor) -> Tensor:
    """Return x for z."""
    x = z.new_zeros(z.shape)
    metric.add_to(x, z.clone())
    return x


def to_latent(metric: SpectralMetric, x: Tensor) -> Tensor:
    """Return z for x."""
    z = x.clone()
    metric.convert_step_(SpectralMetric(x.shape[-2], x.shape[-1], 0.0), z)
    return z


def latent_gradient(metric: SpectralMetric, gradient: Tensor) -> Tensor:
    """Return the gradient with respect to z for the one with respect to x."""
    return metric.latent_gradient_(gradient.clone())
