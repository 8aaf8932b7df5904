"""Takes the pictures of the plugin at work that the documentation shows.

Run it on a virtual display, from the root of the repository, whenever the form has changed:

    xvfb-run -a -s "-screen 0 1600x1000x24" python tools/screenshots.py

It opens a viewer with sample pictures, presses Run with the defaults, and writes ``docs/images/plugin-running.png``
somewhere in the second half of the run and ``docs/images/plugin-finished.png`` at its end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import napari
from qtpy.QtCore import QDeadlineTimer, QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

from napari_styletransfer import samples
from napari_styletransfer.widget.form import StyleTransferWidget
from napari_styletransfer.widget.session import State

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = (1400, 900)
MINUTES = 10


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures")
    parser.add_argument("--theme", default="dark", help="napari theme")
    parser.add_argument("--part", type=float, default=0.5, help="how far the run is in the first picture, 0 to 1")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show=False)
    viewer.theme = options.theme
    form = open_plugin(viewer)
    form.run()
    wait_for(lambda: far_enough(form, options.part))
    take(viewer, options.out / "plugin-running.png")
    wait_for(lambda: not form.session.status.active)
    take(viewer, options.out / "plugin-finished.png")
    print(form.session.status.message)
    viewer.close()


def open_plugin(viewer: Any) -> StyleTransferWidget:
    """Open the sample pair and the form beside it, with the loss unfolded."""
    for data, settings, kind in samples.content_and_style():
        viewer.add_layer(napari.layers.Layer.create(data, settings, kind))
    form = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(form, name="Style Transfer")
    viewer.window.show()
    settle()
    viewer.window.resize(*SIZE)
    form.controls.fold.expand()
    settle()
    viewer.reset_view()
    return form


def far_enough(form: StyleTransferWidget, part: float) -> bool:
    """Tell whether the run has come so far, and refuse to go on if it failed."""
    status = form.session.status
    if status.state is State.FAILED:
        raise SystemExit(status.message)
    return (status.fraction or 0.0) >= part or not status.active


def wait_for(condition: Any) -> None:
    """Turn the event loop until a condition holds."""
    deadline = QDeadlineTimer(MINUTES * 60_000)
    while not condition():
        if deadline.hasExpired():
            raise SystemExit(f"The run took more than {MINUTES} minutes.")
        settle(50)


def settle(milliseconds: int = 400) -> None:
    """Let the window draw for a moment."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()
    QApplication.processEvents()


def take(viewer: Any, path: Path) -> None:
    """Write a picture of the whole window."""
    settle(100)
    iio.imwrite(path, viewer.screenshot(canvas_only=False, flash=False))
    print(path)


if __name__ == "__main__":
    main()
