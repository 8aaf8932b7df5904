"""What is measured: pairs of pictures, sizes, ideas. Called by `measurement`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SQUEEZENET = ROOT.parent / "shared" / "models" / "squeezenet1_1_imagenet_features.safetensors"
"""Pretrained weights that may lie beside the checkout."""

LOOSE, TIGHT = 1.5, 1.1
"""Losses to reach, in units of the lowest one of the textbook loop."""

HISTORY_FULL = 12
"""Steps after which the engine's history holds all its pairs."""

PAIRS = (("histology", "brush-swirls"), ("fluorescence", "stained-glass"), ("retina", "mosaic"))
LARGE_PAIR = ("retina", "brush-swirls")
"""A content large enough for every size of the table of sizes."""

SHIPPED = "as shipped"

IDEAS: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "without the lean backward pass: plain autograd": {"backward": "autograd"},
    "plain autograd, channels first": {"backward": "autograd, channels first"},
    "float32": {"precision": "float32"},
    "no spectral metric": {"spectral_exponent": 0.0},
    "spectral exponent 0.25": {"spectral_exponent": 0.25},
    "no value scaling": {"value_scaling": False},
    "neither metric": {"spectral_exponent": 0.0, "value_scaling": False},
    "start from the content": {"start": "content"},
    "start recoloured only": {"start": "recolored"},
    "history in float32": {"history_precision": "float32"},
    "history 20": {"history": 20},
    "no line search": {"line_search": "none"},
    "Wolfe line search": {"line_search": "wolfe"},
    "Adam": {"optimizer": "adam"},
    "half size first": {"scales": 2, "iterations": 30, "coarse_iterations": 1.0},
}
"""Rows of the ablation, all with the same loss: settings that differ from what is shipped, and `backward` of `Case`."""

WHOLE: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "average pooling": {"pooling": "average"},
    "no coarse weight": {"coarse_weight": 0.0},
    "no smoothness": {"tv_weight": 0.0},
    "one scale": {"scales": 1},
    "all scales alike": {"coarse_iterations": 1.0},
    "start from the content": {"start": "content"},
}
"""Whole runs that differ from what is shipped: in the loss, so that only the pictures compare, or in the schedule."""

PEER: dict[str, Any] = {
    "normalization": "notebook",
    "style_weight": 1e-10,
    "content_weight": 5e-6,
    "style_layers": dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0),
    "content_layers": {"relu4_2": 1.0},
    "pooling": "native",
    "padding": "zero",
    "style_fit": "whole",
    "start": "content",
}
"""Objective and start of neural-style-pt (content 5, style 100), but for its total variation, in its units."""

BUDGETS = (15.0, 30.0, 60.0, 120.0)
"""Seconds after which pictures are looked at."""


@dataclass(frozen=True)
class Suite:
    """How much is measured.

    Attributes
    ----------
    rounds
        Repetitions of what is timed.
    speed
        Network, longest side in pixels, and evaluations of the textbook loop whose loss is the target.
    reach
        The same for the table of equal loss, for each of the first `pairs` pairs.
    ablation
        The same for the ablation.
    blocks
        Network, side in pixels, and settings.
    sizes
        Longest sides in pixels at which one recipe is compared.
    peer
        Network, longest side in pixels, and evaluations of the textbook loop, for the objective of neural-style-pt.
    clock
        Network, longest side in pixels, and the seconds after which pictures are looked at.
    whole
        Network and longest side in pixels of whole runs.
    tables
        What is measured unless told otherwise.
    pairs
        Pictures of the table `reach`.
    shown_pairs
        Pictures of the tables `peer` and `clock`.
    steps
        Steps before anything is timed, and of which the peak memory is taken.
    """

    rounds: int
    speed: tuple[tuple[str, int, int], ...]
    reach: tuple[tuple[str, int, int], ...]
    ablation: tuple[tuple[str, int, int], ...]
    blocks: tuple[tuple[str, int, dict[str, Any]], ...]
    sizes: tuple[int, ...]
    peer: tuple[tuple[str, int, int], ...]
    clock: tuple[tuple[str, int, tuple[float, ...]], ...]
    whole: tuple[tuple[str, int], ...]
    tables: tuple[str, ...]
    pairs: int = 1
    shown_pairs: int = 1
    steps: int = HISTORY_FULL


QUICK = Suite(
    rounds=3,
    speed=(
        ("compact", 256, 20),
        ("compact", 512, 20),
        ("compact", 1024, 12),
        ("vgg19", 256, 20),
        ("vgg19", 512, 12),
    ),
    reach=(("compact", 256, 100),),
    ablation=(("compact", 512, 60),),
    blocks=(("compact", 2048, {"block_size": 1024}), ("compact", 4096, {"block_size": 1024})),
    sizes=(256, 512, 1024),
    peer=(("vgg19", 256, 150),),
    clock=(("vgg19", 256, BUDGETS[:2]),),
    whole=(("vgg19", 256),),
    tables=("peer", "clock", "speed", "reach", "ablation", "blocks"),
)

FULL = Suite(
    rounds=5,
    speed=tuple((network, side, 20) for network in ("compact", "vgg19") for side in (256, 512, 1024)),
    reach=(("compact", 256, 300), ("squeezenet1_1", 256, 300), ("vgg19", 256, 150)),
    ablation=(("compact", 512, 60), ("vgg19", 256, 40)),
    blocks=(
        ("compact", 2048, {"memory_limit": 8}),
        ("compact", 6000, {"memory_limit": 12}),
        ("compact", 8000, {"memory_limit": 20}),
        ("compact", 10000, {"memory_limit": 6.4}),
        ("vgg19", 6000, {"memory_limit": 13}),
    ),
    sizes=(256, 512, 1024),
    peer=(("vgg19", 512, 150),),
    clock=(("vgg19", 512, BUDGETS),),
    whole=(("vgg19", 512),),
    tables=("peer", "clock", "whole", "speed", "reach", "ablation", "blocks", "sizes"),
    pairs=3,
)
