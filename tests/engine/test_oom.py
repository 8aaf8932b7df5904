"""When memory runs out, a run steps down until it fits, and shows the image it reached where nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ended import end
from torch import Tensor

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.oom import TilingPolicy
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.run_state import RunState
from napari_styletransfer.errors import DivergedError, OutOfMemoryError
from napari_styletransfer.events import Event, Preview, Reason, Step
from napari_styletransfer.images.resize import resize
from napari_styletransfer.nn.convolution import _Kernel
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.optim.history import History
from napari_styletransfer.optim.lbfgs import LBFGS
from napari_styletransfer.optim.minimizer import new_optimizer
from napari_styletransfer.optim.preconditioner import SpectralMetric
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.tiling.tiles import Halo

Image = npt.NDArray[np.float32]

QUICK: dict[str, Any] = {
    "network": "compact",
    "device": "cpu",
    "precision": "float32",
    "size": 48,
    "iterations": 4,
    "scales": 1,
    "coarse_iterations": 1.0,
    "tolerance": 0,
    "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0},
    "content_layers": {"relu2_1": 1.0},
}


def settings(**fields: Any) -> StyleConfig:
    return StyleConfig(**{**QUICK, **fields})


def run(content: Any, styles: Sequence[Any], options: dict[str, Any] | None = None, **fields: Any) -> list[Event]:
    """All events of a quick run."""
    return list(iter_stylize(content, styles, settings(**fields), **(options or {})))


# Blocks


class Shortage:
    """Makes a pass of the network fail for want of memory, the first so many times or always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, which: str, times: float, error: type[Exception]) -> None:
        self.left = times
        run = getattr(FrozenNetwork, which)

        def failing(net: FrozenNetwork, *args: Any, **kwargs: Any) -> Any:
            if self.left > 0:
                self.left -= 1
                raise error("out of memory")
            return run(net, *args, **kwargs)

        monkeypatch.setattr(FrozenNetwork, which, failing)


