"""What every painting is painted on: the canvas, its noise, its palette and its light.

All sizes in the paintings are in *units*: a picture of 512 x 512 pixels is 512 units wide and high, and a
picture of any other size has the same area in units, so that the composition is the same at every resolution.
Painting happens on a finer grid that `Canvas.finish` averages down, so edges are smooth. Called by
the painting modules of this package only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.floating[Any]]

_REFERENCE = 512.0
_SPLINE_STD = 0.479  # standard deviation of a cubic B-spline surface over unit white noise


@dataclass(frozen=True)
class Canvas:
    """The grid a painting is computed on.

    Parameters
    ----------
    height, width : int
        Size of the finished picture in pixels.
    oversample : int
        Side of the block of working pixels averaged into one finished pixel.
    """

    height: int
    width: int
    oversample: int

    @classmethod
    def of(cls, size: tuple[int, int], oversample: int = 2) -> Canvas:
        """Make a canvas for a finished size ``(height, width)`` in pixels.

        Small pictures are oversampled more, because a stroke there is thinner than a pixel; large ones at most
        twice, because their strokes are many pixels wide and memory is not free.
        """
        height, width = size
        side = (height * width) ** 0.5
        finer = max(oversample, min(4, round(_REFERENCE / side)))
        return cls(height, width, min(finer, 2) if side > 2 * _REFERENCE else finer)

    @cached_property
    def unit(self) -> float:
        """Working pixels per unit."""
        return float((self.height * self.width) ** 0.5 / _REFERENCE * self.oversample)

    @property
    def shape(self) -> tuple[int, int]:
        """Working size ``(height, width)`` in working pixels."""
        return self.height * self.oversample, self.width * self.oversample

    @property
    def extent(self) -> tuple[float, float]:
        """Size ``(height, width)`` in units."""
        # Rounded, so that a size that is not a power of two does not get one lattice point more.
        return round(self.shape[0] / self.unit, 6), round(self.shape[1] / self.unit, 6)

    @cached_property
    def grid(self) -> tuple[Array, Array]:
        """Centres of the working pixels in units, ``y`` as a column and ``x`` as a row."""
        y, x = (((np.arange(n) + 0.5) / self.unit).astype(np.float32) for n in self.shape)
        return y[:, None], x[None, :]

    def sample(self, field: Array, y: Array, x: Array) -> Array:
        """Read a working-grid field at points given in units, linearly, edges repeated."""
        at = np.stack([y * self.unit - 0.5, x * self.unit - 0.5])
        return map_coordinates(field, at, order=1, mode="nearest", output=np.float32)

    def window(self, centre: Array, reach: float) -> tuple[slice, slice]:
        """Index of the working pixels within `reach` units of a point ``(y, x)``, as a square."""
        low, high = (((centre + side) * self.unit).clip(0, self.shape).astype(int) for side in (-reach, reach))
        return slice(low[0], high[0]), slice(low[1], high[1])

    def blur(self, field: Array, sigma: float) -> Array:
        """Blur a working-grid field by a Gaussian whose `sigma` is in units."""
        return gaussian_filter(field, sigma * self.unit, mode="nearest", truncate=3.0)

    def finish(self, rgb: Array) -> NDArray[np.uint8]:
        """Average a working picture ``(h, w, 3)`` in [0, 1] down to the finished uint8 picture."""
        k = self.oversample
        blocks = rgb.reshape(self.height, k, self.width, k, 3)
        picture = blocks.mean(axis=(1, 3), dtype=np.float32)
        return np.rint(picture.clip(0, 1) * 255).astype(np.uint8)


class Noise:
    """Smooth random surface of zero mean and about unit variance, the same at every resolution.

    A cubic B-spline over a lattice of normal random numbers; octaves of halved spacing are added.

    Parameters
    ----------
    canvas : Canvas
        Where it will be looked at; a margin of a few lattice steps is included.
    rng : numpy.random.Generator
        Source of the lattice values.
    scale : float or tuple of float
        Lattice spacing in units, about the size of a bump; two numbers for ``(y, x)``.
    octaves : int
        How many finer copies, each at `gain` times the strength of the one before.
    """

    def __init__(
        self,
        canvas: Canvas,
        rng: np.random.Generator,
        scale: float | tuple[float, float],
        octaves: int = 1,
        gain: float = 0.5,
    ) -> None:
        sy, sx = (scale, scale) if isinstance(scale, int | float) else scale
        self._canvas = canvas
        self._lattices: list[tuple[Array, float, float]] = []
        norm = sum(gain ** (2 * o) for o in range(octaves)) ** 0.5 * _SPLINE_STD
        for o in range(octaves):
            step_y, step_x = sy / 2**o, sx / 2**o
            shape = tuple(int(np.ceil(e / s)) + 7 for e, s in zip(canvas.extent, (step_y, step_x), strict=True))
            values = rng.standard_normal(shape, dtype=np.float32) * np.float32(gain**o / norm)
            self._lattices.append((values, step_y, step_x))

    def on_grid(self) -> Array:
        """Evaluate on the whole working grid."""
        y, x = self._canvas.grid
        total = np.zeros(self._canvas.shape, np.float32)
        for values, sy, sx in self._lattices:
            rows = _spline_matrix(y.ravel() / sy, values.shape[0])
            columns = _spline_matrix(x.ravel() / sx, values.shape[1])
            total += rows @ (values @ columns.T)
        return total

    def at(self, y: Array, x: Array) -> Array:
        """Evaluate at points given in units; outside the canvas the margin, then its edge, is used."""
        total = np.zeros(np.broadcast(y, x).shape, np.float32)
        for values, sy, sx in self._lattices:
            where = np.stack(np.broadcast_arrays(y / sy + 3, x / sx + 3))
            total += map_coordinates(values, where, order=3, mode="nearest", prefilter=False, output=np.float32)
        return total


def _spline_matrix(position: Array, count: int) -> Array:
    """Weights of `count` cubic B-splines at lattice positions, whose origin is the fourth lattice point."""
    distance = np.abs(position[:, None] + 3 - np.arange(count, dtype=np.float32))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def palette(*colours: str) -> Array:
    """Turn ``"rrggbb"`` strings into an ``(n, 3)`` array in [0, 1]."""
    return np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in colours], np.float32) / 255


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Go smoothly from 0 at `low` to 1 at `high`."""
    t = ((value - low) / (high - low)).clip(0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def mix(first: Array, second: Array, amount: Array | float) -> Array:
    """Blend two colour fields ``(..., 3)`` by an amount ``(...)`` in [0, 1]."""
    weight = np.asarray(amount, np.float32)[..., None]
    return first + (second - first) * weight


def scatter(
    rng: np.random.Generator, extent: tuple[float, float], spacing: float, margin: float, jitter: float = 0.9
) -> Array:
    """Spread points evenly but irregularly: one in each cell of a brick lattice, anywhere in a `jitter` of it.

    Returns
    -------
    ndarray, shape (n, 2)
        ``(y, x)`` in units, reaching `margin` units beyond the canvas, in random order.
    """
    y = np.arange(-margin, extent[0] + margin, spacing)
    x = np.arange(-margin, extent[1] + margin, spacing)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    points[1::2, :, 1] += spacing / 2
    points = points.reshape(-1, 2) + rng.uniform(0, jitter * spacing, (points.shape[0] * points.shape[1], 2))
    return rng.permutation(points).astype(np.float32)


def relief(canvas: Canvas, height: Array, *, angle: float = 225.0) -> tuple[Array, Array]:
    """Light a surface from one side.

    Parameters
    ----------
    height : ndarray
        Surface height in units on the working grid.
    angle : float
        Where the light comes from, in degrees clockwise from the right; 225 is the upper left.

    Returns
    -------
    diffuse : ndarray
        Change of brightness, zero for a flat surface, mostly within -1 to 1.
    specular : ndarray
        Highlight in [0, 1], near zero for a flat surface.
    """
    gy, gx = np.gradient(height * np.float32(canvas.unit))
    light_y, light_x = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    length = np.sqrt(1 + gy * gy + gx * gx)
    towards = -(gy * light_y + gx * light_x)
    diffuse = towards / length
    # The half-way vector of a light at 45 degrees and an eye straight above.
    gloss = ((0.383 * towards + 0.924) / length).clip(0, 1)
    return diffuse.astype(np.float32), (gloss**60).astype(np.float32)
