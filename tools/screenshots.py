"""Takes the pictures of the plugin at work that the documentation shows.

Run it on a virtual display, from the root of the repository, whenever the form has changed (some minutes for all):

    xvfb-run -a -s "-screen 0 1600x1000x24" python tools/screenshots.py
    xvfb-run -a -s "-screen 0 1600x1000x24" python tools/screenshots.py --only movie --only variations

Each scene opens a viewer of its own, works the form as a user would, and writes ``docs/images/plugin-*.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import numpy.typing as npt
from contents import PLANES, cell_labels, channels, drifting, limits
from PIL import Image
from qtpy.QtCore import QDeadlineTimer, QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

from napari_styletransfer import StyleConfig, samples
from napari_styletransfer.session.status import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIZE = (1400, 900)
LARGEST = 700_000  # bytes of a picture
MINUTES = 10
QUICK = 16  # iterations where the picture is not about the run itself
GAP = 12  # pixels between pictures on the canvas


def plugin(stage: Stage) -> None:
    """Take the first run of a new user: sample pair, Run, nothing else."""
    for data, settings, kind in samples.content_and_style():
        stage.viewer.add_layer(napari.layers.Layer.create(data, settings, kind))
    stage.open_form()
    stage.form.controls.loss_section.expand()
    stage.form.run()
    stage.wait_for(lambda: stage.part() >= 0.5)
    stage.take("plugin-running")
    stage.finish()
    stage.take("plugin-finished", on=stage.viewer.layers[-1])


def composite(stage: Stage) -> None:
    """Take two channels as one picture, painted in the style's colours and in their own."""
    add_channels(stage.viewer)
    side = stage.viewer.layers[0].data.shape[0] + GAP
    stage.add_style("brush-swirls", at=(0, side))
    stage.open_form()
    stage.form.pictures.choose(content=stage.form.pictures.groups[0])
    for color, place in (("style", (side, 0)), ("content", (side, side))):
        stage.load("fluorescence", color=color, iterations=QUICK)
        stage.finish()
        # Moved off the content, to see both.
        stage.viewer.layers[-1].translate = place
    stage.take("plugin-composite")


def channel(stage: Stage) -> None:
    """Take a composite in which one channel was replaced by its painted self."""
    filaments, _ = add_channels(stage.viewer)
    stage.add_style("marbling", below=filaments)
    stage.open_form()
    stage.form.pictures.choose(content=filaments)
    stage.form.output.choose(channel=True)
    stage.load("fluorescence", color="match", iterations=QUICK)
    stage.finish()
    filaments.visible = False
    stage.take("plugin-channel", on=filaments)


def regions(stage: Stage) -> None:
    """Take cells in two styles, nuclei in one, what is around them in the other."""
    content, _ = add_channels(stage.viewer)
    styles = [stage.add_style(name, below=content, column=column) for column, name in enumerate(PAIR)]
    labels = stage.viewer.add_labels(cell_labels(), name="Nuclei and cells")
    labels.contour = 2
    stage.open_form()
    stage.form.pictures.choose(content=stage.form.pictures.groups[0], styles=styles)
    stage.form.regions.choose(labels)
    stage.wait_for(lambda: len(stage.form.regions.rows) == 3)
    order = stage.form.pictures.style_layers
    stage.load(
        "regions", regions={label: order.index(style) for label, style in enumerate(styles, 1)}, iterations=QUICK
    )
    stage.finish()
    stage.viewer.layers.selection = {labels}
    stage.take("plugin-regions")


