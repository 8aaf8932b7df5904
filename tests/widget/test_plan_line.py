"""The plan shown before Run: when it is made, what it says, and what it refuses."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from napari_styletransfer.cli.progress import summary
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ImageError, OutOfMemoryError
from napari_styletransfer.widget.form import StyleTransferWidget
from napari_styletransfer.widget.plan_line import Question, plan_of

from .conftest import make_plan


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


@pytest.fixture
def torch_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))


@pytest.fixture
def planned(viewer, engine, qtbot):
    """Return a form with a plan that tests may replace, and the questions asked."""
    asked, threads, answer = [], set(), [None]

    def planner(question):
        asked.append(question)
        threads.add(threading.get_ident())
        if answer[0] is not None:
            raise answer[0]
        return make_plan(question.config.changed(network="compact"), question.shape)

    form = StyleTransferWidget(viewer, engine, planner)
    qtbot.addWidget(form)
    yield form, asked, answer, threads
    form.release()
    engine.go.set()


def test_without_torch_nothing_is_asked(planned, monkeypatch, qtbot):
    form, asked, _, _ = planned
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    form.plan.ask()
    assert asked == []
    assert form.plan.isHidden()


def test_the_plan_is_made_in_a_thread_and_told(planned, torch_loaded, qtbot):
    form, asked, _, threads = planned
    form.plan.ask()
    qtbot.waitUntil(lambda: form.plan.text() != "")
    assert form.plan.text() == "compact · fake device · 64 × 48 · 0 MiB"
    assert not form.plan.isHidden()
    assert threading.get_ident() not in threads
    assert asked[0] == Question((48, 64), 1, StyleConfig())


def test_a_stack_is_told_with_its_planes(planned, viewer, torch_loaded, qtbot):
    form, _, _, _ = planned
    form.pictures.choose(viewer.add_image(np.zeros((5, 40, 30))), [viewer.layers["waves"]])
    form.result.choose(axes=(0,))
    form.plan.ask()
    qtbot.waitUntil(lambda: "30 × 40 · 5 planes" in form.plan.text())


def test_a_run_teaches_how_long_the_next_one_takes(planned, engine, torch_loaded, qtbot):
    form, _, _, _ = planned
    plan = make_plan(StyleConfig(network="compact", iterations=100))
    form.plan.learn(plan, [engine._step(1, plan, 0), engine._step(2, plan, 1), engine._step(3, plan, 1)])
    # Three tenths of a second for two full steps and one on a quarter of the pixels; there are 100 of either.
    assert form.plan.words(plan, 2).endswith("2 planes · 0 MiB · at most about 33 s")


def test_a_run_that_was_stopped_at_once_teaches_nothing(planned, engine, torch_loaded, qtbot):
    form, _, _, _ = planned
    plan = make_plan(StyleConfig(network="compact", iterations=100))
    before = form.plan.words(plan)
    form.plan.learn(plan, [replace(engine._step(number, plan, number - 1), seconds=5.0) for number in (1, 2)])
    assert form.plan.words(plan) == before


def test_seconds_that_begin_again_with_a_continuation_are_not_a_pace(planned, engine, torch_loaded, qtbot):
    form, _, _, _ = planned
    plan = make_plan(StyleConfig(network="compact", iterations=100))
    form.plan.learn(plan, [engine._step(number, plan, 1) for number in (1, 20, 30, 1, 2, 3)])
    assert form.plan.words(plan, 2).endswith("at most about 25 s")


def test_before_a_first_run_the_time_is_that_of_the_plan(planned):
    form, _, _, _ = planned
    plan = replace(make_plan(StyleConfig(network="compact", iterations=100)), seconds=40.0)
    assert form.plan.words(plan, 2).endswith("2 planes · 0 MiB · at most about 80 s")
    assert summary(plan).endswith("at most 200 steps, at most about 40 s")


def test_what_is_given_up_for_memory_is_told(planned):
    form, _, _, _ = planned
    plenty = make_plan(StyleConfig(network="compact", history=5))
    little = replace(plenty, keeps_content=False, asked=plenty.config.changed(history=10))
    told = "a history of 5 steps instead of 10 and the content measured again in every step, which is slower"
    assert "memory" not in form.plan.words(plenty)
    assert form.plan.words(little) == f"compact · fake device · 64 × 48 · to save memory: {told} · 0 MiB"
    assert "memory" not in summary(plenty)
    assert summary(little) == f"{summary(plenty)}; to save memory: {told}"


def test_a_content_that_cannot_be_read_has_no_plan(planned, viewer):
    form, _, _, _ = planned
    form.pictures.choose(viewer.add_image(np.zeros((5, 40, 30))), [viewer.layers["waves"]])
    assert form.maker.question(form.config(), form.maker.planes(form.config())) is not None
    viewer.dims.ndisplay = 3
    assert form.maker.question(form.config(), form.maker.planes(form.config())) is None


def test_what_cannot_work_hinders_run_until_it_is_changed(planned, torch_loaded, qtbot):
    form, _, answer, _ = planned
    answer[0] = ImageError("Too small. Choose a larger size.")
    form.plan.ask()
    qtbot.waitUntil(lambda: not form.controls.run.isEnabled())
    assert form.controls.message.text() == "Too small. Choose a larger size."
    answer[0] = None
    form.settings.editors["size"].write(600)
    assert form.controls.run.isEnabled()
    qtbot.waitUntil(lambda: form.plan.text().startswith("compact"))


def test_a_lack_of_memory_warns_but_does_not_hinder(planned, torch_loaded, qtbot):
    form, _, answer, _ = planned
    answer[0] = OutOfMemoryError("It needs 9 GiB. Choose a smaller size.")
    form.plan.ask()
    qtbot.waitUntil(lambda: "9 GiB" in form.plan.text())
    assert form.controls.run.isEnabled()
    assert "color" in form.plan.styleSheet()


def test_the_real_plan_needs_no_pixels():
    plan = plan_of(Question((6_000, 8_000), 2, StyleConfig(network="compact", device="cpu", style_weights=(1, 2))))
    assert (plan.scales[-1].height, plan.scales[-1].width) == (384, 512)
    colors = plan_of(Question((600, 800), 1, StyleConfig(mode="colors")))
    assert (colors.scales[-1].height, colors.scales[-1].width) == (384, 512)
    with pytest.raises(ImageError, match="larger size"):
        plan_of(Question((4, 4), 1, StyleConfig(network="compact", device="cpu")))
