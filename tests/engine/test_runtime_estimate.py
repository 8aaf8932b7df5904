"""How long a run takes at most is told from its arithmetic and three rates of the device."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from napari_styletransfer.config import Network
from napari_styletransfer.devices.device import choose
from napari_styletransfer.events import Scale
from napari_styletransfer.networks.architectures import Backbone, backbone
from napari_styletransfer.planning import runtime_estimate, runtime_history


def whole(network: Network) -> Backbone:
    found = backbone(network)
    return found.truncated({*found.style_layers, *found.content_layers})


@pytest.fixture(autouse=True)
def _known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_estimate, "rates", lambda device, label, dtype: (1e12, 1e10, 0.0))


def seconds(network: Network, *scales: Scale, coarse_sizes: tuple[tuple[int, int], ...] = ()) -> float:
    return runtime_estimate.estimate_seconds(
        whole(network), scales, "cpu", LABEL, torch.float32, coarse_sizes=coarse_sizes
    )


def test_time_goes_with_steps_and_area() -> None:
    none, once, twice = (seconds(Network.COMPACT, Scale(64, 64, count)) for count in (0, 10, 20))

    assert once - none > 0
    assert twice - none == pytest.approx(2 * (once - none))
    assert seconds(Network.COMPACT, Scale(128, 64, 10)) == pytest.approx(2 * once)
    assert seconds(Network.COMPACT, Scale(64, 64, 10), Scale(128, 64, 10)) == pytest.approx(3 * once)


def test_what_counts_besides_takes_longer() -> None:
    scale = Scale(64, 64, 10)
    alone = seconds(Network.COMPACT, scale)

    # Sizes of the scale itself, and finer ones, are not judged besides it.
    coarse_sizes = ((16, 16), (32, 32), (64, 64), (128, 128))
    assert seconds(Network.COMPACT, scale, coarse_sizes=coarse_sizes) == pytest.approx(alone * (1 + 1 / 4 + 1 / 16))
    assert seconds(Network.VGG19, scale) > 1.5 * alone


def test_small_images_take_as_long_as_operations_take_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_estimate, "rates", lambda device, label, dtype: (1e20, 1e20, 1e-5))
    small, large = Scale(64, 64, 10), Scale(128, 128, 10)

    assert seconds(Network.COMPACT, small) == pytest.approx(seconds(Network.COMPACT, large))
    assert seconds(Network.COMPACT, large, coarse_sizes=((64, 64),)) == pytest.approx(
        2 * seconds(Network.COMPACT, large)
    )
    assert 0.1 < seconds(Network.COMPACT, small) < 2


def test_a_slow_device_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = [Scale(64, 64, 10)]
    quick = runtime_estimate.estimate_seconds(whole(Network.VGG19), scales, "cpu", LABEL, torch.float32)
    monkeypatch.setattr(runtime_estimate, "rates", lambda device, label, dtype: (1e11, 1e9, 0.0))

    assert runtime_estimate.estimate_seconds(
        whole(Network.VGG19), scales, "cpu", LABEL, torch.float32
    ) == pytest.approx(10 * quick)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that begins a session, whose measurement finds these rates."""
    monkeypatch.undo()

    def session(*rates: float) -> None:
        runtime_estimate.rates.cache_clear()
        monkeypatch.setattr(runtime_estimate, "_measure_rates", lambda device, dtype: rates)

    yield session
    runtime_estimate.rates.cache_clear()


def test_rates_are_measured_once_for_a_device_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tried: list[float] = []
    quickest = runtime_estimate._min_seconds
    monkeypatch.setattr(runtime_estimate, "_min_seconds", lambda work: tried.append(quickest(work)) or tried[-1])
    runtime_estimate.rates.cache_clear()

    first = runtime_estimate.rates("cpu", LABEL, torch.float32)

    assert min(first) > 0
    assert runtime_estimate.rates("cpu", LABEL, torch.float32) == first
    assert len(tried) == 3
    runtime_estimate.rates.cache_clear()


def test_rates_stay_what_they_are_over_sessions_unless_the_first_was_a_busy_one(
    measured: Callable[..., None],
) -> None:
    measured(1e11, 1e10, 4e-6)
    first = runtime_estimate.rates("cpu", LABEL, torch.float32)
    for slower in ((9e10, 8e9, 5e-6), (1.2e11, 1.2e10, 3.5e-6), (1e10, 1e9, 4e-5)):
        measured(*slower)
        assert runtime_estimate.rates("cpu", LABEL, torch.float32) == first

    ended(Network.VGG19, 2.0)
    measured(1e12, 9e9, 4e-6)
    assert runtime_estimate.rates("cpu", LABEL, torch.float32) == (1e12, 1e10, 4e-6)
    assert (
        runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == 1
    )  # it was compared with the rates of before


