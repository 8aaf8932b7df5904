"""Brush swirls: thick oil paint laid along whirling currents, in the manner of a night sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, Noise, mix, palette, relief, scatter, smoothstep
from .strokes import rasterize, trace

_NIGHT = palette("0d1638", "142a66", "1f4e9c", "2f79b8", "5fa8bf", "a9cfb8", "e6e2b4")
_LIGHT = palette("c9741c", "e39a22", "f2c033", "f7e08a", "fdf6d2")
_ACCENT = palette("b8431f", "e0742a", "f0b23c", "0a1026", "d8efe0")


@dataclass(frozen=True)
class _Pass:
    """One going-over of the sheet; lengths in units."""

    length: float
    half_width: float
    spacing: float
    jitter: float  # of the colour, as a share of the palette
    accents: float  # share of strokes
    quiet: float  # share of strokes laid where the sky is dark and still


_PASSES = (
    _Pass(74.0, 7.5, 9.5, 0.045, 0.00, 1.0),
    _Pass(60.0, 4.6, 6.6, 0.075, 0.03, 1.0),
    _Pass(44.0, 2.9, 7.4, 0.115, 0.09, 0.35),
)


class _Sky:
    """Currents and light of one picture: whirls on an irregular lattice and wind between them."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        self.centre = scatter(rng, canvas.extent, 128, 70)
        count = len(self.centre)
        self.radius = rng.uniform(26, 58, count).astype(np.float32)
        self.turn = np.where(rng.random(count) < 0.62, 1, -1).astype(np.float32)
        self.glow = (rng.random(count) < 0.6) * rng.uniform(0.75, 1.1, count).astype(np.float32)
        self.wind = Noise(canvas, rng, 150)
        self.cloud = Noise(canvas, rng, 34, octaves=2)

    def _offsets(self, y: Array, x: Array) -> tuple[Array, Array, Array]:
        dy, dx = y[..., None] - self.centre[:, 0], x[..., None] - self.centre[:, 1]
        return dy, dx, np.sqrt(dy * dy + dx * dx) + 1e-3

    def direction(self, y: Array, x: Array) -> tuple[Array, Array]:
        """Give unit vectors of the current at points given in units."""
        dy, dx, r = self._offsets(y, x)
        angle = 0.75 * self.wind.at(y, x)
        pull = 2.6 * self.turn * np.exp(-((r / (1.25 * self.radius)) ** 2)) / r
        vy = np.sin(angle) + ((dx - 0.12 * dy) * pull).sum(axis=-1)
        vx = np.cos(angle) + ((-dy - 0.12 * dx) * pull).sum(axis=-1)
        speed = np.sqrt(vy * vy + vx * vx) + 1e-6
        return vy / speed, vx / speed

    def light(self, y: Array, x: Array) -> tuple[Array, Array]:
        """Give the warm light of the nearest glowing whirl in [0, 1], and the rings around every whirl."""
        _, _, r = self._offsets(y, x)
        warm = (self.glow * np.exp(-((r / (0.62 * self.radius)) ** 2))).sum(axis=-1)
        rings = (np.exp(-((r / (1.6 * self.radius)) ** 2)) * np.cos(r / 4.6)).sum(axis=-1)
        return warm, rings


