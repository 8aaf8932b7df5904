"""Which cases are measured, and the running of them, one process a job. Called by `__main__` and by the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.setting import Case

ROOT = Path(__file__).resolve().parents[1]
SQUEEZENET = ROOT.parent / "shared" / "models" / "squeezenet1_1_imagenet_features.safetensors"
"""Pretrained weights that may lie beside the checkout; measured by `--full` where they do."""

LOOSE, TIGHT = 1.5, 1.1
"""Losses to reach, in units of the lowest one of the textbook loop."""

HISTORY_FULL = 12
"""Steps after which the engine's history holds all its pairs."""

PAIRS = (("histology", "brush-swirls"), ("fluorescence", "stained-glass"), ("retina", "mosaic"))

IDEAS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "float32": {"precision": "float32"},
    "no spectral metric": {"spectral_exponent": 0.0},
    "start from the content": {"start": "content"},
    "no line search": {"line_search": "none"},
    "Wolfe line search": {"line_search": "wolfe"},
}
"""Rows of the ablation: settings that differ from what is shipped."""

Run = Callable[..., dict[str, Any]]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Suite:
    """How much is measured.

    Attributes
    ----------
    evaluations
        Evaluations of the textbook loop whose loss is the target.
    rounds
        Repetitions of what is timed.
    speed
        Network and side in pixels of the tables of speed and memory.
    reach
        The same for equal loss; `pairs` pairs of pictures each.
    ablation
        The same for the ablation.
    blocks
        Network, side in pixels and side of the blocks' cores.
    """

    evaluations: int
    rounds: int
    speed: tuple[tuple[str, int], ...]
    reach: tuple[tuple[str, int], ...]
    ablation: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[str, int, int], ...]
    pairs: int = 1
    steps: int = HISTORY_FULL


QUICK = Suite(
    evaluations=60,
    rounds=3,
    speed=(("compact", 256), ("compact", 512), ("vgg19", 256), ("vgg19", 512)),
    reach=(("compact", 256), ("compact", 512), ("vgg19", 256)),
    ablation=(("compact", 256),),
    blocks=(("compact", 2048, 1024), ("compact", 4096, 1024)),
)

FULL = Suite(
    evaluations=300,
    rounds=9,
    speed=tuple((network, side) for network in ("compact", "vgg19") for side in (256, 512, 1024)),
    reach=(
        ("compact", 256),
        ("compact", 512),
        ("compact", 1024),
        ("squeezenet1_1", 512),
        ("vgg19", 256),
        ("vgg19", 512),
    ),
    ablation=(("compact", 512), ("vgg19", 256)),
    blocks=(
        ("compact", 2048, 2048),
        ("compact", 4096, 2048),
        ("compact", 8192, 2048),
        ("compact", 10000, 2048),
        ("vgg19", 6144, 1536),
    ),
    pairs=3,
)


