"""Mosaic: rows of tesserae following waves and roundels, with gold among the stone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from .canvas import Array, Canvas, Noise, mix, palette, relief, scatter, smoothstep

_SEA = palette("10233f", "1b4a7a", "2b7fa3", "54aeb0", "a9d3bd", "e9e3c6")
_EARTH = palette("5a1a1e", "9a2f24", "c9632f", "e0a24a", "efdcae")
_RINGS = np.array([[1, 2, 3, 4, 3, 2], [4, 1, 0, 2, 3, 4], [3, 4, 2, 1, 2, 0]])  # of earth, from the rim inwards
_GOLD = palette("8a5a14", "d9a227", "ffe18a")
_GROUT = palette("6d655a")[0]

_STONE = 9.4  # side of a tessera with its joint, in units
_JOINT = 0.62  # half width of a joint
_BORDER = 2 * _STONE  # rows that run round a disc outside its rim


class _Design:
    """The drawing under the stones: a field whose level lines the rows follow, and its colours."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        self.discs = scatter(rng, canvas.extent, 168, 90, 0.6)
        self.radius = rng.uniform(38, 58, len(self.discs)).astype(np.float32)
        self.kind = rng.integers(0, 3, len(self.discs))
        self.swell = Noise(canvas, rng, 120)
        self.shade = Noise(canvas, rng, 70)
        self.tilt = rng.uniform(0, np.pi)

    def nearest_disc(self, y: Array, x: Array) -> tuple[NDArray[np.intp], Array]:
        """Find the disc that reaches closest, and the signed distance to its rim (negative inside)."""
        best = np.full(y.shape, np.inf, np.float32)
        which = np.zeros(y.shape, np.intp)
        for i, ((cy, cx), r) in enumerate(zip(self.discs, self.radius, strict=True)):
            d = np.hypot(y - cy, x - cx) - r
            closer = d < best
            best[closer], which[closer] = d[closer], i
        return which, best

    def wave(self, y: Array, x: Array) -> Array:
        """Give a distance-like height of the waves, in units across the rows."""
        across = y * np.cos(self.tilt) - x * np.sin(self.tilt)
        along = y * np.sin(self.tilt) + x * np.cos(self.tilt)
        return across + 13 * np.sin(along / 27 + 1.2 * np.sin(across / 60)) + 16 * self.swell.at(y, x)


