"""Many files in one command: what is done, what is passed over, and what is left after a violent end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from typer.testing import CliRunner

from napari_styletransfer import read_image, stylize, write_image
from napari_styletransfer.batch import schedule
from napari_styletransfer.batch.manifest import NAME
from napari_styletransfer.cli import batch
from napari_styletransfer.cli.app import app
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.devices.device import DeviceInfo

QUICK = ("--network", "compact", "--size", "48", "--iterations", "2", "--scales", "1", "--device", "cpu")
PATIENCE = 120
"""Seconds after which a process that a test waits for has failed."""

needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")


@pytest.fixture
def scans(tmp_path: Path, content_image: Any, style_image: Any) -> Path:
    """Return a folder with three pictures of 8 and 16 bits and a stack, a style beside it."""
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    bright = (content_image * 255).astype(np.uint8)
    write_image(folder / "a.png", bright)
    write_image(folder / "b.png", bright[::-1])
    write_image(folder / "deep" / "c.png", (content_image * 65535).astype(np.uint16))
    tifffile.imwrite(folder / "deep" / "d.tif", np.stack([bright[..., 0], bright[::-1, ..., 0]]))
    write_image(tmp_path / "style.png", (style_image * 255).astype(np.uint8))
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, arguments), *QUICK])


def command(scans: Path, out: Path, *arguments: object) -> list[str]:
    style = scans.parent / "style.png"
    words = [scans, "--style", style, "-o", out, *QUICK, *arguments]
    return [sys.executable, "-m", "napari_styletransfer", "batch", *map(str, words)]


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / NAME
    whole = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in whole if line.endswith(b"\n")]


def results(folder: Path) -> dict[str, int]:
    """Return the files of results, hidden ones too, with the time of their last change."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != NAME]
    return {file.relative_to(folder).as_posix(): file.stat().st_mtime_ns for file in files}


WHOLE = {"a.png", "b.png", "deep/c.png", "deep/d.tif"}