def in_process(job: str, **arguments: Any) -> dict[str, Any]:
    """Do a job in a fresh interpreter.

    Raises
    ------
    RuntimeError
        If it fails; what it wrote to standard error has been shown.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jobs"],
        input=json.dumps({"job": job, "arguments": arguments}),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The job '{job}' with {arguments} ended with status {done.returncode}.")
    return json.loads(done.stdout)


@dataclass
class Measurement:
    """Goes through a suite; each table is a list of plain rows.

    Attributes
    ----------
    suite, device
        What to measure and where.
    folder
        For pictures and weights.
    run
        Does a job by name: `in_process`, or in the tests a direct call.
    tell
        Told what is being measured.
    """

    suite: Suite
    device: str
    folder: Path
    run: Run = in_process
    tell: Callable[[str], object] = print
    _curves: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prepare(self) -> dict[str, Any]:
        """Write what the jobs read, and tell about the machine."""
        pairs = PAIRS[: self.suite.pairs]
        self.tell("pictures, weights, machine")
        self.run(
            "prepare",
            folder=str(self.folder),
            networks=["vgg19"],
            contents=sorted({content for content, _ in pairs}),
            styles=sorted({style for _, style in pairs}),
        )
        return self.run("machine", device=self.device)

    def speed(self) -> Rows:
        """Time and memory against the textbook loop and the convolutions alone."""
        rows = []
        for network, side in self.suite.speed:
            self.tell(f"speed and memory: {network}, {side} px")
            case = self._case(network, side)
            timed = self.run("speed", case=asdict(case), warmup=self.suite.steps, rounds=self.suite.rounds)
            ours = self.run("memory", case=asdict(case), steps=self.suite.steps)
            theirs = self.run("textbook", case=asdict(case), evaluations=self.suite.steps)
            rows.append(
                {"network": network, "side": side, **timed, "peak": ours["peak"], "textbook_peak": theirs["peak"]}
            )
        return rows

    def reach(self) -> Rows:
        """Evaluations and seconds to equal loss."""
        rows = []
        for (network, side), pair in self._reach_cases():
            self.tell(f"equal loss: {network}, {side} px, {' and '.join(pair)}")
            case = self._case(network, side, pair)
            theirs = self._textbook(case)
            ours = self.run("reach", case=asdict(case), targets=_targets(theirs), evaluations=self.suite.evaluations)
            for factor, target, hit in zip((LOOSE, TIGHT), _targets(theirs), ours["hits"], strict=True):
                rows.append(
                    {
                        "network": network,
                        "side": side,
                        "pair": pair,
                        "factor": factor,
                        "target": target,
                        "textbook": _first(theirs, target),
                        "ours": hit,
                    }
                )
        return rows

    def ablation(self) -> Rows:
        """The engine without each of its ideas."""
        rows = []
        for network, side in self.suite.ablation:
            case = self._case(network, side)
            theirs = self._textbook(case)
            targets = _targets(theirs)
            ideas = {**IDEAS, "blocks": {"block_size": max(64, side // 2)}}
            common = {"network": network, "side": side}
            limits = {"targets": targets, "evaluations": self.suite.evaluations, "steps": self.suite.steps}
            for name, fields in ideas.items():
                self.tell(f"ablation: {network}, {side} px, {name}")
                rows.append(
                    {**common, "idea": name, **self.run("variant", case=asdict(case.changed(**fields)), **limits)}
                )
            self.tell(f"ablation: {network}, {side} px, plain autograd")
            plain = self.run("autograd", case=asdict(case), **limits)
            rows.append({**common, "idea": "float32, plain autograd", **plain})
            rows.append(
                {
                    **common,
                    "idea": "the textbook loop",
                    "hits": [_first(theirs, target) for target in targets],
                    "peak": theirs["peak"],
                    "step": theirs["seconds"][-1] / len(theirs["seconds"]),
                }
            )
        return rows

    def blocks(self) -> Rows:
        """Large images in blocks."""
        rows = []
        for network, side, core in self.suite.blocks:
            self.tell(f"blocks: {network}, {side * side / 1e6:.0f} megapixels")
            case = self._case(network, side).changed(block_size=core)
            done = self.run("blocks", case=asdict(case), rounds=1 if side > 2048 else 2)
            rows.append({"network": network, "side": side, "core": core, **done})
        return rows

    def _reach_cases(self) -> Iterator[tuple[tuple[str, int], tuple[str, str]]]:
        for network, side in self.suite.reach:
            if network == "squeezenet1_1" and not SQUEEZENET.is_file():
                self.tell("equal loss: no SqueezeNet, for want of its weights")
                continue
            for pair in PAIRS[: self.suite.pairs]:
                yield (network, side), pair

    def _case(self, network: str, side: int, pair: tuple[str, str] = PAIRS[0]) -> Case:
        files = {"vgg19": str(self.folder / "vgg19.safetensors"), "squeezenet1_1": str(SQUEEZENET)}
        return Case(
            network,
            side,
            side,
            str(self.folder / f"content-{pair[0]}.npy"),
            str(self.folder / f"style-{pair[1]}.npy"),
            files.get(network),
            {"device": self.device},
        )

    def _textbook(self, case: Case) -> dict[str, Any]:
        """Run the textbook loop, once for each case."""
        key = json.dumps(asdict(case), sort_keys=True)
        if key not in self._curves:
            self._curves[key] = self.run("textbook", case=asdict(case), evaluations=self.suite.evaluations)
        return self._curves[key]


def _targets(textbook: dict[str, Any]) -> list[float]:
    return [factor * min(textbook["losses"]) for factor in (LOOSE, TIGHT)]


def _first(textbook: dict[str, Any], target: float) -> tuple[int, float]:
    """Return the first evaluation of the textbook loop whose loss is as low as the target, and its time."""
    index = next(i for i, loss in enumerate(textbook["losses"]) if loss <= target)
    return index + 1, textbook["seconds"][index]
