"""Marbling: paints floated in rings, then raked and combed into feathers.

A drop pushes all that floats outwards and keeps areas; a tine drags the paint along with it. Both are exact
maps of the plane, so each pixel is carried back through the whole history to the drop it came from (after
Lu, Jaffer, Jin, Zhao and Mao, "Mathematical marbling", IEEE CG&A 2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from .canvas import Array, Canvas, Noise, mix, palette, scatter, smoothstep

_INKS = palette("16234f", "a51d2d", "f2e3c2", "1f6f78", "e2a233", "3d74a8", "f3b9a4", "0e0f1a")
_SHARE = np.array([0.21, 0.18, 0.19, 0.14, 0.12, 0.09, 0.055, 0.015])
_PAPER = palette("efe2c8")[0]
_BATH = 2  # what is left between the drops


# Rounds of drops, first to last, in units: their spacing, then their radii. A second radius is a drop into
# the drop before, which makes a ring of that one.
_ROUNDS = ((50, 24), (64, 25, 19), (80, 27, 17), (48, 8))


def _float(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Drop paint on the bath; gives its colours ``(h, w, 3)`` before any raking."""
    spots, radii = [], []
    for spacing, *sizes in _ROUNDS:
        places = scatter(rng, canvas.extent, spacing, 34)
        for size in sizes:
            spots.append(places + rng.normal(0, 2.5, places.shape))
            radii.append(size * rng.uniform(0.75, 1.25, len(places)))
    where, radius = np.concatenate(spots).astype(np.float32), np.concatenate(radii).astype(np.float32)
    ink = rng.choice(len(_INKS), len(where), p=_SHARE)
    count = canvas.shape[0] * canvas.shape[1]
    owner = np.full(count, _BATH)
    rim = np.ones(count, np.float32)
    left = np.arange(count)
    y, x = (a.ravel().copy() for a in np.broadcast_arrays(*canvas.grid))
    for (cy, cx), r, colour in zip(where[::-1], radius[::-1], ink[::-1], strict=True):
        dy, dx = y - cy, x - cx
        square = (dy * dy + dx * dx) / (r * r)
        hit = square < 1
        if hit.any():
            owner[left[hit]] = colour
            rim[left[hit]] = square[hit]
            keep = ~hit
            left, dy, dx, square = left[keep], dy[keep], dx[keep], square[keep]
        back = np.sqrt(1 - 1 / square)
        y, x = cy + dy * back, cx + dx * back
    # Paint gathers at the rim of a drop.
    return (_INKS[owner] * (1.07 - 0.17 * rim)[:, None]).reshape(*canvas.shape, 3)


def _rake(position: Array, spacing: float, shift: float, sharpness: float) -> Array:
    """Pull of a comb at a position across it: 1 at each tine, falling off exponentially between them."""
    phase = np.abs((position / spacing + shift) % 1 - 0.5) * spacing
    near = spacing / 2 - phase
    return (np.exp(-near / sharpness) + np.exp(-(spacing - near) / sharpness)).astype(np.float32)


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Float, rake and comb a sheet of marbled paper."""
    canvas = Canvas.of(size, oversample=3)
    rng = np.random.default_rng([0, 4])
    y, x = (a.copy() for a in np.broadcast_arrays(*canvas.grid))

    # Backwards in time: the last movement is undone first. A hand sways a little while it pulls.
    y = y - 7 * np.sin(x / 41 + 2.2 * Noise(canvas, rng, 170).on_grid())
    x = x - 2.5 * Noise(canvas, rng, 60).on_grid()
    for centre in scatter(rng, canvas.extent, 190, 60, 0.8):
        near = canvas.window(centre, 110)
        dy, dx = y[near] - centre[0], x[near] - centre[1]
        turn = rng.choice((-2.6, 2.6)) * np.exp(-(dy * dy + dx * dx) / 34**2)
        sin, cos = np.sin(turn), np.cos(turn)
        y[near], x[near] = centre[0] + dy * cos + dx * sin, centre[1] - dy * sin + dx * cos
    # The fine comb one way makes the feathers, the wide rakes up and down made the stripes before.
    y = y - 34 * _rake(x, 21, 0.15, 4.5)
    x = x - 62 * _rake(y, 74, 0.0, 17) + 62 * _rake(y, 74, 0.5, 17)

    # Raking only shifts the paint, so the bath may be coarser than what is read from it.
    bath = Canvas.of((max(16, round(0.75 * size[0])), max(16, round(0.75 * size[1]))))
    floating = _float(bath, rng)
    at = np.stack([y, x]).astype(np.float32) * bath.unit - 0.5
    picture = np.stack(
        [map_coordinates(floating[..., c], at, order=1, mode="mirror", output=np.float32) for c in range(3)], axis=-1
    )
    film = Noise(canvas, rng, 26, octaves=3, gain=0.7).on_grid()
    tooth = Noise(canvas, rng, 1.5).on_grid() + 0.7 * Noise(canvas, rng, (1.1, 6)).on_grid()
    picture = mix(picture, _PAPER, 0.05 + 0.10 * smoothstep(0.6, 2.6, tooth))
    picture = picture * (1 + 0.035 * film + 0.018 * tooth)[..., None]
    return canvas.finish(picture)
