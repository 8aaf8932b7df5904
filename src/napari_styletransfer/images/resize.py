"""Sizes and resizing: the working size, the coarse-to-fine schedule, and how a style is fitted to it.

A coarse scale is cheap and lays out what lies further apart than the network sees at full size; the next one refines
it. Images are (1, 3, H, W) float32. Used by all that has to do with the sizes of a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.config import StyleFit

COARSEST = 128
"""Longest side in pixels below which no coarser scale is made of its own accord."""

COARSEST_LOSS = 192
"""Longest side in pixels below which a coarser size does not count in the loss of finer ones.

With fewer pixels the deepest layers have so few positions that their statistics ask for figures of the style picture.
No usual size lies close to a power of two times this, where one size more begins to count."""

MAX_PREVIEW_PIXELS = 1 << 24
"""Pixels above which previews are smaller than the image: whoever gets one keeps as much memory as the image takes."""


def working_size(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Return the size to work at: shrunk so that the longest side is `longest`, never enlarged."""
    side = max(height, width)
    if longest is None or side <= longest:
        return height, width
    return max(1, round(height * longest / side)), max(1, round(width * longest / side))


def schedule(
    height: int, width: int, scales: int | None, smallest: int, coarsest: int = COARSEST
) -> list[tuple[int, int]]:
    """Return the sizes from coarse to fine, each twice the one before; the last is (height, width).

    Parameters
    ----------
    scales
        Number of sizes, or None for as many as keep the longest side at `coarsest` or more.
    smallest
        Shortest side in pixels that the network can see; no size goes below it.
    """
    sizes = [(height, width)]
    while scales is None or len(sizes) < scales:
        factor = 2 ** len(sizes)
        size = (round(height / factor), round(width / factor))
        if min(size) < smallest or (scales is None and max(size) < coarsest):
            break
        sizes.append(size)
    return sizes[::-1]


def loss_sizes(size: tuple[int, int], coarse_sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the sizes at which the loss of an image is taken, from coarse to fine: the coarser ones, and its own."""
    return [*(coarser for coarser in coarse_sizes if coarser < size), size]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize with a bicubic filter that does not alias when shrinking; values may leave [0, 1] slightly."""
    if image.shape[2:] == (height, width):
        return image
    # The Apple backend of older torches has no such filter.
    there = image.cpu() if image.device.type == "mps" else image
    return F.interpolate(there, (height, width), mode="bicubic", antialias=True, align_corners=False).to(image.device)


def fit_style(style: Tensor, height: int, width: int, fit: StyleFit, scale: float, smallest: int) -> Tensor:
    """Bring a style picture to the size of the content, clamped to [0, 1].

    `cover` is the lesson's scale_match: resized by the larger of the two ratios, then cropped at the centre.
    `whole` keeps all of it, with the content's longest side. Both are enlarged by `scale` beyond that
    (cropping, for `cover`, only after enlarging, so that strokes grow and the picture's middle remains);
    no side becomes shorter than `smallest`.
    """
    rows, columns = style.shape[2:]
    covering = max(height / rows, width / columns)
    ratio = covering if fit is StyleFit.COVER else max(height, width) / max(rows, columns)
    ratio = max(ratio * scale, smallest / min(rows, columns))
    picture = resize(style, max(smallest, round(rows * ratio)), max(smallest, round(columns * ratio)))
    picture = picture.clamp(0, 1) if picture is style else picture.clamp_(0, 1)
    if fit is StyleFit.WHOLE:
        return picture
    keep = (min(max(height, smallest), picture.shape[2]), min(max(width, smallest), picture.shape[3]))
    top, left = (picture.shape[2] - keep[0]) // 2, (picture.shape[3] - keep[1]) // 2
    return picture[:, :, top : top + keep[0], left : left + keep[1]].contiguous()
