"""L-BFGS minimises as well as scipy's, and survives what scipy's does not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize
import torch
from latent_terms import latent_gradient, to_image
from torch import Tensor

from napari_styletransfer.config import LineSearch, Normalization
from napari_styletransfer.errors import DivergedError
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.terms import LossWeights, StyleTarget
from napari_styletransfer.networks.architectures import RGB, Backbone, receptive_fields
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.optim.history import _CURVATURE_FLOOR, _EMA_WEIGHT, History, SearchDirection
from napari_styletransfer.optim.lbfgs import LBFGS
from napari_styletransfer.optim.preconditioner import SpectralMetric
from napari_styletransfer.tiling.tiled_network import TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

Array = npt.NDArray[np.float64]
Function = Callable[[Array], tuple[float, Array]]
SEARCHES = [LineSearch.BACKTRACKING, LineSearch.WOLFE]


def rosenbrock(x: Array) -> tuple[float, Array]:
    return float(scipy.optimize.rosen(x)), scipy.optimize.rosen_der(x)


def badly_scaled(x: Array) -> tuple[float, Array]:
    """A quadratic whose curvatures range over four decades."""
    curvature = np.logspace(0, 4, x.size)
    return float(0.5 * (curvature * x * x).sum()), curvature * x


@dataclass
class Told:
    point: Tensor
    loss: float
    gradient: Tensor
    accepted: bool


def minimise(optimizer: LBFGS, function: Function, evaluations: int, goal: float = -math.inf) -> list[Told]:
    """Ask and tell until the goal is reached, nothing moves any more, or the evaluations are used up."""
    log = []
    for _ in range(evaluations):
        point = optimizer.point.clone()
        loss, gradient = function(point.double().numpy())
        told = torch.as_tensor(gradient, dtype=point.dtype)
        log.append(Told(point, loss, told, optimizer.tell(loss, told)))
        if optimizer.stalled or loss < goal:
            break
    return log


class Reached(Exception):
    """Ends scipy's run."""


def evaluations_of_scipy(function: Function, start: Array, goal: float) -> int:
    """Evaluations until scipy's L-BFGS-B first sees a loss below the goal."""
    evaluations = 0

    def counted(x: Array) -> tuple[float, Array]:
        nonlocal evaluations
        evaluations += 1
        loss, gradient = function(x)
        if loss < goal:
            raise Reached
        return loss, gradient

    options = {"maxcor": 10, "ftol": 0, "gtol": 0, "maxfun": 3000, "maxiter": 3000}
    with pytest.raises(Reached):
        scipy.optimize.minimize(counted, start, jac=True, method="L-BFGS-B", options=options)
    return evaluations


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("function", "start"),
    [
        pytest.param(rosenbrock, np.tile([-1.2, 1.0], 1), id="rosenbrock-2"),
        pytest.param(rosenbrock, np.tile([-1.2, 1.0], 5), id="rosenbrock-10"),
        pytest.param(rosenbrock, np.random.default_rng(0).normal(size=50), id="rosenbrock-50"),
        pytest.param(badly_scaled, np.ones(20), id="badly-scaled-quadratic"),
    ],
)
def test_as_few_evaluations_are_needed_as_by_scipy(search: LineSearch, function: Function, start: Array) -> None:
    goal = 1e-6
    allowed = math.ceil(1.3 * evaluations_of_scipy(function, start, goal))

    log = minimise(LBFGS(torch.from_numpy(start), line_search=search), function, allowed, goal)

    assert log[-1].loss < goal


def style_objective(compact: Backbone, weights: dict[str, Tensor], size: int) -> tuple[Objective, Tensor]:
    """A small style transfer in float64, and its content."""
    content, style = (_picture(size, seed) for seed in (1, 2))
    style_layers = dict.fromkeys((RGB, "relu1_1", "relu2_1", "relu3_1"), 1.0)
    cut = compact.truncated({*style_layers, "relu3_1"})
    wanted = {"relu1_1", "relu2_1", "relu3_1"}
    net = FrozenNetwork(cut, weights, wanted, dtype=torch.float64)
    reach = {name: receptive_fields(cut)[name] for name in wanted}
    blocks = tile_layout(size, size, None, Halo.for_layers(reach.values()))
    grams = TiledNetwork(net, reach, (size, size), blocks).gram_means(style, style_layers)
    terms = LossWeights({"relu3_1": 1.0}, style_layers, 0.05, 1.0, 0.0, Normalization.RELATIVE)
    styles = [StyleTarget(grams, 1.0)]
    return Objective(net, reach, terms, (size, size), blocks, styles=styles, content=content), content