def movie(stage: Stage) -> None:
    """Take a movie in the middle of its run."""
    content = stage.viewer.add_image(np.stack(drifting()), rgb=True, name="Movie", axis_labels=("time", "y", "x"))
    stage.add_style("brush-swirls", below=content)
    stage.open_form()
    stage.viewer.dims.axis_labels = ("time", "y", "x")
    stage.form.pictures.choose(content=content)
    stage.settle()
    stage.form.output.choose(axes=(0,))
    stage.load("movie")
    stage.form.run()
    stage.wait_for(lambda: stage.part() >= (PLANES // 2 + 0.8) / PLANES)
    stage.take("plugin-movie", on=content)
    stage.form.stop()
    stage.wait_for(lambda: not stage.form.session.status.active)


def variations(stage: Stage) -> None:
    """Take a contact sheet of nine small pictures to choose from."""
    content = stage.viewer.add_image(samples.content("histology"), name="Histology")
    stage.add_style("mosaic", below=content)
    stage.open_form()
    stage.form.try_variations()
    stage.wait_for(lambda: not stage.form.session.status.active)
    stage.take("plugin-variations", on=content)


PAIR = ("riso-dots", "brush-swirls")
"""Styles of nuclei and of what is around them."""

SCENES: dict[str, Callable[[Stage], None]] = {
    scene.__name__: scene for scene in (plugin, composite, channel, regions, movie, variations)
}


def add_channels(viewer: Any) -> tuple[Any, Any]:
    """Add two stains as a microscope's software hands them over: one layer each, blended additively."""
    return tuple(
        viewer.add_image(plane, name=name, colormap=colormap, blending="additive", contrast_limits=limits(plane))
        for plane, name, colormap in zip(channels(), ("Filaments", "Nuclei"), ("green", "bop blue"), strict=True)
    )


class Stage:
    """A viewer with the form beside it, and what a user does with them.

    Parameters
    ----------
    out
        Folder for the pictures.
    theme
        Of napari.
    """

    form: StyleTransferWidget

    def __init__(self, out: Path, theme: str) -> None:
        self.viewer = napari.Viewer(show=False)
        self.viewer.theme = theme
        self._out = out

    def open_form(self) -> None:
        """Open the form and show the window."""
        self.form = StyleTransferWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.form, name="Style Transfer")
        self.viewer.window.show()
        self.settle()
        self.viewer.window.resize(*SIZE)
        self.settle()

    def add_style(self, name: str, *, at: tuple[float, float] = (0, 0), below: Any = None, column: int = 0) -> Any:
        """Add a painting at a place, or at half the content's width under it."""
        picture, scale = samples.style(name), 1.0
        if below is not None:
            height, width = below.data.shape[-3:-1] if below.rgb else below.data.shape[-2:]
            scale = (width - GAP) / 2 / picture.shape[1]
            at = (height + GAP, column * (width + GAP) / 2)
        return self.viewer.add_image(picture, name=samples.STYLES[name].title, scale=(scale, scale), translate=at)

    def load(self, recipe: str, **changes: Any) -> None:
        """Show a recipe of the documentation in the form."""
        self.form.show_config(StyleConfig.load(DOCS / "recipes" / f"{recipe}.json").changed(**changes))
        self.settle()

    def finish(self) -> None:
        """Press Run unless a run is under way, and wait for its end."""
        if not self.form.session.status.active:
            self.form.run()
        self.wait_for(lambda: not self.form.session.status.active)

    def part(self) -> float:
        """Return how far the run is, 1 where it has ended."""
        status = self.form.session.status
        return (status.fraction or 0.0) if status.active else 1.0

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Turn the event loop until a condition holds, and refuse to go on if the run failed."""
        deadline = QDeadlineTimer(MINUTES * 60_000)
        while not condition():
            if deadline.hasExpired():
                raise SystemExit(f"What the picture is to show did not come about in {MINUTES} minutes.")
            self.settle(50)
        if self.form.session.status.state is State.FAILED:
            raise SystemExit(self.form.session.status.message)

    def settle(self, milliseconds: int = 400) -> None:
        """Let the window draw for a moment."""
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()
        QApplication.processEvents()

    def take(self, name: str, *, on: Any = None) -> None:
        """Write a picture of the whole window, which looks at one layer or at all."""
        self.viewer.reset_view(layers=None if on is None else [on], margin=0.02)
        self.settle()
        write(self.viewer.screenshot(canvas_only=False, flash=False), self._out / f"{name}.png")

    def close(self) -> None:
        """End the scene."""
        print(self.form.session.status.message)
        self.viewer.close()


def write(picture: npt.NDArray[Any], path: Path) -> None:
    """Write a PNG, with a palette of 256 colours where it would be too large otherwise."""
    image = Image.fromarray(picture).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(
            path, optimize=True
        )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    """Take all pictures, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(SCENES), help="a scene; all if none is named")
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="folder for the pictures")
    parser.add_argument("--theme", default="dark", help="napari theme")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only or SCENES:
        stage = Stage(options.out, options.theme)
        SCENES[name](stage)
        stage.close()


if __name__ == "__main__":
    main()
