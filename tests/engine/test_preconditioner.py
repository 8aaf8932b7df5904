"""The spectral metric has its adjoint, can be undone, moves coarse structure first, and learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from latent_terms import latent_gradient, to_image, to_latent
from torch import Tensor

from napari_styletransfer.optim import preconditioner, spectrum
from napari_styletransfer.optim.preconditioner import SpectralMetric

ImageOf = Callable[..., Tensor]
sizes = st.integers(1, 24)


def turned(turn: Callable[[SpectralMetric, Tensor], None], before: SpectralMetric, image: Tensor) -> Tensor:
    """What is turned in place, as a copy."""
    result = image.clone()
    turn(before, result)
    return result


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(height=sizes, width=sizes, exponent=st.floats(0, 1.5))
def test_the_metric_is_its_own_adjoint(height: int, width: int, exponent: float) -> None:
    metric = SpectralMetric(height, width, exponent)
    a, b = noise(height, width, 1), noise(height, width, 2)

    assert float((to_image(metric, a) * b).sum()) == pytest.approx(
        float((a * latent_gradient(metric, b)).sum()), rel=1e-5, abs=1e-5
    )


@given(height=sizes, width=sizes, exponent=st.floats(0, 1.5))
def test_the_metric_can_be_undone(height: int, width: int, exponent: float) -> None:
    metric = SpectralMetric(height, width, exponent)
    image = noise(height, width)

    torch.testing.assert_close(to_image(metric, to_latent(metric, image)), image, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(to_latent(metric, to_image(metric, image)), image, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (41, 51), (7, 120)])
@pytest.mark.parametrize("strip", [1, 100, 1 << 20])
@pytest.mark.parametrize("learns", [False, True])
def test_a_large_image_in_strips_is_the_whole_one(
    learns: bool, size: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(image: Tensor) -> tuple[Tensor, ...]:
        before = SpectralMetric(*size, 0.25)
        metric = learned(size, (0, 1, 2), before) if learns else before
        added = to_image(metric, image)
        in_place = image.clone()
        assert metric.latent_gradient_(in_place) is in_place
        return (
            added,
            in_place,
            turned(metric.convert_step_, before, image),
            turned(metric.convert_gradient_, before, image),
        )

    expected = of(noise(*size))
    for module in (preconditioner, spectrum):
        monkeypatch.setattr(module, "MAX_WHOLE", 100)
        monkeypatch.setattr(module, "CHUNK", strip)

    torch.testing.assert_close(of(noise(*size)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, None])
def test_without_exponent_nothing_is_changed(exponent: float | None) -> None:
    image = noise(7, 9)
    metric = SpectralMetric(7, 9, exponent)

    assert metric.is_identity
    assert metric.learns is (exponent is None)
    assert metric.latent_gradient_(image) is image
    torch.testing.assert_close(to_image(metric, image), image, rtol=0, atol=0)
    torch.testing.assert_close(image, noise(7, 9), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (9, 31)])
def test_the_gains_are_powers_of_the_frequency(size: tuple[int, int]) -> None:
    # The full two-sided transform in numpy, against the half one that the metric uses.
    exponent, image = 0.7, noise(*size)
    down, across = np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None]
    gain = np.maximum(np.hypot(down, across), 1 / max(size)) ** -exponent
    gain /= np.sqrt((gain**2).mean())

    expected = np.fft.ifft2(np.fft.fft2(image.numpy()) * gain).real

    np.testing.assert_allclose(to_image(SpectralMetric(*size, exponent), image).numpy(), expected, atol=1e-5)


def power_of_white_noise(metric: SpectralMetric, size: tuple[int, int]) -> float:
    """The power that the metric leaves to noise of power 1, on average: that of a point, which has all waves alike."""
    total = 0.0
    for channel in range(3):
        point = torch.zeros(1, 3, *size, dtype=torch.float64)
        point[0, channel, 3, 4] = 1
        total += float(to_image(metric, point).square().sum())
    return total / 3


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_white_noise_keeps_its_power(exponent: float) -> None:
    assert power_of_white_noise(SpectralMetric(64, 96, exponent), (64, 96)) == pytest.approx(1)


def test_coarse_structure_gains_over_fine_structure() -> None:
    x = torch.arange(64, dtype=torch.float64)
    metric = SpectralMetric(64, 64, 0.5)
    coarse, fine = (torch.cos(2 * torch.pi * cycles * x / 64).expand(1, 3, 64, 64) for cycles in (2, 32))

    gains = [float(to_image(metric, wave).norm() / wave.norm()) for wave in (coarse, fine)]

    assert gains[0] / gains[1] == pytest.approx((32 / 2) ** 0.5)


def test_the_gradient_in_the_latent_image_is_that_of_finite_differences() -> None:
    metric = SpectralMetric(6, 7, 0.5)
    z, direction = noise(6, 7, 1), noise(6, 7, 2)

    def loss(latent: Tensor) -> float:
        return float(to_image(metric, latent).pow(3).sum())

    gradient = latent_gradient(metric, 3 * to_image(metric, z).square())

    slope = (loss(z + 1e-5 * direction) - loss(z - 1e-5 * direction)) / 2e-5
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_images_stay_float32() -> None:
    image = noise(8, 8).float()

    assert to_image(SpectralMetric(8, 8, 0.5), image).dtype is torch.float32


def gains(size: tuple[int, int], powers: tuple[float, float, float]) -> Callable[[Tensor], Tensor]:
    """A linear map: brightness and two opponent colours are each multiplied by a power of the frequency."""
    turn = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    turn = turn / turn.norm(dim=1, keepdim=True)
    down, across = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None]
    frequency = torch.hypot(down, across).clamp(min=1 / max(size))
    gain = torch.stack([(number + 1) * frequency**power for number, power in enumerate(powers)])

    def of(image: Tensor) -> Tensor:
        planes = torch.einsum("dc,bchw->bdhw", turn, image.double())
        planes = torch.fft.irfft2(torch.fft.rfft2(planes) * gain, s=size)
        return torch.einsum("dc,bdhw->bchw", turn, planes).to(image.dtype)

    return of


def learned(size: tuple[int, int], powers: tuple[float, float, float], before: SpectralMetric) -> SpectralMetric:
    """What is learned from steps at random where the Hessian is such a map."""
    hessian = gains(size, powers)
    steps = [noise(*size, seed) for seed in range(3)]
    return before.learned((z, latent_gradient(before, hessian(to_image(before, z)))) for z in steps)


METRICS = [
    SpectralMetric(40, 51, 0.0),
    SpectralMetric(40, 51, 0.3),
    learned((40, 51), (0, 1, 2), SpectralMetric(40, 51, None)),
]


@pytest.mark.parametrize("before", METRICS)
def test_in_a_learned_metric_curvatures_are_more_alike(before: SpectralMetric) -> None:
    powers = (2.0, -1.0, 0.0)
    hessian = gains((40, 51), powers)

    after = learned((40, 51), powers, before)

    def spread(metric: SpectralMetric) -> float:
        """How far the curvatures are apart along waves of each colour, coarse and fine."""
        wave = torch.arange(51, dtype=torch.float64).mul(2 * torch.pi / 51)
        curvatures = []
        for cycles in (3, 6, 12, 20):
            for color in ([1, 1, 1], [1, 0, -1], [1, -2, 1]):
                x = torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1) * torch.cos(cycles * wave).expand(40, 51)
                z = to_latent(metric, x)
                curvatures.append(float((x * hessian(x)).sum() / z.square().sum()))
        return max(curvatures) / min(curvatures)

    assert after is not before
    assert spread(after) < 15
    assert spread(before) > 1000


@pytest.mark.parametrize("metric", METRICS)
def test_a_learned_metric_has_its_adjoint_and_can_be_undone(metric: SpectralMetric) -> None:
    a, b = noise(40, 51, 1), noise(40, 51, 2)

    assert float((to_image(metric, a) * b).sum()) == pytest.approx(float((a * latent_gradient(metric, b)).sum()))
    torch.testing.assert_close(to_image(metric, to_latent(metric, a)), a, rtol=1e-5, atol=1e-5)
    assert power_of_white_noise(metric, (40, 51)) == pytest.approx(1)


@pytest.mark.parametrize("before", METRICS)
@pytest.mark.parametrize("after", METRICS)
def test_from_metric_to_metric_images_and_slopes_stay(before: SpectralMetric, after: SpectralMetric) -> None:
    step, change = noise(40, 51, 1), noise(40, 51, 2)

    moved = turned(after.convert_step_, before, step)

    torch.testing.assert_close(to_image(after, moved), to_image(before, step), rtol=1e-5, atol=1e-5)
    assert float((moved * turned(after.convert_gradient_, before, change)).sum()) == pytest.approx(
        float((step * change).sum())
    )


@pytest.mark.parametrize("size", [(9, 14), (40, 51)])
@pytest.mark.parametrize("length", [0.0, 1.0])
def test_where_there_is_nothing_to_learn_the_metric_stays(size: tuple[int, int], length: float) -> None:
    metric = SpectralMetric(*size, None)
    pairs = [(length * noise(*size), torch.zeros(1, 3, *size, dtype=torch.float64))]

    assert metric.learned(pairs) is metric
    assert metric.learned([]) is metric
