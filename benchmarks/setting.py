"""One case to measure, and the parts of the engine that it takes. Called by `jobs` and by the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_styletransfer import samples
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.images.resize import resize
from napari_styletransfer.io import read_image
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.terms import StyleTarget
from napari_styletransfer.networks import weights
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import Prepared, prepare
from napari_styletransfer.tiling.tiled_network import TiledNetwork
from napari_styletransfer.tiling.tiles import tile_layout
from tools.paintings import PAINTINGS

FIXED = {"size": None, "scales": 1, "tolerance": 0.0, "tv_weight": 0.0, "coarse_weight": 0.0}
"""One scale and no early end, so that evaluations count; no term that the textbook loop does not have."""

PLAIN = {"autograd": torch.channels_last, "autograd, channels first": torch.contiguous_format}
"""Other ways to loss and gradient than the engine's: plain autograd, by the memory layout of its feature maps."""

PAINTED = 1024
"""Side in pixels at which the sample styles are painted, so that no run enlarges them."""


@dataclass(frozen=True)
class Case:
    """What is stylised and how; plain values, so that it can be handed to another process.

    Attributes
    ----------
    network
        Name of the network.
    height, width
        Size of the picture in pixels.
    content, style
        Picture files that `save_pictures` wrote.
    weights
        Weights file, or None for the network's own.
    fields
        Settings on top of `FIXED`.
    backward
        How loss and gradient are made: `engine`, or one of `PLAIN`.
    """

    network: str
    height: int
    width: int
    content: str
    style: str
    weights: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    backward: str = "engine"

    def changed(self, **fields: Any) -> Case:
        """Return the case with other settings."""
        values = {**self.__dict__, "fields": {**self.fields, **fields}}
        return Case(**values)


class Setting:
    """A case with its pictures loaded."""

    def __init__(self, case: Case) -> None:
        self.case = case
        fields = {**FIXED, "network": case.network, "weights": case.weights, **case.fields}
        self.config = StyleConfig(**fields)
        self.size = (case.height, case.width)
        self.content = _enlarged(np.load(case.content), *self.size)
        self.style = np.load(case.style)

    @property
    def whole(self) -> StyleConfig:
        """The settings of a whole run: all scales, all terms and all stopping rules, but for what the case says."""
        usual = {name: StyleConfig.model_fields[name].default for name in FIXED if name != "size"}
        return self.config.changed(**{**usual, **self.case.fields})

    @cached_property
    def pictures(self) -> RunInputs:
        """The pictures as a run sees them."""
        return RunInputs.from_arrays(self.content, [self.style], self.config, None)

    @cached_property
    def prepared(self) -> Prepared:
        """What a run decides before it begins."""
        return prepare(self.pictures, self.config)

    def tensors(self) -> dict[str, Tensor]:
        """Read the weights that the layers need, float32 on the host."""
        fetching = weights.fetch(
            self.prepared.plan.config.network, self.prepared.backbone.state_dict_shapes(), self.config.weights
        )
        while True:
            try:
                next(fetching)
            except StopIteration as end:
                return end.value.tensors

    @property
    def device(self) -> str:
        """Torch's name of the device."""
        return self.prepared.plan.device

    def content_tensor(self) -> Tensor:
        """Return the content at the working size, on the device."""
        content = self.pictures.content_at(*self.size)
        if content is None:
            raise AssertionError("a case has a content")
        return content.to(self.device)

    def style_tensor(self) -> Tensor:
        """Return the style fitted to the content, on the device."""
        (style,) = self.pictures.styles_at(*self.size, self.config, self.prepared.min_side)
        return style.to(self.device)

    def start(self) -> Tensor:
        """Return the image to start from, on the device."""
        return self.pictures.start_at(*self.size, self.config).to(self.device)

    def network(self) -> FrozenNetwork:
        """Load the network as a run does; hand it to a run in `Shared`."""
        shared = Shared()
        for _ in shared.load(self.prepared):
            continue  # told of a download
        return shared.loaded_network

    def objective(self, network: FrozenNetwork) -> Objective:
        """Measure the targets as a run does."""
        prepared, core = self.prepared, self.prepared.plan.block
        style = self.style_tensor()
        shape = (style.shape[2], style.shape[3])
        tiled = TiledNetwork(network, prepared.receptive_fields, shape, tile_layout(*shape, core, prepared.halo))
        target = StyleTarget(tiled.gram_means(style, prepared.loss_weights.style_layers), 1.0)
        del style
        blocks = tile_layout(*self.size, core, prepared.halo)
        return Objective(
            network,
            prepared.receptive_fields,
            prepared.loss_weights,
            self.size,
            blocks,
            styles=[target],
            content=self.content_tensor(),
        )


def save_pictures(folder: Path, contents: set[str], styles: set[str]) -> dict[str, tuple[int, int]]:
    """Write pictures, by the name of a sample or the path of a file, where `picture_file` says.

    Returns
    -------
    dict
        Height and width of the contents by name.
    """
    sizes = {}
    for name in contents:
        picture = samples.content(name) if name in samples.CONTENTS else read_image(name)
        rgb, _ = decode(picture)
        np.save(picture_file(folder, "content", name), rgb)
        sizes[name] = (rgb.shape[0], rgb.shape[1])
    for name in styles:
        painting = PAINTINGS[name]((PAINTED, PAINTED)) if name in PAINTINGS else read_image(name)
        np.save(picture_file(folder, "style", name), decode(painting)[0])
    return sizes


def picture_file(folder: Path, role: str, name: str) -> Path:
    """Return where a picture lies: (H, W, 3) float32 in [0, 1]."""
    return folder / f"{role}-{Path(name).stem}.npy"


def _enlarged(picture: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    return np.ascontiguousarray(resize(image, height, width).clamp(0, 1)[0].permute(1, 2, 0).numpy())
