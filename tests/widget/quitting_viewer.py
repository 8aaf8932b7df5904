"""Ends in the middle of a run of the real engine, in the way that the argument names, and should print nothing then.

A program of its own, started by `test_quitting`: what is tested for happens while an interpreter ends.
"""

from __future__ import annotations

import sys
import time

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

DEADLINE = 120.0


def main(way: str) -> None:
    """Run, and quit in a way."""
    viewer = napari.Viewer(show=True)
    rng = np.random.default_rng(0)
    for name in ("content", "style"):
        viewer.add_image(rng.integers(0, 255, (96, 128, 3), np.uint8), name=name, rgb=True)
    form = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(form)
    form.show_config(StyleConfig(network="compact", iterations=4000, scales=1, tolerance=0, device="cpu"))
    form.run()
    end = time.monotonic() + DEADLINE
    while len(form.session.steps) < 2 and form.session.status.active and time.monotonic() < end:
        QApplication.processEvents()
    print(f"{form.session.status.state} after {len(form.session.steps) > 1 and 'steps'}", flush=True)
    if way == "close":
        viewer.close()
    elif way == "quit":
        viewer.close()
        QApplication.instance().quit()
    elif way == "loop":
        QTimer.singleShot(0, viewer.close)
        QTimer.singleShot(0, QApplication.instance().quit)
        napari.run()


if __name__ == "__main__":
    main(sys.argv[1])
