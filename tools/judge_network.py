#!/usr/bin/env python3
"""Judge feature networks by the pictures they make, by number and on a contact sheet.

    python tools/judge_network.py --judge SQUEEZENET [--weights WEIGHTS ...] [-o FOLDER]

Four pairs are stylised at two sizes with every candidate, through the engine with its default settings, and each
result is shown to a judge that took no part: SqueezeNet 1.1 with its pretrained weights, as it was trained (maximum
pooling, zero padding). Per picture it tells

- the style distance: squared relative error of the Gram matrix to that of the style, ‖G(x) − G(s)‖² / ‖G(s)‖², mean
  over the layers relu1 and fire2 to fire5, divided by the same of the content picture (1: no closer than the content);
- the content cosine: cosine between the features of result and content in layer fire5, every channel's mean taken off.

A candidate is a safetensors file in the names of the embedded network, of any channel widths (metadata "pool":
"average" or "max"); without one, the package's own is judged. With `--recipe` all candidates run with other settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

# Must be set before torch loads its threads (see napari_styletransfer/__init__.py).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image, ImageDraw, ImageOps
from safetensors import safe_open
from torch import Tensor

from napari_styletransfer.config import Network, Padding, Pooling, StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.errors import StyleTransferError
from napari_styletransfer.events import Finished
from napari_styletransfer.io import read_image
from napari_styletransfer.networks import weights_file
from napari_styletransfer.networks.architectures import (
    Backbone,
    ChannelPlan,
    ReceptiveField,
    backbone,
    compact_stages,
    receptive_fields,
)
from napari_styletransfer.networks.weights import EMBEDDED
from napari_styletransfer.nn import functional
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import prepare
from napari_styletransfer.samples import content as sample_content
from napari_styletransfer.tiling.tiled_network import TiledNetwork
from napari_styletransfer.tiling.tiles import Halo, tile_layout

PAIRS = (
    ("tubingen.jpg", "starry_night.jpg"),
    ("shipwreck.jpg", "the_scream.jpg"),
    ("histology", "starry_night.jpg"),
    ("hela_cells.tif", "the_scream.jpg"),
)
"""Content and style: files of the folder of pictures, or a sample of the package."""

RUNS = {256: 150, 512: 100}
"""Iterations by size, of the longest side in pixels."""

STYLE_LAYERS = dict.fromkeys(("relu1", "fire2", "fire3", "fire4", "fire5"), 1.0)
CONTENT_LAYER = "fire5"

Picture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture, and what the picture took."""

    network: str
    content: str
    style: str
    size: int
    distance: float
    cosine: float
    evaluations: int
    seconds: float


class Judge:
    """SqueezeNet 1.1 as it was trained, looking at pictures (H, W, 3) in [0, 1]."""

    def __init__(self, weights: Path) -> None:
        layers = {*STYLE_LAYERS, CONTENT_LAYER}
        network = backbone(Network.SQUEEZENET).truncated(layers)
        found = weights_file.select(
            weights_file.read(weights), network.state_dict_shapes(), network=Network.SQUEEZENET, origin=str(weights)
        )
        self._network = FrozenNetwork(network, found, layers, pooling=Pooling.NATIVE, padding=Padding.ZERO)
        self._reaches = {name: reach for name, reach in receptive_fields(network).items() if name in layers}

    def features(self, picture: Picture) -> dict[str, Tensor]:
        """Return the feature maps of the layers that count."""
        return feature_maps(self._network, self._reaches, picture)

    def verdict(self, result: Picture, content: Picture, style: Picture) -> tuple[float, float]:
        """Return the style distance, 1 for the content itself, and the content cosine."""
        seen, plain, target = self.features(result), self.features(content), self.features(style)
        distance = style_distance(seen, target) / style_distance(plain, target)
        return distance, cosine(seen[CONTENT_LAYER], plain[CONTENT_LAYER])


def feature_maps(network: FrozenNetwork, reach: dict[str, ReceptiveField], picture: Picture) -> dict[str, Tensor]:
    """Return the feature maps of a network for a picture (H, W, 3) in [0, 1]."""
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].contiguous()
    size = (image.shape[2], image.shape[3])
    blocks = tile_layout(*size, None, Halo.for_layers(reach.values()))
    return TiledNetwork(network, reach, size, blocks).feature_maps(image, dict.fromkeys(reach, 1.0))


