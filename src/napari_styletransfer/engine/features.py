"""A frozen network run forward and backward, keeping only what the backward pass needs.

The weights never change, so the gradient of a convolution needs none of its inputs. Of each ReLU only
where it was positive is kept, as one bit a value; of the loss layers the feature map itself; the first
stage, which is large and cheap, is computed again. Autograd would keep every activation as floats.

Feature maps lie channels-last in memory: convolutions are fastest there, and a map is a (positions,
channels) matrix without a copy. Called by `objective`, on a whole image or on one block of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_styletransfer.config import Padding, Pooling
from napari_styletransfer.engine.backbones import MEAN, STD, Backbone, Conv, Pool, folded
from napari_styletransfer.engine.signs import mask_by_signs, packed_signs

Visit = Callable[[str, Tensor], None]
Seed = Callable[[str, Tensor, Tensor], None]

SWAP_GAIN = {2: 1.6, 3: 2.1}
"""Mean of the maximum over the mean, by side of the window: what average pooling is multiplied by where it
takes the place of maximum pooling, so that the next layer sees values as large as it was trained on."""


@dataclass
class Tape:
    """What one forward pass leaves for its backward pass."""

    image: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)
    positive: dict[int, Tensor] = field(default_factory=dict)
    winners: dict[int, Tensor] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)


class FrozenNetwork:
    """A truncated backbone with its weights on a device.

    Parameters
    ----------
    backbone
        Already truncated to the deepest layer wanted.
    tensors
        State dict with the keys of `backbone.expected()`.
    wanted
        Names of the layers that are visited; all must be in the backbone.
    pooling, padding
        As in the settings.
    device, dtype
        Where and in which number format convolutions run (float32 or bfloat16).
    """

    def __init__(
        self,
        backbone: Backbone,
        tensors: dict[str, Tensor],
        wanted: Collection[str],
        *,
        pooling: Pooling = Pooling.AVERAGE,
        padding: Padding = Padding.REFLECT,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.stages = backbone.stages
        self.wanted = frozenset(wanted)
        self.padding = padding
        self.device = torch.device(device)
        self.dtype = dtype
        self._weights: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for index, stage in enumerate(self.stages):
            if isinstance(stage, Conv):
                pairs = (folded(branch, tensors) for branch in stage.branches)
                self._weights[index] = [
                    (
                        weight.to(self.device, dtype, memory_format=torch.channels_last),
                        bias.to(self.device, dtype),
                    )
                    for weight, bias in pairs
                ]
        self._pools = {i: _pool_of(stage, pooling) for i, stage in enumerate(self.stages) if isinstance(stage, Pool)}
        self._mean = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)
        self._scratch = torch.empty(0, dtype=dtype, device=self.device)

    def layer_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """Sizes (h, w) of the wanted layers for an image of the given size."""
        sizes = {}
        for stage in self.stages:
            height, width = stage.out_size(height), stage.out_size(width)
            if isinstance(stage, Conv) and stage.name in self.wanted:
                sizes[stage.name] = (height, width)
        return sizes

    @overload
    def forward(self, image: Tensor, visit: Visit, *, keep: Literal[True]) -> Tape: ...

    @overload
    def forward(self, image: Tensor, visit: Visit, *, keep: Literal[False]) -> None: ...

    def forward(self, image: Tensor, visit: Visit, *, keep: bool) -> Tape | None:
        """Run the network and call `visit(name, feature_map)` for each wanted layer, shallow to deep.

        Parameters
        ----------
        image
            (1, 3, H, W) float32 sRGB in [0, 1] on the network's device.
        keep
            Whether to return what `backward` needs; without it nothing outlives its stage.
        """
        tape = Tape(image) if keep else None
        x = self._normalised(image)
        for index, stage in enumerate(self.stages):
            if tape is not None:
                tape.sizes[index] = (x.shape[2], x.shape[3])
            if isinstance(stage, Pool):
                x = self._pooled(index, stage, x, tape)
                continue
            # The padded copy takes the place of its source, which is freed before the output is made.
            x = self._padded(x, stage.pad, fresh=index == 0)
            x = self._convolved(index, stage, x)
            named = stage.name in self.wanted
            if named and stage.name is not None:
                visit(stage.name, x)
            if tape is None or index == 0:
                continue
            if named and stage.name is not None:
                tape.maps[stage.name] = x
            else:
                tape.positive[index] = packed_signs(x)
        return tape

    def backward(self, tape: Tape, seed: Seed) -> Tensor:
        """Return the gradient with respect to the image, (1, 3, H, W) float32.

        `seed(name, feature_map, gradient)` is called for each wanted layer, deep to shallow, and adds that
        layer's own loss gradient to `gradient` in place. The tape is used up.
        """
        g: Tensor | None = None
        for index in range(len(self.stages) - 1, -1, -1):
            stage = self.stages[index]
            if isinstance(stage, Pool):
                g = None if g is None else self._pool_backward(index, stage, g, tape)
                continue
            feature_map = None
            if index == 0:
                # Its gradient lies in the scratch memory meanwhile, so padding needs memory of its own.
                padded = self._padded(self._normalised(tape.image), stage.pad, fresh=True)
                feature_map = self._convolved(0, stage, padded)
            elif stage.name in tape.maps:
                feature_map = tape.maps.pop(stage.name)
            if g is None:
                if feature_map is None:
                    continue
                g = torch.zeros_like(feature_map)
            if feature_map is not None:
                if stage.name in self.wanted and stage.name is not None:
                    seed(stage.name, feature_map, g)
                torch.ops.aten.threshold_backward.grad_input(g, feature_map, 0, grad_input=g)
            else:
                mask_by_signs(g, tape.positive.pop(index))
            g = self._convolved_backward(index, stage, g, tape)
        if g is None:
            return torch.zeros_like(tape.image)
        return g.to(tape.image.dtype).div_(self._std).contiguous()

    def _normalised(self, image: Tensor) -> Tensor:
        x = (image - self._mean).div_(self._std)
        return x.to(self.dtype, memory_format=torch.channels_last)

    def _convolved(self, index: int, stage: Conv, padded: Tensor) -> Tensor:
        outputs = []
        for branch, (weight, bias) in zip(stage.branches, self._weights[index], strict=True):
            trim = (stage.kernel - branch.kernel) // 2
            seen = padded[:, :, trim : padded.shape[2] - trim, trim : padded.shape[3] - trim]
            outputs.append(F.conv2d(seen, weight, bias, stride=stage.stride))
        y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return y.clamp_min_(0)

    def _convolved_backward(self, index: int, stage: Conv, g: Tensor, tape: Tape) -> Tensor:
        height, width = tape.sizes[index]
        full = (height + 2 * stage.pad, width + 2 * stage.pad)
        total: Tensor | None = None
        first = 0
        for branch, (weight, _) in zip(stage.branches, self._weights[index], strict=True):
            part = g[:, first : first + branch.out_channels].contiguous(memory_format=torch.channels_last)
            first += branch.out_channels
            trim = (stage.kernel - branch.kernel) // 2
            rest = [
                side - 2 * trim - ((n - 1) * stage.stride + branch.kernel)
                for side, n in zip(full, part.shape[2:], strict=True)
            ]
            grown = F.conv_transpose2d(part, weight, stride=stage.stride, output_padding=rest)
            if total is None:
                total = F.pad(grown, (trim,) * 4) if trim else grown
            else:
                total[:, :, trim : full[0] - trim, trim : full[1] - trim] += grown
        if total is None:
            raise AssertionError("a convolution has at least one branch")
        if not stage.pad:
            return total
        _fold_border(total, self.padding)
        out = self._view(total.shape[1], height, width)
        return out.copy_(total[:, :, 1:-1, 1:-1])

    def _padded(self, x: Tensor, pad: int, *, fresh: bool) -> Tensor:
        """Return `x` with a border of one, in `fresh` memory or in the scratch memory, valid until its next use."""
        if not pad:
            return x
        height, width = x.shape[2] + 2, x.shape[3] + 2
        buffer = F.pad(x, (1, 1, 1, 1)) if fresh else self._view(x.shape[1], height, width)
        buffer[:, :, 1:-1, 1:-1] = x
        if self.padding is Padding.ZERO:
            for edge in (buffer[:, :, 0], buffer[:, :, -1], buffer[..., 0], buffer[..., -1]):
                edge.zero_()
            return buffer
        top, left = _mirrors(self.padding, height, width)
        buffer[:, :, 0] = buffer[:, :, top]
        buffer[:, :, -1] = buffer[:, :, -1 - top]
        buffer[..., 0] = buffer[..., left]
        buffer[..., -1] = buffer[..., -1 - left]
        return buffer

    def _view(self, channels: int, height: int, width: int) -> Tensor:
        """Return a channels-last tensor in the scratch memory, which all stages take in turn."""
        size = channels * height * width
        if self._scratch.numel() < size:
            self._scratch = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._scratch[:size].view(1, height, width, channels).permute(0, 3, 1, 2)

    def _pooled(self, index: int, stage: Pool, x: Tensor, tape: Tape | None) -> Tensor:
        kind, gain = self._pools[index]
        if kind == "average":
            return F.avg_pool2d(x, stage.kernel, stage.stride, ceil_mode=stage.ceil).mul_(gain)
        if tape is None:
            return F.max_pool2d(x, stage.kernel, stage.stride, ceil_mode=stage.ceil).mul_(gain)
        y, where = F.max_pool2d_with_indices(
            x, (stage.kernel, stage.kernel), (stage.stride, stage.stride), ceil_mode=stage.ceil
        )
        tape.winners[index] = _as_offsets(where, x.shape[3], stage)
        return y.mul_(gain)

    def _pool_backward(self, index: int, stage: Pool, g: Tensor, tape: Tape) -> Tensor:
        kind, gain = self._pools[index]
        height, width = tape.sizes[index]
        out = torch.zeros((1, height, width, g.shape[1]), dtype=g.dtype, device=g.device).permute(0, 3, 1, 2)
        apart = stage.kernel <= stage.stride
        if kind == "average":
            g = g * (gain / _window_counts(stage, height, width, g))
            winners = None
        else:
            g = g * gain
            winners = tape.winners.pop(index)
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


def _pool_of(stage: Pool, pooling: Pooling) -> tuple[str, float]:
    """Return the kind of pooling to do and the factor that makes up for a swap."""
    kind = stage.kind if pooling is Pooling.NATIVE else pooling.value
    if kind == stage.kind:
        return kind, 1.0
    return kind, SWAP_GAIN[stage.kernel] if kind == "average" else 1 / SWAP_GAIN[stage.kernel]


def _mirrors(padding: Padding, height: int, width: int) -> tuple[int, int]:
    """Index in the padded map whose row and column the border repeats (one position cannot be reflected)."""
    if padding is Padding.REPLICATE:
        return 1, 1
    return (2 if height > 3 else 1), (2 if width > 3 else 1)


def _fold_border(padded: Tensor, padding: Padding) -> None:
    """Add the gradient of the border to the positions it was copied from, in place: adjoint of padding."""
    if padding is Padding.ZERO:
        return
    top, left = _mirrors(padding, padded.shape[2], padded.shape[3])
    padded[..., left] += padded[..., 0]
    padded[..., -1 - left] += padded[..., -1]
    padded[:, :, top] += padded[:, :, 0]
    padded[:, :, -1 - top] += padded[:, :, -1]


def _as_offsets(where: Tensor, width: int, stage: Pool) -> Tensor:
    """Turn flat maximum positions (int64) into offsets within the window (uint8)."""
    rows = torch.arange(where.shape[2], device=where.device).view(1, 1, -1, 1) * stage.stride
    columns = torch.arange(where.shape[3], device=where.device).view(1, 1, 1, -1) * stage.stride
    return ((where // width - rows) * stage.kernel + where % width - columns).to(torch.uint8)


def _window_counts(stage: Pool, height: int, width: int, like: Tensor) -> Tensor:
    """Count the positions under each averaging window, smaller where a window reaches beyond the edge."""
    counts = []
    for side in (height, width):
        starts = torch.arange(stage.out_size(side), device=like.device) * stage.stride
        counts.append((side - starts).clamp(max=stage.kernel))
    return (counts[0].view(-1, 1) * counts[1].view(1, -1)).to(like.dtype)
