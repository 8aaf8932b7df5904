"""Runs the real engine from the form of a viewer that OpenGL has drawn, and prints what came of it as JSON.

A program of its own, started by `test_drawn_viewer`: what is tested for has ended such a process by a segmentation
fault. The arguments are settings as JSON, one run each.
"""

from __future__ import annotations

import json
import sys
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

DEADLINE = 240.0
COMPILERS = ("triton", "torch._dynamo", "torchvision")


def main() -> None:
    """Draw, run, draw again, and tell."""
    viewer = napari.Viewer(show=True)
    rng = np.random.default_rng(0)
    content, style = (rng.integers(0, 255, (64, 80, 3), np.uint8) for _ in range(2))
    viewer.add_image(content, name="content", rgb=True)
    viewer.add_image(style, name="style", rgb=True)
    form = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(form)
    told = {"drawn": int(np.ptp(viewer.screenshot(canvas_only=False, flash=False))), "runs": []}
    for fields in json.loads(sys.argv[1]):
        form.show_config(StyleConfig(**fields))
        form.run()
        began = time.monotonic()
        while form.session.status.active and time.monotonic() - began < DEADLINE:
            QApplication.processEvents()
            time.sleep(0.01)
        layer = viewer.layers[-1]
        viewer.screenshot(canvas_only=False, flash=False)
        told["runs"].append({"layer": layer.name, "spread": float(np.ptp(layer.data)), "layers": len(viewer.layers)})
    told["loaded"] = [name for name in COMPILERS if name in sys.modules]
    print(json.dumps(told), flush=True)
    viewer.close()


if __name__ == "__main__":
    main()