def _picture(size: int, seed: int) -> Tensor:
    """A smooth seeded image in [0, 1]."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("search", list(LineSearch))
def test_a_style_loss_falls_as_far_as_with_scipy(
    search: LineSearch, compact: Backbone, compact_weights: dict[str, Tensor]
) -> None:
    objective, content = style_objective(compact, compact_weights, 32)
    evaluations = 50
    seen: list[float] = []

    def function(x: Array) -> tuple[float, Array]:
        evaluation = objective(torch.from_numpy(x.reshape(content.shape).copy()))
        seen.append(evaluation.losses["total"])
        return evaluation.losses["total"], evaluation.gradient.numpy().reshape(x.shape)

    options = {"maxcor": 10, "ftol": 0, "gtol": 0, "maxfun": evaluations}
    scipy.optimize.minimize(function, content.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    theirs = min(seen[:evaluations])

    optimizer = LBFGS(content, line_search=search)
    minimise(optimizer, function, evaluations)

    assert theirs < 0.5 * seen[0], "the problem has something to minimise"
    assert optimizer.best_loss < 1.1 * theirs


@pytest.mark.parametrize("search", SEARCHES)
def test_the_first_step_has_the_length_asked_for(search: LineSearch) -> None:
    start = torch.zeros(1, 3, 40, 50)
    optimizer = LBFGS(start, first_step=0.02, line_search=search)

    optimizer.tell(1.0, 1e-7 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0)))

    assert float((optimizer.point - start).square().mean().sqrt()) == pytest.approx(0.02, rel=1e-5)


def test_the_first_step_goes_straight_down() -> None:
    gradient = torch.tensor([3.0, -4.0])
    optimizer = LBFGS(torch.zeros(2), first_step=1.0)

    optimizer.tell(1.0, gradient)

    torch.testing.assert_close(optimizer.point, -gradient / 5 * math.sqrt(2))


def test_a_point_is_brought_along_by_the_metric() -> None:
    metric, start = SpectralMetric(16, 24, 0.5), torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    gradient = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    optimizer = LBFGS(start, first_step=0.02, metric=metric)

    optimizer.tell(1.0, gradient)

    move = to_image(metric, -gradient * 0.02 / gradient.square().mean().sqrt())
    torch.testing.assert_close(optimizer.point - start, move, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pieces", [50, 1 << 20])
def test_with_a_metric_points_are_those_of_the_image_it_is_about(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_styletransfer.optim.history._SLICE", pieces)
    metric = SpectralMetric(8, 12, 0.5)
    scale = torch.logspace(0, 1, 12, dtype=torch.float64)
    latent = torch.randn(1, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # The same run in z, with x = M z made outside, and in x.
    outside, inside = LBFGS(latent, scaled=True), LBFGS(to_image(metric, latent), scaled=True, metric=metric)

    for _ in range(12):
        image = to_image(metric, outside.point)
        torch.testing.assert_close(inside.point, image, rtol=1e-6, atol=1e-6)
        gradient = image * scale
        loss = float((image * gradient).sum() / 2)
        for optimizer in (outside, inside):
            optimizer.tell(loss, latent_gradient(metric, gradient))

    assert inside.iterations == outside.iterations > 5


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("search", list(LineSearch))
def test_without_the_base_the_points_are_the_same_to_rounding(search: LineSearch, scaled: bool) -> None:
    start = torch.full((6,), -1.2, dtype=torch.float64)
    kept = LBFGS(start, line_search=search, scaled=scaled)
    found = LBFGS(start, line_search=search, scaled=scaled, keep_base=False)

    for number in range(30):
        (one,), (other,) = minimise(kept, rosenbrock, 1), minimise(found, rosenbrock, 1)
        torch.testing.assert_close(other.point, one.point, rtol=1e-6, atol=1e-9)
        assert other.accepted == one.accepted
        if number % 4 == 0:  # also between a step and its judgement
            torch.testing.assert_close(found.best, kept.best, rtol=1e-6, atol=1e-9)

    if search is not LineSearch.NONE:
        assert found.evaluations > found.iterations + 1, "some step was taken back"


def test_without_the_base_a_step_into_non_finite_losses_is_taken_back() -> None:
    start = torch.full((5,), -1.0, dtype=torch.float64)
    optimizer = LBFGS(start, first_step=8.0, keep_base=False)
    minimise(optimizer, walled, 2)

    torch.testing.assert_close(optimizer.best, start, rtol=0, atol=1e-12)
    minimise(optimizer, walled, 60)
    np.testing.assert_allclose(optimizer.best.numpy(), minimum_of_walled(), atol=1e-4)


def test_looking_at_the_best_point_after_a_step_does_not_change_the_run() -> None:
    plain, looked_at = (LBFGS(torch.full((6,), -1.2), keep_base=False) for _ in range(2))
    for _ in range(20):
        (one,) = minimise(plain, rosenbrock, 1)
        (other,) = minimise(looked_at, rosenbrock, 1)
        assert torch.equal(one.point, other.point)
        if other.accepted:
            looked_at.best.clone()


def test_memory_that_runs_out_on_the_way_to_a_point_leaves_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_styletransfer.optim.history._SLICE", 2)
    optimizer = LBFGS(torch.full((6,), -1.2, dtype=torch.float64))
    minimise(optimizer, rosenbrock, 8)
    best = optimizer.best.clone()
    whole = copy.deepcopy(optimizer).point
    make, made = History._direction, iter(range(100))

    def failing(self: History, *given: Any) -> Tensor:
        if next(made) == 1:
            raise MemoryError("out of memory")
        return make(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(History, "_direction", failing)
        with pytest.raises(MemoryError):
            _ = optimizer.point

    assert torch.equal(optimizer.best, best)
    torch.testing.assert_close(optimizer.point, whole)


def test_the_start_and_the_gradients_told_are_left_as_they_were() -> None:
    start, gradient = torch.ones(4), torch.full((4,), 2.0)
    optimizer = LBFGS(start)

    for _ in range(3):
        optimizer.tell(1.0, gradient)

    assert torch.equal(start, torch.ones(4))
    assert torch.equal(gradient, torch.full((4,), 2.0))


@pytest.mark.parametrize("search", SEARCHES)
def test_the_accepted_loss_never_rises(search: LineSearch) -> None:
    optimizer = LBFGS(torch.tensor([-1.2, 1.0, -1.2, 1.0], dtype=torch.float64), first_step=1.0, line_search=search)

    log = minimise(optimizer, rosenbrock, 80)

    losses = [told.loss for told in log if told.accepted]
    assert len(losses) < len(log), "some step was too long"
    assert losses == sorted(losses, reverse=True)
    assert optimizer.best_loss == losses[-1]


@pytest.mark.parametrize("search", list(LineSearch))
def test_the_best_point_is_the_accepted_one_with_the_lowest_loss(search: LineSearch) -> None:
    optimizer = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64), first_step=0.5, line_search=search)
    accepted: list[float] = []
    for _ in range(40):
        (told,) = minimise(optimizer, rosenbrock, 1)
        accepted += [told.loss] if told.accepted else []

        assert optimizer.best_loss == min(accepted)
        assert rosenbrock(optimizer.best.numpy())[0] == pytest.approx(min(accepted))


def test_accepted_steps_meet_the_weak_wolfe_conditions() -> None:
    optimizer = LBFGS(torch.full((6,), -1.2, dtype=torch.float64), line_search=LineSearch.WOLFE)

    accepted = [told for told in minimise(optimizer, rosenbrock, 60) if told.accepted]

    assert len(accepted) > 20
    for before, after in pairwise(accepted):
        step = after.point - before.point
        slope = float(before.gradient @ step)
        assert slope < 0
        assert after.loss <= before.loss + 1e-4 * slope + 2e-6 * abs(before.loss)
        assert float(after.gradient @ step) >= 0.9 * slope


def test_backtracking_asks_for_sufficient_decrease() -> None:
    optimizer = LBFGS(torch.full((6,), -1.2, dtype=torch.float64), line_search=LineSearch.BACKTRACKING)

    accepted = [told for told in minimise(optimizer, rosenbrock, 60) if told.accepted]

    for before, after in pairwise(accepted):
        slope = float(before.gradient @ (after.point - before.point))
        assert after.loss <= before.loss + 1e-4 * slope + 2e-6 * abs(before.loss)


def walled(x: Array) -> tuple[float, Array]:
    """Infinite beyond a wall, NaN further on, with the minimum on this side of it."""
    if (x > 3).any():
        return math.nan, np.full_like(x, math.nan)
    if (x >= 2).any():
        return math.inf, np.full_like(x, math.inf)
    return float((-np.log(2 - x) + 2 * (1.5 - x) ** 2).sum()), 1 / (2 - x) - 4 * (1.5 - x)


def minimum_of_walled() -> float:
    found = scipy.optimize.minimize_scalar(lambda x: walled(np.array([x]))[0], bounds=(0, 1.9), method="bounded")
    return float(found.x)


@pytest.mark.parametrize("search", list(LineSearch))
def test_a_step_into_non_finite_losses_is_taken_back(search: LineSearch) -> None:
    optimizer = LBFGS(torch.full((5,), -1.0, dtype=torch.float64), first_step=8.0, line_search=search)

    log = minimise(optimizer, walled, 60)

    assert not math.isfinite(log[1].loss)
    assert not log[1].accepted
    np.testing.assert_allclose(optimizer.best.numpy(), minimum_of_walled(), atol=1e-4)


def test_a_finite_loss_with_a_non_finite_gradient_counts_as_non_finite() -> None:
    optimizer = LBFGS(torch.zeros(3))
    optimizer.tell(1.0, torch.ones(3))

    assert not optimizer.tell(0.5, torch.tensor([0.0, math.nan, 0.0]))

    assert optimizer.best_loss == 1.0
    assert torch.equal(optimizer.best, torch.zeros(3))


def test_a_passing_failure_late_in_the_run_is_recovered_from() -> None:
    optimizer = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    minimise(optimizer, rosenbrock, 20)
    for _ in range(20):
        optimizer.tell(math.nan, torch.full((2,), math.nan, dtype=torch.float64))

    log = minimise(optimizer, rosenbrock, 80, 1e-6)

    assert log[-1].loss < 1e-6


@pytest.mark.parametrize("search", list(LineSearch))
def test_a_loss_that_stays_non_finite_ends_in_a_clear_error(search: LineSearch) -> None:
    start = torch.zeros(3)
    optimizer = LBFGS(start, line_search=search)
    optimizer.tell(1.0, torch.ones(3))

    with pytest.raises(DivergedError, match=r"non-finite.*float32"):
        minimise(optimizer, lambda x: (math.nan, np.full_like(x, math.nan)), 500)

    assert torch.equal(optimizer.best, start)
    assert optimizer.best_loss == 1.0


def test_a_start_without_a_finite_loss_is_refused() -> None:
    with pytest.raises(DivergedError, match="not finite at the start"):
        LBFGS(torch.zeros(3)).tell(math.inf, torch.ones(3))


def test_a_narrow_history_still_minimises() -> None:
    plain = LBFGS(torch.ones(50))
    narrow = LBFGS(torch.ones(50), storage=torch.bfloat16)

    reached = minimise(plain, badly_scaled, 150)[-1].loss
    start = minimise(narrow, badly_scaled, 150)[0].loss

    assert narrow.best_loss < 1e-3 * start
    assert narrow.best_loss < 30 * reached
    assert narrow.point.dtype is torch.float32


def test_memory_that_was_never_written_has_no_influence() -> None:
    plain = LBFGS(torch.ones(50, dtype=torch.float64))
    expected = minimise(plain, badly_scaled, 40)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        found = minimise(LBFGS(torch.ones(50, dtype=torch.float64)), badly_scaled, 40)
    finally:
        torch.use_deterministic_algorithms(False)

    assert [told.loss for told in found] == [told.loss for told in expected]


def test_a_pair_that_narrow_storage_spoils_is_left_out() -> None:
    # The step (1, -1) and the change (1 + 2⁻¹⁰, 1) of the gradient: in bfloat16 they are orthogonal.
    optimizer = LBFGS(torch.zeros(2), first_step=1.0, storage=torch.bfloat16)
    optimizer.tell(10.0, torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(optimizer.point, torch.tensor([1.0, -1.0]))

    optimizer.tell(0.1, torch.tensor([2.0**-10, 2.0]))

    assert bool(torch.isfinite(optimizer.point).all())


def test_the_history_in_pieces_is_the_history_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LBFGS(torch.ones(50), storage=torch.bfloat16)
    minimise(whole, badly_scaled, 30)
    pieces = LBFGS(torch.ones(50), storage=torch.bfloat16)
    monkeypatch.setattr("napari_styletransfer.optim.history._SLICE", 64)

    minimise(pieces, badly_scaled, 30)

    assert pieces.best_loss == pytest.approx(whole.best_loss, rel=1e-3)


def test_the_direction_is_that_of_the_two_loop_recursion() -> None:
    # With all pairs kept, a history of n pairs on a quadratic in n dimensions approaches Newton's direction.
    optimizer = LBFGS(torch.ones(8, dtype=torch.float64), history=3)
    log = [told for told in minimise(optimizer, badly_scaled, 12) if told.accepted]

    pairs = [(b.point - a.point, b.gradient - a.gradient) for a, b in pairwise(log)][-3:]
    q = log[-1].gradient.clone()
    alphas = []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q -= alphas[-1] * y
    s, y = pairs[-1]
    q *= (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - (y @ q) / (s @ y))

    torch.testing.assert_close(optimizer.point - optimizer.best, -q, rtol=1e-6, atol=1e-12)


def test_at_a_minimum_the_search_stalls_where_it_is() -> None:
    start = torch.zeros(4)
    optimizer = LBFGS(start)

    optimizer.tell(0.0, torch.zeros(4))

    assert optimizer.stalled
    assert torch.equal(optimizer.point, start)


@pytest.mark.parametrize("search", SEARCHES)
def test_where_no_step_down_lowers_the_loss_the_search_stalls_soon(search: LineSearch) -> None:
    def kink(x: Array) -> tuple[float, Array]:
        return float(np.abs(x).sum()), np.where(x >= 0, 1.0, -1.0)

    start = torch.zeros(4, dtype=torch.float64)
    optimizer = LBFGS(start, line_search=search)

    log = minimise(optimizer, kink, 200)

    assert optimizer.stalled
    assert len(log) < 30
    assert torch.equal(optimizer.best, start)
    assert torch.equal(optimizer.point, start)


def test_a_run_in_float32_ends_at_the_minimum_to_rounding() -> None:
    optimizer = LBFGS(torch.ones(20), line_search=LineSearch.BACKTRACKING)

    minimise(optimizer, lambda x: (7 + float((x - 0.3) @ (x - 0.3)), 2 * (x - 0.3)), 60)

    torch.testing.assert_close(optimizer.best, torch.full((20,), 0.3), atol=2e-3, rtol=0)


def test_a_run_can_be_put_aside_and_taken_up_again() -> None:
    through = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    minimise(through, rosenbrock, 12)
    aside = copy.deepcopy(through)

    rest = minimise(through, rosenbrock, 15)
    again = minimise(aside, rosenbrock, 15)

    assert all(torch.equal(one.point, other.point) for one, other in zip(rest, again, strict=True))
    assert aside.iterations == through.iterations
    assert aside.evaluations == through.evaluations == 27


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("search", list(LineSearch))
@pytest.mark.parametrize("keep_base", [False, True])
def test_in_another_metric_the_point_stays_and_pairs_and_gradient_are_its_own(
    scaled: bool, search: LineSearch, keep_base: bool
) -> None:
    start = torch.linspace(-2, 2, 144, dtype=torch.float64).view(1, 3, 6, 8)
    plain, other = SpectralMetric(6, 8, 0.3), SpectralMetric(6, 8, 0.7)

    def told(optimizer: LBFGS) -> bool:
        loss, gradient = badly_scaled(optimizer.point.view(-1).numpy())
        gradient = torch.from_numpy(gradient).view(start.shape)
        return optimizer.tell(loss, latent_gradient(optimizer.metric, gradient))

    optimizer = LBFGS(start, scaled=scaled, line_search=search, metric=plain, keep_base=keep_base)
    while optimizer.iterations < 6:
        accepted = told(optimizer)
    assert accepted
    best, slope = optimizer.best.clone(), optimizer._search_direction.slope
    before = [(to_image(plain, s), s.clone(), y.clone()) for s, y in optimizer.pairs()]

    optimizer.set_metric(other)

    torch.testing.assert_close(optimizer.best, best, rtol=0, atol=0)
    assert optimizer._search_direction.slope < 0
    assert optimizer._search_direction.slope != slope
    for (step, s, y), (changed_s, changed_y) in zip(before, optimizer.pairs(), strict=True):
        torch.testing.assert_close(to_image(other, changed_s), step, rtol=1e-5, atol=1e-8)
        assert float((changed_s * changed_y).sum()) == pytest.approx(float((s * y).sum()), rel=1e-5)
    for _ in range(30):
        told(optimizer)
    assert optimizer.best_loss < 0.5 * badly_scaled(best.view(-1).numpy())[0]


@pytest.mark.parametrize("keep_base", [False, True])
def test_when_memory_runs_out_on_the_way_to_a_trial_the_best_point_stays(
    keep_base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = torch.linspace(-2, 2, 144, dtype=torch.float64).view(1, 3, 6, 8)
    metric = SpectralMetric(6, 8, 0.3)
    optimizer = LBFGS(start, metric=metric, keep_base=keep_base)
    for _ in range(4):
        loss, gradient = badly_scaled(optimizer.point.view(-1).numpy())
        optimizer.tell(loss, latent_gradient(metric, torch.from_numpy(gradient).view(start.shape)))
    best, add_plane, failed = optimizer.best.clone(), SpectralMetric.add_plane, []

    def failing(self: SpectralMetric, point: Tensor, plane: Tensor, number: int) -> None:
        if number == 2 and not failed:
            failed.append(number)
            raise MemoryError("out of memory")
        add_plane(self, point, plane, number)

    monkeypatch.setattr(SpectralMetric, "add_plane", failing)
    with pytest.raises(MemoryError):
        _ = optimizer.point

    assert failed
    torch.testing.assert_close(optimizer.best, best)
    assert float((optimizer.point - best).abs().max()) > 1e-6


@pytest.mark.parametrize("keep_base", [False, True])
def test_a_slope_that_is_no_number_begins_anew_with_the_gradient(
    keep_base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64), keep_base=keep_base)
    minimise(optimizer, rosenbrock, 6)
    heading, before = History.search_direction, optimizer.best_loss

    def lost(self: History, gradient: Tensor) -> SearchDirection:
        found = heading(self, gradient)
        return replace(found, slope=float("nan")) if self.count else found

    with monkeypatch.context() as patch:
        patch.setattr(History, "search_direction", lost)
        minimise(optimizer, rosenbrock, 2)
    minimise(optimizer, rosenbrock, 40)

    assert optimizer.best_loss < 0.5 * before
    assert bool(torch.isfinite(optimizer.best).all())


def test_pairs_are_steps_and_changes_of_the_gradient_oldest_first() -> None:
    optimizer = LBFGS(torch.ones(8, dtype=torch.float64), history=3)
    log = [told for told in minimise(optimizer, badly_scaled, 12) if told.accepted]

    expected = [(b.point - a.point, b.gradient - a.gradient) for a, b in pairwise(log)][-3:]

    for found, pair in zip(optimizer.pairs(), expected, strict=True):
        torch.testing.assert_close(found, pair)


def test_steps_and_evaluations_are_counted_apart() -> None:
    optimizer = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64), first_step=1.0)

    log = minimise(optimizer, rosenbrock, 40)

    assert optimizer.evaluations == 40
    # The start is accepted but is no step.
    assert optimizer.iterations == sum(told.accepted for told in log) - 1


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    plain = LBFGS(torch.full((6,), -1.2, dtype=torch.float64))
    scaled = LBFGS(torch.full((6,), -1.2, dtype=torch.float64))

    minimise(plain, rosenbrock, 25)
    minimise(scaled, lambda x: tuple(scale * part for part in rosenbrock(x)), 25)

    torch.testing.assert_close(scaled.best, plain.best, rtol=1e-6, atol=1e-8)


def test_the_history_holds_no_more_than_the_pairs_asked_for() -> None:
    few = LBFGS(torch.ones(50, dtype=torch.float64), history=2)
    many = LBFGS(torch.ones(50, dtype=torch.float64), history=30)

    minimise(few, badly_scaled, 100)
    minimise(many, badly_scaled, 100)

    assert many.best_loss < few.best_loss


def test_a_scaled_direction_is_that_of_the_two_loop_recursion_from_a_diagonal() -> None:
    optimizer = LBFGS(torch.ones(8, dtype=torch.float64), history=3, scaled=True)
    log = minimise(optimizer, badly_scaled, 12)
    while not log[-1].accepted:  # only then is the point one whole step ahead
        log += minimise(optimizer, badly_scaled, 1)
    log = [told for told in log if told.accepted]

    pairs = [(b.point - a.point, b.gradient - a.gradient) for a, b in pairwise(log)]
    square = torch.zeros(8, dtype=torch.float64)
    for number, (s, y) in enumerate(pairs):
        square = torch.lerp(square, y.square() / s.square().mean(), _EMA_WEIGHT if number else 1.0)
    root = square.sqrt() + _CURVATURE_FLOOR * square.mean().sqrt()
    q = log[-1].gradient.clone()
    alphas = []
    for s, y in reversed(pairs[-3:]):
        alphas.append((s @ q) / (s @ y))
        q -= alphas[-1] * y
    q = q / root * max((s @ y) / (y @ (y / root)) for s, y in pairs[-3:])
    for (s, y), alpha in zip(pairs[-3:], reversed(alphas), strict=True):
        q += s * (alpha - (y @ q) / (s @ y))

    torch.testing.assert_close(optimizer.point - optimizer.best, -q, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("search", list(LineSearch))
@pytest.mark.parametrize("storage", [torch.float64, torch.bfloat16])
def test_learned_scales_save_evaluations_where_the_scales_differ(search: LineSearch, storage: torch.dtype) -> None:
    def bowl(x: Array) -> tuple[float, Array]:
        scale = np.logspace(0, 3, x.size)
        return float((np.cosh(x) * scale).sum() - scale.sum()), np.sinh(x) * scale

    start, goal = torch.linspace(-2, 2, 200, dtype=torch.float64), 1e-3
    plain, scaled = (
        minimise(LBFGS(start, line_search=search, storage=storage, scaled=scaled), bowl, 300, goal)
        for scaled in (False, True)
    )

    assert scaled[-1].loss < goal
    assert len(scaled) < 0.75 * len(plain)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("pieces", [7, 1 << 22])
def test_scaled_steps_meet_the_conditions_of_the_search(
    search: LineSearch, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_styletransfer.optim.history._SLICE", pieces)
    optimizer = LBFGS(torch.full((6,), -1.2, dtype=torch.float64), line_search=search, scaled=True)

    accepted = [told for told in minimise(optimizer, rosenbrock, 60) if told.accepted]

    assert len(accepted) > 20
    for before, after in pairwise(accepted):
        slope = float(before.gradient @ (after.point - before.point))
        assert slope < 0
        assert after.loss <= before.loss + 1e-4 * slope + 2e-6 * abs(before.loss)
        if search is LineSearch.WOLFE:
            assert float(after.gradient @ (after.point - before.point)) >= 0.9 * slope


def test_where_the_gradient_never_changes_there_are_no_scales() -> None:
    optimizer = LBFGS(torch.zeros(3), scaled=True)

    for _ in range(4):
        optimizer.tell(-float(optimizer.point.sum()), -torch.ones(3))

    assert bool(torch.isfinite(optimizer.point).all())
    assert bool((optimizer.point > 0).all())
