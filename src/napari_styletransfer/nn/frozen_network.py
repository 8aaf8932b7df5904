"""A frozen network run forward and backward, keeping only what the backward pass needs.

The weights never change, so the gradient of a convolution needs none of its inputs. Of each ReLU only
where it was positive is kept, as one bit a value; of the loss layers the feature map itself; the first
stage, which is large and cheap, is computed again. Autograd would keep every activation as floats.

Stages up to a pooling are a segment. Where its maps are large it is worked through in bands of rows: a band's maps stay
in the processor's cache, and are never all there at once.

Feature maps lie channels-last in memory: convolutions are fastest there, and a map is a (positions,
channels) matrix without a copy. Called by `tiled_network`, on a whole image or on one block of it.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_styletransfer.config import Padding, Pooling
from napari_styletransfer.devices.device import malloc_trim
from napari_styletransfer.networks.architectures import MEAN, STD, Backbone, Conv, fold_batchnorm
from napari_styletransfer.nn.bands import Band, RowRange, band_bytes, bands, segments
from napari_styletransfer.nn.convolution import FrozenConvolution, Scratch
from napari_styletransfer.nn.pooling import FrozenPool
from napari_styletransfer.nn.relu_mask import apply_relu_mask, pack_relu_mask
from napari_styletransfer.nn.workspace import Workspace

FeatureHook = Callable[[str, int, Tensor], None]
"""Called with a layer's name, some rows of its feature map, and before them the number of the first."""

GradientHook = Callable[[str, int, Tensor, Tensor], None]
"""The same with the gradient of those rows, to which the layer's own is added in place."""

TRIM_ABOVE = 100_000
"""Multiplications a pixel from which the convolutions take so long that, beside them, it costs nothing to give freed
memory back twice in every pass: of VGG-19 at 512 px 100 bytes a pixel. `compact` has a fifth of that and would lose a
tenth of its speed."""


@dataclass
class Tape:
    """What a forward pass over some stages leaves for its backward pass."""

    maps: dict[str, Tensor] = field(default_factory=dict)
    relu_masks: dict[int, Tensor] = field(default_factory=dict)
    winners: dict[int, Tensor | None] = field(default_factory=dict)
    sizes: dict[int, tuple[RowRange, int]] = field(default_factory=dict)


