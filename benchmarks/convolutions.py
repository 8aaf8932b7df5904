"""The convolutions of a network and nothing else: the floor that an evaluation of the loss cannot go below.

Each convolution once forward and once backward to its input, at the sizes and in the number format that the engine
runs it, one after another, on random values. Called by `jobs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.networks.architectures import Backbone, Conv


@dataclass(frozen=True)
class _Layer:
    weight: Tensor
    bias: Tensor
    stride: int
    pad: int
    size: tuple[int, int]
    out_size: tuple[int, int]


class Convolutions:
    """All convolutions of a truncated network for an image of a given size; call it to run them."""

    def __init__(
        self, backbone: Backbone, height: int, width: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._layers: list[_Layer] = []
        generator = torch.Generator().manual_seed(0)
        largest = 0
        self.operations = 0
        for stage in backbone.stages:
            size = height, width
            height, width = stage.out_size(height), stage.out_size(width)
            if not isinstance(stage, Conv):
                continue
            for branch in stage.branches:
                shape = (branch.out_channels, branch.in_channels, branch.kernel, branch.kernel)
                weight = torch.randn(shape, generator=generator).mul_((branch.in_channels * branch.kernel**2) ** -0.5)
                self._layers.append(
                    _Layer(
                        weight.to(device, dtype, memory_format=torch.channels_last),
                        torch.zeros(branch.out_channels, device=device, dtype=dtype),
                        stage.stride,
                        stage.pad - (stage.kernel - branch.kernel) // 2,
                        size,
                        (height, width),
                    )
                )
                positions = height * width
                self.operations += 2 * 2 * weight.numel() * positions
                largest = max(largest, branch.in_channels * size[0] * size[1], branch.out_channels * positions)
        self._inputs, self._gradients = (torch.randn(largest, generator=generator).to(device, dtype) for _ in range(2))

    def __call__(self) -> None:
        """Run every convolution forward, first to last, then backward to its input, last to first."""
        with torch.no_grad():
            for layer in self._layers:
                x = _shaped(self._inputs, layer.weight.shape[1], layer.size)
                F.conv2d(x, layer.weight, layer.bias, stride=layer.stride, padding=layer.pad)
            for layer in reversed(self._layers):
                torch.ops.aten.convolution_backward(
                    _shaped(self._gradients, layer.weight.shape[0], layer.out_size),
                    _shaped(self._inputs, layer.weight.shape[1], layer.size),
                    layer.weight,
                    None,
                    [layer.stride] * 2,
                    [layer.pad] * 2,
                    [1, 1],
                    False,
                    [0, 0],
                    1,
                    [True, False, False],
                )


def _shaped(memory: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """View the start of a flat piece of memory as a channels-last feature map."""
    height, width = size
    return memory[: channels * height * width].view(1, height, width, channels).permute(0, 3, 1, 2)
