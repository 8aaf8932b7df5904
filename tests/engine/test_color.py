"""Matched pictures have the colours asked for, and lightness alone can be changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_styletransfer.images.color import lightness, match_colors, match_lightness, with_lightness

ImageOf = Callable[..., Tensor]


def moments(image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    pixels = image[0].reshape(3, -1).double().numpy()
    return pixels.mean(axis=1), np.cov(pixels, bias=True)


def muted(image: Tensor, center: float, spread: float, mix: float) -> Tensor:
    """Correlated colours in the middle of the range, so that nothing is clamped."""
    grey = image.mean(dim=1, keepdim=True)
    return center + spread * (mix * grey + (1 - mix) * image - 0.5)


def test_a_matched_picture_has_the_mean_and_covariance_of_the_target(random_image: ImageOf) -> None:
    image = muted(random_image(40, 50, seed=1), 0.4, 0.3, 0.5)
    target = muted(random_image(30, 30, seed=2), 0.6, 0.4, 0.8) * torch.tensor([1.1, 0.9, 0.7]).view(1, 3, 1, 1)

    found = match_colors(image, [target], [1.0])

    for one, other in zip(moments(found), moments(target), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


def test_the_targets_count_by_their_weights(random_image: ImageOf) -> None:
    image = muted(random_image(40, 50, seed=1), 0.5, 0.3, 0.5)
    first = muted(random_image(30, 30, seed=2), 0.4, 0.3, 0.2)
    second = muted(random_image(30, 30, seed=3), 0.6, 0.2, 0.9)

    found = match_colors(image, [first, second], [3.0, 1.0])

    together = torch.cat([first, first, first, second], dim=2)
    for one, other in zip(moments(found), moments(together), strict=True):
        np.testing.assert_allclose(one, other, atol=5e-5)


def test_a_picture_matched_to_itself_stays_as_it_is(random_image: ImageOf) -> None:
    image = random_image(20, 20)

    torch.testing.assert_close(match_colors(image, [image], [1.0]), image, atol=1e-6, rtol=0)


def test_a_brighter_pixel_stays_the_brighter_one(random_image: ImageOf) -> None:
    # The map between the colours is symmetric and positive: along any direction it never turns back.
    image = muted(random_image(20, 20, seed=1), 0.5, 0.3, 0.3)
    target = muted(random_image(20, 20, seed=2), 0.5, 0.4, 0.7)
    found = match_colors(image, [target], [1.0])

    before = image[0].reshape(3, -1)
    after = found[0].reshape(3, -1)
    moves = ((before[:, 1:] - before[:, :-1]) * (after[:, 1:] - after[:, :-1])).sum(0)
    assert float(moves.min()) > 0


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_picture_takes_the_mean_colour(value: float, random_image: ImageOf) -> None:
    target = random_image(20, 20)

    found = match_colors(torch.full((1, 3, 9, 9), value), [target], [1.0])

    np.testing.assert_allclose(moments(found)[0], moments(target)[0], atol=1e-5)
    assert float(found.var(dim=(2, 3)).max()) < 1e-8


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_target_makes_the_picture_nearly_constant(value: float, random_image: ImageOf) -> None:
    found = match_colors(random_image(20, 20), [torch.full((1, 3, 9, 9), value)], [1.0])

    assert bool(torch.isfinite(found).all())
    assert float((found - value).abs().max()) < 0.02


def test_a_grey_picture_can_take_colours_and_a_grey_target_can_take_them_away(random_image: ImageOf) -> None:
    coloured = random_image(20, 20, seed=1)
    grey = random_image(20, 20, seed=2)[:, :1].expand(-1, 3, -1, -1).contiguous()

    tinted = match_colors(grey, [coloured], [1.0])
    drained = match_colors(coloured, [grey], [1.0])

    np.testing.assert_allclose(moments(tinted)[0], moments(coloured)[0], atol=1e-2)
    assert float((drained - drained.mean(dim=1, keepdim=True)).abs().max()) < 0.05
    assert bool(torch.isfinite(tinted).all())


def test_a_matched_picture_stays_in_the_range(random_image: ImageOf) -> None:
    target = (random_image(20, 20, seed=1) > 0.5).double()

    found = match_colors(random_image(20, 20, seed=2), [target], [1.0])

    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_lightness_is_that_of_oklab() -> None:
    # Reference values of the colour space's author, and of white, black and middle grey.
    colors = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]], dtype=torch.float64)

    found = lightness(colors.T.reshape(1, 3, 2, 3))

    expected = [1.0, 0.0, 0.62796, 0.86644, 0.45201, 0.59818]
    np.testing.assert_allclose(found[0, 0].reshape(-1).numpy(), expected, atol=1e-4)
    assert torch.equal(found[:, 0], found[:, 2])


def test_a_picture_given_its_own_lightness_stays_as_it_is(random_image: ImageOf) -> None:
    image = random_image(20, 20)

    torch.testing.assert_close(with_lightness(image, lightness(image)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_survive_the_round_trip(value: float) -> None:
    image = torch.full((1, 3, 4, 4), value)

    torch.testing.assert_close(with_lightness(image, lightness(image)), image, atol=1e-3, rtol=0)


def test_changing_the_lightness_sets_it_and_keeps_the_hue(random_image: ImageOf) -> None:
    image = muted(random_image(20, 20, seed=1), 0.5, 0.2, 0.5)
    grey = torch.full_like(image, 0.65)

    found = with_lightness(image, grey)

    torch.testing.assert_close(lightness(found), grey, atol=1e-4, rtol=0)
    hue, colorful = _hue(image)
    difference = torch.remainder(_hue(found)[0] - hue + 0.5, 1) - 0.5
    assert bool(colorful.any())
    assert float(difference[colorful].abs().max()) < 0.02


def test_any_lightness_gives_colours_in_the_range(random_image: ImageOf) -> None:
    found = with_lightness(random_image(20, 20, seed=1), torch.rand(1, 3, 20, 20).double())

    assert bool(torch.isfinite(found).all())
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_matched_lightness_has_the_mean_and_spread_of_the_target(random_image: ImageOf) -> None:
    grey = muted(random_image(30, 30, seed=1), 0.3, 0.2, 1.0)
    target = muted(random_image(20, 20, seed=2), 0.6, 0.5, 1.0)

    found = match_lightness(grey, target)

    assert float(found.mean()) == pytest.approx(float(target.mean()), abs=1e-4)
    assert float(found.std()) == pytest.approx(float(target.std()), abs=1e-3)


def test_a_flat_picture_can_be_matched_in_lightness() -> None:
    found = match_lightness(torch.full((1, 3, 5, 5), 0.2), torch.full((1, 3, 5, 5), 0.7))

    torch.testing.assert_close(found, torch.full((1, 3, 5, 5), 0.7))


def _hue(image: Tensor) -> tuple[Tensor, Tensor]:
    """Hue in turns, in the plane across the grey axis, and where there is enough colour to tell."""
    red, green, blue = image[0]
    across, along = 2 * red - green - blue, 3**0.5 * (green - blue)
    return torch.atan2(along, across) / (2 * torch.pi), torch.hypot(across, along) > 0.05
