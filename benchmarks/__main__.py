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
from benchmarks.looks import PICTURES
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
    extent.add_argument("--quick", action="store_true", help="some twenty minutes; this is the default")
    extent.add_argument("--full", action="store_true", help="all sizes, networks and pairs: about three hours")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, auto …")
    parser.add_argument("--only", nargs="*", choices=TABLES, help="measure these tables, or none, and keep the others")
    parser.add_argument("--evaluations", type=int, help="textbook evaluations of the tables peer, reach and ablation")
    parser.add_argument("--seconds", type=float, nargs="+", help="times at which the table clock looks at pictures")
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
    if options.seconds is not None and min(options.seconds) <= 0:
        parser.error("--seconds must be above 0")
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
        about = f"{about} {measurement.left_out(name)}".strip()
        if name == "speed":
            rows = [{**row, "matrix_rate": machine["matrix_rate"]} for row in rows]
        results[name] = {"about": about, "rows": rows}
        print(TABLES[name].markdown(rows, about), flush=True)
        if name in PICTURES and (output / PICTURES[name]).is_file():
            print(f"Pictures: {_short(output / PICTURES[name])}\n", flush=True)
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (output / "results.md").write_text(f"# Benchmarks\n\n{markdown(results, _pictures(output))}", encoding="utf-8")


def markdown(results: dict[str, Any], pictures: dict[str, str], heading: str = "##") -> str:
    """Return all tables that there are results of, each with the picture of that name if there is one."""
    parts = []
    for name, table in TABLES.items():
        if name in results:
            parts.append(table.markdown(results[name]["rows"], results[name]["about"], heading))
            if name in pictures:
                parts.append(f"![{table.title}]({pictures[name]})\n")
    return "\n".join(parts)


def write_docs(output: Path, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Put the tables of a folder of results into the page of the documentation, and their pictures beside it."""
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no lines {BEGIN} and {END} to write between.")
    # A picture from before stays with its table.
    pictures = {**_pictures(images, "images/"), **_pictures(output, "images/")}
    text = f"{before}{BEGIN}\n\n{markdown(results, pictures, heading='###')}\n{END}{after}"
    page.write_text(text, encoding="utf-8")
    for name in _pictures(output):
        shutil.copyfile(output / PICTURES[name], images / PICTURES[name])


def _pictures(folder: Path, prefix: str = "") -> dict[str, str]:
    """Return links to the pictures of tables that a folder has, by table."""
    return {name: f"{prefix}{file}" for name, file in PICTURES.items() if (folder / file).is_file()}


def _short(path: Path) -> Path:
    """Return a path as seen from here, where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _suite(options: argparse.Namespace) -> suites.Suite:
    suite = suites.FULL if options.full else suites.QUICK
    if options.pair:
        suite = replace(suite, pairs=len(options.pair), shown_pairs=len(options.pair))
    if options.seconds is not None:
        clock = tuple((network, side, tuple(sorted(options.seconds))) for network, side, _ in suite.clock)
        suite = replace(suite, clock=clock)
    if options.evaluations is not None:
        peer, reach, ablation = (
            tuple((network, side, options.evaluations) for network, side, _ in cases)
            for cases in (suite.peer, suite.reach, suite.ablation)
        )
        suite = replace(suite, peer=peer, reach=reach, ablation=ablation)
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
