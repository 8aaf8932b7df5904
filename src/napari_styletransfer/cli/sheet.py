"""Pictures side by side on one sheet, with their names above them. Called by `cli.demo`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Bytes = npt.NDArray[np.uint8]

_BACKGROUND, _FOREGROUND = (24, 24, 24), (225, 225, 225)
_GAP = 8


def side_by_side(sources: Mapping[str, Bytes], results: Mapping[str, Bytes]) -> Bytes:
    """Return one picture of several: sources one below the other at the left, results beside them.

    Parameters
    ----------
    sources, results
        Pictures of 8 bits, grey or in colour, by the captions to write above them. Results are brought to the height of
        the highest, and so are the sources together.

    Returns
    -------
    array
        uint8 (H, W, 3).
    """
    height = max(picture.shape[0] for picture in results.values())
    font = ImageFont.load_default(max(height // 24, 10))
    caption = round(font.getbbox("Ag")[3]) + _GAP
    each = (height - (len(sources) - 1) * (caption + _GAP)) // len(sources)
    columns = [
        [(name, _resize(picture, each)) for name, picture in sources.items()],
        *([(name, _resize(picture, height))] for name, picture in results.items()),
    ]
    widths = [max(picture.width for _, picture in column) for column in columns]
    sheet = Image.new("RGB", (sum(widths) + (len(widths) + 1) * _GAP, caption + height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = _GAP
    for column, width in zip(columns, widths, strict=True):
        top = 0
        for name, picture in column:
            draw.text((left, top + _GAP // 2), name, font=font, fill=_FOREGROUND)
            sheet.paste(picture, (left, top + caption))
            top += caption + picture.height + _GAP
        left += width + _GAP
    return np.asarray(sheet)


def _resize(picture: Bytes, height: int) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    return image.resize((max(round(image.width * height / image.height), 1), max(height, 1)), Image.Resampling.LANCZOS)
