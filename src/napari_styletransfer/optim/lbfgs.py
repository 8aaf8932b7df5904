"""Limited-memory BFGS for images, by ask and tell.

    x₊ = x + t p,   p = −H g,   s = x₊ − x,   y = g₊ − g

with H made of the last pairs (s, y) (Liu and Nocedal 1989; Nocedal and Wright 2006, algorithm 7.5; `history` has the
recursion). The caller evaluates the loss f and its gradient g at `point` and tells them; the optimiser moves `point`.
So every evaluation is in the caller's hands: it can be shown, counted, stopped or resumed between any two.

The step length t begins at 1, or where there are no pairs at a given length of the step, and is accepted where

    f(x + t p) ≤ f(x) + c₁ t gᵀp + noise |f(x)|    (Armijo; Nocedal and Wright, equation 3.4)
    g(x + t p)ᵀp ≥ c₂ gᵀp                          (weak Wolfe, equation 3.6b; for `wolfe` alone)

Where the first fails, t becomes the minimum of the parabola through f(x), gᵀp and f(x + t p) (equation 3.58), within
0.1 and 0.5 of t; where the second fails, or has failed before, t is bracketed and bisected (Lewis and Overton 2013,
algorithm 2.6).

Differences from `torch.optim.LBFGS`, each for a reason seen on images: the first step has a given length in
pixel units (1/‖g‖₁ moves nothing when there are many pixels); the curvature test is relative; a non-finite or
rising loss is rolled back; the history is one matrix, so that a direction costs three passes over it
and one transfer to the host, instead of one of each for every pair.

With a metric M, directions are those of L-BFGS in z with x = M z, and so are the gradients told, while the point is x
throughout: z itself is never needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_styletransfer.config import LineSearch
from napari_styletransfer.errors import DivergedError
from napari_styletransfer.optim.history import History, SearchDirection
from napari_styletransfer.optim.preconditioner import SpectralMetric

_C1, _C2 = 1e-4, 0.9
"""Constants of the Wolfe conditions: those of Nocedal and Wright, section 3.1."""

_MAX_TRIALS = 12
"""Step lengths tried along a direction."""

_MAX_RESTARTS = 4
"""Restarts from the steepest descent in a row."""


class LBFGS:
    """State of one minimisation.

    Parameters
    ----------
    start
        Point to begin from, any shape, float; not modified.
    history
        Number of pairs kept.
    first_step
        Root-mean-square length of the first step, in the units of the point.
    line_search
        `none` accepts every step that does not blow up; `backtracking` asks for sufficient decrease;
        `wolfe` for the weak Wolfe conditions.
    storage
        Number format of the history, by default the point's; sums are taken in the point's in any case.
    scaled
        Whether a scale for every value is learned from the changes of the gradient (see `history`): on images a
        quarter fewer evaluations or more, for memory of the size of the point.
    metric
        What directions are brought to the point by; none for the point's own metric.
    keep_base
        Whether the accepted point is kept beside the one tried. Without, it is what is left when the step is taken
        back, to rounding: memory of the size of the point less.
    noise
        Relative error of the losses, by default that of float32 sums. A step is not refused for a rise within it:
        demanding less would end the run in trial steps.

    Attributes
    ----------
    point
        Where the loss is wanted next.
    best, best_loss
        Accepted point with the lowest loss so far, in the optimiser's own memory, and that loss.
    iterations, evaluations
        Accepted steps, and evaluations.
    stalled
        True when no step along a fresh steepest descent lowers the loss: a minimum as far as float32 can tell.
    """

    def __init__(
        self,
        start: Tensor,
        *,
        history: int = 10,
        first_step: float = 0.02,
        line_search: LineSearch = LineSearch.BACKTRACKING,
        storage: torch.dtype | None = None,
        scaled: bool = False,
        metric: SpectralMetric | None = None,
        keep_base: bool = True,
        noise: float = 1e-6,
    ) -> None:
        self.metric = metric or SpectralMetric(1, 1, 0.0)
        self.iterations = 0
        self.evaluations = 0
        self.stalled = False
        self.loss = math.inf
        self._point_step = 0.0
        self._point = start.detach().clone(memory_format=torch.contiguous_format)
        self._base = self._point.clone() if keep_base else None
        self._gradient: Tensor | None = None
        self._direction: SearchDirection | None = None
        self._first_step = first_step
        self._line_search = line_search
        self._noise = noise
        # Only without a line search can an accepted step rise; then the best point needs memory of its own.
        self._best = self._point.clone() if line_search is LineSearch.NONE else None
        self._best_loss = math.inf
        self._step, self._low, self._high, self._trials = 0.0, 0.0, math.inf, 0
        self._restarts = 0
        self._history = History(start, history, storage or start.dtype, scaled=scaled)

    @property
    def point(self) -> Tensor:
        """Where the loss is wanted next."""
        self._move_to(self._step)
        return self._point

    @property
    def best(self) -> Tensor:
        """Accepted point with the lowest loss."""
        if self._best is not None:
            return self._best
        if self._base is not None:
            return self._base
        self._move_to(0.0)
        return self._point

    @property
    def best_loss(self) -> float:
        """Loss at `best`."""
        return self._best_loss

    def tell(self, loss: float, gradient: Tensor) -> bool:
        """Take the loss and gradient at `point`, move `point`, and say whether a step was accepted.

        The first call only takes the start; it counts as accepted but not as an iteration. The gradient is that in the
        metric; it is kept, not copied, and the caller must not change it afterwards.

        Raises
        ------
        DivergedError
            If the loss stays non-finite through every shorter step and restart.
        """
        self.evaluations += 1
        finite = math.isfinite(loss) and bool(torch.isfinite(gradient.sum()))
        if self._gradient is None:
            if not finite:
                raise DivergedError("The loss is not finite at the start image. Try precision 'float32'.")
            self._accept(loss, gradient)
            return True
        if not finite or self._violates_armijo(loss):
            self._high = self._step
            return self._backtrack(finite, loss)
        if self._line_search is LineSearch.WOLFE and self._trials < _MAX_TRIALS:
            slope = self._history.slope(self._base_gradient, self._search_direction, gradient)
            if slope < _C2 * self._search_direction.slope:
                self._low = self._step
                self._set_trial(2 * self._step if math.isinf(self._high) else (self._low + self._high) / 2)
                return False
        self._history.push(self._search_direction, self._step, (gradient, self._gradient))
        self._restarts = 0
        self.iterations += 1
        self._accept(loss, gradient)
        return True

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the steps remembered and the changes of the gradient that they brought, oldest first."""
        return ((s.view_as(self._point), y.view_as(self._point)) for s, y in self._history.pairs())

    def set_metric(self, metric: SpectralMetric) -> None:
        """Change the metric after an accepted step, and compute the direction anew; the point stays."""
        self._move_to(0.0)
        before, self.metric = self.metric, metric
        shape = self._point.shape
        self._history.set_metric(
            lambda s: metric.convert_step_(before, s.view(shape)),
            lambda y: metric.convert_gradient_(before, y.view(shape)),
        )
        metric.convert_gradient_(before, self._base_gradient)
        self._compute_direction()

    @property
    def _search_direction(self) -> SearchDirection:
        if self._direction is None:
            raise AssertionError("there is a direction once a point was accepted")
        return self._direction

    @property
    def _base_gradient(self) -> Tensor:
        if self._gradient is None:
            raise AssertionError("there is a gradient once a point was accepted")
        return self._gradient

    def _violates_armijo(self, loss: float) -> bool:
        if self._line_search is LineSearch.NONE:
            return loss > 10 * max(self.loss, 1e-12)
        return loss > self.loss + _C1 * self._step * self._search_direction.slope + self._noise * abs(self.loss)

    def _backtrack(self, finite: bool, loss: float) -> bool:
        """Try a shorter step from the same base; after too many, restart from it."""
        if self._trials >= _MAX_TRIALS:
            self._restart(finite)
            return False
        if not finite:
            self._set_trial(0.1 * self._step)
        elif self._low > 0:
            self._set_trial((self._low + self._high) / 2)
        else:
            slope = self._search_direction.slope
            curvature = 2 * (loss - self.loss - self._step * slope)
            minimum = -slope * self._step**2 / curvature if curvature > 0 else 0.5 * self._step
            self._set_trial(min(max(minimum, 0.1 * self._step), 0.5 * self._step))
        return False

    def _restart(self, finite: bool) -> None:
        if self._history.count == 0 and finite:
            self.stalled = True
            self._step = 0.0
            return
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise DivergedError(
                "The loss became non-finite and stayed so after every restart. Try precision 'float32', or weights "
                "closer to the defaults."
            )
        self._history.clear()
        self._first_step *= 0.1
        self._compute_direction()

    def _accept(self, loss: float, gradient: Tensor) -> None:
        self.loss = loss
        # The point stays where it is until the next one is asked for.
        self._point_step = 0.0
        if self._base is not None:
            self._base.copy_(self._point)
        if loss < self._best_loss or self._best is None:
            self._best_loss = loss
            if self._best is not None:
                self._best.copy_(self._point)
        self._gradient = gradient.detach().contiguous()
        self._compute_direction()

    def _compute_direction(self) -> None:
        """Choose the direction from the base and the first step length along it."""
        self._move_to(0.0)  # as long as there is the old direction
        step = 1.0
        self._direction = self._history.search_direction(self._base_gradient)
        if not self._direction.slope < 0:  # nor is it when it is not a number
            self._history.clear()
            self._direction = self._history.search_direction(self._base_gradient)
        if self._history.count == 0:
            length = math.sqrt(-self._direction.slope / self._base_gradient.numel())
            if length == 0:
                self.stalled = True
                self._step = 0.0
                return
            step = self._first_step / length
        self._step, self._low, self._high, self._trials = step, 0.0, math.inf, 0

    def _set_trial(self, step: float) -> None:
        self._step = step
        self._trials += 1

    def _move_to(self, step: float) -> None:
        """Bring the point to x + step p, with x the base."""
        if step == self._point_step:
            return
        start = self._point_step
        if self._base is not None:
            if start:
                self._point.copy_(self._base)
                start = 0.0
            self._point_step = math.nan  # until it is done: memory may run out on the way
        if step != start:
            self._add_direction(step - start)
        self._point_step = step

    def _add_direction(self, step: float) -> None:
        """Add step p to the point; with a metric plane by plane, so that only one plane is made besides."""
        whole = self._point.view(-1)
        if self.metric.is_identity:
            self._history.add_step(whole, slice(0, len(whole)), self._base_gradient, self._search_direction, step)
            return
        for number in range(len(whole) // math.prod(self._point.shape[-2:])):
            try:
                self._add_direction_to_plane(number, step)
            except (RuntimeError, MemoryError):
                for done in range(number):
                    self._add_direction_to_plane(done, -step)
                raise

    def _add_direction_to_plane(self, number: int, step: float) -> None:
        size = math.prod(self._point.shape[-2:])
        plane = slice(number * size, (number + 1) * size)
        move = torch.zeros_like(self._point.view(-1)[plane])
        self._history.add_step(move, plane, self._base_gradient, self._search_direction, step)
        self.metric.add_plane(self._point, move.view(self._point.shape[-2:]), number)
