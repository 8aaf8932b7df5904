"""Octaves of a picture, and how they are brought to those of a style."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from napari_styletransfer.images import laplacian as octaves_module
from napari_styletransfer.images.color import match_colors
from napari_styletransfer.images.laplacian import StyleStatistics, finest_octave, match_finest_octave, match_statistics
from napari_styletransfer.images.resize import resize

ImageOf = Callable[..., Tensor]


def natural(image: Tensor, contrast: float, *, fine: float = 1.0) -> Tensor:
    """Colours about the middle of the range, in which nothing is clamped, with more or less of the finest octave."""
    blurred = resize(resize(image, 24, 32), *image.shape[2:])
    return 0.5 + contrast * (blurred - 0.5 + fine * (image - blurred))


def covariance(octave: Tensor) -> Tensor:
    pixels = octave[0].flatten(1).double()
    return pixels @ pixels.T / pixels.shape[1]


def octaves(image: Tensor, count: int) -> list[Tensor]:
    found = []
    for _ in range(count):
        found.append(finest_octave(image))
        height, width = image.shape[2:]
        image = resize(image, (height + 1) // 2, (width + 1) // 2)
    return found


def test_a_picture_half_the_size_has_no_finest_octave(random_image: ImageOf) -> None:
    image = random_image(40, 52, seed=1)

    enlarged = resize(resize(image, 20, 26), 40, 52)

    torch.testing.assert_close(image - finest_octave(image), enlarged)
    assert finest_octave(enlarged).square().mean() < 0.02 * finest_octave(image).square().mean()
    assert finest_octave(torch.full((1, 3, 9, 7), 0.3)).abs().max() < 1e-6


def test_every_octave_gets_the_covariance_of_the_target(random_image: ImageOf) -> None:
    image = natural(random_image(72, 96, seed=1), 0.2)
    grey = random_image(96, 96, seed=2).mean(dim=1, keepdim=True)
    target = natural((random_image(96, 96, seed=2) + 2 * grey) / 3, 0.5, fine=0.4)

    found = match_statistics(image, StyleStatistics.from_image(target))

    recolored = match_colors(image, [target], [1.0])
    for mine, before, theirs in zip(octaves(found, 2), octaves(recolored, 2), octaves(target, 2), strict=True):
        # Octaves overlap a little, and the colours of all pixels are matched at the end.
        torch.testing.assert_close(covariance(mine), covariance(theirs), rtol=0.3, atol=2e-4)
        assert (covariance(mine) - covariance(theirs)).norm() < 0.5 * (covariance(before) - covariance(theirs)).norm()


def test_the_finest_octave_of_the_content_keeps_its_pattern_and_gets_that_contrast(random_image: ImageOf) -> None:
    image = natural(random_image(48, 64, seed=1), 0.2)
    target = natural(random_image(48, 64, seed=2), 0.3, fine=0.5)

    found = match_finest_octave(image, StyleStatistics.from_image(target))

    torch.testing.assert_close(covariance(found), covariance(finest_octave(target)), rtol=0.05, atol=1e-5)
    together = torch.corrcoef(torch.stack([found.flatten(), finest_octave(image).flatten()]))[0, 1]
    assert together > 0.9


def test_a_picture_matched_to_itself_stays_as_it_is(random_image: ImageOf) -> None:
    image = natural(random_image(48, 64, seed=3), 0.4)

    torch.testing.assert_close(match_statistics(image, StyleStatistics.from_image(image)), image, rtol=0, atol=0.02)


def test_targets_count_by_their_weights(random_image: ImageOf) -> None:
    image = natural(random_image(48, 64, seed=1), 0.2)
    weak, strong = natural(random_image(48, 48, seed=2), 0.1), natural(random_image(48, 48, seed=3), 0.4)

    found = match_finest_octave(
        image,
        StyleStatistics.blended([StyleStatistics.from_image(weak), StyleStatistics.from_image(strong)], [3.0, 1.0]),
    )

    wanted = (3 * covariance(finest_octave(weak)) + covariance(finest_octave(strong))) / 4
    torch.testing.assert_close(covariance(found), wanted, rtol=0.05, atol=1e-5)


def test_what_is_not_there_is_not_made_strong(random_image: ImageOf) -> None:
    """The noise of a smooth background, let alone its rounding, must not become the texture of the style."""
    noise = random_image(48, 64, seed=1) - 0.5
    target = natural(random_image(48, 64, seed=2), 0.8)

    # The colours are those of the target already, by coarse structure that has no part in the finest octave.
    coarse = resize(target, 6, 8)
    image = resize(coarse, 48, 64)
    image = image + 1e-3 * noise
    recolored = match_colors(image, [target], [1.0])
    found = match_finest_octave(image, StyleStatistics.from_image(target))

    assert finest_octave(found).std() <= 10.5 * finest_octave(recolored).std()
    assert found.std() < 0.3 * finest_octave(target).std()


def test_a_flat_picture_stays_flat(random_image: ImageOf) -> None:
    found = match_statistics(torch.full((1, 3, 48, 64), 0.2), StyleStatistics.from_image(random_image(48, 64, seed=1)))

    assert torch.isfinite(found).all()
    assert found.flatten(2).std(dim=2).max() < 1e-3


@pytest.mark.parametrize("contrast", [0.0, 1e-4, 1e-2])
def test_a_soft_style_gives_a_soft_start(contrast: float, random_image: ImageOf) -> None:
    """Its octaves have variances so small that digits are easily lost."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 48, 64) * torch.tensor([0.9, 0.5, 0.2]).view(1, 3, 1, 1)
    grey = random_image(48, 64, seed=1)[:, :1].expand(-1, 3, -1, -1)
    style = natural(grey, contrast)

    for image in (ramp.contiguous(), random_image(48, 64, seed=2)):
        found = match_finest_octave(image, StyleStatistics.from_image(style))
        assert found.std() <= 1.2 * finest_octave(style).std() + 1e-6
        assert (
            finest_octave(match_statistics(image, StyleStatistics.from_image(style))).std()
            <= 1.5 * finest_octave(style).std() + 3e-3
        )


