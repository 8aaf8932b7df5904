"""Procedural paintings: style pictures made by our own code, so that they are free, offline and of any size.

Each is a texture all over its sheet, with strokes, stones or dots of about 6 to 40 pixels at 512 x 512, a
palette of few colours and detail at several scales: what a Gram matrix can learn from. `PAINTINGS` is read by
`napari_styletransfer.samples`, the form and the command line.

Examples
--------
>>> from napari_styletransfer.paintings import PAINTINGS
>>> PAINTINGS["mosaic"].function((64, 96), 7).shape
(64, 96, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_styletransfer.paintings import glass, ink, marbling, mosaic, riso, swirls

__all__ = ["PAINTINGS", "Painting"]


@dataclass(frozen=True)
class Painting:
    """One procedural painting.

    Attributes
    ----------
    title : str
        Name to show.
    description : str
        What it looks like, in one sentence.
    function : callable
        ``(size=(H, W), seed=0) -> uint8 array (H, W, 3)``. Sizes are in pixels, at least 16 each
        (`napari_styletransfer.errors.ImageError` otherwise); the same size and seed give the same picture.
    """

    title: str
    description: str
    function: Callable[[tuple[int, int], int], NDArray[np.uint8]]


PAINTINGS: dict[str, Painting] = {
    "brush-swirls": Painting(
        "Brush swirls", "Thick oil strokes whirling through a blue night with warm lights.", swirls.paint
    ),
    "stained-glass": Painting(
        "Stained glass", "Leaded panes lit from behind: red and amber flowers on deep water.", glass.paint
    ),
    "ink-hatching": Painting("Ink hatching", "Pen and red chalk, heightened with white, on toned paper.", ink.paint),
    "mosaic": Painting("Mosaic", "Stone and gold tesserae in waves and roundels.", mosaic.paint),
    "marbling": Painting("Marbling", "Combed and curled marbled paper: indigo, red, teal, ochre.", marbling.paint),
    "riso-dots": Painting("Risograph dots", "Leaves and fruit in three spot inks, out of register.", riso.paint),
}
"""The paintings by name, in the order they are shown."""
