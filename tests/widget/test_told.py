"""What the form says is true, in its own words, before Run where that can be known, and no longer than it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QComboBox

from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.qt_utils import ElideFilter
from napari_styletransfer.worker import engine_run

LONG = "20261129_experiment_37_well_B07_field_3_actin_and_nuclei_maximum_projection_stitched_and_corrected"


def ended(form: StyleTransferWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)


def test_a_volume_cannot_be_run_until_the_viewer_shows_a_plane(real_form, napari_window, qtbot):
    volume = napari_window.add_image(np.random.default_rng(0).random((4, 40, 48)), name="volume")
    real_form.pictures.choose(volume, [napari_window.layers["waves"]])
    qtbot.waitUntil(real_form.controls.run.isEnabled)
    napari_window.dims.ndisplay = 3
    qtbot.waitUntil(lambda: not real_form.controls.run.isEnabled())
    assert "Switch the viewer to 2D" in real_form.controls.message.text()
    assert "Switch the viewer to 2D" in real_form.controls.run.toolTip()
    napari_window.dims.ndisplay = 2
    qtbot.waitUntil(real_form.controls.run.isEnabled)
    real_form.controls.run.click()
    ended(real_form, qtbot)
    assert real_form.session.status.state is State.DONE, real_form.session.status.message


def test_a_style_off_the_slider_cannot_be_run_until_the_slider_is_on_it(form, viewer, qtbot):
    viewer.add_image(np.zeros((9, 8, 8)), name="long")
    short = viewer.add_image(np.zeros((3, 8, 8)), name="short")
    form.pictures.choose(viewer.layers["cells"], [short])
    viewer.dims.set_point(0, 8)
    qtbot.waitUntil(lambda: not form.controls.run.isEnabled())
    assert "Move the slider onto the layer" in form.controls.message.text()
    viewer.dims.set_point(0, 1)
    qtbot.waitUntil(form.controls.run.isEnabled)


@pytest.mark.parametrize("own", [(8, 8), (10, 3000)])
def test_a_picture_too_small_is_told_with_what_helps_before_run(real_form, napari_window, own, qtbot):
    tiny = napari_window.add_image(np.zeros((*own, 3), np.uint8), name="tiny", rgb=True)
    real_form.show_config(real_form.config().changed(network="vgg19", size=512))
    real_form.pictures.choose(tiny, [napari_window.layers["waves"]])
    qtbot.waitUntil(lambda: "itself" in real_form.controls.message.text(), timeout=120_000)
    assert not real_form.controls.run.isEnabled()
    assert "Enlarge the picture" in real_form.controls.message.text()
    assert "larger size" not in real_form.controls.message.text()


def refusals(form: StyleTransferWidget, folder: Path) -> Iterator[Callable[[], object]]:
    yield partial(form.menu.load, str(folder / "missing.json"))
    yield partial(form.menu.save, str(folder / "no such folder" / "recipe.json"))
    yield partial(form.menu.save_preset, "custom")
    yield form.menu.load_from_layer


@pytest.mark.parametrize("number", range(4))
def test_an_error_is_told_until_something_else_has_succeeded(form, tmp_path, number, qtbot):
    recipe = tmp_path / "recipe.json"
    StyleConfig(balance=0.3).save(recipe)
    refused = list(refusals(form, tmp_path))[number]
    for succeed in (
        partial(form.menu.load, str(recipe)),
        partial(form.menu.save, str(recipe)),
        partial(form.menu.save_preset, "mine"),
        form.menu.delete_preset,
        partial(form.settings.editors["iterations"].write, 33),
    ):
        refused()
        assert form.session.status.state is State.FAILED
        assert form.controls.message.text()
        succeed()
        assert form.session.status.state is State.IDLE
        assert form.controls.message.text() == ""
        assert form.controls.run.isEnabled()


def test_a_refusal_leaves_an_error_in_sight(form, tmp_path):
    form.menu.load(str(tmp_path / "missing.json"))
    form.menu.save_preset("default")
    assert "built-in preset" in form.controls.message.text()
    assert form.session.status.state is State.FAILED


def test_a_run_that_is_stopped_before_its_first_step_has_no_loss_to_tell(real_form, qtbot):
    def stopped_at_once(*pictures: Any, **options: Any) -> Any:
        run = engine_run(*pictures, **options)
        return lambda should_stop: run(lambda: True)

    real_form.session._make_run = stopped_at_once
    real_form.run()
    ended(real_form, qtbot)
    assert real_form.session.status.state is State.STOPPED
    words = real_form.controls.message.text()
    assert words.startswith("Stopped before the first step; the picture is what the run starts from")
    assert "nan" not in words
    assert "0 steps" not in words


def test_settings_are_told_by_the_titles_that_the_form_shows(form, tmp_path):
    recipe = tmp_path / "recipe.json"
    for name, info in StyleConfig.model_fields.items():
        recipe.write_text(json.dumps({"recipe": 2, name: {"no": "such value"}}))
        form.menu.load(str(recipe))
        told = form.controls.message.text()
        assert told.startswith(info.title)
        assert name == info.title.lower() or name not in told
        assert form.settings.config() == StyleConfig()


def test_a_setting_that_there_is_not_is_called_so(form, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"recipe": 2, "sizee": 300}')
    form.menu.load(str(recipe))
    assert form.controls.message.text().startswith("There is no setting 'sizee'.")


def test_a_field_out_of_its_limits_is_told_by_its_title(form):
    form.settings.editors["tv_weight"].widget.value = "-1"
    assert form.controls.message.text().startswith("Smoothness: ")
    form.settings.editors["tv_weight"].widget.value = "1"
    form.pictures.set_style_weights((0.0,))
    assert form.controls.message.text().startswith("Blend weights: ")


def test_beside_the_networks_stands_the_file_that_has_their_weights(form, tmp_path):
    combo = form.settings.editors["network"].native
    before = [combo.itemText(index) for index in range(combo.count())]
    assert any("MB" in words for words in before)
    form.settings.editors["weights"].write(tmp_path / "mine.safetensors")
    now = [combo.itemText(index) for index in range(combo.count())]
    assert now == ["auto", *(f"{network} · weights of the file" for network in Network if network != "auto")]
    assert form.config().network is Network.AUTO
    form.settings.editors["weights"].write(None)
    assert [combo.itemText(index) for index in range(combo.count())] == before


def test_long_names_end_with_an_ellipsis(form, viewer, qtbot):
    viewer.window.resize(1100, 800)
    form.window().show()
    for name in ("cells", "waves"):
        viewer.layers[name].name = f"{LONG} {name}"
    viewer.add_labels(np.ones((48, 64), int), name=f"{LONG} labels")
    form.regions.choose(viewer.layers[-1])
    lists = form.findChildren(QComboBox)
    assert len(lists) > 15
    assert [combo for combo in lists if combo.window() is not combo and not combo.findChildren(ElideFilter)] == []
    QApplication.processEvents()
    row = form.pictures._rows[0]
    assert row.check.text().endswith("…")
    assert row.check.sizeHint().width() <= row.check.width()
    form.session.report_error(ConfigError(f"Layer '{LONG.replace(' ', '_')}' will not do."))
    shown = form.controls.message.text()
    assert "…" in shown
    assert shown.startswith("Layer '2026")
    assert shown.endswith("will not do.")
    assert LONG in form.controls.message.toolTip()
