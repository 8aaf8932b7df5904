"""Paints the sample pictures and writes them into the package, which only reads them.

    python tools/make_samples.py

Run it after a change in `tools/paintings`. The files are lossless WebP of values that were rounded before:

- Styles to 64 levels of each colour, so that no value errs by more than 2 of 255. A JPEG as large errs by up to 20,
  in blocks of 8 pixels, whose pattern would be part of the style.
- Camera frames to a square root of their counts, in which shot noise is the same everywhere: one step is 0.4 of its
  standard deviation. `napari_styletransfer.samples` squares them again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from paintings import PAINTINGS
from paintings.cells import OFFSET, channels, fluorescence
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[1] / "src" / "napari_styletransfer" / "data" / "samples"
SIZE = (512, 512)
STEP = 4


def main() -> None:
    for name, paint in PAINTINGS.items():
        save(name, np.rint(paint(SIZE) / STEP) * STEP)
    *frames, labels = channels(SIZE)
    counts = np.stack([fluorescence(SIZE), *frames], axis=-1).astype(float)
    save("cells", np.rint(np.sqrt(2 * (counts - OFFSET).clip(0))))
    save("cell-labels", labels)


def save(name: str, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) or (H, W), clipped to 8 bits."""
    path = SAMPLES / f"{name}.webp"
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, lossless=True, quality=100, method=6)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    SAMPLES.mkdir(exist_ok=True)
    main()
