#!/usr/bin/env python3
"""Train the embedded network by classification of small photographs, and write it as the engine reads it.

    python tools/train_compact.py --images PICTURES -o WEIGHTS

PICTURES is a folder or tar file of `train/CLASS/*` and `val/CLASS/*`, square pictures of one size. The plan is that of
the VGG papers at a fraction of the width; every convolution has a batch norm while it learns, which is folded into its
weights at the end. Beside WEIGHTS (safetensors, float16) a JSON file of the same name gets the figures of the run:
settings, accuracy, time, machine and checksum. The same seed, machine and thread count give the same file.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import math
import os
import platform
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

# Must be set before torch loads its threads (see napari_styletransfer/__init__.py).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import safetensors.torch
import torch
import typer
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.nn import functional as F

from napari_styletransfer.networks.architectures import COMPACT_PLAN, MEAN, STD, ChannelPlan, Conv, compact_stages

SUFFIXES = {".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp"}
SIZE_LIMIT = 2_500_000
"""Bytes the weights may take in the package."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out, but for the pictures and the machine."""

    plan: str
    head: str
    pool: str
    epochs: int
    augment: bool
    seed: int
    batch: int = 128
    peak_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 3e-4
    label_smoothing: float = 0.05
    crop: float = 0.75
    """Side of the crops seen at first, as a share of the pictures': they cost half, and show more scales."""
    whole: float = 0.2
    """Share of the epochs, at the end, that see whole pictures."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of one side in memory: uint8 (N, 3, side, side), and the class number of each."""

    pixels: Tensor
    classes: Tensor


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: handing pages back and getting them anew takes almost half of a training step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_max, never = -1, -4, 2**31 - 1
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, never)


