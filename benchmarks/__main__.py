"""`python -m benchmarks [--full] [--device cuda]`: measure, print the tables, keep them in `bench-output/`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import tables
from benchmarks.suite import FULL, QUICK, ROOT, Measurement

TABLES = ("speed", "reach", "ablation", "blocks")


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all sizes and pairs, 300 evaluations: an hour or more")
    parser.add_argument("--quick", action="store_true", help="a few minutes; this is the default")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, auto …")
    parser.add_argument("--evaluations", type=int, help="evaluations of the textbook loop whose loss is the target")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, help="measure these tables alone")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-output", help="folder of the results")
    options = parser.parse_args(arguments)
    if options.full and options.quick:
        parser.error("choose one of --full and --quick")
    suite = FULL if options.full else QUICK
    if options.evaluations is not None:
        if options.evaluations < 2:
            parser.error(f"--evaluations is {options.evaluations}; the textbook loop needs at least 2")
        suite = replace(suite, evaluations=options.evaluations)
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(suite, options.device, Path(folder), tell=_Clock())
        write(measurement, tuple(options.only), options.output)


def write(measurement: Measurement, wanted: tuple[str, ...], output: Path) -> None:
    """Measure the wanted tables, print each as it is ready, and write `results.md` and `results.json`."""
    output.mkdir(parents=True, exist_ok=True)
    machine = measurement.prepare()
    results = {"machine": machine, "evaluations": measurement.suite.evaluations}
    text = ["# Benchmarks\n", tables.machine_line(machine) + "\n"]
    print("\n".join(text), flush=True)
    for name in wanted:
        rows = results[name] = getattr(measurement, name)()
        extra = {"speed": [machine], "reach": [measurement.suite.evaluations]}.get(name, [])
        text.append(getattr(tables, name)(rows, *extra))
        print(text[-1], flush=True)
        (output / "results.md").write_text("\n".join(text), encoding="utf-8")
        (output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


class _Clock:
    """Says on standard error what goes on, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self, what: str) -> None:
        print(f"[{time.perf_counter() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
