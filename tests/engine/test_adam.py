"""Adam moves as torch's does and keeps the best point."""

from __future__ import annotations

import math

import pytest
import torch

from napari_styletransfer.errors import DivergedError
from napari_styletransfer.optim.adam import Adam


def test_the_points_are_those_of_torch() -> None:
    start = torch.tensor([1.0, -2.0, 0.5])
    theirs = start.clone().requires_grad_()
    reference = torch.optim.Adam([theirs], lr=0.05)
    ours = Adam(start, learning_rate=0.05)

    for _ in range(20):
        reference.zero_grad()
        theirs.square().sum().backward()
        reference.step()
        ours.tell(float(ours.point.square().sum()), 2 * ours.point)
        torch.testing.assert_close(ours.point, theirs.detach())


def test_the_best_point_outlives_a_worse_one() -> None:
    adam = Adam(torch.zeros(2), learning_rate=0.1)
    adam.tell(3.0, torch.ones(2))
    best = adam.point.clone()
    adam.tell(1.0, torch.ones(2))
    adam.tell(2.0, torch.ones(2))

    assert adam.best_loss == 1.0
    assert torch.equal(adam.best, best)
    assert adam.loss == 2.0


def test_the_start_is_told_but_is_no_step() -> None:
    adam = Adam(torch.zeros(2))

    for number in range(4):
        assert adam.tell(1.0, torch.ones(2))
        assert adam.iterations == number
        assert adam.evaluations == number + 1


def test_the_first_step_is_the_learning_rate() -> None:
    adam = Adam(torch.zeros(5), learning_rate=0.02)

    adam.tell(1.0, torch.tensor([1.0, -1.0, 1e-3, 100.0, -5.0]))

    torch.testing.assert_close(adam.point.abs(), torch.full((5,), 0.02), rtol=1e-3, atol=0)


def test_the_start_is_left_as_it_was() -> None:
    start = torch.ones(3)

    Adam(start).tell(1.0, torch.ones(3))

    assert torch.equal(start, torch.ones(3))


@pytest.mark.parametrize(("loss", "slope"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_a_non_finite_loss_or_gradient_ends_in_a_clear_error(loss: float, slope: float) -> None:
    adam = Adam(torch.zeros(3))
    adam.tell(1.0, torch.ones(3))

    with pytest.raises(DivergedError, match=r"no longer finite.*learning rate"):
        adam.tell(loss, torch.full((3,), slope))
    assert torch.equal(adam.best, torch.zeros(3))