def members(images: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield path and contents of every picture under SPLIT/CLASS/, in a fixed order."""
    if images.is_dir():
        for path in sorted(images.rglob("*")):
            if path.suffix.lower() in SUFFIXES and len(path.relative_to(images).parts) >= 3:
                yield path, path.read_bytes()
        return
    if not tarfile.is_tarfile(images):
        raise typer.BadParameter(f"{images} is neither a folder nor a tar file that can be read.")
    with tarfile.open(images) as archive:
        named = sorted((entry for entry in archive if entry.isfile()), key=lambda entry: entry.name)
        for entry in named:
            path = Path(entry.name)
            content = archive.extractfile(entry)
            if path.suffix.lower() in SUFFIXES and len(path.parts) >= 3 and content is not None:
                yield path, content.read()


def load(images: Path) -> tuple[Pictures, Pictures, list[str]]:
    """Read the training pictures, the validation pictures and the names of the classes."""
    found: dict[str, tuple[list[np.ndarray], list[str]]] = {"train": ([], []), "val": ([], [])}
    for path, content in members(images):
        split, label = path.parts[-3:-1]
        if split in found:
            try:
                with Image.open(io.BytesIO(content)) as picture:
                    found[split][0].append(np.asarray(picture.convert("RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise typer.BadParameter(f"{path} in {images} is not a picture that can be read: {error}.") from error
            found[split][1].append(label)
    for split, (pixels, _) in found.items():
        if not pixels:
            raise typer.BadParameter(f"{images} holds no pictures in {split}/CLASS/.")
        shapes = {array.shape for array in pixels}
        if len(shapes) != 1 or next(iter(shapes))[0] != next(iter(shapes))[1]:
            raise typer.BadParameter(
                f"{images} must hold square pictures of one size in {split}/CLASS/; found sizes {sorted(shapes)}."
            )
    names = sorted(set(found["train"][1]))
    number = {name: i for i, name in enumerate(names)}
    unknown = set(found["val"][1]) - set(names)
    if unknown:
        raise typer.BadParameter(f"Classes in val/ that train/ lacks: {', '.join(sorted(unknown)[:3])}.")
    train, val = (
        Pictures(
            torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last),
            torch.tensor([number[label] for label in labels]),
        )
        for pixels, labels in found.values()
    )
    return train, val, names


def parsed(plan: str) -> ChannelPlan:
    """Read a plan such as "16,16,A,32,32": widths of the convolutions, "A" where the next group begins."""
    try:
        items = tuple(item if item == "A" else int(item) for item in plan.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{plan}': write widths and 'A', such as 16,16,A,32,32.") from None
    if any(isinstance(item, int) and item < 1 for item in items) or "A" in (items[0], items[-1]):
        raise typer.BadParameter(f"'{plan}': it must begin and end with a width, and widths are at least 1.")
    return items


def parsed_head(head: str) -> list[int]:
    """Read the widths of the head's convolutions, such as "256,256"; an empty text is none."""
    items = parsed(head) if head else ()
    widths = [item for item in items if isinstance(item, int)]
    if len(widths) != len(items):
        raise typer.BadParameter(f"--head {head}: only widths, such as 256,256.")
    return widths


def layer(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a 3×3 convolution, set to start, and its batch norm."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, nn.BatchNorm2d(outputs)


class Compact(nn.Module):
    """The network as it learns: convolutions with batch norm, more of them that stay behind, mean and linear layer."""

    def __init__(self, plan: ChannelPlan, head: Sequence[int], pool: str, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.order: list[str | None] = []
        self.pool = F.avg_pool2d if pool == "average" else F.max_pool2d
        for stage in compact_stages(plan, pool):
            if not isinstance(stage, Conv):
                self.order.append(None)
                continue
            (branch,) = stage.branches
            self.convolutions[branch.key], self.norms[branch.key] = layer(branch.in_channels, branch.out_channels)
            self.order.append(branch.key)
            width = branch.out_channels
        deeper: list[nn.Module] = []
        for wider in head:
            deeper += [*layer(width, wider), nn.ReLU(inplace=True)]
            width = wider
        self.deeper = nn.Sequential(*deeper)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last layer's feature maps."""
        for name in self.order:
            x = self.pool(x, 2) if name is None else F.relu(self.norms[name](self.convolutions[name](x)), inplace=True)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deeper(self.features(x)).mean((2, 3)))

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return weights and biases with the batch norms worked into them."""
        tensors = {}
        for name, convolution in self.convolutions.items():
            norm = self.norms[name]
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            tensors[f"{name}.weight"] = convolution.weight * gain[:, None, None, None]
            tensors[f"{name}.bias"] = norm.bias - norm.running_mean * gain
        return tensors


def augmented(pictures: Tensor, side: int, strong: bool, random: torch.Generator) -> Tensor:
    """Return crops [0, 1] of `side` pixels, some flipped; if `strong`, also scaled, recoloured, and some blurred."""
    count, _, full, _ = pictures.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=random) * (high - low) + low

    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    # From half as large again to a quarter smaller: the layers shall know a texture at more than one scale.
    scale = torch.exp(uniform(math.log(0.65), math.log(1.3))) if strong else torch.ones(count)
    zoom = scale * side / full
    play = (1 - zoom).clamp(min=0) + 0.125
    zero = torch.zeros(count)
    matrix = torch.stack(
        [
            torch.stack([flip * zoom, zero, uniform(-1, 1) * play], 1),
            torch.stack([zero, zoom, uniform(-1, 1) * play], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    if not strong:
        return pictures
    brightness, contrast, saturation = (uniform(0.6, 1.4)[:, None, None, None] for _ in range(3))
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + saturation * (pictures - grey)
    middle = pictures.mean((1, 2, 3), keepdim=True)
    pictures = (middle + contrast * (pictures - middle)) * brightness
    tint = torch.rand((count, 3, 1, 1), generator=random) * 0.3 + 0.85
    pictures = pictures * tint
    blurred = uniform(0, 1) < 0.2
    if blurred.any():
        pictures[blurred] = F.avg_pool2d(F.pad(pictures[blurred], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return pictures.clamp_(0, 1)


def normalised(pictures: Tensor) -> Tensor:
    """Bring pictures [0, 1] to the network's input."""
    return (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@torch.no_grad()
def accuracy(network: Compact, pictures: Pictures, batch: int) -> float:
    """Return the share of pictures whose first guess is right."""
    network.eval()
    right = 0
    for pixels, classes in zip(pictures.pixels.split(batch), pictures.classes.split(batch), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            guess = network(normalised(pixels.float() / 255).contiguous(memory_format=torch.channels_last))
        right += int((guess.argmax(1) == classes).sum())
    network.train()
    return right / len(pictures.classes)


def train(network: Compact, pictures: Pictures, held_out: Pictures, recipe: Recipe) -> Iterator[dict[str, float]]:
    """Train in place; yields a line of figures after every epoch."""
    random = torch.Generator().manual_seed(recipe.seed)
    plain = [p for p in network.parameters() if p.ndim == 1]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        nesterov=True,
    )
    size = min(recipe.batch, len(pictures.classes))
    batches = len(pictures.classes) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_rate, total_steps=recipe.epochs * batches, pct_start=0.2, cycle_momentum=False
    )
    full = pictures.pixels.shape[-1]
    for epoch in range(1, recipe.epochs + 1):
        side = full if epoch > recipe.epochs * (1 - recipe.whole) else round(full * recipe.crop)
        started, total = time.perf_counter(), 0.0
        order = torch.randperm(len(pictures.classes), generator=random)
        for chosen in order[: batches * size].split(size):
            batch = augmented(pictures.pixels[chosen].float() / 255, side, recipe.augment, random)
            with torch.autocast("cpu", torch.bfloat16):
                guess = network(normalised(batch).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(guess.float(), pictures.classes[chosen], label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - started
        yield {
            "epoch": epoch,
            "loss": round(total / batches, 4),
            "accuracy": round(accuracy(network, held_out, recipe.batch), 4),
            "pictures_per_second": round(batches * size / seconds, 1),
        }


def main(
    images: Annotated[Path, typer.Option(help="Folder or tar file of train/CLASS/* and val/CLASS/*.", exists=True)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The safetensors file to write.")],
    plan: Annotated[str, typer.Option(help="Widths, 'A' where the next group begins.")] = ",".join(
        str(item) for item in COMPACT_PLAN
    ),
    head: Annotated[
        str, typer.Option(help="Widths of deeper convolutions that only help to learn and are not written.")
    ] = "256,256",
    pool: Annotated[str, typer.Option(help="Between the groups: average or max.")] = "average",
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    augment: Annotated[bool, typer.Option(help="Scale, recolour and blur the pictures as well as shift them.")] = False,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU; all cores if not given.")] = None,
) -> None:
    if pool not in ("average", "max"):
        raise typer.BadParameter(f"--pool {pool}: choose 'average' or 'max'.")
    recipe = Recipe(plan, head, pool, epochs, augment, seed)
    items, deeper = parsed(plan), parsed_head(head)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    pictures, held_out, names = load(images)
    print(f"{len(pictures.classes)} pictures to learn from, {len(held_out.classes)} held out, {len(names)} classes")
    side, smallest = round(pictures.pixels.shape[-1] * recipe.crop), 2 ** items.count("A")
    if side < smallest:
        raise typer.BadParameter(f"Crops of {side} pixels are too small for this plan; it needs {smallest}.")
    network = Compact(items, deeper, pool, len(names)).to(memory_format=torch.channels_last)
    started = time.perf_counter()
    history = []
    for figures in train(network, pictures, held_out, recipe):
        history.append(figures)
        print("  ".join(f"{key} {value}" for key, value in figures.items()), flush=True)
    tensors = {key: tensor.half().contiguous() for key, tensor in network.folded().items()}
    lost = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    if lost:
        raise SystemExit(f"Training went astray: {', '.join(lost)} cannot be written in 16 bits.")
    # One entry only: safetensors writes several in no fixed order. The plan can be read off the shapes.
    written = safetensors.torch.save(tensors, {"pool": pool})
    if len(written) > SIZE_LIMIT:
        raise SystemExit(f"{len(written):,} bytes are more than the package shall carry ({SIZE_LIMIT:,}).")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(written)
    card = {
        "recipe": asdict(recipe),
        "pictures": {"train": len(pictures.classes), "val": len(held_out.classes), "classes": len(names)},
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "bytes": len(written),
        "sha256": hashlib.sha256(written).hexdigest(),
        "accuracy": history[-1]["accuracy"],
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "machine": {"system": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "history": history,
    }
    output.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"Written: {output} ({len(written):,} bytes, SHA-256 {card['sha256']})")


if __name__ == "__main__":
    keep_freed_memory()
    typer.run(main)
