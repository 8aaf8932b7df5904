"""`python -m tests.fuzz [TARGET ...]`: many cases of each target, and what failed with the number that makes it again.

Each target runs in a process of its own, so that a crash or a hang is a failure of one case, after which it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from .outcomes import LIMIT, Failure, failures

NAMES = ("api", "config", "files", "weights", "metadata")
_PATIENCE = 60.0
"""Seconds beyond a call's limit after which a process that does not even give up is ended; enough for its imports."""


def main() -> None:
    """Parse the arguments, run, and tell what failed, by kind."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all if none is named")
    parser.add_argument("--cases", type=int, default=10_000, help="of each target (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a call may take (default: %(default)s)")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(NAMES):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if asked.record is not None:
        _work(asked.targets[0], range(asked.first, asked.first + asked.cases), asked.limit, asked.record)
        return
    failed = False
    for target in asked.targets or NAMES:
        begun = time.perf_counter()
        found = supervised(target, asked.first, asked.first + asked.cases, asked.limit)
        failed |= bool(found)
        kinds = defaultdict(list)
        for failure in found:
            kinds[failure.kind].append(failure)
        seconds = time.perf_counter() - begun
        print(f"{target}: {asked.cases:,} cases in {seconds:.0f} s, {len(found)} failures of {len(kinds)} kinds")
        for kind, alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
            print(f"\n{len(alike)} × {kind}\n{alike[0]}")
        sys.stdout.flush()
    sys.exit(failed)


def _work(target: str, seeds: range, limit: float, record: Path) -> None:
    """Run cases, and write down each before it begins and what fails."""
    from .targets import TARGETS

    with record.open("a", buffering=1) as file:
        for failure in failures(TARGETS[target], seeds, limit=limit, begun=lambda seed: file.write(f"{seed}\n")):
            file.write(json.dumps(vars(failure)) + "\n")


def supervised(target: str, first: int, end: int, limit: float) -> list[Failure]:
    """Run cases in processes, a new one after each that died."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        while first < end:
            record.write_text("")
            command = [sys.executable, "-m", "tests.fuzz", target, "--first", str(first), "--cases", str(end - first)]
            process = subprocess.Popen([*command, "--limit", str(limit), "--record", str(record)])
            ended = _ended(process, record, limit + _PATIENCE)
            lines = record.read_text().splitlines()
            found += [Failure(**json.loads(line)) for line in lines if line.startswith("{")]
            if ended == "ended with 0":
                break
            numbers = [int(line) for line in lines if not line.startswith("{")]
            if not numbers:
                sys.exit(f"The process of {target} {ended} before its first case.")
            found.append(Failure(numbers[-1], "a call of this case", f"the process {ended}", f"The process {ended}."))
            first = numbers[-1] + 1
    return found


def _ended(process: subprocess.Popen[bytes], record: Path, patience: float) -> str:
    """Wait for a process, and end it when it begins no further case for so many seconds; return how it ended."""
    written, since = -1, time.monotonic()
    while True:
        try:
            return f"ended with {process.wait(1)}"
        except subprocess.TimeoutExpired:
            size = record.stat().st_size
            if size != written:
                written, since = size, time.monotonic()
            elif time.monotonic() - since > patience:
                process.kill()
                process.wait()
                return "hung"


if __name__ == "__main__":
    main()
