"""Words under the tiles of a contact sheet, drawn into its pixels so that they stay with it wherever it goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_SIZES = range(28, 8, -1)
_MARGIN = 6
_INK = (225, 225, 225)


@lru_cache
def font_for(captions: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the largest font of our sizes in which every caption fits into a width in pixels, else the smallest."""
    for size in _SIZES:
        # Pillow's own: it has the Latin letters and few signs, but it is the same everywhere.
        font = ImageFont.load_default(size)
        if all(font.getlength(caption) <= width - 2 * _MARGIN for caption in captions):
            break
    return font


def caption_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """Return how many rows a caption takes."""
    _, top, _, bottom = font.getbbox("balance g 0")
    return round(bottom - top) + 2 * _MARGIN


def draw_caption(rows: npt.NDArray[np.uint8], caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    """Write a caption into the middle of rows (h, w, 3) of a sheet."""
    picture = Image.fromarray(rows)
    middle = (rows.shape[1] / 2, rows.shape[0] / 2)
    ImageDraw.Draw(picture).text(middle, caption, font=font, fill=_INK, anchor="mm")
    rows[...] = np.asarray(picture)
