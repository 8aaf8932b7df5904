"""A convolution with frozen weights and the ReLU after it, forward and backward to its input.

The gradient to the input is a convolution too, with the kernel turned round. On the processor the ReLU is done as
results are stored. Called by `frozen_network`.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.config import Padding
from napari_styletransfer.networks.architectures import Conv
from napari_styletransfer.nn.bands import RowRange


class Scratch:
    """Memory for what is needed only until a convolution is done, kept because new memory is slow to come by."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._memory = torch.empty(0, dtype=dtype, device=device)

    def view(self, channels: int, height: int, width: int) -> Tensor:
        """Return a channels-last tensor with undefined values."""
        size = channels * height * width
        if self._memory.numel() < size:
            self._memory = torch.empty(0, dtype=self.dtype, device=self.device)  # the old goes before the new comes
            self._memory = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._memory[:size].view(1, height, width, channels).permute(0, 3, 1, 2)


class FrozenConvolution:
    """One stage: one or several branches that see the same input, padded by one position or not at all.

    Parameters
    ----------
    stage
        What the stage looks like.
    weights
        Weight and bias of every branch.
    padding
        What the border is made of.
    scratch
        Memory that the stages of a network take in turn; it says where and in which number format they run.
    """

    def __init__(
        self, stage: Conv, weights: Sequence[tuple[Tensor, Tensor]], padding: Padding, scratch: Scratch
    ) -> None:
        device, dtype = scratch.device, scratch.dtype
        self._stage = stage
        self._padding = padding
        self._scratch = scratch
        self._forward = [
            _Kernel(weight.to(device, dtype), bias.to(device, dtype), stage.stride) for weight, bias in weights
        ]
        self._weights: list[Tensor] = []
        self._backward: list[_Kernel] = []
        self._sides: dict[int, Tensor] = {}
        for index, (weight, _) in enumerate(weights):
            if stage.stride > 1:
                self._weights.append(weight.to(device, dtype, memory_format=torch.channels_last))
                continue
            turned = weight.to(device, dtype).transpose(0, 1).flip(2, 3)
            self._backward.append(_Kernel(turned, None, 1))
            if stage.pad and weight.shape[3] > 1:
                # (left or right, channels of the output, (row of the kernel, channel of the input))
                ends = torch.stack([turned[..., 2], turned[..., 0]])
                self._sides[index] = ends.permute(0, 2, 3, 1).flatten(2).contiguous()

    def rows_out(self, rows: RowRange) -> RowRange:
        """Return the rows that come out when these go in."""
        if rows.at_top and rows.at_bottom:
            return RowRange.whole(self._stage.out_size(rows.height))
        return RowRange(rows.first + (not rows.at_top), rows.stop - (not rows.at_bottom), rows.height)

    def forward(self, x: Tensor, rows: RowRange) -> Tensor:
        """Return the output after the ReLU for `rows` of the input."""
        bordered = self._pad(x, rows) if self._stage.pad and self._stage.kernel > 1 else x
        outputs = [
            kernel(bordered if branch.kernel == self._stage.kernel else x, relu=True)
            for branch, kernel in zip(self._stage.branches, self._forward, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def backward(self, g: Tensor, rows: RowRange, width: int) -> Tensor:
        """Return the gradient with respect to `rows` of the input, from that with respect to what came of them."""
        total: Tensor | None = None
        first = 0
        for index, branch in enumerate(self._stage.branches):
            part = g[:, first : first + branch.out_channels].contiguous(memory_format=torch.channels_last)
            first += branch.out_channels
            share = self._branch_backward(index, branch.kernel, part, rows, width)
            total = share if total is None else total.add_(share)
        if total is None:
            raise AssertionError("a convolution has at least one branch")
        return total

    def _branch_backward(self, index: int, size: int, g: Tensor, rows: RowRange, width: int) -> Tensor:
        if self._stage.stride > 1:
            height = rows.stop - rows.first
            rest = [
                side - ((n - 1) * self._stage.stride + size)
                for side, n in zip((height, width), g.shape[2:], strict=True)
            ]
            return F.conv_transpose2d(g, self._weights[index], stride=self._stage.stride, output_padding=rest)
        if index not in self._sides:
            return self._backward[index](g, (size - 1, size - 1))
        return self._pad_adjoint(self._backward[index](g, (2, 1)), self._sides[index], g, rows)

    def _pad_adjoint(self, total: Tensor, sides: Tensor, g: Tensor, rows: RowRange) -> Tensor:
        """Add the gradient of the border to the positions it was copied from: adjoint of `_pad`.

        `total` has a row too many on either side.
        """
        if self._padding is not Padding.ZERO:
            top, left = _padding_source(self._padding, rows.height, total.shape[3])
            beyond = _border_columns(g, sides)
            total[..., left] += beyond[0].T
            total[..., -1 - left] += beyond[1].T
            if rows.at_top:
                total[:, :, 1 + top] += total[:, :, 0]
            if rows.at_bottom:
                total[:, :, -2 - top] += total[:, :, -1]
        return total[:, :, int(rows.at_top) : total.shape[2] - int(rows.at_bottom)]

    def _pad(self, x: Tensor, rows: RowRange) -> Tensor:
        """Return `x` with a border of one, above and below only where the map ends; valid until the next call."""
        _, channels, height, width = x.shape
        above, below = int(rows.at_top), int(rows.at_bottom)
        buffer = self._scratch.view(channels, height + above + below, width + 2)
        buffer[:, :, above : above + height, 1:-1] = x
        if self._padding is Padding.ZERO:
            for edge, at_end in ((buffer[:, :, 0], rows.at_top), (buffer[:, :, -1], rows.at_bottom)):
                if at_end:
                    edge.zero_()
            buffer[..., 0].zero_()
            buffer[..., -1].zero_()
            return buffer
        top, left = _padding_source(self._padding, rows.height, width)
        if rows.at_top:
            buffer[:, :, 0] = buffer[:, :, 1 + top]
        if rows.at_bottom:
            buffer[:, :, -1] = buffer[:, :, -2 - top]
        buffer[..., 0] = buffer[..., 1 + left]
        buffer[..., -1] = buffer[..., -2 - left]
        return buffer


def _border_columns(g: Tensor, sides: Tensor) -> Tensor:
    """Return the gradient of the columns left and right of the map: (2, rows and two more, channels)."""
    ends = torch.stack([g[0, :, :, 0].T, g[0, :, :, -1].T])
    height = ends.shape[1]
    products = torch.bmm(ends, sides).view(2, height, 3, -1)
    columns = torch.zeros(2, height + 2, products.shape[3], dtype=g.dtype, device=g.device)
    for row in range(3):
        columns[:, 2 - row : 2 - row + height] += products[:, :, row]
    return columns


class _Kernel:
    """Weights of one convolution, run by the processor's library together with what comes after, where it can be."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int) -> None:
        self._bias = bias
        self._stride = (stride, stride)
        self._fused = _can_fuse(weight)
        if self._fused and weight.dtype is torch.bfloat16:
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), (0, 0), self._stride)
        else:
            # In float32 the layout that the library wants depends on the size of the map: laid out for another one,
            # weights are laid out anew in every call, which takes longer than the convolution.
            self._weight = weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor, padding: tuple[int, int] = (0, 0), *, relu: bool = False) -> Tensor:
        if self._fused:
            after = "relu" if relu else "none"
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._weight, self._bias, padding, self._stride, (1, 1), 1, after, [], ""
            )
            return y
        # Not every device's library answers in the layout it was asked in: those of AMD and Apple do not.
        y = F.conv2d(x, self._weight, self._bias, self._stride, padding).contiguous(memory_format=torch.channels_last)
        return y.clamp_min_(0) if relu else y


def _can_fuse(weight: Tensor) -> bool:
    """Tell whether torch can run this convolution by its library's fused operation: on processors that is made for."""
    if weight.device.type != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if not (
        hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    ):
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


def _padding_source(padding: Padding, height: int, width: int) -> tuple[int, int]:
    """Row and column of the map that its border repeats (a single position cannot be reflected)."""
    if padding is Padding.REPLICATE:
        return 0, 0
    return min(1, height - 1), min(1, width - 1)
