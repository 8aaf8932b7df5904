"""Tests of the adjoint of making an image smaller."""

from __future__ import annotations

import pytest
import torch

from napari_styletransfer.images.resize import resize
from napari_styletransfer.images.resize_adjoint import ResizeAdjoint


@pytest.mark.parametrize(
    ("large", "small"),
    [
        ((64, 64), (32, 32)),
        ((131, 97), (66, 48)),
        ((200, 65), (100, 32)),
        ((70, 129), (70, 64)),
        ((150, 90), (41, 17)),
        ((5, 300), (2, 150)),
    ],
)
def test_adds_what_autograd_gives(large: tuple[int, int], small: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, *large, generator=generator).requires_grad_()
    gradient = torch.randn(1, 3, *small, generator=generator)
    (resize(image, *small) * gradient).sum().backward()
    assert image.grad is not None
    before = torch.randn(1, 3, *large, generator=generator)
    total = before.clone()

    ResizeAdjoint(large, small).add(total, gradient, 0.5)

    torch.testing.assert_close(total, before + 0.5 * image.grad, rtol=1e-4, atol=2e-5)


def test_writes_into_part_of_a_larger_gradient() -> None:
    canvas = torch.zeros(1, 3, 50, 60)

    part, ones = canvas[:, :, 10:40, 20:60], torch.ones(1, 3, 15, 20)
    ResizeAdjoint((30, 40), (15, 20)).add(part, ones, 1.0)

    assert canvas[:, :, :10].abs().max() == 0
    assert canvas[:, :, 10:40, 20:60].sum().item() == pytest.approx(3 * 15 * 20, rel=1e-5)
