"""`python -m benchmarks [--full] [--device cuda]`: measure, print the tables, keep them in `bench-output/`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import suite as suites
from benchmarks.looks import PICTURE
from benchmarks.measurement import Measurement
from benchmarks.suite import ROOT, SQUEEZENET
from benchmarks.tables import TABLES, machine_line

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
"""What the page of the documentation has between these is written by `--write-docs`."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="a few minutes; this is the default")
    extent.add_argument("--full", action="store_true", help="all sizes, networks and pairs: the best part of an hour")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, auto …")
    parser.add_argument("--only", nargs="*", choices=TABLES, help="measure these tables, or none, and keep the others")
    parser.add_argument("--evaluations", type=int, help="textbook evaluations of the tables reach and ablation")
    parser.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar=("CONTENT", "STYLE"),
        help="pictures in place of the samples: files, or samples by name; may be given several times",
    )
    parser.add_argument("--squeezenet", type=Path, default=SQUEEZENET, help="file of SqueezeNet's pretrained weights")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-output", help="folder of the results")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/performance.md as well")
    options = parser.parse_args(arguments)
    if options.evaluations is not None and options.evaluations < 2:
        parser.error(f"--evaluations is {options.evaluations}; the textbook loop needs at least 2")
    suite = _suite(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(suite, options.device, Path(folder), options.output, tell=_Clock())
        measurement.squeezenet = options.squeezenet.resolve()
        if options.pair:
            measurement.pairs = tuple((_found(content), _found(style)) for content, style in options.pair)
            measurement.large_pair = measurement.pairs[0]
        write(measurement, suite.tables if options.only is None else tuple(options.only), _command(arguments))
    if options.write_docs:
        write_docs(options.output)


def write(measurement: Measurement, wanted: tuple[str, ...], command: str) -> None:
    """Measure the wanted tables, print each as it is ready, and write `results.md` and `results.json`.

    Tables of earlier runs that are not measured again stay in the files: each says which command made it.
    """
    output = measurement.output
    kept = output / "results.json"
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    results = {name: found[name] for name in TABLES if isinstance(found.get(name), dict)}
    machine = measurement.prepare(wanted) if wanted else {}
    for name in wanted:
        began = time.perf_counter()
        rows = getattr(measurement, name)()
        minutes = (time.perf_counter() - began) / 60
        about = f"`{command}`, {time.strftime('%d %B %Y')}, {minutes:.1f} minutes. {machine_line(machine)}"
        if name == "speed":
            rows = [{**row, "matrix_rate": machine["matrix_rate"]} for row in rows]
        results[name] = {"about": about, "rows": rows}
        print(TABLES[name].markdown(rows, about), flush=True)
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (output / "results.md").write_text(f"# Benchmarks\n\n{markdown(results)}", encoding="utf-8")


def markdown(results: dict[str, Any], heading: str = "##") -> str:
    """Return all tables that there are results of."""
    return "\n".join(
        table.markdown(results[name]["rows"], results[name]["about"], heading)
        for name, table in TABLES.items()
        if name in results
    )


def write_docs(output: Path, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Put the tables of a folder of results into the page of the documentation, and its picture beside it."""
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no lines {BEGIN} and {END} to write between.")
    page.write_text(f"{before}{BEGIN}\n\n{markdown(results, heading='###')}\n{END}{after}", encoding="utf-8")
    if (output / PICTURE).is_file():
        shutil.copyfile(output / PICTURE, images / PICTURE)


def _suite(options: argparse.Namespace) -> suites.Suite:
    suite = suites.FULL if options.full else suites.QUICK
    if options.pair:
        suite = replace(suite, pairs=len(options.pair))
    if options.evaluations is not None:
        reach, ablation = (
            tuple((network, side, options.evaluations) for network, side, _ in cases)
            for cases in (suite.reach, suite.ablation)
        )
        suite = replace(suite, reach=reach, ablation=ablation)
    return suite


def _found(picture: str) -> str:
    """Return the name of a sample, or a path that holds wherever a job is started."""
    path = Path(picture)
    return str(path.resolve()) if path.is_file() else picture


def _command(arguments: list[str] | None) -> str:
    """Return the command without the folders of this machine, and without what does not change the figures."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--output" in words:
        place = words.index("--output")
        del words[place : place + 2]
    shown = [Path(word).name if "/" in word else word for word in words if word != "--write-docs"]
    return " ".join(["python -m benchmarks", *shown])


class _Clock:
    """Says on standard error what goes on, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self, what: str) -> None:
        print(f"[{time.perf_counter() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
