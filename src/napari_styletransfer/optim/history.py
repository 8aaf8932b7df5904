"""The last steps of a minimisation, and the quasi-Newton direction p = −H g that follows from them.

With the pairs s = x₊ − x and y = g₊ − g, H is given by the two-loop recursion (Nocedal 1980; Nocedal and Wright 2006,
algorithm 7.4):

    q ← −g;    newest to oldest pair:  α ← sᵀq / sᵀy,   q ← q − α y
    p ← γ D q; oldest to newest pair:  β ← yᵀp / sᵀy,   p ← p + (α − β) s

q is a combination of g and the y, and p of these and the s, so that only inner products of the vectors enter (Chen,
Wang and Zhou 2014, "Large-scale L-BFGS using MapReduce"): a direction costs three passes over the matrix
whose rows are the s and y, and one transfer to the host. Nothing else of the size of the image is ever made, besides
one row for D where it is wanted: values of a direction come some at a time wherever they are needed. Called by `lbfgs`.

γ D is the initial inverse Hessian. Either D = 1 and γ = sᵀy / yᵀy of the newest pair (Liu and Nocedal 1989;
Nocedal and Wright, equation 7.20), or D = 1 / (√v + floor), with v the running mean of y² n / ‖s‖², which is how
much the gradient changed at each of the n values for a step of given length. So the scale of each value is learned as
in Adam (Kingma and Ba 2015, arXiv 1412.6980), but from changes of the gradient, which do not vanish at a minimum;
diagonals learned from the pairs go back to Gilbert and Lemaréchal 1989. Then γ is the largest sᵀy / yᵀDy of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_styletransfer.images.chunks import chunks

_MIN_COSINE = 1e-8
"""A pair is kept if sᵀy exceeds this fraction of ‖s‖‖y‖: the curvature condition (Nocedal and Wright, equation 6.7)."""

_EMA_WEIGHT = 0.3
"""Weight of the newest pair in the running mean of curvatures."""

_CURVATURE_FLOOR = 0.3
"""Added to all curvatures, in units of their root mean square: the first pairs say little about a single value."""

_SLICE, _SLICE_GPU = 1 << 15, 1 << 18
"""Values of a row worked on at once. On the CPU, what is made of the rows stays in the cache then; elsewhere every
slice costs the time to start its programs."""


@dataclass(frozen=True)
class SearchDirection:
    """A direction as a combination of the stored pairs and the gradient, and its slope.

    p = Σ a_s s + D (Σ a_y y + a_g g). It is never made as an image of its own: each trial point is summed up anew,
    which takes a pass over the history.

    Attributes
    ----------
    pairs
        The coefficients a_s and a_y, (2, rows of the history); None for the steepest descent.
    gradient
        The coefficient a_g.
    slope
        gᵀp.
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
        self._slots: list[int] = []
        self._mean_squares = torch.zeros(like.numel(), dtype=storage, device=like.device) if scaled else None
        self._mean_square = 0.0
        # Made once: memory asked for anew for every slice costs several times what is done in it.
        self._slice = min(_SLICE if like.device.type == "cpu" else _SLICE_GPU, like.numel())
        self._buffer = torch.empty(2 * pairs, self._slice, dtype=like.dtype, device=like.device)

    @property
    def count(self) -> int:
        """Number of pairs held."""
        return len(self._slots)

    def clear(self) -> None:
        """Forget all pairs, keeping the memory and the curvatures."""
        self._slots.clear()

    def push(self, direction: SearchDirection, step: float, gradients: tuple[Tensor, Tensor]) -> None:
        """Add the pair of a step along a direction and of the change of the gradient, in place of the oldest when full.

        The direction must be the last one made, from the second of the gradients. A pair without positive curvature is
        left out, and the oldest is dropped all the same: the step itself is made from it, part by part as it is
        replaced.
        """
        after, before = (gradient.reshape(-1) for gradient in gradients)
        slot = self._slots.pop(0) if self.count == self._pairs else self._free_slot()
        rows = self._matrix[2 * slot : 2 * slot + 2]
        sums = []
        for part in self._slices():
            s = self._direction(before, direction, part).mul_(step)
            y = after[part] - before[part]
            sums.append(torch.stack([s @ y, s @ s, y @ y]))
            rows[0, part], rows[1, part] = s, y
        sy, ss, yy = torch.stack(sums).cpu().sum(0, dtype=torch.float64).tolist()
        self._update_diagonal(gradients, ss, yy)
        if not sy > _MIN_COSINE * math.sqrt(ss * yy):
            rows.zero_()  # it enters products, with coefficient 0: there must be no NaN in it
            return
        self._update_products(slot)
        if self._products[2 * slot, 2 * slot + 1] > 0:
            self._slots.append(slot)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the pairs, oldest first."""
        return ((self._matrix[2 * slot], self._matrix[2 * slot + 1]) for slot in self._slots)

    def set_metric(self, convert_step: Callable[[Tensor], None], convert_gradient: Callable[[Tensor], None]) -> None:
        """Express the pairs in another metric, in place."""
        for s, y in self.pairs():
            convert_step(s)
            convert_gradient(y)
        self._mean_square = 0.0
        zero = torch.zeros(1, dtype=self._dtype, device=self._matrix.device).expand(self._matrix.shape[1])
        for slot in list(self._slots):
            self._update_products(slot)
            if not self._products[2 * slot, 2 * slot + 1] > 0:  # lost in a narrow number format
                self._slots.remove(slot)
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
        return next(slot for slot in range(self._pairs) if slot not in self._slots)

    def _update_diagonal(self, gradients: tuple[Tensor, Tensor], ss: float, yy: float) -> None:
        """Take a pair into v, the running mean of y² n / ‖s‖²; `ss` and `yy` are sᵀs and yᵀy."""
        if self._mean_squares is None or not (ss > 0 and yy > 0):
            return
        after, before = (gradient.reshape(-1) for gradient in gradients)
        weight = _EMA_WEIGHT if self._mean_square else 1.0
        self._mean_square += weight * (yy / ss - self._mean_square)
        for part in self._slices():
            square = (after[part] - before[part]).mul_(math.sqrt(self._matrix.shape[1] / ss)).square_()
            self._mean_squares[part] = torch.lerp(self._mean_squares[part].to(square.dtype), square, weight)

    def _curvature(self, part: slice, *, root: bool = False) -> Tensor | float:
        """Return 1/D, √v + floor, for some values, or its root."""
        if self._mean_squares is None or not self._mean_square:
            return 1.0
        floor = _CURVATURE_FLOOR * math.sqrt(self._mean_square)
        curvature = self._mean_squares[part].to(self._dtype, copy=True).sqrt_().add_(floor)
        return curvature.sqrt_() if root else curvature

    def search_direction(self, gradient: Tensor) -> SearchDirection:
        """Return p = −H g by the two-loop recursion on coefficients; `s_y` below is s_i·y_j of the pairs held."""
        g = gradient.reshape(-1)
        if not self._slots:
            return SearchDirection(None, -1.0, -float(g @ g))
        s_y, y_s, sy = self._products[0::2, 1::2], self._products[1::2, 0::2], self._products[0::2, 1::2].diagonal()
        # yDy has the y and, last, the gradient.
        dot_g, yDy = self._gradient_products(g)
        coefficients = torch.zeros(2, len(self._products), dtype=torch.float64, device="cpu")
        a_s, a_y = coefficients[0, 0::2], coefficients[1, 1::2]
        alpha: dict[int, float] = {}
        for i in reversed(self._slots):
            alpha[i] = float(s_y[i] @ a_y - dot_g[2 * i]) / float(sy[i])
            a_y[i] -= alpha[i]
        # With D, the longest step that any pair suggests: the last pair's alone is mostly too short.
        eligible = self._slots[-1:] if self._mean_squares is None else self._slots
        gamma = max(float(sy[i] / yDy[i, i]) for i in eligible)
        a_y *= gamma
        for i in self._slots:
            beta = float(yDy[i, :-1] @ a_y - gamma * yDy[i, -1] + y_s[i] @ a_s) / float(sy[i])
            a_s[i] += alpha[i] - beta
        slope = float(yDy[-1, :-1] @ a_y - gamma * yDy[-1, -1] + dot_g[0::2] @ a_s)
        return SearchDirection(coefficients.to(g.device, self._dtype), -gamma, slope)

    def _gradient_products(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the products of all rows with g, and yᵀDy of the y and, last, g with each other.

        They are brought to the host together.
        """
        pairs = self._pairs
        dot_g = self._inner_products(g[None])[:, 0]
        if self._mean_squares is None:
            found = torch.cat([dot_g, (g @ g)[None]]).cpu().double()
            yDy = torch.zeros(pairs + 1, pairs + 1, dtype=torch.float64, device="cpu")
            yDy[:-1, :-1] = self._products[1::2, 1::2]
            yDy[-1, :-1] = yDy[:-1, -1] = found[1:-1:2]
            yDy[-1, -1] = found[-1]
            return found[:-1], yDy
        total = torch.zeros(pairs + 1, pairs + 1, dtype=self._dtype, device=g.device)
        for part in self._slices():
            rows = self._buffer.view(-1)[: (pairs + 1) * len(g[part])].view(pairs + 1, -1)
            rows[:-1] = self._matrix[1::2, part]
            rows[-1] = g[part]
            rows /= self._curvature(part, root=True)
            total.addmm_(rows, rows.T)
        found = torch.cat([dot_g, total.flatten()]).cpu().double()
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
        from_s, from_y = direction.pairs @ self._float_rows(part)
        values = from_y.add_(g[part], alpha=direction.gradient)
        if self._mean_squares is not None:
            values.div_(self._curvature(part))
        return values.add_(from_s)

    def _inner_products(self, vectors: Tensor) -> Tensor:
        """Inner products of every stored row with every row of `vectors`."""
        if self._matrix.dtype is self._dtype:
            return self._matrix @ vectors.T
        total = torch.zeros(len(self._matrix), len(vectors), dtype=self._dtype, device=vectors.device)
        for part in self._slices():
            total.addmm_(self._float_rows(part), vectors[:, part].to(self._dtype).T)
        return total

    def _float_rows(self, part: slice) -> Tensor:
        """Return some values of the stored rows in the number format that sums are taken in, until the next call."""
        rows = self._matrix[:, part]
        if rows.dtype is self._dtype:
            return rows
        return self._buffer[:, : rows.shape[1]].copy_(rows)

    def _slices(self, whole: slice | None = None) -> Iterator[slice]:
        """Cut a row, or a part of one, into pieces, so that nothing else of its length is ever made."""
        first, stop = (0, self._matrix.shape[1]) if whole is None else (whole.start, whole.stop)
        return chunks(stop, 1, self._slice, first)