def test_nothing_grows_more_than_it_may(random_image: ImageOf) -> None:
    noise = 1e-3 * (random_image(48, 64, seed=1) - 0.5)
    strong = random_image(48, 64, seed=2)[:, :1].expand(-1, 3, -1, -1)

    brought = octaves_module._match_covariance(finest_octave(noise), covariance(finest_octave(strong)))

    assert 9 < brought.sum(1).std() / finest_octave(noise).sum(1).std() <= 10.01


def test_a_style_too_thin_for_octaves_leaves_them_to_the_others(random_image: ImageOf) -> None:
    image, style = random_image(48, 64, seed=1), natural(random_image(48, 64, seed=2), 0.3)
    thin = natural(random_image(40, 40, seed=3), 0.2)[:, :, :5]

    both = StyleStatistics.blended([StyleStatistics.from_image(style), StyleStatistics.from_image(thin)], [9.0, 1.0])

    assert not StyleStatistics.from_image(thin).octaves
    assert len(both.octaves) == len(StyleStatistics.from_image(style).octaves) == 2
    torch.testing.assert_close(
        covariance(match_finest_octave(image, both)), covariance(finest_octave(style)), rtol=0.05, atol=1e-5
    )


def test_grey_stays_grey(random_image: ImageOf) -> None:
    image, target = (random_image(48, 64, seed=seed)[:, :1].expand(-1, 3, -1, -1).contiguous() for seed in (1, 2))

    found = match_statistics(image, StyleStatistics.from_image(target))

    assert (found - found[:, :1]).abs().max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (15, 15), (17, 16), (33, 47)])
def test_pictures_of_any_size_can_be_matched(height: int, width: int, random_image: ImageOf) -> None:
    image = random_image(height, width, seed=1)
    target = random_image(20, 64, seed=2)

    for found in (
        match_statistics(image, StyleStatistics.from_image(target)),
        match_finest_octave(image, StyleStatistics.from_image(target)),
    ):
        assert found.shape == image.shape
        assert torch.isfinite(found).all()


def test_pictures_handed_in_are_left_as_they_were(random_image: ImageOf) -> None:
    image, target = random_image(40, 50, seed=1), random_image(40, 50, seed=2)
    before = image.clone(), target.clone()

    match_statistics(image, StyleStatistics.from_image(target))
    match_finest_octave(image, StyleStatistics.from_image(target))

    assert torch.equal(image, before[0])
    assert torch.equal(target, before[1])


def test_large_targets_are_measured_some_rows_at_a_time(random_image: ImageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = natural(random_image(48, 64, seed=1), 0.2), natural(random_image(90, 64, seed=2), 0.3)
    whole = match_finest_octave(image, StyleStatistics.from_image(target))

    monkeypatch.setattr("napari_styletransfer.images.laplacian._CHUNK", 40 * 64)

    found = match_finest_octave(image, StyleStatistics.from_image(target))
    assert not torch.equal(found, whole)
    torch.testing.assert_close(found, whole, rtol=0.05, atol=0.01)