OUT_OF_MEMORY = [torch.cuda.OutOfMemoryError, MemoryError]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("scales", [1, 2])
def test_a_device_out_of_memory_is_met_with_smaller_blocks(
    scales: int,
    times: int,
    which: str,
    error: type[Exception],
    content_image: Image,
    style_image: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # At the second scale the loss counts both sizes.
    monkeypatch.setattr("napari_styletransfer.planning.planner.COARSEST_LOSS", 24 if scales > 1 else 256)
    # Learned scales magnify the rounding of single values.
    fields = {"size": 64, "iterations": 3, "scales": scales, "value_scaling": False}
    whole = end(run(content_image, [style_image], **fields))
    areas = _recorded_areas(monkeypatch)
    shortage = Shortage(monkeypatch, which, times, error)

    finished = end(run(content_image, [style_image], **fields))

    assert shortage.left == 0
    assert areas[-1] < 64 * 48, "the run ended in blocks"
    assert finished.history == pytest.approx(whole.history, rel=1e-3)
    np.testing.assert_allclose(finished.image, whole.image, atol=5e-3)


def test_a_convolution_that_onednn_has_no_memory_for_is_met_with_smaller_blocks(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"size": 64, "iterations": 3, "value_scaling": False}
    whole = end(run(content_image, [style_image], **fields))
    areas = _recorded_areas(monkeypatch)
    convolve, failures = _Kernel.__call__, ["could not create a primitive"]

    def failing(kernel: _Kernel, *args: Any, **kwargs: Any) -> Tensor:
        if failures and areas:
            raise RuntimeError(failures.pop())
        return convolve(kernel, *args, **kwargs)

    monkeypatch.setattr(_Kernel, "__call__", failing)

    finished = end(run(content_image, [style_image], **fields))

    assert not failures
    assert areas[0] == 64 * 48
    assert areas[-1] < 64 * 48, "the run ended in blocks"
    assert finished.reason is Reason.ITERATIONS
    np.testing.assert_allclose(finished.image, whole.image, atol=5e-3)


def _recorded_areas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of each piece that the network sees from now on."""
    areas: list[int] = []
    forward = FrozenNetwork.forward

    def recorded(net: FrozenNetwork, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        areas.append(image.shape[2] * image.shape[3])
        return forward(net, image, *args, **kwargs)

    monkeypatch.setattr(FrozenNetwork, "forward", recorded)
    return areas


def test_what_is_kept_of_blocks_is_given_up_before_blocks_become_smaller() -> None:
    cutting = TilingPolicy(64, Halo(8, 8, 4), "cpu", budget=1000)
    attempts: list[tuple[int, int]] = []

    def failing_twice() -> int:
        attempts.append((cutting.budget, len(cutting.tiles((128, 128)))))
        if len(attempts) < 3:
            raise MemoryError("out of memory")
        return 5

    assert cutting.retry_on_oom((128, 128), failing_twice) == 5
    assert attempts == [(1000, 4), (0, 4), (0, 16)]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_a_device_that_stays_out_of_memory_ends_in_a_clear_error(
    which: str, error: type[Exception], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shortage(monkeypatch, which, float("inf"), error)

    with pytest.raises(OutOfMemoryError, match="smaller size"):
        run(content_image, [style_image], size=64)


def test_other_errors_of_the_network_are_not_swallowed(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shortage(monkeypatch, "backward", 1, ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        run(content_image, [style_image])


# The optimiser


def _bytes_left(monkeypatch: pytest.MonkeyPatch, limit: float) -> list[int]:
    """Let the matrix of a history take so many bytes at most; return the sizes that were made."""
    made: list[int] = []

    class Limited(History):
        def __init__(self, like: Tensor, pairs: int, storage: torch.dtype, **given: Any) -> None:
            size = 2 * pairs * like.numel() * storage.itemsize
            if size > limit:
                raise MemoryError("out of memory")
            made.append(size)
            super().__init__(like, pairs, storage, **given)

    monkeypatch.setattr("napari_styletransfer.optim.lbfgs.History", Limited)
    return made


PAIR = 2 * 3 * 36 * 48 * 4
"""Bytes of a pair in float32 at the size of the quick run."""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(10 * PAIR, 10 * PAIR), (9 * PAIR, 5 * PAIR), (4 * PAIR, 2.5 * PAIR), (0.5 * PAIR, 0.5 * PAIR)],
    ids=["as it is", "bfloat16", "five pairs in bfloat16", "one pair in bfloat16"],
)
def test_a_history_too_large_becomes_narrower_then_shorter(
    limit: float, expected: float, content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _bytes_left(monkeypatch, limit)

    finished = end(run(content_image, [style_image], iterations=15))

    assert made == [expected]
    # Without a second copy of the image before pairs are given up.
    assert isinstance(finished.state, RunState)
    assert (finished.state.optimizer._base is None) is (expected < 5 * PAIR)
    assert finished.iterations == 15
    assert finished.history[-1] < 0.7 * finished.history[0]


@pytest.mark.parametrize(("precision", "rises"), [("float32", True), ("bfloat16", False)])
def test_a_rise_within_the_noise_of_the_features_refuses_no_step(precision: str, rises: bool) -> None:
    optimizer = new_optimizer(torch.ones(1, 3, 4, 4), settings(precision=precision), "cpu")
    assert isinstance(optimizer, LBFGS)
    optimizer.tell(1.0, torch.full((1, 3, 4, 4), 1e-6))

    # As at the end of a run: the gradient promises next to nothing, and the loss is a little larger.
    assert optimizer.tell(1 + 4e-4, torch.full((1, 3, 4, 4), 0.9e-6)) is not rises


def test_every_scale_asks_for_the_whole_history_first(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _bytes_left(monkeypatch, 9 * PAIR)

    run(content_image, [style_image], scales=2)

    assert made == [2.5 * PAIR, 5 * PAIR]


def test_a_history_that_fits_in_no_form_ends_with_the_start_image(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _bytes_left(monkeypatch, 0.4 * PAIR)

    with pytest.raises(OutOfMemoryError, match="shorter history") as caught:
        run(content_image, [style_image], start="content", size=64)

    assert not made
    np.testing.assert_allclose(caught.value.finished.image, content_image, atol=1e-6)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_without_memory_for_a_finer_scale_a_run_ends_with_the_coarse_image(
    error: type[Exception], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Image] = []

    def failing(*args: Any) -> None:
        raise error("out of memory")

    monkeypatch.setattr(RunInputs, "detail_at", failing)

    run = iter_stylize(content_image, [style_image], settings(scales=2), preview_interval=0)

    with pytest.raises(OutOfMemoryError, match="smaller size") as caught:
        shown.extend(event.image for event in run if isinstance(event, Preview))

    reached = caught.value.finished
    assert reached.reason is Reason.FAILED
    assert reached.iterations == len(reached.history) == 4
    # At the size of the result, as after a stop.
    assert reached.image.shape == (36, 48, 3)
    assert shown[-1].shape != reached.image.shape
    coarse = torch.from_numpy(shown[-1]).permute(2, 0, 1)[None]
    enlarged = resize(coarse, 36, 48)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    # What is shown is clamped, and what is enlarged is not.
    assert np.abs(reached.image - enlarged).mean() < 0.02
    assert np.median(np.abs(reached.image - enlarged)) < 1e-5


# Going on


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_without_memory_for_a_copy_a_run_goes_on_from_the_image(
    error: type[Exception], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = end(run(content_image, [style_image]))

    def failing(*args: Any) -> None:
        raise error("out of memory")

    monkeypatch.setattr(LBFGS, "__deepcopy__", failing, raising=False)
    events = run(content_image, [style_image], {"resume": half.state})

    first = next(event for event in events if isinstance(event, Preview))
    np.testing.assert_allclose(first.image, half.image, atol=1e-5)
    assert end(events).iterations == 8
    assert end(events).history[-1] < half.history[-1]
    assert isinstance(half.state, RunState)
    assert isinstance(end(events).state, RunState)


def test_other_errors_of_copying_are_not_swallowed(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = end(run(content_image, [style_image]))

    def failing(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LBFGS, "__deepcopy__", failing, raising=False)

    with pytest.raises(ZeroDivisionError):
        run(content_image, [style_image], {"resume": half.state})


# The image reached


@pytest.mark.parametrize(
    "where",
    [
        (History, "search_direction"),
        (SpectralMetric, "latent_gradient_"),
        (SpectralMetric, "_normalize"),
    ],
    ids=lambda where: where[1],
)
@pytest.mark.parametrize("search", ["none", "backtracking"])
def test_memory_that_runs_out_before_the_first_step_leaves_the_start_image(
    search: str, where: tuple[type, str], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(line_search=search, spectral_exponent=0.25)
    events = iter_stylize(content_image, [style_image], config, preview_interval=0)
    start = next(event.image for event in events if isinstance(event, Preview))
    asked: list[None] = []

    def failing(*args: Any) -> None:
        asked.append(None)
        raise MemoryError("out of memory")

    monkeypatch.setattr(*where, failing)

    with pytest.raises(OutOfMemoryError) as caught:
        next(event for event in events if isinstance(event, Step))

    assert asked
    np.testing.assert_allclose(caught.value.finished.image, start, atol=1e-5)


def test_a_run_that_diverges_hands_over_its_best_image(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = LBFGS.tell, []

    def diverging(optimizer: LBFGS, loss: float, gradient: Tensor) -> bool:
        told.append(loss)
        if len(told) > 3:
            raise DivergedError("not finite")
        return tell(optimizer, loss, gradient)

    monkeypatch.setattr(LBFGS, "tell", diverging)
    shown: list[Event] = []

    with pytest.raises(DivergedError) as caught:
        shown.extend(iter_stylize(content_image, [style_image], settings(), preview_interval=0))

    reached = caught.value.finished
    assert reached.reason is Reason.FAILED
    assert reached.iterations == 2
    assert reached.image.shape == (36, 48, 3)
    assert reached.losses["total"] == told[2]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("where", ["the weights", "the start"])
def test_memory_that_runs_out_before_there_is_an_image_ends_in_a_clear_error(
    where: str, error: type[Exception], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **given: Any) -> None:
        raise error("out of memory")

    if where == "the weights":
        monkeypatch.setattr(FrozenNetwork, "__init__", failing)
    else:
        monkeypatch.setattr(RunInputs, "start_at", failing)

    with pytest.raises(OutOfMemoryError, match="network 'compact', a smaller size") as caught:
        run(content_image, [style_image])

    assert caught.value.finished is None
