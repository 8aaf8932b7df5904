"""Makes the pictures of the documentation's task pages, with the recipes that stand there.

Run it from the root of the repository, for all pages or for some:

    python tools/task_pictures.py
    python tools/task_pictures.py fluorescence regions

The contents and styles are the package's own samples and the networks are those installed with it, so nothing is
downloaded. A recipe is ``docs/recipes/NAME.json``; its picture becomes ``docs/images/task-NAME.jpg``.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from contents import PLANES, Picture, composite, drifting, eight_bits, glands
from PIL import Image

from napari_styletransfer import StyleConfig, samples, stylize
from napari_styletransfer.engine.stack import iter_stylize_stack
from napari_styletransfer.events import Finished

DOCS = Path(__file__).resolve().parents[1] / "docs"
LARGEST = 250_000  # bytes of a picture
SIDE = 512  # pixels of a result as shown
GAP = 8


def fluorescence(config: StyleConfig) -> Picture:
    """Make the picture of two channels as a painting."""
    content, style = composite(), samples.style("brush-swirls")
    return beside([content, style], stylize(content, style, config))


def histology(config: StyleConfig) -> Picture:
    """Make the picture of a stained section as a church window."""
    content, style = samples.content("histology"), samples.style("stained-glass")
    return beside([content, style], stylize(content, style, config))


def movie(config: StyleConfig) -> Picture:
    """Make the picture of a drifting movie: content above, result below."""
    planes, style = drifting(), samples.style("brush-swirls")
    readers = [lambda plane=plane: plane for plane in planes]
    events = iter_stylize_stack(readers, [style], config)
    results = [eight_bits(event.image) for event in events if isinstance(event, Finished)]
    some = range(0, PLANES, 2)
    rows = [row([sized(each[plane], 256) for plane in some]) for each in (planes, results)]
    return column(rows)


def regions(config: StyleConfig) -> Picture:
    """Make the picture of glands in two styles, with the tissue between them left as it is."""
    content = samples.content("histology")
    styles = [samples.style("brush-swirls"), samples.style("mosaic")]
    labels = glands(content)
    colors = np.array([(20, 20, 20), (222, 92, 60), (70, 120, 200)], np.uint8)
    return beside([content, colors[labels], *styles], stylize(content, styles, config, labels=labels))


def colours(config: StyleConfig) -> Picture:
    """Make the picture of one run with the three ways to colour it."""
    content, style = samples.content("retina"), samples.style("marbling")
    results = [stylize(content, style, config, color=way) for way in ("style", "content", "match")]
    return row([column([sized(picture, 188) for picture in (content, style)]), *(sized(r, 384) for r in results)])


TASKS: dict[str, Callable[[StyleConfig], Picture]] = {
    "fluorescence": fluorescence,
    "histology": histology,
    "movie": movie,
    "regions": regions,
    "colours": colours,
}


def sized(picture: Picture, side: int) -> Picture:
    """Return a picture as RGB, as the square at its centre, with `side` pixels a side."""
    color = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    height, width = color.shape[:2]
    cut = min(height, width)
    top, left = (height - cut) // 2, (width - cut) // 2
    square = Image.fromarray(color[top : top + cut, left : left + cut])
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def beside(inputs: Sequence[Picture], result: Picture) -> Picture:
    """Lay what went in above one another at the left of what came out."""
    count = len(inputs)
    side = (SIDE - GAP * (count - 1)) // count
    pieces = column([sized(picture, side) for picture in inputs])
    return row([pieces, sized(result, pieces.shape[0])])


def row(pictures: Sequence[Picture]) -> Picture:
    white = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (white, _tall(picture, white.shape[0]))][1:])


def column(pictures: Sequence[Picture]) -> Picture:
    white = np.full((GAP, pictures[0].shape[1], 3), 255, np.uint8)
    return np.vstack([part for picture in pictures for part in (white, picture)][1:])


def _tall(picture: Picture, height: int) -> Picture:
    missing = height - picture.shape[0]
    return np.pad(picture, ((0, missing), (0, 0), (0, 0)), constant_values=255) if missing else picture


def write(picture: Picture, path: Path) -> None:
    """Write a JPEG in the best quality that is small enough."""
    for quality in range(92, 60, -3):
        memory = io.BytesIO()
        Image.fromarray(picture).save(memory, "JPEG", quality=quality, optimize=True)
        if memory.tell() <= LARGEST:
            break
    path.write_bytes(memory.getvalue())
    print(f"{path}: {picture.shape[1]}×{picture.shape[0]}, {memory.tell() / 1000:.0f} kB", flush=True)


def main() -> None:
    """Make the pictures asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"which: {', '.join(TASKS)}; all if none is named")
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="folder for the pictures")
    options = parser.parse_args()
    for task in options.tasks or TASKS:
        if task not in TASKS:
            parser.error(f"there is no task '{task}'; choose from {', '.join(TASKS)}")
        picture = TASKS[task](StyleConfig.load(DOCS / "recipes" / f"{task}.json"))
        write(picture, options.out / f"task-{task}.jpg")


if __name__ == "__main__":
    main()
