"""Procedural paintings: the package's style pictures, made by our own code, so that they are free.

Each is a texture all over its sheet, with strokes, stones or dots of about 6 to 40 pixels at 512 x 512, a
palette of few colours and detail at several scales: what a Gram matrix can learn from. `make_samples.py` paints
them once; the benchmarks and `contact_sheet.py` paint them larger.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import glass, ink, marbling, mosaic, riso, swirls

__all__ = ["PAINTINGS"]

PAINTINGS: dict[str, Callable[[tuple[int, int]], NDArray[np.uint8]]] = {
    "brush-swirls": swirls.paint,
    "stained-glass": glass.paint,
    "ink-hatching": ink.paint,
    "mosaic": mosaic.paint,
    "marbling": marbling.paint,
    "riso-dots": riso.paint,
}
"""By name: ``(height, width)`` in pixels to a picture (H, W, 3), the same at every call."""
