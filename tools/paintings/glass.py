"""Stained glass: flowers on deep water, leaded, streaky and lit from behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .canvas import Array, Canvas, Noise, mix, palette, relief, scatter, smoothstep

_WATER = palette("10247a", "1a46b8", "2273d6", "2aa0c8", "3fbfa6", "a4d8a8")
_PETALS = palette("7d0a1e", "b3142a", "e0402c", "f0762c", "f4a42e", "b04a86")
_HEART = palette("ffd23c", "fff0bf")
_LEAF = palette("0f6b45", "3f9a3f", "a9c23a")
_SPARK = palette("f6c244", "f7dfa0", "c8304a")
_LEAD = palette("17161c", "4a4a55")

_LEAD_HALF = 1.4  # half width of a lead came, in units


def _cut(canvas: Canvas, rng: np.random.Generator) -> tuple[Array, Array]:
    """Lay out the panes: their seeds ``(n, 2)`` in units and their glass ``(n, 3)``."""
    flowers = scatter(rng, canvas.extent, 112, 120, 0.5)
    water = scatter(rng, canvas.extent, 30, 110, 0.75)
    away, _ = cKDTree(flowers).query(water)
    water = water[away > 47]
    tone = Noise(canvas, rng, (95, 60)).at(*water.T) * 1.25 + 0.55 * rng.standard_normal(len(water)) + 2.2
    colour = _WATER[tone.clip(0, len(_WATER) - 1).astype(int)]
    spark = rng.random(len(water)) < 0.05
    colour[spark] = _SPARK[rng.integers(0, len(_SPARK), spark.sum())]
    seeds, glass = [water], [colour]
    for centre in flowers:
        petals = int(rng.integers(6, 9))
        turn = rng.uniform(0, 2 * np.pi)
        hue = int(rng.integers(0, len(_PETALS) - 1))
        angle = turn + np.arange(petals) * 2 * np.pi / petals
        leafy = (angle % 1.7 < 0.7)[:, None]
        outer = np.where(leafy, _LEAF[np.arange(petals) % 3], _WATER[1 + hue])
        for radius, swing, shades in (
            (0.0, 0.0, _HEART[rng.integers(0, 2)]),
            (18.5, 0.0, _PETALS[hue + np.arange(petals) % 2]),
            (38.0, np.pi / petals, outer),
        ):
            circle = np.stack([np.sin(angle + swing), np.cos(angle + swing)], axis=-1) * radius
            circle = circle[:1] if radius == 0 else circle * rng.uniform(0.94, 1.06, (petals, 1))
            seeds.append(centre + circle)
            glass.append(np.broadcast_to(shades, (len(circle), 3)))
    colour = np.concatenate(glass)
    colour = colour * (1 + 0.10 * rng.standard_normal((len(colour), 1)))
    return np.concatenate(seeds).astype(np.float32), colour.clip(0, 1).astype(np.float32)


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Paint a leaded window."""
    canvas = Canvas.of(size)
    rng = np.random.default_rng([0, 2])
    y, x = canvas.grid

    # The panes are cut in bent coordinates, so that the leads run in curves.
    bend_y, bend_x = Noise(canvas, rng, 105), Noise(canvas, rng, 105)
    v = y + 19 * bend_y.on_grid()
    u = x + 19 * bend_x.on_grid()
    seeds, colour = _cut(canvas, rng)

    points = np.stack([v, u], axis=-1).reshape(-1, 2)
    distance, index = cKDTree(seeds).query(points, k=3)
    distance = distance.astype(np.float32).reshape(*canvas.shape, 3)
    index = index.reshape(*canvas.shape, 3)
    pane = index[..., 0]

    def to_border(k: int) -> Array:
        apart = np.linalg.norm(seeds[pane] - seeds[index[..., k]], axis=-1)
        return (distance[..., k] ** 2 - distance[..., 0] ** 2) / (2 * apart)

    border, corner = to_border(1), to_border(2)
    # Bending stretched the distances; measured across the border, they are true again.
    towards = seeds[index[..., 1]] - seeds[pane]
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    slope = [towards[..., 0] * dv + towards[..., 1] * du for dv, du in zip(np.gradient(v), np.gradient(u), strict=True)]
    edge = border / (np.hypot(*slope) * np.float32(canvas.unit)).clip(0.4, 2.5)
    deeper = (colour**1.5 * 0.72).astype(np.float32)

    # Streaks drawn out when the sheet was rolled: each pane is cut from the sheet at its own angle.
    angle = rng.uniform(0, np.pi, len(seeds)).astype(np.float32)[pane]
    along = y * np.sin(angle) + x * np.cos(angle)
    over = -y * np.cos(angle) + x * np.sin(angle)
    sheet = Noise(canvas, rng, 13, octaves=2)
    wave = 3 * sheet.on_grid()
    streak = np.sin((over + wave) / 2.6 + 1.4 * np.sin(along / 19 + 7 * angle)) * 0.5
    streak += 0.6 * Noise(canvas, rng, 7, octaves=2).on_grid()
    glass = mix(1.12 * colour[pane] + 0.05, deeper[pane], smoothstep(-0.9, 1.1, streak))

    hammered = Noise(canvas, rng, 4.2, octaves=2).on_grid()
    diffuse, sparkle = relief(canvas, 0.9 * hammered + 0.35 * streak)
    lamp = smoothstep(0, 13, border)
    glass = glass * (0.74 + 0.56 * lamp + 0.34 * diffuse)[..., None]
    glass += (0.30 * (sparkle > 0.5) * sparkle * lamp)[..., None] * (0.4 + 0.6 * colour[pane])

    bubbles = scatter(rng, canvas.extent, 21, 5)
    near, _ = cKDTree(bubbles).query(np.stack(np.broadcast_arrays(y, x), axis=-1).reshape(-1, 2))
    rim = np.abs(near.reshape(canvas.shape).astype(np.float32) - 1.1)
    glass += 0.22 * smoothstep(0.8, 0.1, rim)[..., None]

    # Light floods over the leads a little.
    bloom = np.stack([canvas.blur(np.maximum(glass[..., c] - 0.35, 0), 5.0) for c in range(3)], axis=-1)

    joint = _LEAD_HALF * (1 + 1.1 * smoothstep(7.0, 0.5, corner))
    profile = (edge / joint).clip(0, 1)
    came = np.sqrt(1 - profile**2 + 1e-4) * 2.2 + 0.12 * hammered
    lead_light, lead_shine = relief(canvas, canvas.blur(came, 0.3))
    lead = mix(_LEAD[0], _LEAD[1], (0.35 + 0.75 * lead_light).clip(0, 1)) + 0.35 * lead_shine[..., None]
    cover = smoothstep(0.35, -0.35, edge - joint)
    shadow = 1 - 0.45 * smoothstep(2.6, 0, edge - joint)
    picture = mix(glass * shadow[..., None], lead, cover) + 0.42 * bloom
    return canvas.finish(picture)
