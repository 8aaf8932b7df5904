"""Layers of every kind and place, and a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
PLACES = {
    "plain": {},
    "scale": {"scale": (0.5, 2.0)},
    "translate": {"translate": (10.0, -3.0)},
    "rotate": {"rotate": 30},
    "shear": {"shear": [0.4]},
    "mirror": {"scale": (-1.0, 1.0)},
    "affine": {"affine": np.array([[1.1, 0.3, 5], [-0.2, 0.9, -7], [0, 0, 1]])},
    "all": {
        "scale": (0.3, 1.7),
        "translate": (4.0, 11.0),
        "rotate": TURN,
        "shear": [0.25],
        "affine": np.array([[0.9, 0.2, 3], [0.1, 1.2, -2], [0, 0, 1]]),
        "units": ("um", "um"),
        "axis_labels": ("y", "x"),
    },
}


def placed_in(ndim, place):
    """Widen a place of two axes to `ndim`, with leading axes that have a scale and a start of their own."""
    wide = {}
    for key, value in place.items():
        if key in ("scale", "translate"):
            first = [2.5, 3.0, 0.5][: ndim - 2]
            wide[key] = (*first, *value)
        elif key == "rotate":
            matrix = np.eye(ndim)
            angle = np.deg2rad(value) if np.isscalar(value) else None
            turn = value if angle is None else [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            matrix[-2:, -2:] = turn
            wide[key] = matrix
        elif key == "shear":
            matrix = np.eye(ndim)
            matrix[-2, -1] = value[0]
            wide[key] = matrix
        elif key == "affine":
            matrix = np.eye(ndim + 1)
            matrix[-3:, -3:] = value
            matrix[:-3, -1] = 7.0
            wide[key] = matrix
        elif key == "units":
            wide[key] = ("um",) * ndim
        else:
            wide[key] = tuple("tczyx"[-ndim:])
    return wide


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture(params=list(PLACES))
def place(request):
    return PLACES[request.param]


class Lazy:
    """An array that can only be sliced, as zarr's, and counts what is read of it."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.ndim, self.size = array.shape, array.dtype, array.ndim, array.size
        self.reads = []

    def __getitem__(self, index):
        part = self.array[index]
        self.reads.append(part.size)
        return part

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole array was read")