def test_each_result_is_that_of_a_run_of_its_own(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(scans, "--style", tmp_path / "style.png", "-o", out)
    assert done.exit_code == 0, done.output
    assert set(results(out)) == WHOLE
    assert [line["status"] for line in lines(out)] == ["done"] * 4
    style = read_image(tmp_path / "style.png")
    fields: dict[str, Any] = {"network": "compact", "size": 48, "iterations": 2, "scales": 1, "device": "cpu"}
    for name in ("b.png", "deep/c.png"):
        alone = stylize(read_image(scans / name), style, **fields)
        np.testing.assert_array_equal(read_image(out / name), alone)
    assert tifffile.imread(out / "deep" / "d.tif").shape == (2, 36, 48, 3)


def test_what_is_done_is_passed_over_and_what_failed_is_tried_again(scans: Path, tmp_path: Path) -> None:
    out, style = tmp_path / "out", tmp_path / "style.png"
    (scans / "b.png").write_bytes(b"no picture")
    first = run(scans, "-s", style, "-o", out)
    assert first.exit_code == 1
    assert "b.png: failed." in first.output
    assert "3 done, 1 failed" in first.output
    before = results(out)
    assert set(before) == WHOLE - {"b.png"}

    write_image(scans / "b.png", read_image(scans / "a.png"))
    again = run(scans, "-s", style, "-o", out)
    assert again.exit_code == 0, again.output
    assert "1 file to stylise, 3 done before" in again.output
    after = results(out)
    assert {name: after[name] for name in before} == before

    other = run(scans, "-s", style, "-o", out, "--balance", 0.9)
    assert other.exit_code == 0
    assert "4 with a result made in another way" in other.output
    assert results(out) == after
    anew = run(scans, "-s", style, "-o", out, "--overwrite")
    assert anew.exit_code == 0
    assert all(time > after[name] for name, time in results(out).items())


def test_a_dry_run_tells_the_plan_and_writes_nothing(scans: Path, tmp_path: Path) -> None:
    told = run(scans, "-s", tmp_path / "style.png", "-o", tmp_path / "out", "--dry-run")
    assert told.exit_code == 0
    assert "4 files to stylise" in told.output
    assert "compact on" in told.output
    assert f"{scans / 'a.png'} → {tmp_path / 'out' / 'a.png'}" in told.output
    assert not (tmp_path / "out").exists()


def test_json_lines_tell_each_outcome_and_the_counts(scans: Path, tmp_path: Path) -> None:
    told = run(scans, "-s", tmp_path / "style.png", "-o", tmp_path / "out", "--json")
    *outcomes, counts = map(json.loads, told.output.splitlines())
    assert {outcome["output"] for outcome in outcomes} == WHOLE
    assert all(outcome["result"]["steps"] == 2 for outcome in outcomes)
    assert counts == {"done": 4, "failed": 0, "skipped": 0, "left": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scans",), "There is no style picture"),
        (("scans", "-s", "missing.png"), "missing.png"),
        (("nowhere", "-s", "style.png"), "There is no file or folder nowhere"),
        (("scans", "-s", "style.png", "--mode", "style-reconstruction"), "has no content"),
        (("scans", "-s", "style.png", "--start", "image"), "--start image needs a picture to start from"),
        (("scans", "-s", "style.png", "--style-weights", "1,2"), "--style-weights has 2 weights for 1 style picture"),
        (("scans", "-s", "style.png", "--weights", "none.pth"), "there is no file none.pth"),
        (("scans", "-s", "style.png", "--device", "cuda:7"), "There is no device 'cuda:7'"),
        (("scans", "-s", "style.png", "-o", "style.png"), "cannot be made"),
        (("scans", "-s", "style.png", "--scheduler", "nobody://here"), "No Dask scheduler answers at nobody://here"),
        (("scans", "-s", "style.png", "--scheduler", "tcp://x:1", "--workers", "2"), "Leave out one"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_begun(
    arguments: tuple[str, ...], message: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["batch", *arguments[:1], *QUICK, *arguments[1:]])
    assert done.exit_code == 2
    assert message in done.output
    assert not results(tmp_path / "stylised")


@pytest.mark.parametrize(
    ("device", "gpus", "taken"),
    [
        ("auto", ["cuda:0", "cuda:1"], ["cuda:0", "cuda:1", "cuda:0"]),
        ("auto", [], ["auto"] * 3),
        ("cuda:1", ["cuda:0", "cuda:1"], ["cuda:1"] * 3),
    ],
)
def test_workers_take_the_gpus_in_turn(
    device: str, gpus: list[str], taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [DeviceInfo(name, "", 1, 1) for name in (*gpus, "cpu")]
    monkeypatch.setattr("napari_styletransfer.devices.device.devices", lambda: found)
    for number, name in enumerate(taken):
        monkeypatch.setattr(schedule, "worker_number", lambda number=number: number)
        assert batch._on_own_gpu(StyleConfig(device=device)).device == name
    monkeypatch.setattr(schedule, "worker_number", lambda: None)
    assert batch._on_own_gpu(StyleConfig(device=device)).device == device


@pytest.fixture
def started() -> Iterator[Callable[[list[str]], subprocess.Popen[bytes]]]:
    """Start processes in groups of their own; those that are left are ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(words: list[str]) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL))
        return processes[-1]

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.wait()


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_it_goes_on(words: list[str], out: Path) -> None:
    """Run a batch that was ended; what was noted as done is not made again."""
    noted, there = {line["output"] for line in lines(out)}, results(out)
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert set(results(out)) >= WHOLE
    assert {name: results(out)[name] for name in noted} == {name: there[name] for name in noted}


@needs_sigkill
@pytest.mark.slow
def test_a_batch_that_was_killed_goes_on_where_it_was(scans: Path, tmp_path: Path, started: Any) -> None:
    out = tmp_path / "out"
    process = started(command(scans, out, "--iterations", 60))
    wait_for(lambda: lines(out))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    noted, there = {line["output"] for line in lines(out)}, results(out)
    # What has a result's name is whole, noted or not; at most one file was in work.
    for name in WHOLE & set(there):
        assert tifffile.imread(out / name).any() if name.endswith(".tif") else read_image(out / name).any()
    assert noted <= set(there)
    assert len(set(there) - noted) <= 1

    assert_it_goes_on(command(scans, out, "--iterations", 60), out)


@needs_sigkill
@pytest.mark.slow
def test_another_worker_takes_over_from_one_that_was_killed(scans: Path, tmp_path: Path, started: Any) -> None:
    out = tmp_path / "out"
    process = started(command(scans, out, "--iterations", 200, "--workers", 2))
    wait_for(lambda: lines(out))
    workers = [
        child for child in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in str(child.cmdline())
    ]
    assert workers
    workers[0].kill()
    assert process.wait(PATIENCE) == 0
    assert {line["output"] for line in lines(out) if line["status"] == "done"} == WHOLE
    assert set(results(out)) >= WHOLE


@needs_sigkill
@pytest.mark.slow
def test_a_batch_whose_workers_were_killed_too_goes_on_where_it_was(scans: Path, tmp_path: Path, started: Any) -> None:
    out = tmp_path / "out"
    process = started(command(scans, out, "--iterations", 200, "--workers", 2))
    wait_for(lambda: lines(out))
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.kill()
    process.wait()
    assert_it_goes_on(command(scans, out, "--iterations", 200, "--workers", 2), out)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_ends_a_batch_without_a_half_made_picture(scans: Path, tmp_path: Path, started: Any) -> None:
    out = tmp_path / "out"
    process = started(command(scans, out, "--iterations", 3000, "--tolerance", 0))
    wait_for(out.is_dir)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert not results(out)
