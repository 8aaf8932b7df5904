"""How long a run takes at most is told from its arithmetic and three rates of the device."""

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
    monkeypatch.setattr(pace, "rates", lambda device, dtype: (1e12, 1e10, 0.0))


def seconds(network: Network, *scales: Scale, judged: tuple[tuple[int, int], ...] = ()) -> float:
    return pace.longest(whole(network), scales, "cpu", torch.float32, judged=judged)


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
    judged = ((16, 16), (32, 32), (64, 64), (128, 128))
    assert seconds(Network.COMPACT, scale, judged=judged) == pytest.approx(alone * (1 + 1 / 4 + 1 / 16))
    assert seconds(Network.VGG19, scale) > 1.5 * alone


def test_small_images_take_as_long_as_operations_take_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "rates", lambda device, dtype: (1e20, 1e20, 1e-5))
    small, large = Scale(64, 64, 10), Scale(128, 128, 10)

    assert seconds(Network.COMPACT, small) == pytest.approx(seconds(Network.COMPACT, large))
    assert seconds(Network.COMPACT, large, judged=((64, 64),)) == pytest.approx(2 * seconds(Network.COMPACT, large))
    assert 0.1 < seconds(Network.COMPACT, small) < 2


def test_a_slow_device_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = [Scale(64, 64, 10)]
    quick = pace.longest(whole(Network.VGG19), scales, "cpu", torch.float32)
    monkeypatch.setattr(pace, "rates", lambda device, dtype: (1e11, 1e9, 0.0))

    assert pace.longest(whole(Network.VGG19), scales, "cpu", torch.float32) == pytest.approx(10 * quick)


def test_rates_are_measured_once_for_a_device_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tried: list[float] = []
    quickest = pace._quickest
    monkeypatch.setattr(pace, "_quickest", lambda work: tried.append(quickest(work)) or tried[-1])
    pace.rates.cache_clear()

    first = pace.rates("cpu", torch.float32)

    assert min(first) > 0
    assert pace.rates("cpu", torch.float32) == first
    assert len(tried) == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_without_memory_to_measure_the_time_is_not_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(device: str, dtype: torch.dtype) -> tuple[float, float, float]:
        raise error

    monkeypatch.setattr(pace, "rates", failing)

    assert pace.longest(whole(Network.COMPACT), [Scale(64, 64, 10)], "cuda:0", torch.float32) == 0
