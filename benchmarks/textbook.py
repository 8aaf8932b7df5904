"""Style transfer as a textbook has it: `nn.Sequential`, float32, plain autograd, `torch.optim.LBFGS`.

It minimises the same content and style terms as the engine, so that losses compare, but shares none of its
code: networks come from torchvision's modules, losses and gradients from autograd, and the optimiser has the settings
customary for style transfer (history 100, step 1, no line search). Called by `jobs` and by the tests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_styletransfer.config import Network, Normalization, Padding, Pooling, StyleConfig
from napari_styletransfer.nn.pooling import SWAP_GAIN

_COMPACT = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (128,))
"""Widths of the embedded network's convolutions, group by group."""


class Normalize(nn.Module):
    """Brings pixels in [0, 1] to the statistics that the networks were trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class Average(nn.AvgPool2d):
    """Average pooling in the place of maximum pooling, with the factor that makes up for the swap."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * SWAP_GAIN[self.kernel_size]


class Textbook(nn.Module):
    """The loss of an image: content and style terms, each relative to its target, or scaled as neural-style-pt does.

    Parameters
    ----------
    config
        With network and layers decided, as in `Prepared.plan.config`; normalisation `relative` or `notebook`.
    tensors
        Weights under the names of torchvision, or of the embedded network.
    device
        Where to work.
    dtype, layout
        Number format of the convolutions and memory layout of the feature maps; a textbook does not choose them.
    """

    def __init__(
        self,
        config: StyleConfig,
        tensors: dict[str, Tensor],
        device: str = "cpu",
        *,
        dtype: torch.dtype = torch.float32,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        if config.normalization is Normalization.GATYS:
            raise ValueError(f"the textbook loop does not know the normalisation '{config.normalization}'")
        self.relative = config.normalization is Normalization.RELATIVE
        self.content_weight, self.style_weight = config.term_weights
        self.content_layers = self._shares(config.content_layers or {})
        self.style_layers = self._shares(config.style_layers or {})
        self.network = _sequential(config, tensors, {*self.content_layers, *self.style_layers})
        self.normalize = Normalize().to(device)
        self.network.to(device, dtype).to(memory_format=layout).eval().requires_grad_(False)
        self.dtype, self.layout = dtype, layout
        self.content_targets: dict[str, Tensor] = {}
        self.style_targets: dict[str, Tensor] = {}

    def aim(self, content: Tensor, style: Tensor) -> Textbook:
        """Measure the targets in two pictures, (1, 3, H, W) float32 in [0, 1], and return itself."""
        with torch.no_grad():
            features = self.features(content)
            self.content_targets = {name: features[name] for name in self.content_layers}
            features = self.features(style)
            self.style_targets = {name: _gram(features[name]) for name in self.style_layers}
        return self

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """Return the wanted feature maps, and under `rgb` the pixels with a constant channel."""
        found = {"rgb": torch.cat([image, torch.ones_like(image[:, :1])], dim=1)}
        x = self.normalize(image).to(self.dtype, memory_format=self.layout)
        for name, module in self.network.named_children():
            x = module(x)
            if name in self.content_layers or name in self.style_layers:
                found[name] = x.float()
        return found

    def terms(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the content and the style term, without their weights."""
        features = self.features(image)
        content = sum(
            share * self._content_factor(target) * F.mse_loss(features[name], target, reduction="sum")
            for (name, share), target in zip(self.content_layers.items(), self.content_targets.values(), strict=True)
        )
        style = sum(
            share * self._style_factor(target) * F.mse_loss(_gram(features[name]), target, reduction="sum")
            for (name, share), target in zip(self.style_layers.items(), self.style_targets.values(), strict=True)
        )
        return content, style

    def forward(self, image: Tensor) -> Tensor:
        """Return the weighted sum of all terms."""
        content, style = self.terms(image)
        return self.content_weight * content + self.style_weight * style

    def _shares(self, layers: dict[str, float]) -> dict[str, float]:
        """Return the weights of the layers that count: of a mean over them, or of a sum."""
        total = sum(layers.values()) if self.relative else 1.0
        return {name: weight / total for name, weight in layers.items() if weight > 0}

    def _content_factor(self, target: Tensor) -> Tensor | float:
        """Return 1 over the target's square, or 10⁶ over the number of values, for 10⁶ times the mean squared error."""
        return 1 / target.square().sum() if self.relative else 1e6 / target.numel()

    def _style_factor(self, gram: Tensor) -> Tensor | float:
        """Return 1 over the target's square, or 10¹²/C⁴, as neural-style-pt has it but for a factor.

        There Gram sums are over channels × positions, and their squared error is a mean over C² values.
        """
        return 1 / gram.square().sum() if self.relative else 1e12 / len(gram) ** 4

    def descend(self, start: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield the loss after every evaluation, and the image as it then moves on.

        With the terms of neural-style-pt the values that move are 0 to 255, as there. Its terms are large, and where
        the first pair of step and gradient shows no curvature, the second step is the gradient itself: 255² times as
        long in values of 0 to 1, from which the loop does not come back.
        """
        unit = 1.0 if self.relative else 255.0
        values = (start.detach() * unit).requires_grad_()
        # Its tolerances are absolute and would end the run early where there are many pixels.
        optimizer = torch.optim.LBFGS(
            [values], lr=1, max_iter=1, history_size=100, tolerance_grad=-1, tolerance_change=-1
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self(values / unit)
            loss.backward()
            return loss

        while True:
            yield optimizer.step(closure).item(), values.detach() / unit


def _gram(features: Tensor) -> Tensor:
    _, channels, height, width = features.shape
    flat = features.reshape(channels, height * width)
    return flat @ flat.T / (height * width)


def _sequential(config: StyleConfig, tensors: dict[str, Tensor], wanted: set[str]) -> nn.Sequential:
    """Build the network up to the deepest of the wanted layers, its children named after the layers."""
    if config.network is Network.COMPACT:
        named = _compact(tensors)
    else:
        import torchvision  # here: two seconds that the embedded network need not pay

        with torch.device("meta"):
            features = getattr(torchvision.models, config.network.value)().features
        features.load_state_dict(
            {key.removeprefix("features."): tensor for key, tensor in tensors.items()}, strict=False, assign=True
        )
        named = _named(features, config.network)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    left = wanted - {"rgb"}
    for name, module in named:
        modules[name] = _swapped(module, config.pooling)
        left.discard(name)
        if not left:
            break
    network = nn.Sequential(modules)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding) and config.padding is not Padding.ZERO:
            module.padding_mode = config.padding.value
    return network


def _compact(tensors: dict[str, Tensor]) -> Iterator[tuple[str, nn.Module]]:
    channels = 3
    for group, widths in enumerate(_COMPACT, 1):
        for number, width in enumerate(widths, 1):
            key = f"conv{group}_{number}"
            conv = nn.Conv2d(channels, width, 3, padding=1)
            conv.load_state_dict({part: tensors[f"{key}.{part}"] for part in ("weight", "bias")})
            yield key, conv
            yield f"relu{group}_{number}", nn.ReLU()
            channels = width
        yield f"pool{group}", nn.AvgPool2d(2)


def _named(features: nn.Sequential, network: Network) -> Iterator[tuple[str, nn.Module]]:
    """Give torchvision's modules the layer names of the papers."""
    from torchvision.models.squeezenet import Fire

    group = number = 1
    for index, module in enumerate(features):
        if isinstance(module, Fire):
            group += 1
            yield f"fire{group}", module
        elif isinstance(module, nn.ReLU):
            yield "relu1" if network is Network.SQUEEZENET else f"relu{group}_{number}", nn.ReLU()
            number += 1
        elif isinstance(module, nn.MaxPool2d):
            yield f"pool{index}", module
            if network is not Network.SQUEEZENET:
                group, number = group + 1, 1
        else:
            yield f"module{index}", module


def _swapped(module: nn.Module, pooling: Pooling) -> nn.Module:
    if isinstance(module, nn.MaxPool2d) and pooling is Pooling.AVERAGE:
        return Average(module.kernel_size, module.stride, ceil_mode=module.ceil_mode)
    return module
