"""Words under the tiles of a contact sheet, drawn into its pixels so that they stay with it wherever it goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SIZES = range(28, 8, -1)
_MARGIN = 6
_SPACING = 3
_TEXT_COLOR = (225, 225, 225)


def wrap_captions(captions: Sequence[str], width: int) -> tuple[str, ...]:
    """Return captions as they are or, where one is too wide even in our smallest font, all broken at their dots."""
    if _fit(captions, ImageFont.load_default(_SIZES[-1]), width):
        return tuple(captions)
    return tuple(caption.replace(" · ", "\n") for caption in captions)


@lru_cache
def font_for(captions: Sequence[str], width: int) -> Font:
    """Return the largest font of our sizes in which every caption fits into a width in pixels, else the smallest."""
    for size in _SIZES:
        # Pillow's own: it has the Latin letters and few signs, but it is the same everywhere.
        font = ImageFont.load_default(size)
        if _fit(captions, font, width):
            break
    return font


def caption_height(captions: Sequence[str], font: Font) -> int:
    """Return how many rows a caption takes, as many for each."""
    lines = max(caption.count("\n") for caption in captions) + 1
    paper = ImageDraw.Draw(Image.new("L", (1, 1)))
    _, top, _, bottom = paper.multiline_textbbox((0, 0), "\n".join(["style g 0"] * lines), font, spacing=_SPACING)
    return round(bottom - top) + 2 * _MARGIN


def draw_caption(rows: npt.NDArray[np.uint8], caption: str, font: Font) -> None:
    """Write a caption into the middle of rows (h, w, 3) of a sheet."""
    picture = Image.fromarray(rows)
    middle = (rows.shape[1] / 2, rows.shape[0] / 2)
    ImageDraw.Draw(picture).text(
        middle, caption, font=font, fill=_TEXT_COLOR, anchor="mm", align="center", spacing=_SPACING
    )
    rows[...] = np.asarray(picture)


def _fit(captions: Sequence[str], font: Font, width: int) -> bool:
    lines = [line for caption in captions for line in caption.split("\n")]
    return all(font.getlength(line) <= width - 2 * _MARGIN for line in lines)
