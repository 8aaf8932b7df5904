"""Brush and pen strokes: ribbons along a flow, drawn over each other in order.

`trace` walks lines along a direction field; `rasterize` finds for every working pixel the topmost stroke and
where in that stroke the pixel lies. Called by the painting modules that draw with strokes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas

Direction = Callable[[Array, Array], tuple[Array, Array]]

_SPACING = 0.72  # of a working pixel: closer than this, a curved ribbon has no holes
_CHUNK = 1 << 21  # samples held at a time


@dataclass(frozen=True)
class Painted:
    """Topmost stroke at every working pixel.

    Attributes
    ----------
    stroke : ndarray of int32, shape (h, w)
        Index of the stroke, -1 where there is none.
    along : ndarray, shape (h, w)
        0 at the start of the stroke, 1 at its end.
    across : ndarray, shape (h, w)
        -1 at one edge, 1 at the other.
    """

    stroke: NDArray[np.int32]
    along: Array
    across: Array


def trace(start: Array, direction: Direction, length: Array, steps: int) -> Array:
    """Walk from the middle of each stroke both ways along a direction field.

    Parameters
    ----------
    start : ndarray, shape (n, 2)
        Middles ``(y, x)`` in units.
    direction : callable
        ``(y, x) -> (dy, dx)``, unit vectors.
    length : ndarray, shape (n,)
        Lengths in units.
    steps : int
        Steps each way.

    Returns
    -------
    ndarray, shape (n, 2 * steps + 1, 2)
        Centre lines in units, evenly spaced.
    """
    step = length / (2 * steps)
    halves = []
    for sign in (-1.0, 1.0):
        y, x = start[:, 0], start[:, 1]
        line = []
        for _ in range(steps):
            dy, dx = direction(y, x)
            my, mx = direction(y + sign * step / 2 * dy, x + sign * step / 2 * dx)
            y, x = y + sign * step * my, x + sign * step * mx
            line.append(np.stack([y, x], axis=-1))
        halves.append(line)
    points = [*reversed(halves[0]), start, *halves[1]]
    return np.stack(points, axis=1).astype(np.float32)


def rasterize(
    canvas: Canvas,
    centre: Array,
    half_width: Array,
    hole: Callable[[NDArray[np.intp], Array, Array], NDArray[np.bool_]] | None = None,
) -> Painted:
    """Draw ribbons in order, later ones on top.

    Parameters
    ----------
    centre : ndarray, shape (n, m, 2)
        Centre lines in units, evenly spaced along each stroke.
    half_width : ndarray, shape (n, m)
        Half width at each centre point, in units.
    hole : callable, optional
        ``(stroke (k, 1, 1), along (1, s, 1), across (1, 1, t)) -> bool (k, s, t)``: where the brush left
        no paint.
    """
    h, w = canvas.shape
    count, knots = half_width.shape
    longest = np.linalg.norm(np.diff(centre, axis=1), axis=-1).sum(axis=1).max(initial=0.0) * canvas.unit
    widest = 2 * half_width.max(initial=0.0) * canvas.unit
    n_along = max(2, int(np.ceil(longest / _SPACING)) + 1)
    n_across = max(2, int(np.ceil(widest / _SPACING)) + 1)
    along = np.linspace(0, 1, n_along, dtype=np.float32)
    across = np.linspace(-1, 1, n_across, dtype=np.float32)
    between = np.maximum(0, 1 - np.abs(along[:, None] * (knots - 1) - np.arange(knots, dtype=np.float32)))

    tangent = np.gradient(centre, axis=1)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-6
    reach = half_width[..., None] * np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1) * canvas.unit
    middle = centre * canvas.unit

    per_stroke = n_along * n_across
    top = np.full(h * w, -1, np.int64)
    chunk = max(1, _CHUNK // per_stroke)
    for first in range(0, count, chunk):
        some = slice(first, min(first + chunk, count))
        c = np.matmul(between, middle[some])[:, :, None, :]
        r = np.matmul(between, reach[some])[:, :, None, :]
        row = (c[..., 0] + r[..., 0] * across).astype(np.int32)
        column = (c[..., 1] + r[..., 1] * across).astype(np.int32)
        ok = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        if hole is not None:
            index = np.arange(some.start, some.stop)[:, None, None]
            ok &= ~hole(index, along[None, :, None], across[None, None, :])
        sample = np.flatnonzero(ok)
        # Of repeated indices the last one stays: later strokes cover earlier ones.
        top[(row * w + column).ravel()[sample]] = sample + first * per_stroke
    stroke, place = np.divmod(top.reshape(h, w), per_stroke)
    return Painted(
        np.where(stroke < 0, -1, stroke).astype(np.int32), along[place // n_across], across[place % n_across]
    )
