"""How far a run is, and how long it will take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.events import Finished, Plan, PlaneStarted, Reason, Scale, Started, Step
from napari_styletransfer.progress import RunProgress, WorkMeter, describe_network, duration, rough_duration

SCALES = (Scale(10, 10, 5), Scale(20, 20, 5))
PLAN = Plan(StyleConfig(), "cpu", "cpu", "float32", SCALES, None, 1, 1, 2)


def step(iteration: int, scale: int, seconds: float) -> Step:
    return Step(iteration, 10, iteration, scale, {"total": 1.0}, {}, seconds)


def test_the_bar_moves_with_the_work_not_with_the_steps():
    meter = WorkMeter(PLAN)
    for iteration in range(1, 6):
        meter.update(step(iteration, 0, iteration))
    assert meter.fraction == pytest.approx(500 / 2500)
    for iteration in range(6, 11):
        meter.update(step(iteration, 1, iteration))
    assert meter.fraction == 1


def test_the_time_left_is_foreseen_from_the_coarse_scale():
    meter = WorkMeter(PLAN)
    for iteration in range(1, 6):
        meter.update(step(iteration, 0, 10 + iteration))
    assert meter.seconds_left == pytest.approx(20)


def test_nothing_is_foretold_from_one_step():
    meter = WorkMeter(PLAN)
    meter.update(step(1, 0, 30))
    assert meter.seconds_left is None


def test_a_scale_that_ends_early_moves_the_bar_on():
    meter = WorkMeter(PLAN)
    meter.update(step(1, 0, 1))
    meter.update(step(2, 1, 3))
    assert meter.fraction == pytest.approx((500 + 400) / 2500)


def test_a_continued_run_counts_from_where_it_goes_on():
    meter = WorkMeter(PLAN)
    for iteration in range(11, 16):
        meter.update(step(iteration, 1, iteration))
    assert meter.fraction == 1
    assert meter.seconds_left == 0


def test_the_time_left_of_a_stack_counts_the_planes_to_come():
    progress = RunProgress()

    def coarse_scale():
        progress(Started(PLAN))
        for iteration in range(1, 6):
            progress(step(iteration, 0, 10 + iteration))

    def finished(seconds):
        image = np.zeros((1, 1, 3), np.float32)
        progress(Finished(image, StyleConfig(), Reason.ITERATIONS, 10, 10, seconds, {}, ()))

    progress(PlaneStarted(0, 3))
    assert (progress.seconds_left, progress.fraction) == (None, 0)
    coarse_scale()
    # Twenty seconds for the rest of this one, and before any has ended as much for each of the others.
    assert (progress.seconds_left, progress.fraction) == (pytest.approx(60), pytest.approx(0.2 / 3))
    finished(30.0)
    finished(0.0)  # left as it is
    progress(PlaneStarted(1, 3))
    coarse_scale()
    assert (progress.seconds_left, progress.fraction) == (pytest.approx(50), pytest.approx(1.2 / 3))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (7.4, "7 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3723, "1 h 2 min")]
)
def test_durations_are_told_as_people_say_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (80, "80 s"), (100, "2 min"), (5300, "88 min"), (5500, "1.5 h")]
)
def test_rough_durations_have_one_unit(seconds, words):
    assert rough_duration(seconds) == words


def test_a_network_that_auto_became_is_told_with_the_reason():
    plan = replace(PLAN, config=StyleConfig(network="vgg19"))
    assert describe_network(plan) == "vgg19"
    assert describe_network(replace(plan, why_network="there is a GPU")) == "vgg19 (auto: there is a GPU)"
