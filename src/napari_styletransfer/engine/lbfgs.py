"""Limited-memory BFGS for images, by ask and tell.

The caller evaluates the loss and its gradient at `point` and tells them; the optimiser moves `point`. So
every evaluation is in the caller's hands: it can be shown, counted, stopped or resumed between any two.

Differences from `torch.optim.LBFGS`, each for a reason seen on images: the first step has a given length in
pixel units (1/‖g‖₁ moves nothing when there are many pixels); the curvature test is relative; a non-finite or
rising loss is rolled back; the history is one matrix, so that a direction costs three passes over it
and one transfer to the host, instead of one of each for every pair.

Sources: Liu and Nocedal 1989 (the method), Chen, Wang and Zhou 2014 (directions from inner products alone),
Lewis and Overton 2013 (bracketing line search for the weak Wolfe conditions).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_styletransfer.config import LineSearch
from napari_styletransfer.errors import DivergedError

_ARMIJO = 1e-4
_CURVATURE = 0.9
_SMALLEST_COSINE = 1e-8
"""A pair is kept if sᵀy exceeds this fraction of ‖s‖‖y‖."""

_MOST_TRIALS = 12
_MOST_RESTARTS = 4
_SLICE = 1 << 22
"""Values of the history widened at once where it is stored narrower."""


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

    Attributes
    ----------
    point
        Where the loss is wanted next.
    best, best_loss
        Accepted point with the lowest loss so far, and that loss.
    iterations, evaluations
        Accepted steps and told evaluations.
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
    ) -> None:
        self.point = start.detach().clone()
        self.iterations = 0
        self.evaluations = 0
        self.stalled = False
        self.loss = math.inf
        self._base = self.point.clone()
        self._gradient: Tensor | None = None
        self._direction: Tensor | None = None
        self._slope = 0.0
        self._first_step = first_step
        self._line_search = line_search
        # Only without a line search can an accepted step rise; then the best point needs memory of its own.
        self._best = self.point.clone() if line_search is LineSearch.NONE else self._base
        self._best_loss = math.inf
        self._step, self._low, self._high, self._trials = 0.0, 0.0, math.inf, 0
        self._restarts = 0
        self._memory = _History(start, history, storage or start.dtype)

    @property
    def best(self) -> Tensor:
        """Accepted point with the lowest loss."""
        return self._best

    @property
    def best_loss(self) -> float:
        """Loss at `best`."""
        return self._best_loss

    def tell(self, loss: float, gradient: Tensor) -> bool:
        """Take the loss and gradient at `point`, move `point`, and say whether a step was accepted.

        The first call only takes the start; it counts as accepted but not as an iteration.

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
        if not finite or self._rises(loss):
            self._high = self._step
            return self._shorter(finite, loss)
        if self._line_search is LineSearch.WOLFE and self._trials < _MOST_TRIALS:
            slope = _dot(gradient, self._direction_now)
            if slope < _CURVATURE * self._slope:
                self._low = self._step
                self._try(2 * self._step if math.isinf(self._high) else (self._low + self._high) / 2)
                return False
        self._memory.push(self.point - self._base, gradient - self._gradient)
        self._restarts = 0
        self.iterations += 1
        self._accept(loss, gradient)
        return True

    @property
    def _direction_now(self) -> Tensor:
        if self._direction is None:
            raise AssertionError("there is a direction once a point was accepted")
        return self._direction

    def _rises(self, loss: float) -> bool:
        if self._line_search is LineSearch.NONE:
            return loss > 10 * max(self.loss, 1e-12)
        # Float32 sums carry noise of this order; demanding less would end the run in it.
        noise = 1e-6 * abs(self.loss)
        return loss > self.loss + _ARMIJO * self._step * self._slope + noise

    def _shorter(self, finite: bool, loss: float) -> bool:
        """Try a shorter step from the same base; restart from it when that has been done often enough."""
        if self._trials >= _MOST_TRIALS:
            self._restart(finite)
            return False
        if not finite:
            self._try(0.1 * self._step)
        elif self._low > 0:
            self._try((self._low + self._high) / 2)
        else:
            curve = 2 * (loss - self.loss - self._step * self._slope)
            guess = -self._slope * self._step**2 / curve if curve > 0 else 0.5 * self._step
            self._try(min(max(guess, 0.1 * self._step), 0.5 * self._step))
        return False

    def _restart(self, finite: bool) -> None:
        if self._memory.count == 0 and finite:
            self.stalled = True
            self.point.copy_(self._base)
            return
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise DivergedError(
                "The loss became non-finite and stayed so after every restart. Try precision 'float32', or weights "
                "closer to the defaults."
            )
        self._memory.clear()
        self._first_step *= 0.1
        self._aim()

    def _accept(self, loss: float, gradient: Tensor) -> None:
        self.loss = loss
        self._base.copy_(self.point)
        if loss < self._best_loss or self._best is self._base:
            self._best_loss = loss
            self._best.copy_(self._base)
        self._gradient = gradient.detach().clone() if self._gradient is None else self._gradient.copy_(gradient)
        self._aim()

    def _aim(self) -> None:
        """Choose the direction from the base and the first step length along it."""
        if self._gradient is None:
            raise AssertionError("there is a gradient once a point was accepted")
        if self._direction is None:
            self._direction = torch.empty_like(self._gradient)
        step = 1.0
        self._slope = self._memory.direction(self._gradient, self._direction)
        if self._slope >= 0:
            self._memory.clear()
            self._slope = self._memory.direction(self._gradient, self._direction)
        if self._memory.count == 0:
            length = math.sqrt(-self._slope / self._direction.numel())
            if length == 0:
                self.stalled = True
                return
            step = self._first_step / length
        self._begin_search(step)
        self._move()

    def _begin_search(self, step: float) -> None:
        self._step, self._low, self._high, self._trials = step, 0.0, math.inf, 0

    def _try(self, step: float) -> None:
        self._step = step
        self._trials += 1
        self._move()

    def _move(self) -> None:
        torch.add(self._base, self._direction_now, alpha=self._step, out=self.point)


