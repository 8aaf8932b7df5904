"""How long a run takes at most is told from its arithmetic and two rates of the device."""

from __future__ import annotations

import pytest
import torch

from napari_styletransfer.config import Network
from napari_styletransfer.engine import pace
from napari_styletransfer.engine.backbones import Backbone, backbone
from napari_styletransfer.engine.events import Scale


def whole(network: Network) -> Backbone:
    found = backbone(network)
    return found.truncated({*found.style_layers, *found.content_layers})


@pytest.fixture(autouse=True)
def _known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "rates", lambda device, dtype: (1e12, 1e10))


def test_time_goes_with_steps_and_area() -> None:
    once = pace.longest(whole(Network.COMPACT), [Scale(64, 64, 10)], "cpu", torch.float32, coarser=False)

    assert once > 0
    for scales in ([Scale(64, 64, 20)], [Scale(128, 64, 10)], [Scale(64, 64, 10), Scale(32, 32, 40)]):
        twice = pace.longest(whole(Network.COMPACT), scales, "cpu", torch.float32, coarser=False)
        assert twice == pytest.approx(2 * once)


def test_what_counts_besides_takes_longer() -> None:
    scales = [Scale(64, 64, 10)]
    alone = pace.longest(whole(Network.COMPACT), scales, "cpu", torch.float32, coarser=False)

    with_coarser = pace.longest(whole(Network.COMPACT), scales, "cpu", torch.float32, coarser=True)
    assert with_coarser == pytest.approx(alone * 4 / 3)
    assert pace.longest(whole(Network.VGG19), scales, "cpu", torch.float32, coarser=False) > 1.5 * alone


def test_a_slow_device_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = [Scale(64, 64, 10)]
    quick = pace.longest(whole(Network.VGG19), scales, "cpu", torch.float32, coarser=False)
    monkeypatch.setattr(pace, "rates", lambda device, dtype: (1e11, 1e9))

    assert pace.longest(whole(Network.VGG19), scales, "cpu", torch.float32, coarser=False) == pytest.approx(10 * quick)


def test_rates_are_measured_once_for_a_device_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tried: list[float] = []
    quickest = pace._quickest
    monkeypatch.setattr(pace, "_quickest", lambda work: tried.append(quickest(work)) or tried[-1])
    pace.rates.cache_clear()

    first = pace.rates("cpu", torch.float32)

    assert min(first) > 0
    assert pace.rates("cpu", torch.float32) == first
    assert len(tried) == 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_without_memory_to_measure_the_time_is_not_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(device: str, dtype: torch.dtype) -> tuple[float, float]:
        raise error

    monkeypatch.setattr(pace, "rates", failing)

    assert pace.longest(whole(Network.COMPACT), [Scale(64, 64, 10)], "cuda:0", torch.float32, coarser=False) == 0
