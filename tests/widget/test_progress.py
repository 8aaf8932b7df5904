"""How far a run is, and how long it will take."""

from __future__ import annotations

import pytest

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.events import Plan, Scale, Step
from napari_styletransfer.widget.progress import WorkMeter, clock

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


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (7.4, "0:07"), (61, "1:01"), (3723, "1:02:03")])
def test_durations_read_as_on_a_clock(seconds, words):
    assert clock(seconds) == words
