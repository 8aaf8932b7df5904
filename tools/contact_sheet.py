#!/usr/bin/env python3
"""Stylise several contents with several styles, judge every result, and lay all of them out on one sheet.

    PYTHONPATH=. python tools/contact_sheet.py [--network NETWORK] [--size 512] [CONTENT ... --style STYLE ...]

Contents and styles are samples of the package by name, scikit-image's pictures ("skimage:coffee") or files. Settings
are the defaults unless a recipe is given. Per picture it tells what `benchmarks.judge` says: VGG-19's style distance,
over that of the untouched content, and content distance, at the size of the results; and the energy of the luminance
at periods of 2 to 4 pixels over that of the style, which grids and pixel noise raise. The pictures, `sheet.jpg` and
`table.md` go into the folder. The sheet of docs/images is made with

    PYTHONPATH=. python tools/contact_sheet.py --size 384 --style ../shared/images/starry_night.jpg \\
        --style ../shared/images/the_scream.jpg --style mosaic --style stained-glass
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

# Must be set before torch loads its threads (see napari_styletransfer/__init__.py).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import skimage.data
import typer
from judge_network import Picture, contact_sheet, picture
from paintings import PAINTINGS
from PIL import Image

from benchmarks.judge import VGGJudge, fine_energy
from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.events import Finished
from napari_styletransfer.planning.inputs import RunInputs

CONTENTS = ("skimage:coffee", "histology", "fluorescence", "phase")
STYLES = ("brush-swirls", "stained-glass", "mosaic", "ink-hatching")
HEAD = (
    "| content | style | style distance | content distance | fine energy | evaluations | seconds |",
    "|---|---|--:|--:|--:|--:|--:|",
)


def load(name: str) -> Picture:
    """Return a picture (H, W, 3) in [0, 1] by the name of a sample, of a picture of scikit-image's, or of a file."""
    if name in PAINTINGS:
        return PAINTINGS[name]((1024, 1024)).astype(np.float32) / 255
    source, _, own = name.rpartition("skimage:")
    array = getattr(skimage.data, own)().astype(np.float32) / 255 if own != name else picture(Path(source), name)
    return np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array[..., :3]


def main(
    contents: Annotated[list[str] | None, typer.Argument(help="Contents.")] = None,
    style: Annotated[list[str] | None, typer.Option(help="A style; may be given several times.")] = None,
    network: Annotated[Network, typer.Option(help="The network.")] = Network.VGG19,
    size: Annotated[int, typer.Option(help="Longest side of the results in pixels.")] = 512,
    recipe: Annotated[Path | None, typer.Option(help="Settings in place of the defaults.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures and table.")] = Path(
        "sheet-output"
    ),
) -> None:
    config = (StyleConfig() if recipe is None else StyleConfig.load(recipe)).changed(network=network, size=size)
    output.mkdir(parents=True, exist_ok=True)
    styles = {Path(name).stem: load(name) for name in style or STYLES}
    lines = list(HEAD)
    rows: list[list[tuple[str, Picture]]] = [
        [("", np.ones((3, 4, 3), np.float32)), *((name, painting) for name, painting in styles.items())]
    ]
    for content_name in contents or CONTENTS:
        content = load(content_name)
        title = Path(content_name.rpartition(":")[2]).stem
        row = [(title, content)]
        for style_name, painting in styles.items():
            began = time.perf_counter()
            *_, end = iter_stylize(content, [painting], config, preview_interval=float("inf"))
            seconds = time.perf_counter() - began
            assert isinstance(end, Finished)
            image = np.asarray(end.image, np.float32)
            Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(output / f"{title}-{style_name}.png")
            said = VGGJudge(content, painting, max(image.shape[:2]))(image)
            cells = (title, style_name, f"{said.style:.3f}", f"{said.content:.3f}")
            fine = fine_energy(image, _as_seen(content, painting, config))
            lines.append(f"| {' | '.join(cells)} | {fine:.2f} | {end.evaluations} | {seconds:.0f} |")
            print(lines[-1], flush=True)
            row.append((f"{said.style:.3f} / {said.content:.3f} / {fine:.2f}", image))
        rows.append(row)
    (output / "table.md").write_text("\n".join(lines) + "\n")
    contact_sheet(rows).save(output / "sheet.jpg", quality=88)
    print(f"\nWritten: {output}/")


def _as_seen(content: Picture, style: Picture, config: StyleConfig) -> Picture:
    """Return the style as the losses at the full size see it."""
    pictures = RunInputs.from_arrays(content, [style], config, None)
    (fitted,) = pictures.styles_at(*pictures.size, config, 16)
    return np.ascontiguousarray(fitted[0].permute(1, 2, 0).numpy())


if __name__ == "__main__":
    typer.run(main)
