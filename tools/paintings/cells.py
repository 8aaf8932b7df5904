"""Fluorescent cells: a made-up micrograph, drawn with the tools of the paintings but meant as content.

scikit-image brings no fluorescence picture that works offline, so this one is computed: nuclei with chromatin
and nucleoli, filaments running from each nucleus to the border of its cell, a microscope's blur and a
camera's noise. Called by `make_samples.py` and `contents.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .canvas import Array, Canvas, Noise, scatter, smoothstep

_FILAMENTS = 190  # per cell
_KNOTS = 90  # points along a filament
_GLOW = 0.03  # of the background
_SPREAD = 0.4  # density of filaments up to which a cell reaches
OFFSET, _PHOTONS, _READ_NOISE, _COUNTS_PER_PHOTON = 110.0, 900.0, 3.0, 12.0


def _filaments(canvas: Canvas, rng: np.random.Generator, cells: Array) -> Array:
    """Density of filaments: a bent net around each nucleus and straight bundles along the cell's axis."""
    tree = cKDTree(cells)
    cell = np.repeat(np.arange(len(cells)), _FILAMENTS)
    count = len(cell)
    axis = rng.uniform(0, np.pi, len(cells))[cell]
    bundle = rng.random(count) < 0.4
    angle = rng.uniform(0, 2 * np.pi, count)
    out = np.where(bundle, rng.uniform(0, 42, count), rng.uniform(9, 26, count))
    start = cells[cell] + out[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    heading = np.where(bundle, axis + rng.normal(0, 0.10, count), angle + rng.normal(0, 0.55, count))
    bend = rng.normal(0, np.where(bundle, 0.10, 0.75))
    length = np.where(bundle, rng.uniform(25, 75, count), rng.uniform(20, 52, count))[:, None]
    t = np.linspace(0, 1, _KNOTS)
    course = heading[:, None] + bend[:, None] * (t + 0.5 * np.sin(5 * t + 9 * bend[:, None]))
    y, x = (np.cumsum(f(course), axis=1) * length / _KNOTS for f in (np.sin, np.cos))
    middle = np.where(bundle, _KNOTS // 2, 0)[:, None]
    y = y - np.take_along_axis(y, middle, axis=1) + start[:, :1]
    x = x - np.take_along_axis(x, middle, axis=1) + start[:, 1:]
    # A cell ends where it meets its neighbour, or where it has spread as far as it can.
    far, owner = tree.query(np.stack([y, x], axis=-1), k=1)
    weight = np.where(owner == cell[:, None], 1.0, 0.04) * smoothstep(62, 46, far)
    weight = weight * rng.lognormal(-0.3, 0.6, (count, 1)) * np.sin(np.pi * (0.08 + 0.84 * t))
    row, column = np.floor(y * canvas.unit).astype(int), np.floor(x * canvas.unit).astype(int)
    h, w = canvas.shape
    ok = (row >= 0) & (column >= 0) & (row < h) & (column < w)
    density = np.bincount((row * w + column)[ok], weights=(weight * length)[ok] / _KNOTS, minlength=h * w)
    return (density.reshape(h, w) * canvas.unit).astype(np.float32)


@dataclass(frozen=True)
class _Cells:
    """What there is to photograph: brightness of the nuclei, of the filaments and of the haze about them."""

    nuclei: Array
    filaments: Array
    haze: Array

    @property
    def cytoplasm(self) -> Array:
        """Light of what is stained outside the nuclei, and of the background."""
        return _GLOW + 0.31 * self.filaments * (1 - 0.8 * smoothstep(0, 0.5, self.nuclei)) + 0.16 * self.haze


def fluorescence(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint16]:
    """Compute a single-channel fluorescence micrograph of adherent cells.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels.

    Returns
    -------
    ndarray of uint16, shape (H, W)
        Camera counts: a dark offset of about 110, signal up to some ten thousands.
    """
    canvas = Canvas.of(size, oversample=1)
    rng = np.random.default_rng([0, 7])
    cells = _grown(canvas, rng)
    return _photographed(canvas, rng, cells.cytoplasm + 0.80 * cells.nuclei)


def channels(size: tuple[int, int] = (512, 512)) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
    """Compute two channels of the same adherent cells, and what is where.

    Parameters
    ----------
    size : tuple of int
        As in `fluorescence`, whose cells these are.

    Returns
    -------
    nuclei, cytoplasm : ndarray of uint16, shape (H, W)
        Camera counts.
    labels : ndarray of uint8, shape (H, W)
        1 in nuclei, 2 in the cytoplasm, 0 outside the cells.
    """
    canvas = Canvas.of(size, oversample=1)
    rng = np.random.default_rng([0, 7])
    cells = _grown(canvas, rng)
    frames = [_photographed(canvas, rng, light) for light in (_GLOW + 0.80 * cells.nuclei, 1.6 * cells.cytoplasm)]
    labels = np.where(cells.nuclei > 0.25, 1, np.where(canvas.blur(cells.filaments, 4) > _SPREAD, 2, 0))
    return frames[0], frames[1], labels.astype(np.uint8)


def _grown(canvas: Canvas, rng: np.random.Generator) -> _Cells:
    """Spread cells over the canvas."""
    y, x = canvas.grid
    cells = scatter(rng, canvas.extent, 84, 90, 0.7)
    radius = rng.uniform(14, 20, len(cells)).astype(np.float32)

    filaments = canvas.blur(_filaments(canvas, rng, cells), 0.75)
    haze = canvas.blur(filaments, 9)

    crumple = 2.2 * Noise(canvas, rng, 17).on_grid()
    chromatin = Noise(canvas, rng, 6.5, octaves=3, gain=0.75).on_grid()
    nuclei = np.zeros(canvas.shape, np.float32)
    for (cy, cx), r in zip(cells, radius, strict=True):
        near = canvas.window(np.array([cy, cx]), 40)
        angle, flat = rng.uniform(0, np.pi), rng.uniform(0.68, 0.95)
        dy, dx = y[near[0]] - cy, x[:, near[1]] - cx
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = r - np.hypot(u, v / flat) + crumple[near]
        body = smoothstep(-1.0, 2.5, inside) * (0.55 + 0.45 * smoothstep(0, 12, inside))
        texture = 1 + 0.26 * chromatin[near]
        for _ in range(int(rng.integers(1, 4))):
            hy, hx = rng.normal(0, 0.33 * r, 2)
            texture = texture * (1 - 0.6 * np.exp(-((dy - hy) ** 2 + (dx - hx) ** 2) / rng.uniform(4, 14)))
        nuclei[near] = np.maximum(nuclei[near], body * texture * rng.uniform(0.7, 1.15))
    return _Cells(nuclei, filaments, haze)


def _photographed(canvas: Canvas, rng: np.random.Generator, signal: Array) -> NDArray[np.uint16]:
    """Look at a signal through a microscope and take a camera frame of it."""
    signal = canvas.blur(signal, 0.55) + 0.06 * canvas.blur(signal, 14)
    k = canvas.oversample
    return expose(signal.reshape(canvas.height, k, canvas.width, k).mean(axis=(1, 3)), rng)


def expose(signal: Array, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Take a camera frame of a signal (1 is bright): shot noise, read noise, dark offset, 16 bit."""
    photons = _PHOTONS * signal
    electrons = rng.poisson(photons) + rng.normal(0, _READ_NOISE, photons.shape)
    return np.rint(OFFSET + _COUNTS_PER_PHOTON * electrons).clip(0, 65535).astype(np.uint16)
