"""Leaving in the middle of a run: it ends, and nothing is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("quitting_viewer.py")

ONCE = [pytest.param(way, id=way) for way in ("quit", "exit")]
AGAIN = [
    pytest.param(way, id=f"{way} {time}", marks=pytest.mark.slow)
    for time in range(1, 4)
    for way in ("close", "quit", "loop", "exit")
]


@pytest.mark.parametrize("way", [*ONCE, *AGAIN])
def test_leaving_in_the_middle_of_a_run_ends_it_and_prints_nothing(way):
    done = subprocess.run([sys.executable, str(PROGRAM), way], capture_output=True, text=True, check=False)
    assert done.stdout == "running after steps\n"
    # Qt and OpenGL may have to tell of the machine, but nothing of ours, of superqt's or of Python's is.
    assert not [word for word in ("Traceback", "Error", "Warning", "deleted") if word in done.stderr], done.stderr
    assert done.returncode == 0
