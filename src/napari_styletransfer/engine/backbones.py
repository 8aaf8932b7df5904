"""The networks: which stages they have, what the stages are called, and where each one's weights lie.

A network is a flat tuple of `Stage`s, read off torchvision's own definitions, so that a plan is never
typed in twice. Layers carry the names of the papers: `relu1_1` … `relu5_4` for the VGG family, `relu1`,
`fire2` … `fire9` for SqueezeNet. Called by `planning`; the stages are run by `features.FrozenNetwork`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_styletransfer.config import LayerWeights, Network
from napari_styletransfer.errors import ConfigError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Input normalisation of every network here (that of torchvision's ImageNet weights)."""

RGB = "rgb"
"""Name of the style layer made of the pixels themselves."""

ChannelPlan = tuple[int | str, ...]
"""A network of the VGG kind: channels of its 3×3 convolutions in turn, "A" where the next group begins."""

COMPACT_PLAN: ChannelPlan = (16, 16, "A", 32, 32, "A", 64, 64, 64, "A", 128, 128, 128, "A", 128)


@dataclass(frozen=True)
class Branch:
    """One convolution of a stage: its key in the state dict, and its batch norm's if it has one."""

    key: str
    norm: str | None
    in_channels: int
    out_channels: int
    kernel: int


@dataclass(frozen=True)
class Conv:
    """Convolution and ReLU; several branches see the same input and their outputs are joined.

    `name` is the layer that comes out, or None if it has no name of its own.
    """

    name: str | None
    branches: tuple[Branch, ...]
    stride: int
    pad: int

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.branches[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output, all branches together."""
        return sum(branch.out_channels for branch in self.branches)

    @property
    def kernel(self) -> int:
        """Side of the largest kernel."""
        return max(branch.kernel for branch in self.branches)

    def out_size(self, side: int) -> int:
        """Length of the output along an axis of `side` positions."""
        return (side + 2 * self.pad - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class Pool:
    """Average or maximum over a window. `ceil` keeps a last window that reaches beyond the edge."""

    kind: str
    kernel: int
    stride: int
    ceil: bool

    def out_size(self, side: int) -> int:
        """Length of the output along an axis of `side` positions."""
        room = side - self.kernel
        return (-(-room // self.stride) if self.ceil else room // self.stride) + 1 if room >= 0 else int(self.ceil)


Stage = Conv | Pool


@dataclass(frozen=True)
class Backbone:
    """A network's stages and the layers used when the settings name none."""

    network: Network
    stages: tuple[Stage, ...]
    style_layers: LayerWeights
    content_layers: LayerWeights

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, shallow to deep."""
        return tuple(stage.name for stage in self.stages if isinstance(stage, Conv) and stage.name)

    @property
    def multiplications(self) -> float:
        """Multiplications that one pass takes for a pixel of the image."""
        total, positions = 0.0, 1.0
        for stage in self.stages:
            positions /= stage.stride**2
            for branch in stage.branches if isinstance(stage, Conv) else ():
                total += branch.in_channels * branch.out_channels * branch.kernel**2 * positions
        return total

    def check(self, layers: LayerWeights, *, pixels: bool) -> None:
        """Raise `ConfigError` if a layer is not one of this network's (`pixels`: 'rgb' counts too)."""
        known = (RGB, *self.layers) if pixels else self.layers
        for name in layers:
            if name not in known:
                raise ConfigError(
                    f"{self.network} has no {'style' if pixels else 'content'} layer '{name}'. "
                    f"Layers: {', '.join(known)}."
                )

    def truncated(self, layers: set[str]) -> Backbone:
        """Return the part of the network up to the deepest of `layers`."""
        deepest = max((i for i, s in enumerate(self.stages) if isinstance(s, Conv) and s.name in layers), default=-1)
        return replace(self, stages=self.stages[: deepest + 1])

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Keys and shapes of the tensors these stages need, in the names of the weights file."""
        shapes: dict[str, tuple[int, ...]] = {}
        for stage in self.stages:
            if isinstance(stage, Conv):
                for branch in stage.branches:
                    shapes[f"{branch.key}.weight"] = (
                        branch.out_channels,
                        branch.in_channels,
                        branch.kernel,
                        branch.kernel,
                    )
                    shapes[f"{branch.key}.bias"] = (branch.out_channels,)
                    if branch.norm:
                        for part in ("weight", "bias", "running_mean", "running_var"):
                            shapes[f"{branch.norm}.{part}"] = (branch.out_channels,)
        return shapes


@dataclass(frozen=True)
class Reach:
    """How far a layer's features look: `stride` pixels a position, and `before`/`after` pixels around it.

    Position i sees the pixels from `i·stride − before` to `i·stride + after`, both included.
    """

    stride: int
    before: int
    after: int


def reaches(backbone: Backbone) -> dict[str, Reach]:
    """Return the reach of every named layer, computed from the stages."""
    found = {}
    stride, before, after = 1, 0, 0
    for stage in backbone.stages:
        pad = stage.pad if isinstance(stage, Conv) else 0
        before += pad * stride
        after += (stage.kernel - 1 - pad) * stride
        stride *= stage.stride
        if isinstance(stage, Conv) and stage.name:
            found[stage.name] = Reach(stride, before, after)
    return found


def folded(branch: Branch, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return a branch's weight and bias with its batch norm (evaluation mode, eps 1e-5) folded in."""
    weight, bias = tensors[f"{branch.key}.weight"], tensors[f"{branch.key}.bias"]
    if branch.norm is None:
        return weight, bias
    gamma, beta, mean, var = (
        tensors[f"{branch.norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gamma / torch.sqrt(var + 1e-5)
    return weight * gain[:, None, None, None], (bias - mean) * gain + beta


@lru_cache
def backbone(network: Network) -> Backbone:
    """Return a network's description; needs no weights and allocates none.

    Raises
    ------
    ConfigError
        For `auto`, which must be decided first.
    """
    if network is Network.COMPACT:
        return Backbone(network, compact_stages(), _COMPACT_STYLE, {"relu2_2": 1.0, "relu3_1": 1.0})
    if network is Network.AUTO:
        raise ConfigError("Network 'auto' has to be decided before it is built.")
    import torchvision  # here: two seconds that the embedded network need not pay

    with torch.device("meta"):
        features = getattr(torchvision.models, network.value)().features
    if network is Network.SQUEEZENET:
        return Backbone(network, _squeezenet_stages(features), _SQUEEZENET_STYLE, {"fire3": 1.0, "fire5": 1.0})
    return Backbone(network, _vgg_stages(features), _VGG_STYLE, {"relu4_2": 1.0})


_VGG_STYLE = dict.fromkeys((RGB, "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0)
_COMPACT_STYLE = dict.fromkeys((RGB, "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"), 1.0) | {
    "relu3_3": 0.5,
    "relu4_1": 0.3,
    "relu4_3": 0.1,
    "relu5_1": 0.1,
}
"""Twice as many as for the large networks: a small network's layers each hold less of a style. Deep ones count less,
for they push the content aside before they add to the style (docs/compact-network.md has the comparison)."""

_SQUEEZENET_STYLE = dict.fromkeys((RGB, "relu1", "fire2", "fire4"), 1.0) | {"fire6": 0.3, "fire8": 0.1}


def compact_stages(plan: ChannelPlan = COMPACT_PLAN, pool: str = "average") -> tuple[Stage, ...]:
    """Return the stages of the embedded network, or of one with another plan or `pool` ("average" or "max")."""
    stages: list[Stage] = []
    channels, group, number = 3, 1, 1
    for item in plan:
        if isinstance(item, str):
            stages.append(Pool(pool, 2, 2, ceil=False))
            group, number = group + 1, 1
            continue
        branch = Branch(f"conv{group}_{number}", None, channels, item, 3)
        stages.append(Conv(f"relu{group}_{number}", (branch,), stride=1, pad=1))
        channels, number = item, number + 1
    return tuple(stages)


def _vgg_stages(features: nn.Sequential) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    group, number = 1, 1
    for (index, module), (_, following) in pairwise([*enumerate(features), (-1, None)]):
        if isinstance(module, nn.Conv2d):
            norm = f"features.{index + 1}" if isinstance(following, nn.BatchNorm2d) else None
            stages.append(_conv(f"relu{group}_{number}", module, f"features.{index}", norm))
            number += 1
        elif isinstance(module, nn.MaxPool2d):
            stages.append(_pool(module))
            group, number = group + 1, 1
    return tuple(stages)


def _squeezenet_stages(features: nn.Sequential) -> tuple[Stage, ...]:
    from torchvision.models.squeezenet import Fire

    stages: list[Stage] = []
    fire = 2
    for index, module in enumerate(features):
        key = f"features.{index}"
        if isinstance(module, nn.Conv2d):
            stages.append(_conv("relu1", module, key, None))
        elif isinstance(module, nn.MaxPool2d):
            stages.append(_pool(module))
        elif isinstance(module, Fire):
            stages.append(_conv(None, module.squeeze, f"{key}.squeeze", None))
            small = _conv(None, module.expand1x1, f"{key}.expand1x1", None)
            large = _conv(f"fire{fire}", module.expand3x3, f"{key}.expand3x3", None)
            stages.append(replace(large, branches=(*small.branches, *large.branches)))
            fire += 1
    return tuple(stages)


def _conv(name: str | None, module: nn.Conv2d, key: str, norm: str | None) -> Conv:
    branch = Branch(key, norm, module.in_channels, module.out_channels, int(module.kernel_size[0]))
    return Conv(name, (branch,), int(module.stride[0]), int(module.padding[0]))


def _pool(module: nn.MaxPool2d) -> Pool:
    kernel, stride = module.kernel_size, module.stride
    if isinstance(kernel, tuple) or isinstance(stride, tuple):
        raise TypeError(f"pooling windows are square here, not {kernel} by {stride}")
    return Pool("max", kernel, stride, bool(module.ceil_mode))
