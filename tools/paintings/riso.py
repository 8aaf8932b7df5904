"""Risograph dots: three spot inks printed one after another through halftone screens, a little out of register."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from .canvas import Array, Canvas, Noise, palette, scatter, smoothstep

_PAPER = palette("f6efe0")[0]
_SCREEN = 7.0  # pitch of the dots in units


@dataclass(frozen=True)
class _Drum:
    """One ink: its colour on paper, the angle of its screen in degrees and how far it prints off, in units."""

    colour: str
    angle: float
    off: tuple[float, float]


_DRUMS = (
    _Drum("ffd23f", 8.0, (0.0, 0.0)),
    _Drum("ff4f64", 38.0, (1.6, -1.1)),
    _Drum("1d5fa8", 68.0, (-1.2, 1.7)),
)


def _screen(y: Array, x: Array, angle: float) -> Array:
    """Threshold in [0, 1] of a round-dot screen: printing where tone exceeds it gives dots, then holes."""
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    k = 2 * np.pi / _SCREEN
    wave = 0.25 * (np.cos(k * (x * cos + y * sin)) + np.cos(k * (y * cos - x * sin)))
    # The cosine sum bunches around one half; its cubic makes covered area follow tone nearly linearly.
    return 0.5 - wave * (1.32 - 1.28 * wave * wave)


def _fruit(kind: int, r: Array, fade: Array) -> tuple[Array | float, Array | float, Array | float]:
    """Tones of the three inks in a disc, given the distance to its centre and how far down a pixel lies."""
    rings = smoothstep(-0.3, 0.3, np.sin(r / 2.7))
    return (
        (0.85 + 0.15 * fade, 1 - 0.72 * fade, 0.0),  # a sun
        (0.20 + 0.5 * fade, 0.0, rings),  # a moon in rings
        (0.0, 0.75 * fade, 1 - 0.65 * fade),  # a plum
        (1.0, 0.35 * fade, 0.85 - 0.75 * fade),  # a lime
    )[kind]


def _leaf(kind: int, half: Array, rib: Array) -> tuple[Array | float, Array | float, Array | float]:
    """Tones of the three inks in a leaf, given its far half and its ribs."""
    return (
        (0.95 * half, 0.0, (1 - 0.30 * half) * (1 - rib)),
        (0.25, (1 - 0.45 * half) * (1 - rib), 0.22 * half),
        (1.0, 0.55 * half, 0.95 * rib),
        (0.0, 0.55 * half * (1 - rib), 1 - 0.95 * rib),
    )[kind]


def _compose(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Lay out leaves and fruit on swells of colour; gives one tone in [0, 1] for each ink, ``(3, h, w)``."""
    y, x = canvas.grid
    swell = Noise(canvas, rng, 130).on_grid()
    warm = 0.5 + 0.5 * np.sin((x + 0.7 * y) / 52 + 1.6 * swell)
    cool = 0.5 + 0.5 * np.sin((y - 0.8 * x) / 61 - 1.4 * swell)
    tones = np.stack([0.18 + 0.55 * warm, 0.62 * warm * warm * cool + 0.05, 0.46 * (1 - warm) * cool + 0.10])

    def stamp(where: tuple[slice, slice], cover: Array, inks: tuple[Array | float, ...]) -> None:
        for tone, ink in zip(tones, inks, strict=True):
            tone[where] += (ink - tone[where]) * cover

    places = [(*place, True) for place in scatter(rng, canvas.extent, 104, 60, 0.7)]
    places += [(*place, False) for place in scatter(rng, canvas.extent, 78, 60, 0.9)]
    for cy, cx, is_fruit in places:
        where = canvas.window(np.array([cy, cx]), 62)
        dy, dx = y[where[0]] - cy, x[:, where[1]] - cx
        if is_fruit:
            size = rng.uniform(30, 50)
            r = np.hypot(dy, dx)
            fade = (0.5 + 0.5 * dy / size).clip(0, 1)
            stamp(where, smoothstep(0.5, -0.5, r - size), _fruit(int(rng.integers(4)), r, fade))
            continue
        angle, bow = rng.uniform(0, 2 * np.pi), rng.choice((-0.007, 0.007))
        long, wide = rng.uniform(36, 54), rng.uniform(12, 19)
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = dy * np.cos(angle) - dx * np.sin(angle) - bow * u * u
        inside = wide * (1 - (u / long) ** 2) * (1 + 0.35 * u / long) - np.abs(v)
        rib = smoothstep(1.1, 0.5, np.minimum(np.abs(v), 0.8 * np.abs((u - 1.1 * np.abs(v)) % 10 - 5)))
        stamp(where, smoothstep(-0.5, 0.5, inside), _leaf(int(rng.integers(4)), smoothstep(-0.5, 0.5, v), rib))
    return tones


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Print leaves and suns in three spot inks."""
    canvas = Canvas.of(size)
    rng = np.random.default_rng([0, 6])
    y, x = canvas.grid
    tooth = Noise(canvas, rng, 1.3).on_grid()
    fibre = Noise(canvas, rng, (5.0, 1.4)).on_grid() + Noise(canvas, rng, (1.4, 5.0)).on_grid()
    picture = _PAPER * (1 + 0.014 * tooth + 0.014 * fibre)[..., None]
    tones = _compose(canvas, rng)
    for drum, tone in zip(_DRUMS, tones, strict=True):
        moved = shift(tone, np.array(drum.off) * canvas.unit, order=1, mode="nearest")
        edge = moved + 0.03 * tooth - _screen(y, x, drum.angle)
        dots = smoothstep(-0.08, 0.08, edge) * smoothstep(0.015, 0.05, moved)
        dots = np.maximum(dots, smoothstep(0.93, 0.97, moved))
        # Soy ink lies unevenly: clouds over the sheet, fine voids where the tooth of the paper is high.
        cloud = 0.90 + 0.05 * Noise(canvas, rng, 40, octaves=3).on_grid()
        voids = 1 - 0.55 * smoothstep(1.0, 2.3, Noise(canvas, rng, 1.5).on_grid() + 0.5 * fibre)
        strength = (dots * cloud * voids)[..., None]
        picture = picture * (1 - strength * (1 - palette(drum.colour)[0] / _PAPER.max()))
    return canvas.finish(picture)
