"""Continue from any result: one of this session, with the optimiser's memory, or one that only has its metadata."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_styletransfer.config import Network, Start, StyleConfig
from napari_styletransfer.session import run_cache
from napari_styletransfer.session.run_cache import EndedRun, RunCache, state_bytes
from napari_styletransfer.session.status import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

NAME = "cells × waves"
METADATA = "napari-styletransfer"


@pytest.fixture
def viewer(model):
    return model


@pytest.fixture
def another_form(viewer, engine, qtbot):
    """Make forms that know nothing of the runs before, as in a later session."""
    forms = []

    def make():
        forms.append(StyleTransferWidget(viewer, type(engine)(shape=engine.shape)))
        qtbot.addWidget(forms[-1])
        return forms[-1]

    yield make
    for form in forms:
        form.release()


def ended(form, qtbot, timeout=20_000):
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=timeout)


def run(form, engine, qtbot, **settings):
    """Run to the end and return the new layer."""
    form.pictures.choose(form._viewer.layers["cells"], [form._viewer.layers["waves"]])
    for name, value in settings.items():
        form.settings.editors[name].write(value)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE, form.session.status.message
    return form.session.output.layer


def resumed(form, qtbot):
    """Press Continue and return what the engine was asked."""
    engine = form.session._make_run
    engine.go.set()
    # The form follows layers that come and go a moment later.
    qtbot.waitUntil(form.controls.resume.isEnabled)
    form.controls.resume.click()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE, form.session.status.message
    return engine.calls[-1]


def made(layer):
    return layer.metadata[METADATA]


def reopened(viewer, layer, data=None):
    """Put a copy of a layer, as it comes out of a file, in its place."""
    pixels = layer.data.copy() if data is None else data
    again = type(layer)(
        pixels,
        name=layer.name,
        rgb=layer.rgb,
        scale=layer.scale,
        translate=layer.translate,
        contrast_limits=layer.contrast_limits,
        metadata=json.loads(json.dumps(dict(layer.metadata))),
    )
    viewer.layers.remove(layer)
    return viewer.add_layer(again)


def test_a_selected_result_goes_on_with_its_own_memory_and_settings(form, engine, viewer, qtbot):
    first = run(form, engine, qtbot, balance=0.25)
    second = run(form, engine, qtbot, balance=0.75, iterations=9)
    viewer.layers.selection.active = first
    qtbot.waitUntil(lambda: f"'{first.name}', in its layer, with its own settings" in form.controls.resume.toolTip())
    call = resumed(form, qtbot)
    assert call["resume"] == ("state after", None)
    assert (call["config"].balance, call["config"].iterations) == (0.25, 9)
    assert form.session.output.layer == first
    assert len(viewer.layers) == 4
    assert StyleConfig.from_recipe(made(first)["recipe"]).balance == 0.25
    form.settings.editors["iterations"].write(5)
    call = resumed(form, qtbot)
    assert call["resume"] == ("state after", ("state after", None))
    assert (call["config"].balance, call["config"].iterations) == (0.25, 5)
    viewer.layers.selection.active = second
    assert resumed(form, qtbot)["config"].balance == 0.75


def test_without_a_selected_result_the_content_counts_and_then_the_last_run(form, engine, viewer, qtbot):
    first = run(form, engine, qtbot)
    last = run(form, engine, qtbot)
    viewer.layers.selection.active = viewer.layers["waves"]
    resumed(form, qtbot)
    assert form.session.output.layer == last
    viewer.layers.selection.active = viewer.layers["waves"]
    form.pictures.choose(first, [viewer.layers["waves"]])
    resumed(form, qtbot)
    assert form.session.output.layer == first


def test_the_last_run_takes_the_settings_as_they_are_now(form, engine, viewer, qtbot):
    run(form, engine, qtbot, balance=0.25)
    form.settings.editors["balance"].write(0.75)
    assert resumed(form, qtbot)["config"].balance == 0.75


def test_the_last_run_keeps_what_belongs_to_its_pictures(form, engine, viewer, qtbot):
    run(form, engine, qtbot)
    form.settings.editors["start"].write(Start.IMAGE)
    form.settings.editors["level"].write(1)
    config = resumed(form, qtbot)["config"]
    assert (config.start, config.level) == (Start.AUTO, None)


def test_a_run_goes_on_with_the_network_that_auto_was_for_it(form, engine, viewer, qtbot):
    run(form, engine, qtbot)
    last = form.session.last
    begun_with = last.finished.config.changed(network="compact")
    form.session.last = replace(last, finished=replace(last.finished, config=begun_with))
    # For so many steps 'auto' might be another one.
    form.settings.editors["iterations"].write(700)
    assert resumed(form, qtbot)["config"] == StyleConfig(network="compact", iterations=700)
    form.settings.editors["network"].write(Network.VGG16)
    assert resumed(form, qtbot)["config"].network is Network.VGG16


def test_a_result_made_with_other_weights_is_not_gone_on_with(form, engine, viewer, another_form, qtbot):
    layer = reopened(viewer, run(form, engine, qtbot))
    later = another_form()
    viewer.layers.selection.active = layer
    assert later.controls.resume.isEnabled()
    viewer.layers.selection.active = None
    made(layer)["recipe"].update(network="vgg19", weights_sha256="1" * 64)
    viewer.layers.selection.active = layer
    assert not later.controls.resume.isEnabled()
    assert "made with other weights of 'vgg19'" in later.controls.resume.toolTip()


def test_a_result_of_an_earlier_session_starts_from_its_picture(form, engine, viewer, another_form, qtbot):
    layer = reopened(viewer, run(form, engine, qtbot, balance=0.25, start=Start.CONTENT))
    viewer.layers.selection.active = layer
    later = another_form()
    later.settings.editors["iterations"].write(7)
    layer.data[:] = 17
    call = resumed(later, qtbot)
    assert call["resume"] is None
    assert call["config"] == StyleConfig(balance=0.25, iterations=7, start=Start.IMAGE, scales=1)
    assert (call["content"].source.name, [style.name for style in call["styles"]]) == ("cells", ["waves"])
    assert later.session.output.layer == layer
    np.testing.assert_array_equal(layer.data, 204)
    assert made(layer)["history"] == [0.9, 0.3, 0.9, 0.3]
    recipe = StyleConfig.from_recipe(made(layer)["recipe"])
    assert (recipe.start, recipe.scales) == (Start.CONTENT, None)
    call = resumed(later, qtbot)
    assert call["resume"] == ("state after", None)
    assert (call["config"].balance, call["config"].scales) == (0.25, 1)


def test_the_picture_to_start_from_is_that_of_the_layer(form, engine, viewer, another_form, qtbot):
    layer = run(form, engine, qtbot)
    layer.contrast_limits = (0, 20)
    viewer.layers.selection.active = layer
    later = another_form()
    layer.data[:] = 51
    seen = later._continuation().prepare(later.config()).job.init.read()
    np.testing.assert_allclose(seen, np.full((48, 64, 3), 0.2), atol=1e-6)


def test_a_missing_picture_is_named_until_it_is_back(form, engine, viewer, another_form, qtbot):
    layer = run(form, engine, qtbot)
    later = another_form()
    cells, waves = viewer.layers["cells"], viewer.layers["waves"]
    viewer.layers.remove(cells)
    viewer.layers.selection.active = layer
    qtbot.waitUntil(lambda: "made from 'cells', which is not in the viewer" in later.controls.resume.toolTip())
    assert not later.controls.resume.isEnabled()
    viewer.layers.remove(waves)
    qtbot.waitUntil(lambda: "'cells' and 'waves', which are not" in later.controls.resume.toolTip())
    viewer.add_layer(cells)
    viewer.add_layer(waves)
    viewer.layers.selection.active = layer
    qtbot.waitUntil(later.controls.resume.isEnabled)


def test_another_picture_of_the_same_name_is_refused(form, engine, viewer, another_form, qtbot):
    layer = run(form, engine, qtbot)
    viewer.layers.remove("cells")
    viewer.add_image(np.zeros((20, 30)), name="cells")
    viewer.layers.selection.active = layer
    later = another_form()
    later.resume()
    assert later.session.status.state is State.FAILED
    assert "'cells' is 20 × 30 now and was 48 × 64" in later.controls.message.text()


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "read-only"])
@pytest.mark.parametrize("channel", [False, True], ids=["rgb", "channel"])
def test_a_half_filled_stack_goes_on_in_a_later_session(
    form, engine, viewer, another_form, qtbot, channel, lazy, request
):
    data = np.random.default_rng(0).integers(0, 60_000, (2, 3, 48, 64)).astype(np.uint16)
    movie = viewer.add_image(data, name="movie", scale=(1, 5, 0.5, 0.5), contrast_limits=(0, 60_000))
    form.pictures.choose(movie, [viewer.layers["waves"]])
    viewer.dims.set_point(0, 1)
    form.output.choose(axes=(1,), channel=channel)
    form.settings.editors["balance"].write(0.25)
    engine.pause_after = 0
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: form.session.output.layer is not None and len(form.session.output.finished) == 1)
    form.stop()
    ended(form, qtbot)
    done = form.session.output.layer.data[0, 0].copy()
    pixels = form.session.output.layer.data.copy()
    pixels.flags.writeable = not lazy
    layer = reopened(viewer, form.session.output.layer, pixels)
    viewer.layers.selection.active = layer
    viewer.dims.set_point(0, 0)
    later = another_form()
    call = resumed(later, qtbot)
    ((number, _),) = later.session._make_run.seen
    assert number == 0
    assert call["config"].balance == 0.25
    np.testing.assert_array_equal(call["content"].source.plane[0], 1)
    assert later.session.output.layer == layer
    np.testing.assert_array_equal(layer.data[0, 0], done)
    assert layer.data[0, 1].max() > 0
    assert [plane["plane"] for plane in made(layer)["planes"]] == [0, 1, 2]
    assert made(layer)["recipe"]["balance"] == 0.25
    assert not later.controls.resume.isEnabled()
    latest = another_form()
    qtbot.waitUntil(lambda: "All planes" in latest.controls.resume.toolTip())


def test_a_stack_from_a_picture_that_is_not_known_any_more_is_refused(form, engine, viewer, another_form, qtbot):
    movie = viewer.add_image(np.zeros((3, 48, 64), np.uint8), name="movie")
    form.pictures.choose(movie, [viewer.layers["waves"]])
    form.output.choose(axes=(0,))
    form.settings.editors["start"].write(Start.IMAGE)
    form.run()
    qtbot.waitUntil(engine.halfway.is_set)
    form.stop()
    ended(form, qtbot)
    assert engine.calls[0]["init"] is not None
    viewer.layers.selection.active = reopened(viewer, form.session.output.layer)
    later = another_form()
    qtbot.waitUntil(lambda: "began from a start image" in later.controls.resume.toolTip())
    assert not later.controls.resume.isEnabled()


def test_regions_and_layers_seen_together_are_found_again(form, engine, viewer, another_form, qtbot):
    ramp = np.linspace(0, 1, 48 * 64).reshape(48, 64)
    for name, data in (("green", ramp), ("red", 1 - ramp)):
        viewer.add_image(data, name=name, colormap=name, blending="additive", contrast_limits=(0, 1))
    viewer.layers["cells"].visible = viewer.layers["waves"].visible = False
    marks = np.zeros((48, 64), int)
    marks[:20], marks[20:30] = 4, 9
    form.pictures.choose(form.pictures.groups[0], [viewer.layers["waves"], viewer.layers["cells"]])
    form.regions.choose(viewer.add_labels(marks, name="marks"))
    qtbot.waitUntil(lambda: set(form.regions.rows) == {0, 4, 9})
    form.regions.rows[9].setCurrentIndex(form.regions.rows[9].findData("none"))
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE, form.session.status.message
    viewer.layers.selection.active = form.session.output.layer
    before = engine.calls[-1]
    later = another_form()
    job = later._continuation().prepare(later.config()).job
    np.testing.assert_array_equal(job.labels[0].read(), before["labels"][0].read())
    assert set(np.unique(job.labels[0].read())) == {0, 4}
    np.testing.assert_array_equal(job.content.read(), before["content"].read())
    assert [style.name for style in job.styles] == [style.name for style in before["styles"]]
    viewer.layers.remove("marks")
    qtbot.waitUntil(lambda: "made from 'marks'" in later.controls.resume.toolTip())


def test_a_run_beyond_those_kept_goes_on_from_its_picture(form, engine, viewer, qtbot):
    layers = [run(form, engine, qtbot) for _ in range(run_cache.MAX_RUNS + 1)]
    viewer.layers.selection.active = layers[0]
    call = resumed(form, qtbot)
    assert call["resume"] is None
    assert call["config"].start is Start.IMAGE
    viewer.layers.selection.active = layers[-1]
    assert resumed(form, qtbot)["resume"] == ("state after", None)


def test_a_layer_of_a_failed_continuation_goes_on_as_before(form, engine, viewer, another_form, qtbot):
    layer = run(form, engine, qtbot)
    viewer.layers.selection.active = layer
    later = another_form()
    later.session._make_run.error = RuntimeError("a kernel failed")
    later.session._make_run.go.set()
    later.controls.resume.click()
    ended(later, qtbot)
    assert later.session.status.state is State.FAILED
    later.session._make_run.error = None
    assert resumed(later, qtbot)["config"].start is Start.IMAGE


def test_the_button_says_why_it_cannot_be_pressed(form, engine, viewer, qtbot):
    def tells(words):
        qtbot.waitUntil(lambda: words in form.controls.resume.toolTip() and not form.controls.resume.isEnabled())

    def select(layer, made):
        layer.metadata = {METADATA: made}
        viewer.layers.selection.active = None
        viewer.layers.selection.active = layer

    tells("There is no result yet")
    engine.go.set()
    form.try_variations()
    tells("A run is under way")
    ended(form, qtbot)
    tells("Double-click a variation")
    viewer.layers.selection.active = reopened(viewer, form.session.output.layer)
    tells("Try variations again")
    layer = viewer.add_image(np.zeros((8, 8)), name="odd")
    select(layer, {"recipe": None})
    tells("'odd' does not say how it was made")
    recipe = StyleConfig(mode="colors").recipe()
    select(layer, {"recipe": recipe, "pictures": {"content": None, "styles": [], "regions": None, "axes": []}})
    tells("Colours are taken over at once")
    select(layer, {"recipe": recipe, "pictures": {"content": 3}})
    tells("damaged")


def ended_run(state, present=True):
    output = SimpleNamespace(present=present, layer=object())
    return EndedRun(None, output, None if state is None else SimpleNamespace(state=state))


class Tensor:
    """Stands for a tensor of ten bytes."""

    def untyped_storage(self):
        return SimpleNamespace(nbytes=lambda: 10, data_ptr=lambda: id(self))


def test_memory_is_bounded_and_the_newest_run_always_kept():
    runs = RunCache(most_runs=3, most_bytes=25)
    first, second, third, large = (ended_run([Tensor()] * 1 + [Tensor() for _ in range(more)]) for more in (0, 0, 0, 4))
    for each in (first, second, third):
        runs.put(each)
    assert runs.get(first.output.layer) is None
    assert runs.get(second.output.layer) is second
    longer = replace(second, keeps_settings=True)
    runs.put(longer)
    assert runs.get(second.output.layer) is longer
    runs.put(large)
    assert runs.get(longer.output.layer) is None
    assert runs.get(large.output.layer) is large
    runs.make_room(ended_run(None))
    assert runs.get(large.output.layer) is None


def test_a_run_whose_layer_is_gone_is_dropped():
    runs = RunCache()
    gone = ended_run(None)
    runs.put(gone)
    gone.output.present = False
    runs.put(ended_run(None))
    assert runs.get(gone.output.layer) is None


def test_a_run_is_dropped_as_soon_as_its_layer_is_gone(form, engine, viewer, qtbot):
    layer = run(form, engine, qtbot)
    assert form.session.cache.get(layer) is not None
    viewer.layers.remove(layer)
    assert form.session.cache.get(layer) is None


def test_a_tensor_counts_once():
    tensor = Tensor()
    assert state_bytes({"a": [tensor, tensor], "b": (tensor, Tensor())}) == 20
    assert state_bytes(("state after", None)) == 0


def test_a_real_result_goes_on_in_a_later_session(viewer, qtbot):
    first = StyleTransferWidget(viewer)
    qtbot.addWidget(first)
    first.show_config(StyleConfig(network="compact", size=64, iterations=3, scales=1, tolerance=0, device="cpu"))
    first.run()
    ended(first, qtbot, 120_000)
    assert first.session.status.state is State.DONE, first.session.status.message
    assert 5 * 4 * 3 * 48 * 64 < state_bytes(first.session.last.finished.state) < 60 * 4 * 3 * 48 * 64
    layer = first.session.output.layer
    losses = made(layer)["history"]
    first.release()
    viewer.layers.selection.active = layer
    later = StyleTransferWidget(viewer)
    qtbot.addWidget(later)
    later.settings.editors["iterations"].write(3)
    qtbot.waitUntil(later.controls.resume.isEnabled)
    later.controls.resume.click()
    ended(later, qtbot, 120_000)
    assert later.session.status.state is State.DONE, later.session.status.message
    history = made(layer)["history"]
    assert history[:3] == losses
    assert len(history) == 6
    assert history[3] < losses[0]
    assert history[-1] < losses[-1]
    later.release()


def test_the_last_run_goes_on_at_its_own_size(form, engine, viewer, qtbot):
    run(form, engine, qtbot, size=64)
    form.settings.editors["size"].write(128)
    form.settings.editors["scales"].write(1)
    form.settings.editors["balance"].write(0.25)
    call = resumed(form, qtbot)
    assert call["resume"] == ("state after", None)
    assert (call["config"].size, call["config"].scales, call["config"].balance) == (64, None, 0.25)
