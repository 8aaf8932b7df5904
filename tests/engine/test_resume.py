"""A run goes on from where an earlier one stood as if it had never ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ended import end

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.events import Event, Preview, Reason, Step
from napari_styletransfer.networks import weights
from napari_styletransfer.planning import planner

Image = npt.NDArray[np.float32]


def settings(**fields: Any) -> StyleConfig:
    quick = {"network": "compact", "device": "cpu", "precision": "float32", "size": 48, "scales": 1, "tolerance": 0}
    return StyleConfig(**{**quick, "iterations": 6, "coarse_iterations": 1.0, **fields})


def run(content: Any, style: Any, options: dict[str, Any] | None = None, **fields: Any) -> list[Event]:
    return list(iter_stylize(content, [style], settings(**fields), **(options or {})))


def first_preview(events: Sequence[Event]) -> Preview:
    return next(event for event in events if isinstance(event, Preview))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_two_halves_make_the_pixels_of_one_whole(optimizer: str, content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image, optimizer=optimizer))
    whole = end(run(content_image, style_image, optimizer=optimizer, iterations=12))

    rest = end(run(content_image, style_image, {"resume": half.state}, optimizer=optimizer))

    np.testing.assert_array_equal(rest.image, whole.image)
    assert rest.iterations == 12


def test_two_halves_have_the_history_of_one_whole(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image))

    rest = end(run(content_image, style_image, {"resume": half.state}))

    assert rest.history[:6] == half.history
    assert rest.history == end(run(content_image, style_image, iterations=12)).history


def test_the_steps_count_on(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image))

    told = [event for event in run(content_image, style_image, {"resume": half.state}) if isinstance(event, Step)]

    assert [step.iteration for step in told] == list(range(7, 13))
    assert {step.total for step in told} == {12}


def test_the_first_preview_is_the_image_that_was_reached(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image))

    events = run(content_image, style_image, {"resume": half.state})

    np.testing.assert_array_equal(first_preview(events).image, half.image)
    assert first_preview(events).iteration == 6


def test_the_loss_does_not_jump_up(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image, scales=2))

    rest = end(run(content_image, style_image, {"resume": half.state}, scales=2))

    assert rest.history[len(half.history)] <= half.history[-1] * (1 + 1e-5)


def test_a_run_goes_on_at_the_finest_scale(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image, scales=2))

    told = [
        event
        for event in run(content_image, style_image, {"resume": half.state}, scales=2, iterations=4)
        if isinstance(event, Step)
    ]

    assert {step.scale for step in told} == {1}
    assert [step.iteration for step in told] == [13, 14, 15, 16]


def test_a_run_stopped_at_a_coarse_scale_goes_on_there_and_then_refines(
    content_image: Image, style_image: Image
) -> None:
    asked = iter(range(1_000_000))
    # Two styles and content are measured, then three steps and the start are evaluated.
    half = end(run(content_image, style_image, {"should_stop": lambda: next(asked) >= 6}, scales=2))
    assert half.reason is Reason.STOPPED
    assert half.iterations < 6

    told = [
        event
        for event in run(content_image, style_image, {"resume": half.state}, scales=2, iterations=5)
        if isinstance(event, Step)
    ]

    assert [step.scale for step in told] == [0] * 5 + [1] * 5
    assert told[0].iteration == half.iterations + 1
    assert told[-1].iteration == told[-1].total == half.iterations + 10


@pytest.mark.parametrize(
    "changes",
    [{"balance": 0.8}, {"tv_weight": 3.0}, {"history": 4}, {"optimizer": "adam"}, {"spectral_exponent": 0.0}],
    ids=lambda changes: next(iter(changes)),
)
def test_with_other_settings_the_image_is_kept_and_the_new_loss_falls(
    changes: dict[str, Any], content_image: Image, style_image: Image
) -> None:
    half = end(run(content_image, style_image))

    events = run(content_image, style_image, {"resume": half.state}, **changes)

    np.testing.assert_allclose(first_preview(events).image, half.image, atol=1e-5)
    assert end(events).history[-1] < end(events).history[len(half.history)]
    assert end(events).iterations == 12


@pytest.mark.parametrize("changes", [{"iterations": 3}, {"window": 50}, {"max_seconds": 1000.0}, {"memory_limit": 4.0}])
def test_other_stopping_rules_keep_the_memory_of_the_optimiser(
    changes: dict[str, Any], content_image: Image, style_image: Image
) -> None:
    half = end(run(content_image, style_image))
    whole = end(run(content_image, style_image, iterations=12))

    rest = end(run(content_image, style_image, {"resume": half.state}, **changes))

    assert rest.history == whole.history[: len(rest.history)]


def test_the_decided_settings_of_the_first_half_serve_for_the_second(
    content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "MAX_AUTO_SECONDS", 0.0)  # which leaves the compact network
    half = end(run(content_image, style_image, network="auto", start="auto"))

    rest = end(list(iter_stylize(content_image, [style_image], half.config, resume=half.state)))

    assert rest.history == end(run(content_image, style_image, iterations=12)).history


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("exponent", [None, 0.0, 0.5])
def test_a_state_can_be_taken_up_more_than_once(
    exponent: float | None, optimizer: str, content_image: Image, style_image: Image
) -> None:
    fields = {"spectral_exponent": exponent, "optimizer": optimizer}
    half = end(run(content_image, style_image, **fields))

    one, other = (end(run(content_image, style_image, {"resume": half.state}, **fields)) for _ in range(2))

    np.testing.assert_array_equal(one.image, other.image)
    assert one.history == other.history


def test_a_state_outlives_a_run_that_was_closed(content_image: Image, style_image: Image) -> None:
    half = end(run(content_image, style_image))
    broken_off = iter_stylize(content_image, [style_image], settings(), resume=half.state)
    for _ in range(5):
        next(broken_off)
    broken_off.close()

    events = run(content_image, style_image, {"resume": half.state})

    np.testing.assert_array_equal(first_preview(events).image, half.image)


@pytest.mark.parametrize("fields", [{"size": 40}, {"scales": 2}])
def test_a_run_of_another_size_is_refused_before_weights_are_fetched(
    fields: dict[str, Any], content_image: Image, style_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = end(run(content_image, style_image))

    def fetch(*args: Any) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(weights, "fetch", fetch)

    with pytest.raises(ConfigError, match="another size"):
        run(content_image, style_image, {"resume": half.state}, **fields)


def test_a_result_can_be_the_start_of_a_run_at_another_size(content_image: Image, style_image: Image) -> None:
    small = end(run(content_image, style_image, size=32))

    events = run(content_image, style_image, {"init": small.image}, start="image")

    assert first_preview(events).image.shape == (36, 48, 3)
    assert end(events).history[0] < end(run(content_image, style_image, start="white-noise")).history[0]
