"""The judge of the fuzzers sees everything that it is there to see."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from napari_styletransfer.errors import ConfigError, ImageError

from .__main__ import supervised
from .outcomes import LONGEST_MESSAGE, Call, failures


def raise_(error):
    raise error


def kinds(run, **options):
    """Return the kinds of failure of one case that does what `run` does."""
    return [failure.kind for failure in failures(lambda rng, folder: [Call("it", run)], [7], **options)]


@pytest.mark.parametrize("run", [lambda: 5, lambda: raise_(ConfigError("Say it again."))])
def test_results_and_errors_of_our_own_are_allowed(run):
    assert kinds(run) == []


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (lambda: [][0], "IndexError at "),
        (lambda: raise_(SystemExit(0)), "SystemExit at "),
        (lambda: raise_(ImageError("x" * (LONGEST_MESSAGE + 1))), "long message "),
        (lambda: raise_(ImageError("")), "no line "),
        (lambda: raise_(ImageError("one\ntwo")), "no line "),
        (lambda: raise_(ImageError("\ud800")), "unprintable "),
        (lambda: print("hello"), "prints 'hello"),
        (lambda: os.write(2, b"from C\n"), "prints 'from C"),
        (lambda: warnings.warn("mind", stacklevel=1), "UserWarning at "),
        (lambda: logging.getLogger("another.library").warning("mind"), "logs as another.library"),
        (lambda: os.close(tempfile.mkstemp()[0]), "leaves files"),
    ],
)
def test_anything_else_is_a_failure(run, kind):
    (found,) = kinds(run)
    assert found.startswith(kind)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such timers")
def test_a_call_that_hangs_is_broken_off():
    (found,) = kinds(lambda: time.sleep(20), limit=0.05)
    assert found.startswith("Hang at ")


def test_the_number_of_a_case_makes_it_again():
    def target(rng, folder):
        number = rng.random()
        yield Call(f"{number}", lambda: raise_(KeyError(number)) if number < 0.5 else None)

    found = list(failures(target, range(40)))
    assert 5 < len(found) < 35
    for failure in found:
        assert next(failures(target, [failure.seed])).call == failure.call


def test_the_files_of_a_case_are_gone_before_the_next():
    seen = []

    def target(rng, folder: Path):
        seen.extend(folder.iterdir())
        (folder / "folder").mkdir()
        (folder / "folder" / "file").touch()
        yield Call("nothing", lambda: None)

    assert list(failures(target, range(3))) == []
    assert seen == []


def test_the_long_round_survives_a_case_that_ends_its_process(monkeypatch):
    # The record that the process would have written, up to where it died in its fourth case.
    runs = iter([[0, 1, 2, 3], [4, 5]])

    class Process:
        def __init__(self, command):
            record = Path(command[command.index("--record") + 1])
            numbers = next(runs)
            assert command[command.index("--first") + 1] == str(numbers[0])
            record.write_text("".join(f"{number}\n" for number in numbers))
            self.code = -11 if numbers[-1] == 3 else 0

        def wait(self, timeout=None):
            return self.code

    monkeypatch.setattr(subprocess, "Popen", Process)
    (failure,) = supervised("config", 0, 6, limit=1.0)
    assert (failure.seed, failure.kind) == (3, "the process ended with -11")