def style_distance(seen: dict[str, Tensor], target: dict[str, Tensor]) -> float:
    """Return the squared relative error of the Gram matrices, mean over the layers."""
    errors = []
    for name in STYLE_LAYERS:
        gram, wanted = (functional.gram_sum(maps[name]) / maps[name][0, 0].numel() for maps in (seen, target))
        errors.append(float((gram - wanted).square().sum() / wanted.square().sum()))
    return sum(errors) / len(errors)


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of the angle between two feature maps without their channels' means."""
    a, b = (maps - maps.mean((2, 3), keepdim=True) for maps in (one, other))
    return float((a * b).sum() / (a.norm() * b.norm()))


@dataclass(frozen=True)
class Candidate:
    """A network to be judged."""

    name: str
    network: Backbone
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Candidate:
        """Read a file of weights, with the plan off the shapes and the kind of pooling off the metadata.

        Raises
        ------
        WeightsError
            If it is no file of weights, or the layers are not those of the embedded network.
        """
        found = weights_file.read(path)
        with safe_open(path, framework="pt") as file:
            pool = (file.metadata() or {}).get("pool", "average")
        usual = backbone(Network.COMPACT)
        network = replace(usual, stages=compact_stages(plan_of(found), pool))
        # The layers decide, so that another number of them is told as what is missing.
        expected = network.state_dict_shapes() if network.layers == usual.layers else usual.state_dict_shapes()
        tensors = weights_file.select(found, expected, network=Network.COMPACT, origin=str(path))
        return cls(path.stem, network, tensors)

    def shared(self, config: StyleConfig, content: Picture, style: Picture) -> Shared:
        """Return what makes a run use this network in place of the embedded one."""
        prepared = prepare(RunInputs.from_arrays(content, [style], config, None), config)
        network = FrozenNetwork(
            self.network.truncated(prepared.layers),
            self.tensors,
            prepared.layers,
            pooling=config.pooling,
            padding=config.padding,
            device=prepared.plan.device,
            dtype=prepared.dtype,
        )
        return Shared(network)


def plan_of(found: dict[str, Tensor]) -> ChannelPlan:
    """Read the plan off the names and shapes of the weights."""
    plan: list[int | str] = []
    group = "1"
    for key in sorted(key for key in found if key.startswith("conv") and key.endswith(".weight")):
        here = key.removeprefix("conv").partition("_")[0]
        if here != group:
            plan.append("A")
            group = here
        plan.append(found[key].shape[0])
    return tuple(plan)


def picture(folder: Path, name: str) -> Picture:
    """Read a picture as RGB in [0, 1]; deep channels each without their few brightest pixels."""
    array = read_image(folder / name) if "." in name else sample_content(name)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    low, high = np.percentile(array, (1, 99.8), axis=(0, 1))
    return np.clip((array - low) / (high - low), 0, 1).astype(np.float32)


def stylised(
    candidate: Candidate | None, config: StyleConfig, content: Picture, style: Picture
) -> tuple[Finished, Picture, Picture]:
    """Return the end of a run, and content and style at its size; without a candidate, with the config's network."""
    shared = None if candidate is None else candidate.shared(config, content, style)
    *_, end = iter_stylize(content, [style], config, shared=shared, preview_interval=float("inf"))
    assert isinstance(end, Finished)
    pictures = RunInputs.from_arrays(content, [style], config, None)
    height, width = pictures.size
    own = pictures.content_at(height, width)
    assert own is not None
    (fitted,) = pictures.styles_at(height, width, config, min(height, width))
    return end, _array(own), _array(fitted)


def _array(image: Tensor) -> Picture:
    return np.ascontiguousarray(image[0].permute(1, 2, 0).clamp(0, 1).numpy())


def judged(
    judge: Judge, candidates: Sequence[Candidate | None], config: StyleConfig, images: Path, sizes: Sequence[int]
) -> Iterator[tuple[Verdict, Picture, Picture, Picture]]:
    """Yield a verdict with result, content and style for every pair, size and candidate."""
    for size in sizes:
        settings = config.changed(size=size, iterations=RUNS[size])
        for content_name, style_name in PAIRS:
            content, style = (picture(images, name) for name in (content_name, style_name))
            for candidate in candidates:
                end, own, fitted = stylised(candidate, settings, content, style)
                image = np.asarray(end.image, np.float32)
                distance, similarity = judge.verdict(image, own, fitted)
                name = settings.network.value if candidate is None else candidate.name
                names = (name, Path(content_name).stem, Path(style_name).stem)
                verdict = Verdict(*names, size, distance, similarity, end.evaluations, end.seconds)
                yield verdict, image, own, fitted


