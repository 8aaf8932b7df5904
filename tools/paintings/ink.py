"""Ink hatching: folded forms drawn with a pen on toned paper, with red chalk and white heightening."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, Noise, mix, palette, relief, smoothstep
from .strokes import rasterize

_PAPER = palette("dcc9a4", "cfb48a")
_INK = palette("1d1a24", "2a3f6e")
_CHALK = palette("b5452a")
_WHITE = palette("fbf6e6")


def _fan(
    canvas: Canvas,
    rng: np.random.Generator,
    angle: float,
    spacing: float,
    length: float,
    bow: float,
    form: Array,
) -> Array:
    """Rule the canvas with pen strokes, as a hand would: evenly, bent over the form, never quite alike.

    Returns
    -------
    ndarray, shape (n, m, 2)
        Centre lines in units.
    """
    h, w = canvas.extent
    reach = float(np.hypot(h, w)) / 2 + 30
    rows = np.arange(-reach, reach, spacing)
    columns = np.arange(-reach, reach, length * 0.8)
    row, column = (v.ravel() for v in np.meshgrid(np.arange(len(rows)), columns, indexing="ij"))
    shift = rng.uniform(0, length, len(rows))
    middle = column + shift[row] + rng.normal(0, 0.07 * length, len(row))
    offset = rows[row] + rng.normal(0, 0.10 * spacing, len(row))
    size = length * rng.uniform(0.75, 1.15, len(row))
    t = np.linspace(-0.5, 0.5, 13)
    along = middle[:, None] + size[:, None] * t
    curve = rng.normal(0.5, 0.25, len(row))[:, None] * 0.035 * length * (1 - 4 * t**2)
    tilt = rng.normal(0, 0.012, len(row))[:, None] * size[:, None] * t
    across = offset[:, None] + curve + tilt
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    y = h / 2 + along * sin + across * cos
    x = w / 2 + along * cos - across * sin
    lift = bow * canvas.sample(form, y, x)
    lines = np.stack([y + lift * cos, x - lift * sin], axis=-1).astype(np.float32)
    inside = ((lines > -10) & (lines < np.array([h, w]) + 10)).all(axis=(1, 2))
    return lines[inside]


def _ink(canvas: Canvas, rng: np.random.Generator, lines: Array, want: Array, width: float) -> Array:
    """Draw strokes only as far and as heavily as the wanted strength in [0, 1] goes; gives the cover."""
    need = canvas.sample(want, lines[..., 0], lines[..., 1])
    need = need * (1 + 0.18 * rng.standard_normal((len(lines), 1), dtype=np.float32))
    t = np.linspace(0, 1, lines.shape[1], dtype=np.float32)
    press = smoothstep(0, 0.12, t) * (0.25 + 0.75 * smoothstep(0, 0.5, 1 - t))
    press = press * rng.uniform(0.8, 1.2, (len(lines), 1)).astype(np.float32)
    half = width / 2 * press * smoothstep(0.03, 0.30, need) * (0.6 + 0.6 * need.clip(0, 1))
    drawn = half.max(axis=1) > 0.25
    half = half[drawn]
    knots = half.shape[1] - 1

    def lifted(stroke: NDArray[np.intp], along: Array, _: Array) -> NDArray[np.bool_]:
        return half[stroke, np.rint(along * knots).astype(np.intp)] < 0.14

    painted = rasterize(canvas, lines[drawn], half, lifted)
    return (painted.stroke >= 0).astype(np.float32)


def paint(size: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """Draw folded forms in cross-hatching."""
    canvas = Canvas.of(size, oversample=3)
    rng = np.random.default_rng([0, 34])
    y, x = canvas.grid

    # Drapery: the folds are ridges of a bent wave.
    bend = Noise(canvas, rng, 96).on_grid()
    sway = Noise(canvas, rng, 85).on_grid()
    phase = (0.8 * x + 0.6 * y) / 15 + 2.9 * bend
    form = np.abs(np.sin(phase)) ** 0.8 * (1 + 0.3 * sway) + 0.9 * sway + 0.12 * Noise(canvas, rng, 22).on_grid()
    diffuse, _ = relief(canvas, canvas.blur(11 * form, 3.0))
    light = 0.5 + 0.66 * diffuse + 0.13 * Noise(canvas, rng, 62).on_grid()
    dark = (1 - light).clip(0, 1)

    fibre = Noise(canvas, rng, (1.2, 7)).on_grid() + Noise(canvas, rng, 1.3).on_grid()
    wash = smoothstep(0.35, 0.95, canvas.blur(dark, 3.0))
    paper = mix(_PAPER[0], _PAPER[1], smoothstep(-2, 2, Noise(canvas, rng, 60, octaves=3).on_grid()))
    picture = paper * (1 + 0.022 * fibre - 0.20 * wash)[..., None]

    def hatch(angle: float, spacing: float, length: float, want: Array, width: float, bow: float = 6.0) -> Array:
        return _ink(canvas, rng, _fan(canvas, rng, angle, spacing, length, bow, form), want, width)

    chalk = hatch(64, 4.4, 46, smoothstep(0.30, 0.46, dark) * smoothstep(-1.1, 0.0, sway), 3.0, 4)
    grainy = chalk * smoothstep(-1.6, 0.9, fibre) * 0.85
    picture = mix(picture, picture * (0.35 + 0.65 * _CHALK[0]) * 0.6 + 0.4 * _CHALK[0], grainy)

    ink = mix(_INK[0], _INK[1], smoothstep(-1, 1.4, sway))
    for angle, spacing, length, low, high, width in (
        (38, 4.8, 58, 0.28, 0.85, 1.5),
        (-18, 4.8, 44, 0.50, 0.95, 1.4),
        (84, 4.6, 30, 0.68, 1.10, 1.3),
        (14, 4.2, 24, 0.84, 1.2, 1.3),
    ):
        cover = hatch(angle, spacing, length, smoothstep(low, high, dark), width)
        picture = mix(picture, 0.85 * ink + 0.15 * picture * ink, 0.93 * cover)

    white = hatch(-40, 4.2, 30, smoothstep(0.57, 0.86, light), 2.0)
    picture = mix(picture, np.broadcast_to(_WHITE[0], picture.shape), 0.9 * white * smoothstep(-2.2, 0.4, fibre))
    return canvas.finish(picture)