def _stones(canvas: Canvas, design: _Design, rng: np.random.Generator) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Lay stones along level lines, evenly by arc length.

    Returns
    -------
    place : ndarray, shape (n, 2)
        Centres in units.
    angle : ndarray, shape (n,)
        Direction of the row in radians.
    thick : ndarray, shape (n,)
        Thickness of the row in units.
    row : ndarray of int, shape (n, 2)
        Level counted in stones, and the disc the stone belongs to or -1.
    """
    step, margin = 2.0, 24.0
    rows, columns = (np.arange(-margin, e + margin, step, dtype=np.float32) for e in canvas.extent)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    _, rim = design.nearest_disc(y, x)
    wave = design.wave(y, x)
    stones = []
    for field, round_disc in ((wave, False), (rim, True)):
        low, high = (-design.radius.max(), _BORDER) if round_disc else (wave.min(), wave.max())
        for level in range(int(np.floor(low / _STONE)), int(np.ceil(high / _STONE))):
            for line in find_contours(field, (level + 0.5) * _STONE):
                py, px = line.T * step - margin
                arc = np.concatenate([[0], np.hypot(np.diff(py), np.diff(px)).cumsum()])
                count = round(arc[-1] / _STONE)
                if count == 0:
                    continue
                s = (np.arange(count) + 0.8 * rng.random() + rng.normal(0, 0.06, count)) * arc[-1] / count
                here, back, ahead = (np.stack([np.interp(v, arc, p) for p in (py, px)]) for v in (s, s - 2, s + 2))
                angle = np.arctan2(*(ahead - back))
                stones.append(np.stack([*here, angle, np.full(count, level), np.full(count, round_disc)], axis=-1))
    laid = np.concatenate(stones).astype(np.float32)
    disc, rim_here = design.nearest_disc(laid[:, 0], laid[:, 1])
    disc[laid[:, 4] == 0] = -1
    free = (disc >= 0) | (rim_here > _BORDER + 0.2 * _STONE)
    laid, disc = laid[free], disc[free]
    here = (laid[:, :2].T + margin) / step
    slope = map_coordinates(np.hypot(*np.gradient(wave, step)), here, order=1, mode="nearest")
    thick = np.where(disc >= 0, _STONE, _STONE / slope.clip(0.7, 1.5))
    row = np.stack([laid[:, 3], disc], axis=-1).astype(int)
    return laid[:, :2], laid[:, 2], thick.astype(np.float32), row


def _colours(design: _Design, rng: np.random.Generator, place: Array, row: NDArray[np.int64]) -> tuple[Array, Array]:
    """Choose the stone for each place; gives colours ``(n, 3)`` and which of them are gold."""
    level, disc = row.T
    count = len(level)
    in_disc = disc >= 0
    shade = design.shade.at(place[:, 0], place[:, 1])
    stray = rng.integers(-1, 2, count) * (rng.random(count) < 0.22)

    sea = 2.6 + 2.3 * np.sin(0.72 * level + 0.9 * shade) + 0.5 * shade
    colour = _SEA[(np.rint(sea).astype(int) + stray).clip(0, len(_SEA) - 1)]
    crest = ~in_disc & (level % 11 == 4)
    colour[crest] = _EARTH[(2 + stray[crest]).clip(1, 3)]

    ring = np.where(in_disc, -level, 0)
    earth = _RINGS[design.kind[disc], ring % 6] + stray
    colour[in_disc] = _EARTH[earth.clip(0, 4)][in_disc]
    colour[in_disc & (level == 0)] = _SEA[0]
    gilt = np.where(in_disc, (level == 1) | (ring >= 5), level % 11 == 9)
    gold = (rng.random(count) < 0.035) | gilt
    gold &= rng.random(count) < 0.9
    colour[gold] = _GOLD[1]
    return colour * (1 + 0.075 * rng.standard_normal((count, 1), dtype=np.float32)), gold


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Lay a mosaic of stone and gold."""
    # A joint separates every two stones, so its soft edge is enough and oversampling is not needed.
    canvas = Canvas.of(size, oversample=1)
    rng = np.random.default_rng([0, 5])
    y, x = canvas.grid
    design = _Design(canvas, rng)
    place, angle, thick, row = _stones(canvas, design, rng)
    colour, gold = _colours(design, rng, place, row)

    pixels = np.stack(np.broadcast_arrays(y, x), axis=-1)
    _, near = cKDTree(place).query(pixels.reshape(-1, 2), k=5)
    near = near.reshape(*canvas.shape, 5)
    angle = angle + rng.normal(0, 0.05, len(angle)).astype(np.float32)
    sin, cos = np.sin(angle), np.cos(angle)
    length = 0.5 * _STONE * rng.uniform(0.92, 1.08, len(angle)).astype(np.float32)
    dy, dx = pixels[..., None, 0] - place[near, 0], pixels[..., None, 1] - place[near, 1]
    u = dx * cos[near] + dy * sin[near]
    v = dy * cos[near] - dx * sin[near]
    # Where rows part, a bigger stone is cut to fill the gap; elsewhere its neighbours keep it small.
    outside = np.maximum(np.abs(u) - 1.25 * length[near], np.abs(v) - 0.62 * thick[near])
    order = np.argsort(outside, axis=-1)[..., :2]
    first, second = np.moveaxis(np.take_along_axis(outside, order, axis=-1), -1, 0)
    stone = np.take_along_axis(near, order[..., :1], axis=-1)[..., 0]
    u, v = (np.take_along_axis(c, order[..., :1], axis=-1)[..., 0] for c in (u, v))

    chip = Noise(canvas, rng, 3.4).on_grid()
    inside = np.minimum(-first, (second - first) / 2) + 0.16 * chip
    soft = 0.55 * canvas.oversample / canvas.unit
    cover = smoothstep(_JOINT - soft, _JOINT + soft, inside)

    # No two stones are set quite level; the glass over gold leaf shows it most.
    lean = rng.normal(0, 1, (2, len(angle))).astype(np.float32)
    tilt = (lean[0, stone] * u + lean[1, stone] * v) / _STONE
    vein = Noise(canvas, rng, 7, octaves=3).on_grid()
    grain = Noise(canvas, rng, 1.5).on_grid()
    face = colour[stone] * (1 + 0.10 * tilt + 0.055 * vein + 0.03 * grain)[..., None]
    leaf = smoothstep(-0.9, 1.1, 1.1 * tilt + 0.5 * lean[0, stone] + 0.35 * vein)
    gilded = np.where((leaf < 0.5)[..., None], mix(_GOLD[0], _GOLD[1], 2 * leaf), mix(_GOLD[1], _GOLD[2], 2 * leaf - 1))
    face = np.where(gold[stone][..., None], gilded, face)

    dome = 1.5 * smoothstep(0, 2.6, inside) + 0.25 * tilt * cover + 0.05 * grain
    diffuse, specular = relief(canvas, canvas.blur(dome, 0.35))
    face = face * (1 + 0.40 * diffuse)[..., None] + (0.16 * (specular - 0.01))[..., None]
    bed = _GROUT * (0.80 + 0.10 * grain + 0.06 * vein + 0.25 * diffuse)[..., None]
    return canvas.finish(mix(bed, face, cover))
