"""The last steps of a minimisation, and the quasi-Newton direction that follows from them.

Steps and changes of the gradient are the rows of one matrix, and only inner products of the rows enter the recursion
(Chen, Wang and Zhou 2014): a direction costs three passes over the matrix and one transfer to the host. Besides the
matrix, and one row of curvatures where they are wanted, nothing of the size of the image is ever made: a direction is a
combination of the rows, and its values come some at a time wherever they are needed. Called by `lbfgs`.

The recursion starts from a multiple of the identity, or from a diagonal: the reciprocal of the root of a running mean
of (y/‖s‖)², which is how much the gradient changed at each value for a step of given length. So the scale of each
value is learned as in Adam (Kingma and Ba 2015, arXiv 1412.6980), but from changes of the gradient, which do
not vanish at a minimum; diagonals learned from the pairs go back to Gilbert and Lemaréchal 1989.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_COSINE = 1e-8
"""A pair is kept if sᵀy exceeds this fraction of ‖s‖‖y‖."""

_FORGET = 0.3
"""Weight of the newest pair in the running mean of curvatures."""

_SMALLEST_CURVATURE = 0.3
"""Added to all curvatures, in units of their root mean square: the first pairs say little about a single value."""

_SLICE, _SLICE_ELSEWHERE = 1 << 15, 1 << 18
"""Values of a row worked on at once. On the CPU, what is made of the rows stays in the cache then; elsewhere every
slice costs the time to start its programs."""


@dataclass(frozen=True)
class SearchDirection:
    """A direction as a combination of the stored pairs and the gradient, and its slope.

    It is never made as an image of its own: each trial point is summed up anew, which takes a pass over the history.
    `pairs` has the coefficients of the steps and, in a second row, those of the changes of the gradient; it is None for
    the steepest descent.
    """

    pairs: Tensor | None
    gradient: float
    slope: float


class History:
    """The last pairs (s, y) as one matrix, and the inner products a direction is made from."""

    def __init__(self, like: Tensor, pairs: int, storage: torch.dtype, *, scaled: bool = False) -> None:
        self._pairs = pairs
        self._dtype = like.dtype
        # Zeros, not garbage: rows without a pair enter the products too, with coefficient 0.
        self._matrix = torch.zeros(2 * pairs, like.numel(), dtype=storage, device=like.device)
        self._products = torch.zeros(2 * pairs, 2 * pairs, dtype=torch.float64, device="cpu")
        self._order: list[int] = []
        self._squares = torch.zeros(like.numel(), dtype=storage, device=like.device) if scaled else None
        self._mean_square = 0.0
        # Made once: memory asked for anew for every slice costs several times what is done in it.
        self._slice = min(_SLICE if like.device.type == "cpu" else _SLICE_ELSEWHERE, like.numel())
        self._room = torch.empty(2 * pairs, self._slice, dtype=like.dtype, device=like.device)

    @property
    def count(self) -> int:
        """Number of pairs held."""
        return len(self._order)

    def clear(self) -> None:
        """Forget all pairs, keeping the memory and the curvatures."""
        self._order.clear()

    def push(self, direction: SearchDirection, step: float, gradients: tuple[Tensor, Tensor]) -> None:
        """Add the pair of a step along a direction and of the change of the gradient, in place of the oldest when full.

        The direction must be the last one made, from the second of the gradients. A pair without positive curvature is
        left out, and the oldest is gone all the same: the step itself is made from it, part by part as it is replaced.
        """
        after, before = (gradient.reshape(-1) for gradient in gradients)
        slot = self._order.pop(0) if self.count == self._pairs else self._free_slot()
        rows = self._matrix[2 * slot : 2 * slot + 2]
        sums = []
        for part in self._slices():
            s = self._direction(before, direction, part).mul_(step)
            y = after[part] - before[part]
            sums.append(torch.stack([s @ y, s @ s, y @ y]))
            rows[0, part], rows[1, part] = s, y
        sy, ss, yy = torch.stack(sums).cpu().sum(0, dtype=torch.float64).tolist()
        self._update_diagonal(gradients, ss, yy)
        if not sy > _SMALLEST_COSINE * math.sqrt(ss * yy):
            rows.zero_()  # it enters products, with coefficient 0: there must be no NaN in it
            return
        self._update_products(slot)
        if self._products[2 * slot, 2 * slot + 1] > 0:
            self._order.append(slot)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the pairs, oldest first."""
        return ((self._matrix[2 * slot], self._matrix[2 * slot + 1]) for slot in self._order)

    def set_metric(self, turn_step: Callable[[Tensor], None], turn_gradient: Callable[[Tensor], None]) -> None:
        """Go over to other terms: steps, and changes of the gradient, are turned in place."""
        for s, y in self.pairs():
            turn_step(s)
            turn_gradient(y)
        self._mean_square = 0.0
        zero = torch.zeros(1, dtype=self._dtype, device=self._matrix.device).expand(self._matrix.shape[1])
        for slot in list(self._order):
            self._update_products(slot)
            if not self._products[2 * slot, 2 * slot + 1] > 0:  # lost in a narrow number format
                self._order.remove(slot)
                continue
            rows = range(2 * slot, 2 * slot + 2)
            self._update_diagonal((self._matrix[rows[1]], zero), *(float(self._products[row, row]) for row in rows))

    def _update_products(self, slot: int) -> None:
        """Products of what is stored, not of what came in: with narrow storage only these are consistent."""
        rows = slice(2 * slot, 2 * slot + 2)
        products = self._inner_products(self._matrix[rows]).cpu().double()
        self._products[rows] = products.T
        self._products[:, rows] = products

    def _free_slot(self) -> int:
        return next(slot for slot in range(self._pairs) if slot not in self._order)

    def _update_diagonal(self, gradients: tuple[Tensor, Tensor], ss: float, yy: float) -> None:
        """Take a change of the gradient into the curvatures; `ss` and `yy` are the squared lengths of the pair."""
        if self._squares is None or not (ss > 0 and yy > 0):
            return
        after, before = (gradient.reshape(-1) for gradient in gradients)
        weight = _FORGET if self._mean_square else 1.0
        self._mean_square += weight * (yy / ss - self._mean_square)
        for part in self._slices():
            square = (after[part] - before[part]).mul_(math.sqrt(self._matrix.shape[1] / ss)).square_()
            self._squares[part] = torch.lerp(self._squares[part].to(square.dtype), square, weight)

    def _curvature(self, part: slice, *, root: bool = False) -> Tensor | float:
        """Return what values are divided by in a scaled direction, or its root."""
        if self._squares is None or not self._mean_square:
            return 1.0
        floor = _SMALLEST_CURVATURE * math.sqrt(self._mean_square)
        curvature = self._squares[part].to(self._dtype, copy=True).sqrt_().add_(floor)
        return curvature.sqrt_() if root else curvature

    def search_direction(self, gradient: Tensor) -> SearchDirection:
        """Return the quasi-Newton direction −H g.

        The two-loop recursion runs on coefficients of the stored vectors and the gradient; only their inner
        products enter, which are numbers on the host.
        """
        g = gradient.reshape(-1)
        if not self._order:
            return SearchDirection(None, -1.0, -float(g @ g))
        # Of the y and, last, of the gradient with each other, in the metric the recursion starts from.
        with_g, inner = self._with_gradient(g)
        apart = torch.zeros(2, len(self._products), dtype=torch.float64, device="cpu")
        of_s, of_y = apart[0, 0::2], apart[1, 1::2]
        alphas: dict[int, float] = {}
        for slot in reversed(self._order):
            s_dot_q = float(self._products[2 * slot, 1::2] @ of_y - with_g[2 * slot])
            alphas[slot] = s_dot_q / float(self._products[2 * slot, 2 * slot + 1])
            of_y[slot] -= alphas[slot]
        # With scales, the longest step that any pair suggests: the last pair's alone is mostly too short.
        eligible = self._order[-1:] if self._squares is None else self._order
        gamma = max(float(self._products[2 * slot, 2 * slot + 1] / inner[slot, slot]) for slot in eligible)
        of_y *= gamma
        for slot in self._order:
            y_dot_r = float(
                inner[slot, :-1] @ of_y - gamma * inner[slot, -1] + self._products[2 * slot + 1, 0::2] @ of_s
            )
            of_s[slot] += alphas[slot] - y_dot_r / float(self._products[2 * slot, 2 * slot + 1])
        slope = float(inner[-1, :-1] @ of_y - gamma * inner[-1, -1] + with_g[0::2] @ of_s)
        return SearchDirection(apart.to(g.device, self._dtype), -gamma, slope)

    def _with_gradient(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products of all rows with the gradient, and of its changes and itself (a row more) with each other.

        They are brought to the host together.
        """
        pairs = self._pairs
        with_g = self._inner_products(g[None])[:, 0]
        if self._squares is None:
            found = torch.cat([with_g, (g @ g)[None]]).cpu().double()
            inner = torch.zeros(pairs + 1, pairs + 1, dtype=torch.float64, device="cpu")
            inner[:-1, :-1] = self._products[1::2, 1::2]
            inner[-1, :-1] = inner[:-1, -1] = found[1:-1:2]
            inner[-1, -1] = found[-1]
            return found[:-1], inner
        total = torch.zeros(pairs + 1, pairs + 1, dtype=self._dtype, device=g.device)
        for part in self._slices():
            rows = self._room.view(-1)[: (pairs + 1) * len(g[part])].view(pairs + 1, -1)
            rows[:-1] = self._matrix[1::2, part]
            rows[-1] = g[part]
            rows /= self._curvature(part, root=True)
            total.addmm_(rows, rows.T)
        found = torch.cat([with_g, total.flatten()]).cpu().double()
        return found[: 2 * pairs], found[2 * pairs :].view_as(total)

    def slope(self, base_gradient: Tensor, direction: SearchDirection, gradient: Tensor) -> float:
        """Return the slope of another gradient along a direction taken from `base_gradient`."""
        g, base = gradient.reshape(-1), base_gradient.reshape(-1)
        return float(torch.stack([g[part] @ self._direction(base, direction, part) for part in self._slices()]).sum())

    def add_step(self, out: Tensor, plane: slice, gradient: Tensor, direction: SearchDirection, step: float) -> None:
        """Add to some values of a point, those of `plane`, a number of steps along a direction from `gradient`."""
        g = gradient.reshape(-1)
        for part in self._slices(plane):
            inside = slice(part.start - plane.start, part.stop - plane.start)
            out[inside].add_(self._direction(g, direction, part), alpha=step)

    def _direction(self, g: Tensor, direction: SearchDirection, part: slice) -> Tensor:
        """Make some values of a direction."""
        if direction.pairs is None:
            return g[part] * direction.gradient
        from_s, from_y = direction.pairs @ self._as_float(part)
        values = from_y.add_(g[part], alpha=direction.gradient)
        if self._squares is not None:
            values.div_(self._curvature(part))
        return values.add_(from_s)

    def _inner_products(self, vectors: Tensor) -> Tensor:
        """Inner products of every stored row with every row of `vectors`."""
        if self._matrix.dtype is self._dtype:
            return self._matrix @ vectors.T
        total = torch.zeros(len(self._matrix), len(vectors), dtype=self._dtype, device=vectors.device)
        for part in self._slices():
            total.addmm_(self._as_float(part), vectors[:, part].to(self._dtype).T)
        return total

    def _as_float(self, part: slice) -> Tensor:
        """Return some values of the stored rows in the number format that sums are taken in, until the next call."""
        rows = self._matrix[:, part]
        if rows.dtype is self._dtype:
            return rows
        return self._room[:, : rows.shape[1]].copy_(rows)

    def _slices(self, whole: slice | None = None) -> Iterator[slice]:
        """Cut a row, or a part of one, into pieces, so that nothing else of its length is ever made."""
        first, stop = (0, self._matrix.shape[1]) if whole is None else (whole.start, whole.stop)
        return (slice(start, min(start + self._slice, stop)) for start in range(first, stop, self._slice))
