"""The adjoint of making an image smaller: what a gradient at the smaller size says of the larger image.

`resize.resize` is one linear map down the image and one across. Each output is made from a few neighbouring inputs,
so the matrix of such a map is a narrow band. Cut into short blocks it is applied by small matrix products, many times
faster than the backward pass that comes with torch, and with no more memory than half of one channel of the larger
image. Called by `multiscale`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK = 64
"""Outputs made at once along an axis: a short block wastes little on the zeros beside the band."""

_CUBIC_A = -0.5
"""Parameter of the cubic kernel (Keys 1981) that `torch.nn.functional.interpolate` takes when it filters."""


@dataclass(frozen=True)
class _Block:
    """Part of a banded matrix: `matrix` (rows of `small`, columns of `large`) holds all that is not zero there."""

    small: slice
    large: slice
    matrix: Tensor


class ResizeAdjoint:
    """The adjoint of `resize` from one size (H, W) to another that is no larger along either axis."""

    def __init__(self, large: tuple[int, int], small: tuple[int, int]) -> None:
        self._sizes = tuple(zip(large, small, strict=True))
        self._axes: list[list[_Block]] = []

    def add(self, large: Tensor, small: Tensor, weight: float) -> None:
        """Add to `large`, in place, `weight` times what the adjoint makes of `small`.

        Parameters
        ----------
        large, small
            Gradients (1, C, H, W) and (1, C, h, w); number format and device are the same in every call.
        """
        if not self._axes:
            self._axes = [_blocks(side, smaller, small) for side, smaller in self._sizes]
        rows, columns = self._axes
        for channel, gradient in zip(large[0], small[0], strict=True):  # one by one, for less memory
            wide = gradient.new_empty(gradient.shape[0], large.shape[3])
            for block in columns:
                wide[:, block.large] = gradient[:, block.small] @ block.matrix
            for block in rows:
                channel[block.large].addmm_(block.matrix.T, wide[block.small], alpha=weight)


def _blocks(large: int, small: int, like: Tensor) -> list[_Block]:
    """Return the matrix that shrinks an axis of `large` values to `small` ones, cut by columns."""
    scale = large / small
    centre = (np.arange(small) + 0.5) * scale
    first = np.maximum(centre - 2 * scale + 0.5, 0).astype(np.int64)
    stop = np.minimum(centre + 2 * scale + 0.5, large).astype(np.int64)
    taken = first[:, None] + np.arange(int((stop - first).max()))
    weights = np.where(taken < stop[:, None], _cubic((taken - centre[:, None] + 0.5) / scale), 0.0)
    weights /= weights.sum(1, keepdims=True)
    blocks = []
    for begin in range(0, large, _BLOCK):
        end = min(large, begin + _BLOCK)
        touched = np.flatnonzero((stop > begin) & (first < end))
        span = slice(int(touched[0]), int(touched[-1]) + 1)
        row, place = np.nonzero((taken[span] >= begin) & (taken[span] < end))
        matrix = np.zeros((span.stop - span.start, end - begin))
        matrix[row, taken[span][row, place] - begin] = weights[span][row, place]
        blocks.append(_Block(span, slice(begin, end), torch.from_numpy(matrix).to(like)))
    return blocks


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the kernel of bicubic interpolation at distances in units of the smaller size's pixels."""
    d, a = np.abs(distance), _CUBIC_A
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))
