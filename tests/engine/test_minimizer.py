"""An optimiser and its metric go together: the image stays when the metric changes, and learning it pays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_styletransfer.config import LineSearch, Optimizer, StyleConfig
from napari_styletransfer.optim import minimizer as module
from napari_styletransfer.optim.minimizer import Minimizer
from napari_styletransfer.optim.preconditioner import SpectralMetric

SIZE = (48, 64)


def noise(seed: int) -> Tensor:
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def loss(image: Tensor) -> tuple[float, Tensor]:
    """A quadratic that is steep in fine structure and in brightness."""
    frequency = torch.hypot(torch.fft.fftfreq(SIZE[0])[:, None], torch.fft.rfftfreq(SIZE[1])[None]).clamp_(min=0.02)
    off = image - noise(9)
    gradient = torch.fft.irfft2(torch.fft.rfft2(off) * frequency**1.5, s=SIZE)
    gradient += 9 * gradient.mean(1, keepdim=True)
    return float((off * gradient).sum()) / 2, gradient


def descend(steps: int, **settings: object) -> Minimizer:
    descent = Minimizer.create(noise(1), StyleConfig(**settings), "cpu")
    while descent.optimizer.iterations < steps:
        descent.tell(*loss(descent.trial))
    return descent


@pytest.mark.parametrize("search", list(LineSearch))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_when_the_metric_is_learned_the_image_stays(search: LineSearch, precision: str) -> None:
    descent = descend(module._LEARN_AFTER[0] - 1, line_search=search, history_precision=precision)
    before = descent.metric
    while descent.metric is before:
        trial = descent.trial.clone()
        assert descent.optimizer.iterations < module._LEARN_AFTER[0]
        descent.tell(*loss(trial))

    assert descent.optimizer.iterations == module._LEARN_AFTER[0]
    torch.testing.assert_close(descent.image, trial, rtol=1e-4, atol=1e-4)
    assert float((descent.trial - trial).abs().max()) > 1e-3


def test_learning_the_metric_lowers_the_loss_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    learning = descend(25)
    monkeypatch.setattr(module, "_LEARN_AFTER", ())
    fixed = descend(25)

    assert learning.optimizer.best_loss < 0.5 * fixed.optimizer.best_loss


@pytest.mark.parametrize("settings", [{"spectral_exponent": 0.2}, {"optimizer": Optimizer.ADAM}])
def test_a_given_metric_and_that_of_adam_stay(settings: dict[str, object]) -> None:
    descent = descend(2, **settings)
    metric = descent.metric
    while descent.optimizer.iterations < module._LEARN_AFTER[1]:
        descent.tell(*loss(descent.trial))

    assert descent.metric is metric


@pytest.mark.parametrize(("exponent", "learns"), [(None, True), (0.0, False), (0.25, False)])
def test_a_scale_begins_in_the_metric_of_the_settings(exponent: float | None, learns: bool) -> None:
    descent = Minimizer.create(noise(1), StyleConfig(spectral_exponent=exponent), "cpu")

    assert descent.metric.learns is learns
    assert descent.metric.is_identity is (not exponent)


def test_without_memory_to_learn_the_metric_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object) -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr(SpectralMetric, "learned", failing)
    descent = descend(1)
    metric, before = descent.metric, descent.optimizer.best_loss
    while descent.optimizer.iterations <= module._LEARN_AFTER[0]:
        descent.tell(*loss(descent.trial))

    assert descent.metric is metric
    assert descent.optimizer.best_loss < before


def test_other_errors_of_learning_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(SpectralMetric, "learned", failing)

    with pytest.raises(RuntimeError, match="something else"):
        descend(module._LEARN_AFTER[0])
