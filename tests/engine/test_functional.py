"""The loss terms are those of the papers, and their gradients those of finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_styletransfer.config import Normalization
from napari_styletransfer.nn import functional

ImageOf = Callable[..., Tensor]
Term = Callable[..., Tensor]


def feature_map(channels: int, height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, height, width, channels, generator=generator, dtype=torch.float64).relu()
    return values.to(dtype).permute(0, 3, 1, 2)


@given(channels=st.integers(1, 7), height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 999))
def test_a_gram_matrix_holds_the_inner_products_of_the_channels(
    channels: int, height: int, width: int, seed: int
) -> None:
    features = feature_map(channels, height, width, seed)

    expected = np.einsum("nchw,ndhw->cd", features.numpy(), features.numpy())

    np.testing.assert_allclose(functional.gram_sum(features).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_mask_multiplies_the_features_before_their_products_are_taken() -> None:
    features = feature_map(4, 5, 6)
    mask = torch.rand(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    expected = np.einsum("chw,dhw,hw->cd", features[0].numpy(), features[0].numpy(), mask.numpy() ** 2)

    np.testing.assert_allclose(functional.gram_sum(features, mask).numpy(), expected, rtol=1e-12)


def test_a_mask_of_zero_and_one_leaves_out_the_positions_beyond_it() -> None:
    features = feature_map(4, 5, 6)
    mask = torch.zeros(5, 6, dtype=torch.float64)
    mask[1:4, 2:5] = 1

    inside = functional.gram_sum(features[:, :, 1:4, 2:5])

    torch.testing.assert_close(functional.gram_sum(features, mask), inside)


def test_a_gram_matrix_is_summed_in_pieces_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    features = feature_map(3, 9, 7)
    mask = torch.rand(9, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, masked = functional.gram_sum(features), functional.gram_sum(features, mask)

    monkeypatch.setattr(functional, "_CHUNK", 10)

    torch.testing.assert_close(functional.gram_sum(features), plain)
    torch.testing.assert_close(functional.gram_sum(features, mask), masked)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-9), (torch.float16, 0)])
def test_sums_over_narrow_features_are_taken_in_float32(dtype: torch.dtype, rounding: float) -> None:
    # 200² · 100 positions is beyond the largest float16.
    features = torch.full((1, 2, 10, 10), 200.0, dtype=dtype)

    gram = functional.gram_sum(features)

    assert gram.dtype is torch.float32
    # Products of bfloat16 come rounded to it.
    assert gram.flatten().tolist() == pytest.approx([4e6] * 4, rel=rounding)
    assert float(functional.square_sum(features)) == pytest.approx(8e6)


def test_pixel_statistics_hold_number_mean_and_second_moments(random_image: ImageOf) -> None:
    image = random_image(6, 9)
    pixels = image[0].reshape(3, -1).numpy()

    gram = functional.pixel_gram_sum(image).numpy()

    assert gram.shape == (4, 4)
    assert gram[3, 3] == 54
    np.testing.assert_allclose(gram[:3, 3] / 54, pixels.mean(axis=1))
    covariance = gram[:3, :3] / 54 - np.outer(gram[:3, 3], gram[:3, 3]) / 54**2
    np.testing.assert_allclose(covariance, np.cov(pixels, bias=True))


def test_the_relative_style_loss_is_the_squared_relative_error() -> None:
    gram, target = _grams()

    loss = functional.style_factor(Normalization.RELATIVE, target) * (gram - target).square().sum()

    expected = np.linalg.norm(gram - target, "fro") ** 2 / np.linalg.norm(target, "fro") ** 2
    assert float(loss) == pytest.approx(expected)


def test_the_gatys_style_loss_is_that_of_equation_four() -> None:
    f, a = feature_map(6, 7, 8, seed=1), feature_map(6, 7, 8, seed=2)
    channels, positions = 6, 7 * 8
    gram, target = (functional.gram_sum(features) / positions for features in (f, a))

    loss = functional.style_factor(Normalization.GATYS, target) * (gram - target).square().sum()

    sums = [np.einsum("ik,jk->ij", *[x[0].reshape(channels, -1).numpy()] * 2) for x in (f, a)]
    expected = ((sums[0] - sums[1]) ** 2).sum() / (4 * channels**2 * positions**2)
    assert float(loss) == pytest.approx(expected)


def test_the_notebook_style_loss_is_the_mean_squared_error_of_its_scaled_gram_matrices() -> None:
    f, a = feature_map(6, 7, 8, seed=1), feature_map(6, 5, 4, seed=2)
    gram, target = functional.gram_sum(f) / (7 * 8), functional.gram_sum(a) / (5 * 4)

    loss = functional.style_factor(Normalization.NOTEBOOK, target) * (gram - target).square().sum()

    def lesson_gram(x: Tensor) -> np.ndarray:
        b, c, h, w = x.shape
        flat = x.reshape(b * c, -1).numpy()
        return np.einsum("ik,jk->ij", flat, flat) / (b * c * h * w) * 1e6

    assert float(loss) == pytest.approx(np.mean((lesson_gram(f) - lesson_gram(a)) ** 2))


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        (Normalization.RELATIVE, lambda f, p: ((f - p) ** 2).sum() / (p**2).sum()),
        (Normalization.GATYS, lambda f, p: 0.5 * ((f - p) ** 2).sum()),
        (Normalization.NOTEBOOK, lambda f, p: 1e6 * ((f - p) ** 2).mean()),
    ],
)
def test_the_content_loss_is_the_formula_of_its_normalisation(
    normalization: Normalization, expected: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    f, p = feature_map(5, 6, 7, seed=1), feature_map(5, 6, 7, seed=2)

    factor = functional.content_factor(normalization, float(functional.square_sum(p)), p.numel())

    assert factor * float(functional.square_sum(f - p)) == pytest.approx(expected(f.numpy(), p.numpy()))


@pytest.mark.parametrize("normalization", Normalization)
def test_an_empty_target_gives_a_finite_factor(normalization: Normalization) -> None:
    assert np.isfinite(functional.style_factor(normalization, torch.zeros(4, 4)))
    assert np.isfinite(functional.content_factor(normalization, 0.0, 100))


def with_gradient(term: Term, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return a term's value and what it adds to a gradient of zero."""
    gradient = torch.zeros_like(image)
    return term(image, gradient), gradient


