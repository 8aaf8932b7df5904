"""What a run does to the viewer, and what the user does to the run meanwhile."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.utils import progress
from napari.utils.notifications import notification_manager

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import DivergedError, OutOfMemoryError, StyleTransferError, WeightsError
from napari_styletransfer.events import Fetching, Finished, Reason
from napari_styletransfer.session.form_state import saved_form
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget

NAME = "cells × waves"
METADATA = "napari-styletransfer"


def started(form: StyleTransferWidget, engine: Any, qtbot: Any) -> None:
    """Press Run and wait until the first preview is there."""
    form.controls.run.click()
    qtbot.waitUntil(lambda: engine.halfway.is_set() and form.session.output.layer is not None)


def ended(form: StyleTransferWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not form.session.status.active)


def test_the_first_press_with_defaults_makes_a_layer_that_grows_into_the_result(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    layer = viewer.layers[NAME]
    data = layer.data
    assert layer.data.shape == (48, 64, 3)
    np.testing.assert_array_equal(layer.data, 64)
    assert form.session.status.state is State.RUNNING
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert layer.data is data
    np.testing.assert_array_equal(layer.data, 204)
    assert [layer.name for layer in viewer.layers] == ["cells", "waves", NAME]


def test_the_result_lies_on_its_content_also_at_another_size(form, engine, viewer, qtbot):
    engine.shape = (24, 32)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    content, result = viewer.layers["cells"], viewer.layers[NAME]
    assert result.data.shape == (24, 32, 3)
    # The outer edges, half a pixel beyond the first and last centres, coincide.
    for corner, wanted in (((-0.5, -0.5), (-0.5, -0.5)), ((23.5, 31.5), (47.5, 63.5))):
        np.testing.assert_allclose(result.data_to_world(corner), content.data_to_world(wanted))


def test_the_result_carries_its_recipe_and_history(form, engine, viewer, qtbot):
    form.settings.editors["balance"].write(0.25)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    made = viewer.layers[NAME].metadata[METADATA]
    assert StyleConfig.from_recipe(made["recipe"]) == StyleConfig(balance=0.25)
    assert made["history"] == [0.9, 0.3]
    assert (made["content"], made["styles"]) == ("cells", ["waves"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "Choose a smaller size"),
        (RuntimeError("a kernel failed"), "a kernel failed"),
        (StopIteration(), "generator raised StopIteration"),
        (WeightsError("The file is damaged. Delete it."), "The file is damaged. Delete it."),
    ],
    ids=["out of memory", "runtime error", "stop iteration", "our own"],
)
def test_an_engine_error_reaches_the_user_and_the_form_recovers(form, engine, viewer, qtbot, error, words):
    engine.error = error
    engine.go.set()
    told = len(notification_manager.records)
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.FAILED
    assert [record.severity.value for record in notification_manager.records[told:]] == ["error"]
    assert words in notification_manager.records[-1].message
    assert words in form.controls.message.text()
    assert form.controls.run.isEnabled()
    engine.error = None
    form.controls.run.click()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert form.controls.message.text().startswith("Done")


def test_a_layer_that_cannot_be_read_is_told_and_the_form_stays_usable(form, engine, viewer, qtbot):
    stack = viewer.add_image(np.zeros((3, 8, 8)), name="stack")
    form.pictures.choose(stack, [viewer.layers["waves"]])
    viewer.dims.ndisplay = 3
    form.run()
    assert form.session.status.state is State.FAILED
    assert "Switch the viewer to 2D" in form.controls.message.text()
    assert engine.calls == []
    viewer.dims.ndisplay = 2
    engine.go.set()
    qtbot.waitUntil(form.controls.run.isEnabled)
    form.controls.run.click()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE


def test_data_that_cannot_be_read_in_the_thread_is_told_too(form, engine, viewer, qtbot):
    empty = viewer.add_image(np.full((8, 8), np.nan), name="empty", contrast_limits=(0, 1))
    form.pictures.choose(empty, [viewer.layers["waves"]])
    form.run()
    ended(form, qtbot)
    assert form.session.status.state is State.FAILED
    assert "'empty'" in form.controls.message.text()


def test_stop_keeps_the_best_image(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    form.controls.stop.click()
    assert form.session.status.state is State.STOPPING
    assert not form.controls.stop.isEnabled()
    ended(form, qtbot)
    assert form.session.status.state is State.STOPPED
    np.testing.assert_array_equal(viewer.layers[NAME].data, 102)
    assert viewer.layers[NAME].metadata[METADATA]["reason"] == "stopped"
    assert form.controls.run.isEnabled()


def test_a_second_press_starts_no_second_run(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    assert not form.controls.run.isEnabled()
    form.run()
    assert len(engine.calls) == 1
    engine.go.set()
    ended(form, qtbot)
    assert len(viewer.layers) == 3


def test_a_refused_request_does_not_end_the_run(form, engine, viewer, qtbot, tmp_path):
    started(form, engine, qtbot)
    told = len(notification_manager.records)
    form.menu.load(str(tmp_path / "missing.json"))
    assert "cannot be read" in notification_manager.records[told].message
    assert form.session.status.state is State.RUNNING
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE


def test_a_deleted_output_layer_comes_back_with_the_result_only(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    viewer.layers.remove(NAME)
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    np.testing.assert_array_equal(viewer.layers[NAME].data, 204)
    assert viewer.layers[NAME].metadata[METADATA]["history"] == [0.9, 0.3]


def test_a_hidden_output_layer_stays_hidden_and_gets_the_result(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    layer = viewer.layers[NAME]
    layer.visible = False
    engine.go.set()
    ended(form, qtbot)
    assert not layer.visible
    np.testing.assert_array_equal(layer.data, 204)


def test_a_renamed_output_layer_keeps_its_name_and_gets_the_result(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    layer = viewer.layers[NAME]
    layer.name = "mine"
    engine.go.set()
    ended(form, qtbot)
    assert [layer.name for layer in viewer.layers] == ["cells", "waves", "mine"]
    np.testing.assert_array_equal(layer.data, 204)


def test_a_layer_of_the_users_with_the_same_name_is_not_touched(form, engine, viewer, qtbot):
    mine = viewer.add_image(np.zeros((5, 5)), name=NAME)
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"]])
    engine.go.set()
    form.run()
    ended(form, qtbot)
    assert mine.data.shape == (5, 5)
    assert form.session.output.layer.name == f"{NAME} [1]"


def test_deleting_the_content_leaves_the_run_alone(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    viewer.layers.remove("cells")
    viewer.layers.remove("waves")
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    np.testing.assert_array_equal(viewer.layers[NAME].data, 204)


def test_removing_all_layers_stops_the_run_and_puts_nothing_back(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    viewer.layers.clear()
    assert form.session.status.state is State.STOPPING
    qtbot.waitUntil(engine.ended.is_set)
    ended(form, qtbot)
    assert form.session.status.state is State.IDLE
    assert form.session.status.message == "Stopped, as all layers were removed"
    assert len(viewer.layers) == 0
    viewer.add_image(np.zeros((8, 8)), name="new")
    viewer.add_image(np.ones((8, 8)), name="other")
    qtbot.waitUntil(form.controls.run.isEnabled)
    engine.go.set()
    form.controls.run.click()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE
    assert [layer.name for layer in viewer.layers] == ["new", "other", "new × other"]


def test_closing_the_dock_stops_the_run_and_keeps_its_best_image(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    session = form.session
    viewer.window.remove_dock_widget(form)
    qtbot.waitUntil(lambda: engine.ended.is_set() and not session.status.active)
    np.testing.assert_array_equal(viewer.layers[NAME].data, 102)
    # What the closed form no longer follows must not reach it.
    viewer.add_image(np.zeros((4, 4)), name="later")
    viewer.layers["cells"].name = "renamed"
    viewer.theme = "light"


def test_a_form_opened_after_another_was_closed_says_what_that_said(form, engine, viewer, qtbot):
    viewer.add_image(np.random.default_rng(0).random((4, 48, 64)), name="movie")
    viewer.add_image(np.zeros((48, 64, 3), np.uint8), rgb=True, name="paper")
    viewer.add_labels(np.ones((48, 64), int), name="where")
    form.show_config(StyleConfig(network="compact", balance=0.3, style_scale=2.0, seed=7))
    form.pictures.choose(viewer.layers["movie"], [viewer.layers["paper"], viewer.layers["waves"]])
    form.pictures.set_style_weights((1.0, 3.0))
    form.regions.choose(viewer.layers["where"])
    form.regions.find_labels()
    qtbot.waitUntil(lambda: 1 in form.regions.rows)
    form.regions.rows[1].setCurrentIndex(2)
    form.output.choose(axes=(0,), channel=True)
    said = form.config()
    assert said.regions is not None
    # What no run could take is not what the form had.
    form.settings.editors["tv_weight"].widget.value = "-1"
    viewer.window.remove_dock_widget(form)
    qtbot.waitUntil(lambda: saved_form(viewer) is not None)

    again = StyleTransferWidget(viewer, engine)
    viewer.window.add_dock_widget(again, name="Style Transfer")

    qtbot.waitUntil(lambda: again.config() == said)
    assert again.pictures.content_layer.name == "movie"
    assert [style.name for style in again.pictures.style_layers] == ["paper", "waves"]
    assert again.regions.layer.name == "where"
    assert (again.state.axes, again.state.channel) == ((0,), True)
    gone = []
    again.destroyed.connect(lambda: gone.append("again"))
    viewer.window.remove_dock_widget(again)
    qtbot.waitUntil(lambda: gone == ["again"])
    viewer.layers.remove("paper")
    third = StyleTransferWidget(viewer, engine)
    assert [style.name for style in third.pictures.style_layers] == ["waves"]
    third.destroyed.connect(lambda: gone.append("third"))
    third.release()
    third.deleteLater()
    qtbot.waitUntil(lambda: gone == ["again", "third"])
    third.release()


def test_a_form_moved_to_another_dock_goes_on(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    viewer.window.remove_dock_widget(form)
    viewer.window.add_dock_widget(form, name="Style Transfer", area="left")
    qtbot.wait(1)
    assert form.session.status.state is State.RUNNING
    engine.go.set()
    ended(form, qtbot)
    assert form.session.status.state is State.DONE


def test_closing_the_viewer_ends_the_run(form, engine, viewer, qtbot):
    started(form, engine, qtbot)
    layers = viewer.layers
    viewer.close()
    qtbot.waitUntil(engine.ended.is_set)
    qtbot.waitUntil(lambda: form.session.idle)
    assert len(layers) == 0


def test_two_forms_run_at_once_without_disturbing_each_other(form, engine, viewer, qtbot):
    other_engine = type(engine)(shape=(24, 32))
    other = StyleTransferWidget(viewer, other_engine)
    viewer.window.add_dock_widget(other, name="Style Transfer 2")
    started(form, engine, qtbot)
    started(other, other_engine, qtbot)
    first, second = form.session.output.layer, other.session.output.layer
    assert first != second
    form.stop()
    ended(form, qtbot)
    assert other.session.status.state is State.RUNNING
    other_engine.go.set()
    ended(other, qtbot)
    np.testing.assert_array_equal(first.data, 102)
    np.testing.assert_array_equal(second.data, 204)
    other.release()


def test_continue_goes_on_from_the_state_in_the_same_layer(form, engine, viewer, qtbot):
    assert not form.controls.resume.isEnabled()
    started(form, engine, qtbot)
    form.stop()
    ended(form, qtbot)
    layer = viewer.layers[NAME]
    engine.go.set()
    form.settings.editors["iterations"].write(7)
    form.controls.resume.click()
    ended(form, qtbot)
    assert engine.calls[1]["resume"] == ("state after", None)
    assert engine.calls[1]["config"].iterations == 7
    assert viewer.layers[NAME] == layer
    assert len(viewer.layers) == 3
    np.testing.assert_array_equal(layer.data, 204)
    assert len(form.session.steps) == 3


def test_transparency_of_the_content_is_kept(form, engine, viewer, qtbot):
    pixels = np.full((48, 64, 4), 200, np.uint8)
    pixels[:, :32, 3] = 10
    content = viewer.add_image(pixels, name="cutout", rgb=True)
    form.pictures.choose(content, [viewer.layers["waves"]])
    engine.go.set()
    form.run()
    ended(form, qtbot)
    result = form.session.output.layer.data
    np.testing.assert_array_equal(result[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(result[..., :3], 204)


def test_a_plane_of_a_stack_gives_a_result_at_that_plane(form, engine, viewer, qtbot):
    stack = viewer.add_image(np.random.default_rng(0).random((5, 48, 64)), name="stack")
    form.pictures.choose(stack, [viewer.layers["waves"]])
    viewer.dims.set_point(0, 3)
    engine.go.set()
    form.run()
    ended(form, qtbot)
    layer = form.session.output.layer
    assert layer.data.shape == (1, 48, 64, 3)
    assert layer.data_to_world((0, 0, 0))[0] == 3
    np.testing.assert_array_equal(layer.data, 204)


def test_the_activity_dock_shows_the_run_only_while_it_lasts(form, engine, viewer, qtbot):
    before = len(progress._all_instances)
    started(form, engine, qtbot)
    assert len(progress._all_instances) == before + 1
    engine.go.set()
    ended(form, qtbot)
    assert len(progress._all_instances) == before


def test_a_closed_form_leaves_nothing_behind(form, engine, viewer, qtbot):
    engine.go.set()
    form.run()
    ended(form, qtbot)
    extra = StyleTransferWidget(viewer, engine)
    viewer.window.add_dock_widget(extra, name="another")
    gone = weakref.ref(extra)
    destroyed = []
    extra.destroyed.connect(lambda: destroyed.append(True))
    viewer.window.remove_dock_widget(extra)
    del extra
    qtbot.waitUntil(lambda: bool(destroyed))
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None)


def test_the_error_of_a_run_is_one_of_ours():
    assert issubclass(WeightsError, StyleTransferError)
    assert not issubclass(StyleTransferError, RuntimeError)


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_run_that_fails_under_way_leaves_its_best_image(iterations, form, engine, viewer, qtbot):
    engine.error = OutOfMemoryError("The device ran out of memory.")
    image = np.full((*engine.shape, 3), 0.6, np.float32)
    engine.error.finished = Finished(
        image, StyleConfig(network="compact"), Reason.FAILED, iterations, 2, 0.5, {"total": 0.3}, (0.3,) * iterations
    )
    engine.go.set()
    form.run()
    ended(form, qtbot)
    status, layer = form.session.status, viewer.layers["cells × waves"]
    assert status.state is State.FAILED
    told = "The device ran out of memory."
    assert status.message == told + (" The best image so far is in its layer." if iterations else "")
    made = layer.metadata["napari-styletransfer"]
    assert layer.data[0, 0, 0] == (153 if iterations else 64)
    assert (made["recipe"] is not None) is bool(iterations)
    assert made.get("reason") == ("failed" if iterations else None)
    if iterations:
        # Not from the memory of the run, which is gone, but from the picture.
        viewer.layers.selection.active = layer
        engine.error = None
        qtbot.waitUntil(form.controls.resume.isEnabled)
        form.controls.resume.click()
        ended(form, qtbot)
        assert engine.calls[-1]["resume"] is None
        assert engine.calls[-1]["config"].start == "image"


@pytest.mark.parametrize("more", [0, 3])
def test_a_continuation_that_fails_goes_on_from_its_best_image(more, form, engine, viewer, qtbot):
    engine.go.set()
    form.run()
    ended(form, qtbot)
    layer, first = form.session.output.layer, form.session.last.finished
    engine.error = DivergedError("not finite")
    engine.error.finished = replace(first, reason=Reason.FAILED, iterations=2 + more, state=None)
    form.controls.resume.click()
    ended(form, qtbot)
    assert layer.metadata[METADATA]["reason"] == ("failed" if more else "iterations")
    engine.error = None
    viewer.layers.selection.active = layer
    qtbot.waitUntil(form.controls.resume.isEnabled)
    form.controls.resume.click()
    ended(form, qtbot)
    # From the picture if that is newer, else from the memory of the run before.
    assert engine.calls[-1]["resume"] == (None if more else first.state)


def test_stop_ends_a_download(form, engine, viewer, qtbot):
    def make_run(*args, **options):
        def run(should_stop):
            try:
                for megabyte in range(DOWNLOAD):
                    done.append(megabyte)
                    yield Fetching("vgg19", megabyte, DOWNLOAD)
                    patience.wait(0.005)
            finally:
                ended_early.append(len(done) < DOWNLOAD)

        return run

    done, ended_early, patience = [], [], threading.Event()
    form.session._make_run = make_run
    form.run()
    qtbot.waitUntil(lambda: "Downloading" in form.session.status.message)
    form.stop()
    ended(form, qtbot)
    assert ended_early == [True]
    assert form.session.status.message == "Stopped before there was a picture"
    assert form.controls.run.isEnabled()
    assert "cells × waves" not in viewer.layers


DOWNLOAD = 2000
