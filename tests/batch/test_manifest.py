"""The manifest says what is done, whatever ended the process that wrote it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_styletransfer.batch.manifest import NAME, Manifest, Outcome, fingerprint, sort_outputs
from napari_styletransfer.config import StyleConfig

DONE = Outcome("scans/a.tif", "a.tif", "done", "0123", result={"seconds": 1.5, "steps": 40})


def test_the_last_outcome_of_each_file_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    assert manifest.read() == {}
    failed = replace(DONE, status="failed", error="no “room”\nleft", result={})
    other = replace(DONE, output="été/b.tif")
    for outcome in (failed, other, DONE):
        manifest.add(outcome)
    assert manifest.read() == {"a.tif": DONE, "été/b.tif": other}
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 3


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_line_that_was_cut_off_is_passed_over_and_ended(tmp_path: Path, cut: int) -> None:
    manifest = Manifest(tmp_path)
    manifest.add(DONE)
    manifest.add(replace(DONE, output="b.tif"))
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:-cut])
    manifest.add(replace(DONE, output="c.tif"))
    assert set(manifest.read()) == ({"a.tif", "b.tif", "c.tif"} if cut == 1 else {"a.tif", "c.tif"})


def test_lines_of_others_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('\n[]\n{"content": 3}\nnot json\n{"time": "today"}\n', encoding="utf-8")
    assert Manifest(tmp_path).read() == {}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
def test_what_was_written_survives_the_end_of_the_process(tmp_path: Path) -> None:
    code = f"""
import os, signal
from napari_styletransfer.batch.manifest import Manifest, Outcome
from pathlib import Path
Manifest(Path({str(tmp_path)!r})).add(Outcome("a", "a.tif", "done", "0"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert set(Manifest(tmp_path).read()) == {"a.tif"}


def test_a_fingerprint_tells_settings_and_styles_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    config = StyleConfig()
    found = {
        fingerprint(config, [first, second]),
        fingerprint(config, [second, first]),
        fingerprint(config, [first]),
        fingerprint(config.changed(balance=0.1), [first]),
    }
    assert len(found) == 4
    assert fingerprint(config, [first]) == fingerprint(StyleConfig(), [first]) in found


def test_results_that_are_there_are_left_unless_they_are_to_be_replaced(tmp_path: Path) -> None:
    same, other, unknown, missing = (tmp_path / f"{name}.tif" for name in ("same", "other", "unknown", "missing"))
    for file in (same, other, unknown):
        file.touch()
    known = {
        "same.tif": replace(DONE, output="same.tif"),
        "other.tif": replace(DONE, output="other.tif", settings="4567"),
        # Its file was removed since.
        "missing.tif": replace(DONE, output="missing.tif"),
    }
    outputs = [same, other, unknown, missing]
    assert sort_outputs(outputs, tmp_path, known, "0123") == ([missing], [same], [other, unknown])