LABEL = choose("cpu").label
FINE = Scale(256, 256, 20)


def ended(network: Network, slower: float, scale: Scale = FINE) -> None:
    """Let a run end that took so many times as long as its arithmetic says."""
    expected = seconds(network, scale)
    assert 2 < expected < 60
    runtime_estimate.learn(whole(network), [scale], slower * expected, "cpu", LABEL, torch.float32)


def test_the_time_told_is_that_of_the_last_runs_and_outlives_the_session() -> None:
    assert runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == 1
    ended(Network.VGG19, 3.0)
    assert runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == pytest.approx(3)
    told = told_by_another_process(LABEL)
    assert told == pytest.approx(3)
    for slower in (1.5, 1.6, 1.7):
        ended(Network.VGG19, slower)
    assert runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == pytest.approx(1.6)


def told_by_another_process(label: str) -> float:
    code = f"""
import torch
from napari_styletransfer.config import Network
from napari_styletransfer.planning import runtime_estimate
print(runtime_estimate.recent_slowdown(Network.VGG19, {label!r}, torch.float32))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_another_device_network_format_or_machine_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended(Network.VGG19, 3.0)
    known = [
        runtime_estimate.recent_slowdown(Network.COMPACT, LABEL, torch.float32),
        runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.bfloat16),
        runtime_estimate.recent_slowdown(Network.VGG19, "x86_64, 64 threads", torch.float32),
    ]
    monkeypatch.setattr(platform, "node", lambda: "another machine with the same home folder")
    assert [*known, runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32)] == [1, 1, 1, 1]


def test_one_slow_run_does_not_change_which_network_is_chosen() -> None:
    def mostly() -> float:
        return runtime_estimate.steady_slowdown(Network.VGG19, LABEL, torch.float32)

    assert mostly() == 1
    ended(Network.VGG19, 4.0)
    assert mostly() == 1
    ended(Network.VGG19, 3.0)
    assert mostly() == pytest.approx(3)
    for slower in (1.1, 1.2, 1.1):
        ended(Network.VGG19, slower)
    assert mostly() == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("scale", "spent"),
    [
        (Scale(256, 256, 1), None),
        (Scale(256, 256, 20), 0.5),
        (Scale(256, 256, 20), 1e4),
    ],
    ids=["stopped at once", "too short", "paused"],
)
def test_runs_that_tell_nothing_of_others_are_not_remembered(scale: Scale, spent: float | None) -> None:
    spent = spent or seconds(Network.VGG19, scale)
    runtime_estimate.learn(whole(Network.VGG19), [scale], spent, "cpu", LABEL, torch.float32)
    assert not runtime_history.path().exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"%s": 3}',
        b'{"%s": {"rates": [1.0, 2.0], "vgg19": 3.0}}',
        b'{"%s": {"rates": [1e999, -1.0, 0.0], "vgg19": [1.0, NaN]}}',
        b'{"%s": {"rates": "abc", "vgg19": [true, "1"]}}',
    ],
)
def test_a_damaged_file_counts_as_none_and_is_replaced(content: bytes) -> None:
    runtime_history.path().parent.mkdir(parents=True, exist_ok=True)
    runtime_history.path().write_bytes(content.replace(b"%s", runtime_history._key(LABEL, "float32").encode()))
    assert runtime_history.read(LABEL, "float32") == {}

    ended(Network.VGG19, 2.0)

    assert runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == pytest.approx(2)
    assert [file.name for file in runtime_history.path().parent.iterdir()] == ["pace.json"]


def test_where_nothing_can_be_written_runs_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file in place of the folder")
    monkeypatch.setattr(runtime_history, "checkpoints", lambda: tmp_path / "hub" / "checkpoints")
    ended(Network.VGG19, 2.0)
    assert runtime_estimate.recent_slowdown(Network.VGG19, LABEL, torch.float32) == 1


def test_the_file_does_not_grow_without_end() -> None:
    for number in range(40):
        runtime_history.write(f"device {number}", "float32", {"rates": [1.0, 1.0, 1.0]})
    for _ in range(20):
        ended(Network.VGG19, 2.0)
    assert runtime_history.path().stat().st_size < 10_000
    assert len(runtime_history.read(LABEL, "float32")["vgg19"]) == runtime_history.MAX_RUNS
    assert runtime_history.read("device 0", "float32") == {}
    assert runtime_history.read("device 39", "float32") == {"rates": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_without_memory_to_measure_the_time_is_not_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(device: str, label: str, dtype: torch.dtype) -> tuple[float, float, float]:
        raise error

    monkeypatch.setattr(runtime_estimate, "rates", failing)

    assert (
        runtime_estimate.estimate_seconds(whole(Network.COMPACT), [Scale(64, 64, 10)], "cuda:0", LABEL, torch.float32)
        == 0
    )
