"""The last steps of a minimisation, and the quasi-Newton direction that follows from them.

Steps and changes of the gradient are the rows of one matrix, and only inner products of the rows enter the recursion
(Chen, Wang and Zhou 2014): a direction costs three passes over the matrix and one transfer to the host. Besides the
matrix, and one row of curvatures where they are wanted, nothing of the size of the image is ever made. Called by
`lbfgs`.

The recursion starts from a multiple of the identity, or from a diagonal: the reciprocal of the root of a running mean
of (y/‖s‖)², which is how much the gradient changed at each value for a step of given length. So the scale of each
value is learned as in Adam (Kingma and Ba 2015, arXiv 1412.6980), but from changes of the gradient, which do
not vanish at a minimum; diagonals learned from the pairs go back to Gilbert and Lemaréchal 1989.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_COSINE = 1e-8
"""A pair is kept if sᵀy exceeds this fraction of ‖s‖‖y‖."""

_FORGET = 0.1
"""Weight of the newest pair in the running mean of curvatures."""

_SMALLEST_CURVATURE = 0.1
"""Added to all curvatures, in units of their root mean square: the first pairs say little about a single value."""

_SLICE = 1 << 20
"""Values worked on at once where that spares a copy of the size of the image."""


@dataclass(frozen=True)
class Heading:
    """A direction as a combination of the stored pairs and the gradient, and its slope.

    It is never made as an image of its own: each trial point is summed up anew, which takes a pass over the history.
    """

    pairs: Tensor
    gradient: float
    slope: float
    scaled: bool = False
    """Whether the gradient and its changes enter divided by the curvatures."""


class History:
    """The last pairs (s, y) as one matrix, and the inner products a direction is made from."""

    def __init__(self, like: Tensor, pairs: int, storage: torch.dtype, *, scaled: bool = False) -> None:
        self._pairs = pairs
        self._dtype = like.dtype
        # Zeros, not garbage: rows without a pair enter the products too, with coefficient 0.
        self._matrix = torch.zeros(2 * pairs, like.numel(), dtype=storage, device=like.device)
        self._products = torch.zeros(2 * pairs, 2 * pairs, dtype=torch.float64)
        self._order: list[int] = []
        self._squares = torch.zeros(like.numel(), dtype=storage, device=like.device) if scaled else None
        self._mean_square = 0.0

    @property
    def count(self) -> int:
        """Number of pairs held."""
        return len(self._order)

    def clear(self) -> None:
        """Forget all pairs, keeping the memory and the curvatures."""
        self._order.clear()

    def push(self, points: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]) -> None:
        """Add the pair of differences, first minus second, in place of the oldest when full.

        A pair without positive curvature is left out. Differences are taken some values at a time.
        """
        sums = []
        for part in self._parts(_SLICE):
            s, y = _difference(points, part), _difference(gradients, part)
            sums.append(torch.stack([s @ y, s @ s, y @ y]))
        sy, ss, yy = torch.stack(sums).sum(0, dtype=torch.float64).tolist()
        self._learn(gradients, ss, yy)
        if not sy > _SMALLEST_COSINE * math.sqrt(ss * yy):
            return
        slot = self._order.pop(0) if self.count == self._pairs else self._free_slot()
        for row, vectors in ((2 * slot, points), (2 * slot + 1, gradients)):
            for part in self._parts(_SLICE):
                self._matrix[row, part] = _difference(vectors, part)
            # Products of what is stored, not of what came in: with narrow storage only these are consistent.
            product = self._times(self._matrix[row]).double().cpu()
            self._products[row] = product
            self._products[:, row] = product
        if self._products[2 * slot, 2 * slot + 1] > 0:
            self._order.append(slot)

    def _free_slot(self) -> int:
        return next(slot for slot in range(self._pairs) if slot not in self._order)

    def _learn(self, gradients: tuple[Tensor, Tensor], ss: float, yy: float) -> None:
        """Take a change of the gradient into the curvatures; `ss` and `yy` are the squared lengths of the pair."""
        if self._squares is None or not (ss > 0 and yy > 0):
            return
        weight = _FORGET if self._mean_square else 1.0
        self._mean_square += weight * (yy / ss - self._mean_square)
        for part in self._parts(_SLICE):
            square = _difference(gradients, part).mul_(math.sqrt(self._matrix.shape[1] / ss)).square_()
            self._squares[part] = torch.lerp(self._squares[part].to(square.dtype), square, weight)

    def _curvature(self, part: slice) -> Tensor | float:
        """Return what values are divided by in a scaled direction."""
        if self._squares is None or not self._mean_square:
            return 1.0
        floor = _SMALLEST_CURVATURE * math.sqrt(self._mean_square)
        return self._squares[part].to(self._dtype).sqrt().add_(floor)

    def heading(self, gradient: Tensor) -> Heading:
        """Return the quasi-Newton direction −H g.

        The two-loop recursion runs on coefficients of the stored vectors and the gradient; only their inner
        products enter, which are numbers on the host.
        """
        g = gradient.reshape(-1)
        coefficient = torch.zeros(len(self._products), dtype=torch.float64)
        if not self._order:
            return Heading(coefficient, -1.0, -float(g @ g))
        with_g = self._times(g).double().cpu()
        of_s, of_y = coefficient[0::2], coefficient[1::2]
        alphas: dict[int, float] = {}
        for slot in reversed(self._order):
            s_dot_q = float(self._products[2 * slot, 1::2] @ of_y - with_g[2 * slot])
            alphas[slot] = s_dot_q / float(self._products[2 * slot, 2 * slot + 1])
            of_y[slot] -= alphas[slot]
        # Of the y and, last, of the gradient with each other, in the metric the recursion starts from.
        inner = self._inner(g, with_g)
        last = self._order[-1]
        gamma = float(self._products[2 * last, 2 * last + 1] / inner[last, last])
        of_y *= gamma
        for slot in self._order:
            y_dot_r = float(
                inner[slot, :-1] @ of_y - gamma * inner[slot, -1] + self._products[2 * slot + 1, 0::2] @ of_s
            )
            of_s[slot] += alphas[slot] - y_dot_r / float(self._products[2 * slot, 2 * slot + 1])
        slope = float(inner[-1, :-1] @ of_y - gamma * inner[-1, -1] + with_g[0::2] @ of_s)
        return Heading(coefficient, -gamma, slope, scaled=self._squares is not None)

    def _inner(self, g: Tensor, with_g: Tensor) -> Tensor:
        """Inner products of the changes of the gradient, and of the gradient as one row more."""
        pairs = self._pairs
        inner = torch.zeros(pairs + 1, pairs + 1, dtype=torch.float64)
        if self._squares is None:
            inner[:-1, :-1] = self._products[1::2, 1::2]
            inner[-1, :-1] = inner[:-1, -1] = with_g[1::2]
            inner[-1, -1] = float(g @ g)
            return inner
        total = torch.zeros(pairs + 1, pairs + 1, dtype=self._dtype, device=g.device)
        for part in self._parts(_SLICE // len(self._matrix)):
            rows = torch.cat([self._matrix[1::2, part].to(self._dtype), g[None, part]])
            total.addmm_(rows / self._curvature(part), rows.T)
        return total.double().cpu()

    def slope(self, base_gradient: Tensor, heading: Heading, gradient: Tensor) -> float:
        """Return the slope of another gradient along a direction taken from `base_gradient`."""
        g, base = gradient.reshape(-1), base_gradient.reshape(-1)
        if heading.scaled:
            parts = list(self._parts(_SLICE // len(self._matrix)))
            return float(torch.stack([g[part] @ self._direction(base, heading, part) for part in parts]).sum())
        along = float(self._times(g).double().cpu() @ heading.pairs) if self._order else 0.0
        return along + heading.gradient * float(g @ base)

    def walk(self, base: Tensor, gradient: Tensor, heading: Heading, step: float, out: Tensor) -> None:
        """Write into `out` the point a number of steps from `base` along a direction taken from `gradient`."""
        if heading.scaled:
            g, start, end = gradient.reshape(-1), base.reshape(-1), out.view(-1)
            for part in self._parts(_SLICE // len(self._matrix)):
                torch.add(start[part], self._direction(g, heading, part), alpha=step, out=end[part])
            return
        torch.add(base, gradient, alpha=step * heading.gradient, out=out)
        if self._order:
            self._add_combination((step * heading.pairs).to(out.device, self._dtype), out.view(-1))

    def _direction(self, g: Tensor, heading: Heading, part: slice) -> Tensor:
        """Make some values of a scaled direction."""
        pairs = heading.pairs.to(g.device, self._dtype)
        rows = self._matrix[:, part].to(self._dtype)
        direction = torch.addmv(g[part], rows[1::2].T, pairs[1::2], beta=heading.gradient).div_(self._curvature(part))
        return direction.addmv_(rows[0::2].T, pairs[0::2])

    def _times(self, vector: Tensor) -> Tensor:
        """Inner products of every stored row with `vector`."""
        if self._matrix.dtype is self._dtype:
            return self._matrix.mv(vector)
        total = torch.zeros(len(self._matrix), dtype=self._dtype, device=vector.device)
        for part in self._parts(_SLICE // len(self._matrix)):
            total += self._matrix[:, part].to(self._dtype).mv(vector[part].to(self._dtype))
        return total

    def _add_combination(self, coefficient: Tensor, out: Tensor) -> None:
        if self._matrix.dtype is self._dtype:
            out.addmv_(self._matrix.T, coefficient)
            return
        for part in self._parts(_SLICE // len(self._matrix)):
            out[part].addmv_(self._matrix[:, part].to(self._dtype).T, coefficient)

    def _parts(self, length: int) -> Iterator[slice]:
        """Cut a row into pieces, so that nothing else of the length of a row is ever made."""
        length = max(1, length)
        return (slice(first, first + length) for first in range(0, self._matrix.shape[1], length))


def _difference(pair: tuple[Tensor, Tensor], part: slice) -> Tensor:
    return pair[0].reshape(-1)[part] - pair[1].reshape(-1)[part]