def table(verdicts: Sequence[Verdict]) -> str:
    """Return a Markdown table of the verdicts, and the means by network and size."""
    lines = [
        "| network | content → style | size | style distance | content cosine | evaluations | seconds |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    means = []
    for network in dict.fromkeys(verdict.network for verdict in verdicts):
        for size in RUNS:
            rows = [verdict for verdict in verdicts if (verdict.network, verdict.size) == (network, size)]
            for row in rows:
                lines.append(_line(row.network, f"{row.content} → {row.style}", size, [row]))
            if rows:
                means.append(_line(f"**{network}**", f"mean of {len(rows)}", size, rows))
    return "\n".join([*lines, *means])


def _line(network: str, pair: str, size: int, rows: Sequence[Verdict]) -> str:
    distance, similarity, evaluations, seconds = (
        sum(getattr(row, field) for row in rows) / len(rows)
        for field in ("distance", "cosine", "evaluations", "seconds")
    )
    cells = (network, pair, size, f"{distance:.3f}", f"{similarity:.3f}", f"{evaluations:.0f}", f"{seconds:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def contact_sheet(rows: Sequence[Sequence[tuple[str, Picture]]], side: int = 300) -> Image.Image:
    """Return rows of pictures side by side, each cut to the same shape and under its caption."""
    caption, gap = 16, 6
    columns = max(len(row) for row in rows)
    height = round(side * 0.75)
    sheet = Image.new("RGB", (columns * (side + gap) - gap, len(rows) * (height + caption + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, (title, shown) in enumerate(row):
            corner = (x * (side + gap), y * (height + caption + gap))
            draw.text(corner, title, fill="black")
            small = ImageOps.fit(Image.fromarray(_eight_bits(shown)), (side, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (corner[0], corner[1] + caption))
    return sheet


def _eight_bits(shown: Picture) -> npt.NDArray[np.uint8]:
    return np.rint(shown * 255).clip(0, 255).astype(np.uint8)


def main(
    judge: Annotated[Path, typer.Option(help="Pretrained weights of SqueezeNet 1.1.", exists=True)],
    images: Annotated[Path, typer.Option(help="Folder with the pictures of the pairs.", exists=True)] = Path(
        "../shared/images"
    ),
    weights: Annotated[list[Path] | None, typer.Option(help="A candidate; may be given several times.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings in place of the defaults.")] = None,
    size: Annotated[list[int] | None, typer.Option(help=f"Of {', '.join(map(str, RUNS))}; all if not given.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and pictures.")] = Path(
        "judge-output"
    ),
) -> None:
    sizes = size or list(RUNS)
    if not set(sizes) <= set(RUNS):
        raise typer.BadParameter(f"--size must be one of {', '.join(map(str, RUNS))}.")
    try:
        _judge(judge, images, weights or [], recipe, sizes, output)
    except StyleTransferError as error:
        raise SystemExit(str(error)) from error


def _judge(
    judge: Path, images: Path, weights: Sequence[Path], recipe: Path | None, sizes: Sequence[int], output: Path
) -> None:
    config = StyleConfig() if recipe is None else StyleConfig.load(recipe)
    if config.network is Network.AUTO:
        config = config.changed(network=Network.COMPACT)
    if weights and config.network is not Network.COMPACT:
        raise typer.BadParameter(f"--weights are of the embedded network, but the recipe says {config.network}.")
    candidates: list[Candidate | None] = [Candidate.read(path) for path in weights]
    if not candidates:
        candidates = [Candidate.read(Path(str(EMBEDDED)))] if config.network is Network.COMPACT else [None]
    output.mkdir(parents=True, exist_ok=True)
    verdicts: list[Verdict] = []
    rows: dict[tuple[str, str], list[tuple[str, Picture]]] = {}
    for verdict, result, content, style in judged(Judge(judge), candidates, config, images, sizes):
        verdicts.append(verdict)
        print(_line(verdict.network, f"{verdict.content} → {verdict.style}", verdict.size, [verdict]), flush=True)
        name = f"{verdict.content}-{verdict.style}-{verdict.size}-{verdict.network}.png"
        Image.fromarray(_eight_bits(result)).save(output / name)
        if verdict.size == max(sizes):
            row = rows.setdefault(
                (verdict.content, verdict.style), [(verdict.content, content), (verdict.style, style)]
            )
            row.append((f"{verdict.network}: {verdict.distance:.3f} / {verdict.cosine:.3f}", result))
    contact_sheet(list(rows.values())).save(output / "sheet.jpg", quality=88)
    told: dict[str, Any] = {
        "settings": config.recipe(),
        "judge": judge.name,
        "torch": torch.__version__,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    (output / "verdicts.json").write_text(json.dumps(told, indent=1, default=str) + "\n")
    (output / "table.md").write_text(table(verdicts) + "\n")
    print(f"\n{table(verdicts)}\n\nWritten: {output}/")


if __name__ == "__main__":
    typer.run(main)
