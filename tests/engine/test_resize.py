"""Sizes are those one expects, and a style is fitted as the lesson does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_styletransfer.config import StyleFit
from napari_styletransfer.images.resize import COARSEST, fit_style, resize, schedule, working_size

ImageOf = Callable[..., Tensor]
sides = st.integers(1, 3000)


@given(height=sides, width=sides, longest=st.integers(32, 2000))
def test_the_longest_side_is_shrunk_to_the_one_asked_for_and_never_grows(height: int, width: int, longest: int) -> None:
    found = working_size(height, width, longest)

    assert max(found) == min(longest, max(height, width))
    assert min(found) >= 1
    if max(height, width) <= longest:
        assert found == (height, width)
    else:
        ratio = longest / max(height, width)
        assert found[0] == pytest.approx(max(1, height * ratio), abs=0.5)
        assert found[1] == pytest.approx(max(1, width * ratio), abs=0.5)


def test_without_a_size_the_picture_keeps_its_own() -> None:
    assert working_size(5000, 3, None) == (5000, 3)


@given(
    height=st.integers(20, 3000),
    width=st.integers(20, 3000),
    scales=st.one_of(st.none(), st.integers(1, 8)),
    smallest=st.integers(1, 20),
)
def test_the_schedule_doubles_up_to_the_size_of_the_picture(
    height: int, width: int, scales: int | None, smallest: int
) -> None:
    sizes = schedule(height, width, scales, smallest)

    assert sizes[-1] == (height, width)
    for coarse, fine in pairwise(sizes):
        assert abs(2 * coarse[0] - fine[0]) <= 2
        assert abs(2 * coarse[1] - fine[1]) <= 2
        assert min(coarse) >= smallest
        assert scales is not None or max(coarse) >= COARSEST
    assert scales is None or len(sizes) <= scales


@pytest.mark.parametrize(
    ("size", "scales", "expected"),
    [
        ((512, 384), None, [(128, 96), (256, 192), (512, 384)]),
        ((512, 384), 1, [(512, 384)]),
        ((512, 384), 2, [(256, 192), (512, 384)]),
        ((100, 100), None, [(100, 100)]),
        ((64, 48), 3, [(16, 12), (32, 24), (64, 48)]),
        ((64, 20), 3, [(64, 20)]),
    ],
)
def test_the_schedule_goes_from_coarse_to_fine(
    size: tuple[int, int], scales: int | None, expected: list[tuple[int, int]]
) -> None:
    assert schedule(*size, scales, 12) == expected


def test_resizing_keeps_a_flat_picture_flat() -> None:
    flat = torch.full((1, 3, 40, 30), 0.37)

    for size in ((13, 17), (80, 31), (1, 1)):
        torch.testing.assert_close(resize(flat, *size), torch.full((1, 3, *size), 0.37))


def test_resizing_to_the_same_size_does_nothing(random_image: ImageOf) -> None:
    image = random_image(9, 8)

    assert resize(image, 9, 8) is image


def test_shrinking_does_not_alias() -> None:
    board = (torch.arange(64).view(-1, 1) + torch.arange(64).view(1, -1)).remainder(2).float().expand(1, 3, 64, 64)

    small = resize(board, 16, 16)

    assert float((small - 0.5).abs().max()) < 0.05


def test_covering_resizes_by_the_larger_ratio_and_crops_the_centre(random_image: ImageOf) -> None:
    # 40 x 80 to cover 50 x 60: by 1.25 to 50 x 100, then 20 off each end.
    style = random_image(40, 80, dtype=torch.float32)

    found = fit_style(style, 50, 60, StyleFit.COVER, 1.0, 16)

    expected = resize(style, 50, 100).clamp(0, 1)[:, :, :, 20:80]
    torch.testing.assert_close(found, expected)


@given(
    style=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    content=st.tuples(st.integers(16, 90), st.integers(16, 90)),
)
def test_a_covering_style_has_the_size_of_the_content(style: tuple[int, int], content: tuple[int, int]) -> None:
    found = fit_style(torch.full((1, 3, *style), 0.5), *content, StyleFit.COVER, 1.0, 16)

    assert found.shape[2:] == content
    assert found.is_contiguous()


@given(
    style=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    content=st.tuples(st.integers(16, 90), st.integers(16, 90)),
)
def test_a_whole_style_keeps_its_proportions_at_the_longest_side_of_the_content(
    style: tuple[int, int], content: tuple[int, int]
) -> None:
    height, width = fit_style(torch.full((1, 3, *style), 0.5), *content, StyleFit.WHOLE, 1.0, 16).shape[2:]

    assert height / width == pytest.approx(style[0] / style[1], rel=0.04)
    assert min(height, width) >= 16
    if min(height, width) > 16:
        assert max(height, width) == max(content)


def test_a_larger_style_scale_enlarges_the_strokes_and_keeps_the_middle() -> None:
    columns = torch.arange(64).float()
    style = (columns.remainder(8) < 4).float().expand(1, 3, 64, 64)

    found = fit_style(style, 64, 64, StyleFit.COVER, 2.0, 16)

    assert found.shape[2:] == (64, 64)
    expected = resize(style, 128, 128).clamp(0, 1)[:, :, 32:96, 32:96]
    torch.testing.assert_close(found, expected)


def test_a_smaller_style_scale_shrinks_the_picture() -> None:
    style = torch.full((1, 3, 64, 64), 0.5)

    assert fit_style(style, 64, 64, StyleFit.COVER, 0.5, 16).shape[2:] == (32, 32)
    assert fit_style(style, 64, 64, StyleFit.WHOLE, 0.5, 16).shape[2:] == (32, 32)
    assert fit_style(style, 64, 64, StyleFit.WHOLE, 2.0, 16).shape[2:] == (128, 128)


@pytest.mark.parametrize("fit", StyleFit)
def test_no_side_of_a_style_becomes_smaller_than_the_network_can_see(fit: StyleFit) -> None:
    for size in ((3, 90), (90, 3), (1, 1)):
        found = fit_style(torch.full((1, 3, *size), 0.5), 40, 60, fit, 0.1, 16)
        assert min(found.shape[2:]) >= 16


def test_a_fitted_style_stays_in_the_range() -> None:
    board = torch.zeros(1, 3, 8, 8)
    board[:, :, ::2] = 1

    found = fit_style(board, 61, 61, StyleFit.COVER, 1.0, 16)

    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
