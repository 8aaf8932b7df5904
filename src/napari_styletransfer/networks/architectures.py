"""The networks: which stages they have, what the stages are called, and where each one's weights lie.

A network is a flat tuple of `Stage`s, made from a table of its channels (VGG: Simonyan and Zisserman 2015, arXiv
1409.1556, table 1, columns D and E; SqueezeNet 1.1: Iandola et al. 2016, arXiv 1602.07360). The keys of the weights are
those of torchvision's models, which the tests compare the tables with; torchvision itself is never imported, which
takes seconds. Layers carry the names of the papers: `relu1_1` … `relu5_4` for the VGG family, `relu1`, `fire2` …
`fire9` for SqueezeNet. Called by `planner`; the stages are run by `frozen_network.FrozenNetwork`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from napari_styletransfer.config import LayerWeights, Network
from napari_styletransfer.errors import ConfigError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Input normalisation of every network here (that of torchvision's ImageNet weights)."""

RGB = "rgb"
"""Name of the style layer made of the pixels themselves."""

ChannelPlan = tuple[int | str, ...]
"""A network of the VGG kind: channels of its 3×3 convolutions in turn, and where the next group begins the pooling that
the network was trained with: "A" for average, "M" for maximum."""

COMPACT_PLAN: ChannelPlan = (16, 16, "A", 32, 32, "A", 64, 64, 64, "A", 128, 128, 128, "A", 128)
VGG16_PLAN: ChannelPlan = (
    64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M",
)  # fmt: skip
VGG19_PLAN: ChannelPlan = (
    64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M",
)  # fmt: skip

SQUEEZENET_PLAN: tuple[tuple[int, int] | str, ...] = (
    "M", (16, 64), (16, 64), "M", (32, 128), (32, 128), "M", (48, 192), (48, 192), (64, 256), (64, 256),
)  # fmt: skip
"""After the first convolution: channels that a fire module squeezes to, and those of each of its two expansions."""


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

    def state_dict_shapes(self) -> dict[str, tuple[int, ...]]:
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
class ReceptiveField:
    """How far a layer's features look: `stride` pixels a position, and `before`/`after` pixels around it.

    Position i sees the pixels from `i·stride − before` to `i·stride + after`, both included.
    """

    stride: int
    before: int
    after: int


def receptive_fields(backbone: Backbone) -> dict[str, ReceptiveField]:
    """Return the reach of every named layer, computed from the stages."""
    found = {}
    stride, before, after = 1, 0, 0
    for stage in backbone.stages:
        pad = stage.pad if isinstance(stage, Conv) else 0
        before += pad * stride
        after += (stage.kernel - 1 - pad) * stride
        stride *= stage.stride
        if isinstance(stage, Conv) and stage.name:
            found[stage.name] = ReceptiveField(stride, before, after)
    return found


def fold_batchnorm(branch: Branch, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
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
    if network is Network.SQUEEZENET:
        return Backbone(network, squeezenet_stages(), _SQUEEZENET_STYLE, {"fire3": 1.0, "fire5": 1.0})
    plan = VGG16_PLAN if network in (Network.VGG16, Network.VGG16_BN) else VGG19_PLAN
    return Backbone(network, vgg_stages(plan, norms=network is Network.VGG16_BN), _VGG_STYLE, _VGG_CONTENT)


_VGG_STYLE = dict.fromkeys((RGB, "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0)
_VGG_CONTENT = {"relu3_1": 0.5, "relu4_2": 1.0}
"""relu4_2 is that of the papers; with relu3_1 beside it small structures such as nuclei stay where they are."""

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


def vgg_stages(plan: ChannelPlan, *, norms: bool = False) -> tuple[Stage, ...]:
    """Return the stages of a VGG network under torchvision's keys, with or without batch norms."""
    stages: list[Stage] = []
    index = 0  # of the module in torchvision's `features`
    for stage in compact_stages(plan, "max"):
        if isinstance(stage, Conv):
            norm = f"features.{index + 1}" if norms else None
            (branch,) = stage.branches
            stage = replace(stage, branches=(replace(branch, key=f"features.{index}", norm=norm),))
            index += 3 if norms else 2  # with the ReLU
        else:
            index += 1
        stages.append(stage)
    return tuple(stages)


def squeezenet_stages() -> tuple[Stage, ...]:
    """Return the stages of SqueezeNet 1.1 under torchvision's keys."""
    stages: list[Stage] = [Conv("relu1", (Branch("features.0", None, 3, 64, 3),), stride=2, pad=0)]
    channels, fire = 64, 2
    for index, item in enumerate(SQUEEZENET_PLAN, 2):
        if isinstance(item, str):
            stages.append(Pool("max", 3, 2, ceil=True))
            continue
        key, (squeezed, expanded) = f"features.{index}", item
        stages.append(Conv(None, (Branch(f"{key}.squeeze", None, channels, squeezed, 1),), stride=1, pad=0))
        small = Branch(f"{key}.expand1x1", None, squeezed, expanded, 1)
        large = Branch(f"{key}.expand3x3", None, squeezed, expanded, 3)
        stages.append(Conv(f"fire{fire}", (small, large), stride=1, pad=1))
        channels, fire = 2 * expanded, fire + 1
    return tuple(stages)
