"""What the documentation's pictures show, from the package's samples and their generators: nothing is downloaded.

Called by `task_pictures.py` and `screenshots.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from paintings.cells import fluorescence
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_li, threshold_otsu
from skimage.measure import label
from skimage.morphology import (
    disk,
    isotropic_opening,
    opening,
    remove_small_holes,
    remove_small_objects,
)

Picture = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.uint16]
Labels = npt.NDArray[np.int32]

SIDE = 512
PLANES = 7
DRIFT = (2, 5)  # pixels down and to the right from one plane to the next
GREEN, BLUE = (0.10, 1.00, 0.35), (0.20, 0.45, 1.00)


def cells() -> Plane:
    """Return cells twice as large as those of the sample, which leaves a brush room: (512, 512)."""
    return fluorescence((1024, 1024))[180 : 180 + SIDE, 200 : 200 + SIDE]


def channels() -> tuple[Plane, Plane]:
    """Return filaments and nuclei of the cells, as two stains would show them."""
    both = cells().astype(np.float64)
    soft = np.clip(1.6 * gaussian(nuclei_of(both).astype(float), 3) - 0.3, 0, 1)
    return tuple(np.rint(part).astype(np.uint16) for part in (both * (1 - soft), both * soft))


def nuclei_of(picture: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where the nuclei are: bright, and rounder than filaments."""
    smooth = opening(gaussian(picture, 3, preserve_range=True), disk(9))
    return isotropic_opening(smooth > threshold_otsu(smooth), 10)


def cell_labels() -> Labels:
    """Label nuclei 1 and the cells around them 2; 0 between the cells."""
    filaments, _ = channels()
    smooth = gaussian(filaments, 9)
    inside = smooth > 0.7 * threshold_otsu(smooth)
    return np.where(nuclei_of(cells()), 1, np.where(inside, 2, 0)).astype(np.int32)


def composite() -> Picture:
    """Return the channels as napari shows them with additive blending: green filaments, blue nuclei."""
    parts = [unit(plane)[..., None] * np.array(tint) for plane, tint in zip(channels(), (GREEN, BLUE), strict=True)]
    return eight_bits(sum(parts))


def drifting() -> list[Picture]:
    """Return a movie of the composite on a stage that drifts, with the noise of a camera: planes (256, 256, 3)."""
    seen = composite().astype(np.float64)
    rng = np.random.default_rng(0)
    planes = []
    for time in range(PLANES):
        down, right = (110 + time * step for step in DRIFT)
        plane = seen[down : down + 256, right : right + 256]
        planes.append(np.clip(plane + rng.normal(0, 5, plane.shape), 0, 255).astype(np.uint8))
    return planes


def glands(picture: Picture) -> Labels:
    """Label the connected brown parts, the largest 1, by a threshold alone; 0 between them."""
    brown = gaussian(rgb2hed(picture)[..., 2], 3)
    inside = remove_small_holes(brown > threshold_li(brown), max_size=1500)
    parts = label(remove_small_objects(isotropic_opening(inside, 9), max_size=3000))
    order = np.argsort(-np.bincount(parts.ravel())[1:])
    numbers = np.concatenate([[0], np.argsort(order) + 1])
    return numbers[parts].astype(np.int32)


def limits(picture: npt.NDArray[Any]) -> tuple[float, float]:
    """Return contrast limits that leave out the few brightest pixels."""
    low, high = np.percentile(picture, (1, 99.8))
    return float(low), float(high)


def unit(picture: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Bring a picture to [0, 1] between its contrast limits."""
    low, high = limits(picture)
    return np.clip((picture - low) / (high - low), 0, 1)


def eight_bits(picture: npt.NDArray[Any]) -> Picture:
    """Turn [0, 1] into bytes."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