@dataclass
class Recording:
    """What a forward pass leaves for its backward pass: the bands of every segment, each with its tape."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    segments: list[list[tuple[Band, Tape]]] = field(default_factory=list)


class FrozenNetwork:
    """A truncated backbone with its weights on a device.

    Parameters
    ----------
    backbone
        Already truncated to the deepest of the layers.
    tensors
        State dict with the keys of `backbone.state_dict_shapes()`.
    layers
        Names of the layers with a loss; all must be in the backbone.
    pooling, padding
        As in the settings.
    device, dtype
        Where and in which number format convolutions run (float32 or bfloat16).
    """

    def __init__(
        self,
        backbone: Backbone,
        tensors: dict[str, Tensor],
        layers: Collection[str],
        *,
        pooling: Pooling = Pooling.AVERAGE,
        padding: Padding = Padding.REFLECT,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.stages = backbone.stages
        self.layers = frozenset(layers)
        self.device = torch.device(device)
        self.dtype = dtype
        self.band_bytes = band_bytes(self.device.type)
        scratch = Scratch(self.device, dtype)
        self._workspace: weakref.ref[Workspace] | None = None
        self._layers: list[FrozenConvolution | FrozenPool] = []
        for stage in self.stages:
            if isinstance(stage, Conv):
                weights = [fold_batchnorm(branch, tensors) for branch in stage.branches]
                self._layers.append(FrozenConvolution(stage, weights, padding, scratch))
            else:
                self._layers.append(FrozenPool(stage, pooling))
        self._segments = segments(self.stages)
        self._heavy = backbone.multiplications > TRIM_ABOVE
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).view(1, 3, 1, 1) for values in (MEAN, STD)
        )
        self._shift, self._gain = -mean / std, 1 / std

    def truncated(self, names: Collection[str]) -> FrozenNetwork:
        """Return the network as far as the deepest of these layers, visiting them alone; the weights are shared."""
        shallow = copy.copy(self)
        last = max(index for index, stage in enumerate(self.stages) if isinstance(stage, Conv) and stage.name in names)
        shallow.stages, shallow._layers = self.stages[: last + 1], self._layers[: last + 1]
        shallow._segments = segments(shallow.stages)
        shallow.layers = frozenset(names)
        shallow._workspace = None
        return shallow

    def workspace(self) -> Workspace:
        """Return memory for `forward` that all share who hold it now; it goes with the last of them."""
        workspace = self._workspace() if self._workspace is not None else None
        if workspace is None:
            workspace = Workspace()
            self._workspace = weakref.ref(workspace)
        return workspace

    def layer_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """Sizes (h, w) of the layers for an image of the given size."""
        sizes = {}
        for stage in self.stages:
            height, width = stage.out_size(height), stage.out_size(width)
            if isinstance(stage, Conv) and stage.name in self.layers:
                sizes[stage.name] = (height, width)
        return sizes

    def forward(
        self,
        image: Tensor,
        on_features: FeatureHook | None = None,
        *,
        record: bool = False,
        workspace: Workspace | None = None,
    ) -> Recording:
        """Run the network and call `on_features(name, row, feature_map)` for each layer, shallow to deep.

        Of a layer with a large map it is given some rows at a time, from the top.

        Parameters
        ----------
        image
            (1, 3, H, W) float32 sRGB in [0, 1] on the network's device.
        record
            Whether to return what `backward` needs besides the image; otherwise the recording is empty.
        workspace
            Memory for that, until the workspace takes it back; by default memory of this call's own.
        """
        recording = Recording()
        workspace = workspace or Workspace()
        workspace.transient.reset()
        x = image
        for segment in self._segments:
            joined: Tensor | None = None
            taped: list[tuple[Band, Tape]] = []
            cut = self._bands(segment, x.shape[2], x.shape[3])
            for band in cut:
                rows = band.core.dilated(len(segment) - 1) if len(cut) > 1 else band.core
                part = x[:, :, rows.first : rows.stop]
                tape = Tape() if record else None
                if segment.start == 0:
                    part = self._normalize(part)
                part = self._forward_segment(segment, part, rows, band, on_features, tape, workspace)
                if band.whole:
                    joined = part
                else:
                    joined = workspace.transient.empty_map(part, band.pooled.height) if joined is None else joined
                    joined[:, :, band.pooled.first : band.pooled.stop] = part
                del part  # the next band's would lie beside it
                if tape is not None:
                    taped.append((band, tape))
            if record:
                recording.sizes.append((x.shape[2], x.shape[3]))
                recording.segments.append(taped)
            if joined is None:
                raise AssertionError("a map has at least one band")
            x = joined
        return recording

    def backward(self, recording: Recording, image: Tensor, add_gradient: GradientHook) -> Tensor:
        """Return the gradient with respect to the image, (1, 3, H, W) float32.

        `add_gradient(name, row, feature_map, gradient)` is called for each layer, deep to shallow, and adds that
        layer's own loss gradient to `gradient` in place. The recording is used up.
        """
        g: Tensor | None = None
        for segment in reversed(self._segments):
            taped, (height, width) = recording.segments.pop(), recording.sizes.pop()
            g = self._backward_segment(segment, g, taped, image, height, width, add_gradient)
            if self._heavy and (segment.start == 0 or segment is self._segments[-1]):
                malloc_trim(self.device)
        return torch.zeros_like(image) if g is None else g

    def _backward_segment(
        self,
        segment: range,
        g: Tensor | None,
        taped: list[tuple[Band, Tape]],
        image: Tensor,
        height: int,
        width: int,
        add_gradient: GradientHook,
    ) -> Tensor | None:
        """Return the gradient with respect to the input of a segment, or to the image for the first."""
        first, alone = segment.start == 0, len(taped) == 1
        total: Tensor | None = torch.zeros_like(image) if first else None
        while taped:
            band, tape = taped.pop()
            rows = band.core if alone else band.core.dilated(len(segment) - 1)
            inside = slice(rows.first, rows.stop)
            part = None if g is None else g[:, :, band.pooled.first : band.pooled.stop]
            part = self._backward_band(segment, part, band, image[:, :, inside] if first else image, tape, add_gradient)
            if part is None:
                continue
            if first:
                part = part * self._gain
            elif alone:
                return part
            if total is None:
                shape = (1, height, width, part.shape[1])
                total = torch.zeros(shape, dtype=part.dtype, device=part.device).permute(0, 3, 1, 2)
            total[:, :, inside] += part
        return total

    def _forward_segment(
        self,
        indices: range,
        x: Tensor,
        rows: RowRange,
        band: Band,
        on_features: FeatureHook | None,
        tape: Tape | None,
        workspace: Workspace,
    ) -> Tensor:
        """Run some stages on some rows, those of a band or all."""
        for index in indices:
            layer = self._layers[index]
            if tape is not None:
                tape.sizes[index] = (rows, x.shape[3])
            if isinstance(layer, FrozenPool):
                x, winners = layer.forward(x, record=tape is not None)
                if tape is not None:
                    tape.winners[index] = winners if winners is None else workspace.store(winners)
                rows = RowRange.whole(x.shape[2])
                continue
            x = layer.forward(x, rows)
            rows = layer.rows_out(rows)
            name = self._layer_name(index)
            if name is not None and on_features is not None:
                core = band.core_of(rows)
                on_features(name, core.first, x[:, :, core.slice_in(rows)])
            if tape is not None and index > 0:
                if name is not None:
                    tape.maps[name] = workspace.store(x)
                else:
                    tape.relu_masks[index] = pack_relu_mask(x, workspace)
        return x

    def _backward_band(
        self, indices: range, g: Tensor | None, band: Band, image: Tensor, tape: Tape, add_gradient: GradientHook
    ) -> Tensor | None:
        for index in reversed(indices):
            layer = self._layers[index]
            rows, width = tape.sizes[index]
            if isinstance(layer, FrozenPool):
                winners = tape.winners.pop(index)
                g = None if g is None else layer.backward(g, winners, rows.stop - rows.first, width)
                continue
            name = self._layer_name(index)
            feature_map = None
            if index == 0:
                feature_map = layer.forward(self._normalize(image), rows)
            elif name is not None:
                feature_map = tape.maps.pop(name)
            if g is None:
                if feature_map is None:
                    continue
                g = torch.zeros_like(feature_map)
            if feature_map is not None:
                if name is not None:
                    out = layer.rows_out(rows)
                    core = band.core_of(out)
                    inner = core.slice_in(out)
                    add_gradient(name, core.first, feature_map[:, :, inner], g[:, :, inner])
                torch.ops.aten.threshold_backward.grad_input(g, feature_map, 0, grad_input=g)
                del feature_map
            else:
                apply_relu_mask(g, tape.relu_masks.pop(index))
            g = layer.backward(g, rows, width)
        return g

    def _layer_name(self, index: int) -> str | None:
        """Return the name of a layer with a loss, None for other stages."""
        stage = self.stages[index]
        return stage.name if isinstance(stage, Conv) and stage.name in self.layers else None

    def _bands(self, segment: range, height: int, width: int) -> list[Band]:
        values = max(1, self.band_bytes // self.dtype.itemsize)
        return bands(self.stages[segment.start : segment.stop], height, width, values)

    def _normalize(self, image: Tensor) -> Tensor:
        x = torch.addcmul(self._shift.to(image.dtype), image, self._gain.to(image.dtype))
        return x.to(self.dtype, memory_format=torch.channels_last)
