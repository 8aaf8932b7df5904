"""The spectral metric is symmetric, can be undone, and moves coarse structure first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_styletransfer.engine.precondition import SpectralMetric

ImageOf = Callable[..., Tensor]
sizes = st.integers(1, 24)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(height=sizes, width=sizes, exponent=st.floats(0, 1.5))
def test_the_metric_is_its_own_adjoint(height: int, width: int, exponent: float) -> None:
    metric = SpectralMetric(height, width, exponent)
    a, b = noise(height, width, 1), noise(height, width, 2)

    assert float((metric.to_image(a) * b).sum()) == pytest.approx(
        float((a * metric.to_latent_gradient(b)).sum()), rel=1e-5, abs=1e-5
    )


@given(height=sizes, width=sizes, exponent=st.floats(0, 1.5))
def test_the_metric_can_be_undone(height: int, width: int, exponent: float) -> None:
    metric = SpectralMetric(height, width, exponent)
    image = noise(height, width)

    torch.testing.assert_close(metric.to_image(metric.to_latent(image)), image, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(metric.to_latent(metric.to_image(image)), image, rtol=1e-6, atol=1e-6)


def test_without_exponent_nothing_is_changed() -> None:
    image = noise(7, 9)
    metric = SpectralMetric(7, 9, 0.0)

    assert metric.to_image(image) is image
    assert metric.to_latent(image) is image
    assert metric.to_latent_gradient(image) is image


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (9, 31)])
def test_the_gains_are_powers_of_the_frequency(size: tuple[int, int]) -> None:
    # The full two-sided transform in numpy, against the half one that the metric uses.
    exponent, image = 0.7, noise(*size)
    down, across = np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None]
    gain = np.maximum(np.hypot(down, across), 1 / max(size)) ** -exponent
    gain /= np.sqrt((gain**2).mean())

    expected = np.fft.ifft2(np.fft.fft2(image.numpy()) * gain).real

    np.testing.assert_allclose(SpectralMetric(*size, exponent).to_image(image).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_white_noise_keeps_its_power(exponent: float) -> None:
    image = noise(64, 96)

    power = float(SpectralMetric(64, 96, exponent).to_image(image).square().mean())

    # The strongest gains fall on few frequencies, so that one draw of noise varies.
    assert power == pytest.approx(1, rel=0.15)


def test_coarse_structure_gains_over_fine_structure() -> None:
    x = torch.arange(64, dtype=torch.float64)
    metric = SpectralMetric(64, 64, 0.5)
    coarse, fine = (torch.cos(2 * torch.pi * cycles * x / 64).expand(1, 3, 64, 64) for cycles in (2, 32))

    gains = [float(metric.to_image(wave).norm() / wave.norm()) for wave in (coarse, fine)]

    assert gains[0] / gains[1] == pytest.approx((32 / 2) ** 0.5)


def test_the_gradient_in_the_latent_image_is_that_of_finite_differences() -> None:
    metric = SpectralMetric(6, 7, 0.5)
    z, direction = noise(6, 7, 1), noise(6, 7, 2)

    def loss(latent: Tensor) -> float:
        return float(metric.to_image(latent).pow(3).sum())

    gradient = metric.to_latent_gradient(3 * metric.to_image(z).square())

    slope = (loss(z + 1e-5 * direction) - loss(z - 1e-5 * direction)) / 2e-5
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_images_stay_float32() -> None:
    image = noise(8, 8).float()

    assert SpectralMetric(8, 8, 0.5).to_image(image).dtype is torch.float32


def falling(size: tuple[int, int], power: float) -> Tensor:
    """Noise whose amplitudes fall as f^-power."""
    down, across = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None]
    frequency = torch.hypot(down, across).clamp(min=1 / max(size))
    return torch.fft.irfft2(torch.fft.rfft2(noise(*size)) * frequency**-power, s=size).float()


@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
@pytest.mark.parametrize(("power", "exponent"), [(0.0, 0.25), (0.7, 0.15), (1.5, 0.0)])
def test_the_first_step_is_given_the_spectrum_of_natural_images(
    size: tuple[int, int], power: float, exponent: float
) -> None:
    metric = SpectralMetric(*size, None)

    changed = metric.fit(falling(size, power))

    assert metric.exponent == pytest.approx(exponent, abs=0.03)
    assert changed is (exponent > 0)
    image = noise(*size)
    torch.testing.assert_close(
        metric.to_image(image), SpectralMetric(*size, metric.exponent).to_image(image), rtol=1e-6, atol=1e-6
    )


def test_the_scale_of_a_gradient_does_not_matter_to_the_fit() -> None:
    small, large = SpectralMetric(64, 64, None), SpectralMetric(64, 64, None)

    small.fit(1e-9 * falling((64, 64), 0.7))
    large.fit(1e3 * falling((64, 64), 0.7))

    assert small.exponent == pytest.approx(large.exponent, rel=1e-3)


def test_a_metric_is_fitted_once_and_a_given_exponent_never() -> None:
    free, given_one = SpectralMetric(64, 64, None), SpectralMetric(64, 64, 0.1)
    free.fit(falling((64, 64), 1.5))

    assert not free.fit(falling((64, 64), 0.0))
    assert not given_one.fit(falling((64, 64), 0.0))
    assert (free.exponent, given_one.exponent) == (0.0, 0.1)


@pytest.mark.parametrize("gradient", [torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 7, 9)])
def test_a_gradient_without_a_spectrum_leaves_the_identity(gradient: Tensor) -> None:
    metric = SpectralMetric(*gradient.shape[-2:], None)

    assert not metric.fit(gradient)

    assert metric.to_image(gradient) is gradient


def test_of_large_gradients_only_the_centre_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = falling((96, 128), 0.7)
    gradient[..., :16, :] = 1e3 * torch.randn(16, 128, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("napari_styletransfer.engine.precondition._LARGEST", 64)
    metric = SpectralMetric(96, 128, None)

    metric.fit(gradient)

    assert metric.exponent == pytest.approx(0.15, abs=0.04)