class _History:
    """The last pairs (s, y) as one matrix, and the inner products a direction is made from."""

    def __init__(self, like: Tensor, pairs: int, storage: torch.dtype) -> None:
        self._pairs = pairs
        self._dtype = like.dtype
        # Zeros, not garbage: rows without a pair enter the products too, with coefficient 0.
        self._matrix = torch.zeros(2 * pairs, like.numel(), dtype=storage, device=like.device)
        self._products = torch.zeros(2 * pairs, 2 * pairs, dtype=torch.float64)
        self._order: list[int] = []

    @property
    def count(self) -> int:
        """Number of pairs held."""
        return len(self._order)

    def clear(self) -> None:
        """Forget all pairs, keeping the memory."""
        self._order.clear()

    def push(self, s: Tensor, y: Tensor) -> None:
        """Add a pair, in place of the oldest when full; a pair without positive curvature is left out."""
        s, y = s.reshape(-1), y.reshape(-1)
        sy, ss, yy = (float(value) for value in torch.stack([s @ y, s @ s, y @ y]).cpu())
        if not sy > _SMALLEST_COSINE * math.sqrt(ss * yy):
            return
        slot = self._order.pop(0) if self.count == self._pairs else self._free_slot()
        for row, vector in ((2 * slot, s), (2 * slot + 1, y)):
            self._matrix[row] = vector
            # Products of what is stored, not of what came in: with narrow storage only these are consistent.
            product = self._times(self._matrix[row].to(self._dtype)).double().cpu()
            self._products[row] = product
            self._products[:, row] = product
        if self._products[2 * slot, 2 * slot + 1] > 0:
            self._order.append(slot)

    def _free_slot(self) -> int:
        return next(slot for slot in range(self._pairs) if slot not in self._order)

    def direction(self, gradient: Tensor, out: Tensor) -> float:
        """Write the quasi-Newton direction −H g into `out` and return its slope gᵀd.

        The two-loop recursion runs on coefficients of the stored vectors and the gradient; only their inner
        products enter, which are numbers on the host.
        """
        g = gradient.reshape(-1)
        if not self._order:
            torch.neg(gradient, out=out)
            return -float(g @ g)
        with_g = torch.cat([self._times(g), (g @ g).reshape(1)]).double().cpu()
        rows = with_g.numel() - 1
        products = self._products
        coefficient = torch.zeros(rows, dtype=torch.float64)
        of_g = -1.0
        alphas: dict[int, float] = {}
        for slot in reversed(self._order):
            s, y = 2 * slot, 2 * slot + 1
            s_dot_q = float(products[s, :rows] @ coefficient + of_g * with_g[s])
            alphas[slot] = s_dot_q / float(products[s, y])
            coefficient[y] -= alphas[slot]
        last = self._order[-1]
        gamma = float(products[2 * last, 2 * last + 1] / products[2 * last + 1, 2 * last + 1])
        coefficient *= gamma
        of_g *= gamma
        for slot in self._order:
            s, y = 2 * slot, 2 * slot + 1
            y_dot_r = float(products[y, :rows] @ coefficient + of_g * with_g[y])
            coefficient[s] += alphas[slot] - y_dot_r / float(products[s, y])
        flat = out.reshape(-1)
        torch.mul(g, of_g, out=flat)
        self._add_combination(coefficient.to(g.device, self._dtype), flat)
        return float(coefficient @ with_g[:rows]) + of_g * float(with_g[rows])

    def _times(self, vector: Tensor) -> Tensor:
        """Inner products of every stored row with `vector`."""
        rows = self._matrix.shape[0]
        if self._matrix.dtype is self._dtype:
            return self._matrix.mv(vector)
        total = vector.new_zeros(rows)
        for first in range(0, vector.numel(), _SLICE // rows + 1):
            part = slice(first, first + _SLICE // rows + 1)
            total += self._matrix[:, part].to(self._dtype).mv(vector[part])
        return total

    def _add_combination(self, coefficient: Tensor, out: Tensor) -> None:
        if self._matrix.dtype is self._dtype:
            out.addmv_(self._matrix.T, coefficient)
            return
        step = _SLICE // self._matrix.shape[0] + 1
        for first in range(0, out.numel(), step):
            part = slice(first, first + step)
            out[part].addmv_(self._matrix[:, part].to(self._dtype).T, coefficient)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a.reshape(-1) @ b.reshape(-1))