@pytest.mark.parametrize("term", [functional.total_variation, functional.out_of_range])
def test_a_gradient_is_added_as_often_as_it_weighs(term: Term, random_image: ImageOf) -> None:
    image = random_image(6, 7) * 3 - 1
    gradient = torch.ones_like(image)

    value = term(image, gradient, 2.5)

    expected, once = with_gradient(term, image)
    torch.testing.assert_close(gradient, 1 + 2.5 * once)
    torch.testing.assert_close(value, expected)


def test_total_variation_is_the_mean_squared_difference_of_neighbours(random_image: ImageOf) -> None:
    image = random_image(6, 9)

    value, _ = with_gradient(functional.total_variation, image)

    pixels = image[0].numpy()
    down = scipy.ndimage.correlate1d(pixels, [-1, 1], axis=1, origin=-1, mode="nearest")
    across = scipy.ndimage.correlate1d(pixels, [-1, 1], axis=2, origin=-1, mode="nearest")
    assert float(value) == pytest.approx((down**2 + across**2).sum() / pixels.size)


def test_a_flat_image_has_no_total_variation() -> None:
    value, gradient = with_gradient(functional.total_variation, torch.full((1, 3, 5, 4), 0.4))

    assert float(value) == 0
    assert not gradient.any()


def test_an_image_within_the_range_costs_nothing(random_image: ImageOf) -> None:
    value, gradient = with_gradient(functional.out_of_range, random_image(5, 6))

    assert float(value) == 0
    assert not gradient.any()


def test_out_of_range_is_the_mean_squared_distance_from_the_range() -> None:
    image = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.25, 3.0], dtype=torch.float64).view(1, 3, 1, 2)

    value, _ = with_gradient(functional.out_of_range, image)

    assert float(value) == pytest.approx((0.5**2 + 0.25**2 + 2**2) / 6)


@pytest.mark.parametrize("term", [functional.total_variation, functional.out_of_range])
@pytest.mark.parametrize("size", [(4, 5), (1, 6), (5, 1)])
def test_the_gradient_is_that_of_finite_differences(term: Term, size: tuple[int, int], random_image: ImageOf) -> None:
    image = random_image(*size) * 3 - 1
    point = image.numpy().ravel()

    def value(flat: np.ndarray) -> float:
        return float(with_gradient(term, torch.from_numpy(flat.reshape(image.shape)))[0])

    expected = scipy.optimize.approx_fprime(point, value, 1e-7)

    np.testing.assert_allclose(with_gradient(term, image)[1].numpy().ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("term", [functional.total_variation, functional.out_of_range])
def test_a_term_leaves_the_image_as_it_is(term: Term, random_image: ImageOf) -> None:
    image = random_image(4, 5) * 3 - 1
    before = image.clone()

    with_gradient(term, image)

    assert torch.equal(image, before)


def _grams() -> tuple[Tensor, Tensor]:
    return functional.gram_sum(feature_map(5, 6, 7, seed=1)) / 42, functional.gram_sum(
        feature_map(5, 4, 4, seed=2)
    ) / 16