def _colours(sky: _Sky, rng: np.random.Generator, line: Array, jitter: float, accents: float) -> Array:
    """Choose one colour per stroke from where its centre line runs."""
    some = line[:, :: max(1, line.shape[1] // 4)]
    y, x = some[..., 0], some[..., 1]
    warm, rings = (v.mean(axis=1) for v in sky.light(y, x))
    tone = 0.40 + 0.23 * sky.cloud.at(y, x).mean(axis=1) + 0.17 * rings + 0.25 * np.minimum(warm, 0.6)
    count = len(line)
    tone = tone + jitter * rng.standard_normal(count)
    cool = _NIGHT[(tone.clip(0, 0.999) * len(_NIGHT)).astype(int)]
    glow = (warm + 1.3 * jitter * rng.standard_normal(count) + 0.06 * rings).clip(0, 0.999)
    lit = _LIGHT[((glow - 0.3) / 0.7 * len(_LIGHT)).clip(0, len(_LIGHT) - 1).astype(int)]
    colour = np.where((glow > 0.34)[:, None], lit, cool)
    accent = _ACCENT[rng.integers(0, len(_ACCENT), count)]
    colour = np.where((rng.random(count) < accents * (warm < 0.6))[:, None], accent, colour)
    return (colour * (1 + 0.05 * rng.standard_normal((count, 1)))).astype(np.float32)


class _Brush:
    """How much paint each bristle of each stroke carries, and how soon the stroke runs dry."""

    def __init__(self, rng: np.random.Generator, strokes: int, bristles: int) -> None:
        self.load = rng.random((strokes, bristles + 1), dtype=np.float32)
        self.endurance = rng.uniform(0.72, 1.1, strokes).astype(np.float32)

    def hair(self, stroke: NDArray[np.integer], across: Array) -> Array:
        """Give the paint carried at a place across the stroke, in [0, 1]."""
        place = (across + 1) / 2 * (self.load.shape[1] - 1.001)
        lower = place.astype(np.intp)
        part = place - lower
        return self.load[stroke, lower] * (1 - part) + self.load[stroke, lower + 1] * part

    def dry(self, stroke: NDArray[np.integer], along: Array, across: Array) -> NDArray[np.bool_]:
        """Say where no paint is left: late in the stroke, thinly loaded bristles and outer ones first."""
        late = along - self.endurance[stroke]
        return self.hair(stroke, across) < 1.25 * late + 0.28 * np.abs(across) ** 3


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Paint whirling brush strokes with bristle marks and impasto."""
    canvas = Canvas.of(size)
    rng = np.random.default_rng([0, 1])
    sky = _Sky(canvas, rng)
    picture = np.broadcast_to(_NIGHT[1], (*canvas.shape, 3)).copy()
    height = np.zeros(canvas.shape, np.float32)

    for layer in _PASSES:
        start = scatter(rng, canvas.extent, layer.spacing, 20)
        warm, rings = sky.light(start[:, 0], start[:, 1])
        lively = (warm + np.abs(rings)).clip(0, 1)
        laid = rng.random(len(start)) < layer.quiet + 0.5 * lively
        start, warm = start[laid], warm[laid]
        count = len(start)
        length = layer.length * rng.uniform(0.6, 1.1, count) * (1 - 0.45 * warm.clip(0, 1))
        line = trace(start, sky.direction, length.astype(np.float32), 7)
        s = np.linspace(0, 1, line.shape[1], dtype=np.float32)
        belly = (0.35 + 0.65 * smoothstep(0, 0.22, s)) * (0.25 + 0.75 * smoothstep(0, 0.38, 1 - s))
        width = layer.half_width * rng.uniform(0.75, 1.2, (count, 1)).astype(np.float32) * belly
        brush = _Brush(rng, count, max(6, round(layer.half_width * 3)))

        painted = rasterize(canvas, line, width, brush.dry)
        on = painted.stroke >= 0
        stroke, along, across = painted.stroke[on], painted.along[on], painted.across[on]
        colour = _colours(sky, rng, line, layer.jitter, layer.accents)
        # A brush picks up two paints; each bristle carries its own share.
        second = _colours(sky, rng, line, 2.2 * layer.jitter, layer.accents)
        hair = brush.hair(stroke, across)
        mixed = mix(colour[stroke], second[stroke], smoothstep(0.45, 0.95, hair) * 0.8)
        picture[on] = mixed * (0.86 + 0.26 * hair)[:, None]
        ridge = smoothstep(0.55, 0.95, np.abs(across)) * 0.5 + 0.8 * np.exp(-(((along - 0.03) / 0.03) ** 2))
        height[on] = 0.35 * height[on] + (0.8 + 0.9 * hair + ridge) * (layer.half_width / 4.6) ** 0.5

    height = canvas.blur(height + 0.10 * Noise(canvas, rng, 1.6).on_grid(), 0.42)
    diffuse, specular = relief(canvas, 0.62 * height)
    picture = picture * (1 + 0.5 * diffuse)[..., None]
    picture += (0.10 * diffuse + 0.18 * (specular - specular.mean()))[..., None]
    return canvas.finish(picture)
