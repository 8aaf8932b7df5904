"""The events of a run: small frozen records that every user interface consumes alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import Precision
from napari_styletransfer.units import format_bytes

if TYPE_CHECKING:
    from napari_styletransfer.config import StyleConfig


class Reason(StrEnum):
    """Why a run ended."""

    ITERATIONS = "iterations"
    CONVERGED = "converged"
    TIME = "time"
    STOPPED = "stopped"
    FAILED = "failed"
    """Only in `StyleTransferError.finished`."""


@dataclass(frozen=True)
class Scale:
    """One size of the coarse-to-fine schedule, in pixels, and the most steps it takes."""

    height: int
    width: int
    iterations: int


@dataclass(frozen=True)
class Plan:
    """What a run will do, known before any long work.

    Attributes
    ----------
    config
        The settings with every `auto` decided.
    device, device_name
        Torch's name of the device and one for people.
    precision
        Number format of the convolutions, "float32" or "bfloat16".
    scales
        From coarse to fine; the last is the size of the result.
    block
        Side of a block's core in pixels at the finest scale, or None if the image is worked on whole.
    blocks
        Number of blocks at the finest scale.
    memory_bytes
        Expected peak beyond the weights on the device; on the CPU with the pictures at their own sizes.
    memory_available
        Bytes that the device, or the limit in the settings, allows beside the pictures.
    storage_device
        Torch's name of where image, targets and optimiser live: the device, or "cpu" where it is too small for them and
        only blocks visit it.
    keeps_base, keeps_content
        Whether the optimiser keeps the accepted image beside the one tried, and the run the content's feature maps.
        Where memory is short, the one is found again by taking the step back, which is quick, and the others are made
        again in every evaluation, which is not.
    seconds
        Roughly how long the run takes if no scale ends before its last step; 0 if that is not known.
    asked
        The settings as they were given, for `memory_savings` to compare with. Plans that will do the same are equal.
    why_network
        Why network 'auto' became the one it did, in words; empty where the settings name the network.
    """

    config: StyleConfig
    device: str
    device_name: str
    precision: str
    scales: tuple[Scale, ...]
    block: int | None
    blocks: int
    memory_bytes: int
    memory_available: int
    storage_device: str = "cpu"
    keeps_base: bool = True
    keeps_content: bool = True
    seconds: float = field(default=0.0, compare=False)
    asked: StyleConfig | None = field(default=None, compare=False, repr=False)
    why_network: str = field(default="", compare=False)

    @property
    def memory_savings(self) -> str | None:
        """What a run with little memory goes without, in words that end a sentence; None for nothing."""
        asked = self.asked or self.config
        parts = []
        if self.storage_device != self.device:
            parts.append("the image in the computer's own memory, which is slower")
        if asked.block_size and self.block and self.block < asked.block_size:
            parts.append(f"blocks of {self.block} pixels instead of {asked.block_size}")
        if asked.history_precision not in (Precision.AUTO, self.config.history_precision):
            parts.append(f"a history in {self.config.history_precision} instead of {asked.history_precision}")
        if self.config.history < asked.history:
            steps = f"{self.config.history} step{'s' if self.config.history > 1 else ''}"
            parts.append(f"a history of {steps} instead of {asked.history}")
        if not self.keeps_content:
            parts.append("the content measured again in every step, which is slower")
        if not parts:
            return None
        *others, last = parts
        return f"{', '.join(others)} and {last}" if others else last

    @property
    def memory(self) -> str:
        """The expected peak, in words."""
        return format_bytes(self.memory_bytes)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every scale."""
        return tuple((scale.height, scale.width) for scale in self.scales)

    @property
    def total_iterations(self) -> int:
        """Most steps the run takes, over all scales."""
        return sum(scale.iterations for scale in self.scales)


@dataclass(frozen=True)
class PlaneStarted:
    """The events that follow are those of plane number `plane` of `planes`, counted from 0, or of a tile of a sheet."""

    plane: int
    planes: int


@dataclass(frozen=True)
class Fetching:
    """Weights are on their way: `done` of `total` bytes (total is None if the server did not say)."""

    name: str
    done: int
    total: int | None

    @property
    def amount(self) -> str:
        """What has come, in words: ``12.0 of 548.0 MB``."""
        of = "" if self.total is None else f" of {self.total / 1e6:.1f}"
        return f"{self.done / 1e6:.1f}{of} MB"


@dataclass(frozen=True)
class Started:
    """The run begins: always before the first `Step`."""

    plan: Plan


@dataclass(frozen=True)
class Step:
    """One accepted step.

    Attributes
    ----------
    iteration, total
        Steps done over all scales, and the most there will be (a scale that stops early lowers `total`).
    evaluation
        Loss evaluations so far.
    scale
        Index into `Plan.scales`.
    losses
        Weighted terms by name: "content", "style", "structure", "tv", "range", and "total", their sum.
    layers
        Style and content terms by layer, such as "style/relu1_1", before the term weights.
    seconds
        Since the run began.
    """

    iteration: int
    total: int
    evaluation: int
    scale: int
    losses: dict[str, float]
    layers: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Preview:
    """The image now: float32 (H, W, 3) in [0, 1], a copy the receiver may keep; of very large images a smaller one."""

    image: npt.NDArray[np.float32]
    iteration: int
    scale: int


@dataclass(frozen=True)
class Finished:
    """The run is over: also after a stop, with the best image so far.

    Attributes
    ----------
    image
        float32 (H, W, 3) in [0, 1].
    config
        The settings with every `auto` decided: the recipe of this image.
    history
        Total loss after each step, over all scales.
    losses
        The terms of the last step, as in `Step.losses`.
    structure
        Correlation of the result's brightness, seen at 64 pixels along the longest side, with the content's, in
        [-1, 1]: 1 where everything bright and dark is where it was. None without content, and where one is flat.
    state
        What `iter_stylize(resume=...)` needs to go on; opaque.
    """

    image: npt.NDArray[np.float32]
    config: StyleConfig
    reason: Reason
    iterations: int
    evaluations: int
    seconds: float
    losses: dict[str, float]
    history: tuple[float, ...]
    structure: float | None = None
    state: Any = field(repr=False, default=None)


Event = PlaneStarted | Fetching | Started | Step | Preview | Finished
