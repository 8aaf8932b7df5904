"""Average and maximum pooling, forward and backward, of channels-last feature maps. Called by `frozen_network`."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.config import Pooling
from napari_styletransfer.networks.architectures import Pool

SWAP_GAIN = {2: 1.6, 3: 2.1}
"""Mean of the maximum over the mean, by side of the window: what average pooling is multiplied by where it
takes the place of maximum pooling, so that the next layer sees values as large as it was trained on."""


class FrozenPool:
    """One stage."""

    def __init__(self, stage: Pool, pooling: Pooling) -> None:
        self._stage = stage
        self._kind = stage.kind if pooling is Pooling.NATIVE else pooling.value
        self._gain = 1.0
        if self._kind != stage.kind:
            gain = SWAP_GAIN[stage.kernel]
            self._gain = gain if self._kind == "average" else 1 / gain

    def forward(self, x: Tensor, *, record: bool) -> tuple[Tensor, Tensor | None]:
        """Return the output and, if recorded and there is any choice, which position won each window."""
        stage = self._stage
        if self._kind == "average":
            y = F.avg_pool2d(x, stage.kernel, stage.stride, ceil_mode=stage.ceil)
            return self._scale(y), None
        if not record:
            return self._scale(F.max_pool2d(x, stage.kernel, stage.stride, ceil_mode=stage.ceil)), None
        y, where = F.max_pool2d_with_indices(
            x, (stage.kernel, stage.kernel), (stage.stride, stage.stride), ceil_mode=stage.ceil
        )
        return self._scale(y), _window_offsets(where, x.shape[3], stage)

    def backward(self, g: Tensor, winners: Tensor | None, height: int, width: int) -> Tensor:
        """Return the gradient with respect to the input, of the given size."""
        stage = self._stage
        if winners is None and (stage.kernel, stage.stride, stage.ceil) == (2, 2, False):
            return _average_backward(g * (self._gain / 4), height, width)
        out = torch.zeros((1, height, width, g.shape[1]), dtype=g.dtype, device=g.device).permute(0, 3, 1, 2)
        apart = stage.kernel <= stage.stride
        g = g * (self._gain if winners is not None else self._gain / _window_counts(stage, height, width, g))
        for dy, dx in product(range(stage.kernel), repeat=2):
            target = out[:, :, dy :: stage.stride, dx :: stage.stride]
            rows, columns = min(target.shape[2], g.shape[2]), min(target.shape[3], g.shape[3])
            share = g[:, :, :rows, :columns]
            if winners is not None:
                share = share * (winners[:, :, :rows, :columns] == dy * stage.kernel + dx)
            if apart:
                target[:, :, :rows, :columns] = share
            else:
                target[:, :, :rows, :columns] += share
        return out

    def _scale(self, y: Tensor) -> Tensor:
        return y if self._gain == 1.0 else y.mul_(self._gain)


def _average_backward(g: Tensor, height: int, width: int) -> Tensor:
    """Repeat every value over its window of two by two; a last odd row or column has no window."""
    _, channels, rows, columns = g.shape
    out = torch.empty((1, height, width, channels), dtype=g.dtype, device=g.device)
    windows = out[:, : 2 * rows, : 2 * columns].view(1, rows, 2, columns, 2, channels)
    windows.copy_(g.permute(0, 2, 3, 1)[:, :, None, :, None].expand_as(windows))
    if height > 2 * rows:
        out[:, -1].zero_()
    if width > 2 * columns:
        out[:, :, -1].zero_()
    return out.permute(0, 3, 1, 2)


def _window_offsets(where: Tensor, width: int, stage: Pool) -> Tensor:
    """Turn flat maximum positions (int64) into offsets within the window (uint8)."""
    rows = torch.arange(where.shape[2], dtype=torch.int64, device=where.device).view(1, 1, -1, 1) * stage.stride
    columns = torch.arange(where.shape[3], dtype=torch.int64, device=where.device).view(1, 1, 1, -1) * stage.stride
    return ((where // width - rows) * stage.kernel + where % width - columns).to(torch.uint8)


def _window_counts(stage: Pool, height: int, width: int, like: Tensor) -> Tensor:
    """Count the positions under each averaging window, smaller where a window reaches beyond the edge."""
    counts = []
    for side in (height, width):
        starts = torch.arange(stage.out_size(side), dtype=torch.int64, device=like.device) * stage.stride
        counts.append((side - starts).clamp(max=stage.kernel))
    return (counts[0].view(-1, 1) * counts[1].view(1, -1)).to(like.dtype)
