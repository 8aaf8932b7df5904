"""Regions: which labels there are, the style of each, and what the engine is told of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_styletransfer.cli import app
from napari_styletransfer.config import ALL_STYLES, StyleConfig
from napari_styletransfer.io import read_image, write_image
from napari_styletransfer.layers.regions import relabelled
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.panels.region_table import ALL, NONE, OTHERS


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


@pytest.fixture
def cells(form, viewer):
    """Return labels 1 and 2 on a background, on the pixels of the content."""
    data = np.zeros((48, 64), np.int32)
    data[4:20, 4:30], data[24:40, 30:60] = 1, 2
    labels = viewer.add_labels(data, name="nuclei", scale=(0.5, 2), translate=(3, 4))
    form.regions.choose(labels)
    return labels


def known(form, qtbot, count=3):
    qtbot.waitUntil(lambda: len(form.regions.rows) == count)


def give(form, label, choice):
    combo = form.regions.rows[label]
    combo.setCurrentIndex(next(index for index in range(combo.count()) if combo.itemData(index) == choice))


def test_regions_show_only_where_there_is_a_layer_for_them(form, viewer):
    assert form.regions.isHidden()
    viewer.add_shapes([np.array([[2, 2], [2, 9], [9, 9], [9, 2]])], shape_type="polygon")
    assert form.regions.layer is None
    assert not form.regions.isHidden()
    assert form.job().labels is None
    form.settings.editors["mode"].write("style-reconstruction")
    assert form.regions.isHidden()


def test_labels_take_the_style_and_the_background_stays(form, cells, qtbot):
    known(form, qtbot)
    assert list(form.regions.rows) == [1, 2, 0]
    assert {label: combo.currentData() for label, combo in form.regions.rows.items()} == {1: ALL, 2: ALL, 0: NONE}
    assert form.config().regions is None
    np.testing.assert_array_equal(form.job().labels[0].read(), cells.data)


def test_a_label_given_none_is_left_alone(form, cells, qtbot):
    known(form, qtbot)
    give(form, 2, NONE)
    assert form.config().regions == {0: None, 1: 0, 2: None}


def test_labels_get_styles_of_their_own(window, form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    known(form, qtbot)
    first, second = form.pictures.style_layers
    give(form, 1, second)
    give(form, 2, first)
    assert form.config().regions == {0: None, 1: 1, 2: 0}
    form.pictures.choose(styles=[second])
    assert form.regions.rows[1].currentData() == ALL
    assert form.config().regions is None


def test_all_styles_here_and_none_there_goes_without_numbers(form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    known(form, qtbot)
    give(form, 1, NONE)
    give(form, 0, ALL)
    assert form.config().regions is None
    read = form.job().labels[0].read()
    assert set(np.unique(read[cells.data == 1])) == {0}
    assert set(np.unique(read[cells.data != 1])) == {2, 3}


def test_all_styles_beside_a_single_one(form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    known(form, qtbot)
    give(form, 1, dots)
    assert form.controls.run.isEnabled()
    wanted = {0: None, 1: form.pictures.style_layers.index(dots), 2: ALL_STYLES}
    assert form.config().regions == wanted
    np.testing.assert_array_equal(form.job().labels[0].read(), cells.data)
    give(form, 2, NONE)
    form.show_config(StyleConfig(regions=wanted))
    assert {label: combo.currentData() for label, combo in form.regions.rows.items()} == {1: dots, 2: ALL, 0: NONE}


def test_blend_weights_count_only_where_styles_are_blended(form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    form.pictures.set_style_weights((0, 2))
    known(form, qtbot)
    rows = [row for row in form.pictures._rows if row.check.isChecked()]
    assert form.config().style_weights == (0, 2)
    give(form, 1, dots)
    assert all(row.weight.isEnabled() for row in rows)
    assert form.config().style_weights == (0, 2)
    give(form, 2, viewer.layers["waves"])
    assert not any(row.weight.isEnabled() for row in rows)
    assert "each region has a style of its own" in rows[0].weight.toolTip()
    assert form.config().style_weights is None
    rows[1].weight.setValue(0)
    assert form.controls.run.isEnabled()
    form.regions.choose(None)
    assert all(row.weight.isEnabled() for row in rows)
    assert "counts against the others" in rows[0].weight.toolTip()
    assert not form.controls.run.isEnabled()


def test_what_is_painted_later_is_found(form, cells, viewer, qtbot):
    known(form, qtbot)
    cells.data_setitem((np.array([0, 1]), np.array([0, 1])), 7)
    known(form, qtbot, 4)
    assert 7 in form.regions.rows


def test_many_labels_share_a_row(form, viewer, qtbot):
    data = np.arange(48 * 64, dtype=np.int32).reshape(48, 64) // 64
    form.regions.choose(viewer.add_labels(data, scale=(0.5, 2), translate=(3, 4)))
    known(form, qtbot, 25)
    give(form, OTHERS, NONE)
    regions = form.config().regions
    assert regions[1] == 0
    assert regions[47] is None
    assert len(regions) == 48


def test_a_recipe_gives_the_labels_their_styles_back(form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    known(form, qtbot)
    wanted = StyleConfig(regions={0: None, 1: 1, 2: 0})
    form.show_config(wanted)
    assert form.config() == wanted


def test_labels_that_a_recipe_does_not_name_stay_as_they_are(form, cells, qtbot):
    form.show_config(StyleConfig(regions={2: 0}))
    known(form, qtbot)
    assert form.config().regions == {0: None, 1: None, 2: 0}


def test_renamed_layers_are_called_by_their_new_names(form, cells, viewer, qtbot):
    known(form, qtbot)
    waves, combo = viewer.layers["waves"], form.regions.rows[1]
    waves.name = "sea"
    assert [combo.itemText(index) for index in range(combo.count())] == ["sea", "none"]
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[waves, dots])
    combo = form.regions.rows[1]
    give(form, 1, dots)
    dots.name, cells.name = "points", "bodies"
    assert [combo.itemText(index) for index in range(combo.count())] == ["all styles", "points", "sea", "none"]
    assert form.regions.combo.currentText() == "bodies"
    assert form.config().regions[1] == 0
    form.release()
    cells.name = waves.name = "too late"
    assert form.regions.combo.currentText() == "bodies"


def test_a_mode_without_content_has_no_regions(form, cells, qtbot):
    known(form, qtbot)
    give(form, 2, NONE)
    form.settings.editors["mode"].write("style-reconstruction")
    assert form.config().regions is None
    assert form.job().labels is None


def test_shapes_are_a_mask(form, viewer):
    corners = np.array([[4, 5], [4, 61], [16, 61], [16, 5]])
    form.regions.choose(viewer.add_shapes([corners], shape_type="polygon"))
    mask = form.job().labels[0].read()
    assert mask.shape == (48, 64)
    assert 0 < mask.mean() < 1
    assert form.regions.table.isHidden()
    assert not form.settings.editors["feather"].native.isHidden()


def test_a_deleted_region_layer_means_the_whole_picture(form, cells, viewer, qtbot):
    known(form, qtbot)
    viewer.layers.remove(cells)
    assert form.regions.layer is None
    assert form.regions.isHidden()


def test_regions_are_back_once_the_viewer_is_flat_again(form, viewer, qtbot):
    stack = viewer.add_image(np.zeros((4, 8, 8)), name="stack")
    form.pictures.choose(stack, [viewer.layers["waves"]])
    form.regions.choose(viewer.add_labels(np.ones((4, 8, 8), int)))
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(form.regions.isHidden)
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: not form.regions.isHidden())
    assert form.job().labels is not None


def test_weights_of_a_recipe_count_where_regions_did_without_them(form, cells, viewer, qtbot):
    waves, dots = viewer.layers["waves"], viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[waves, dots])
    known(form, qtbot)
    give(form, 1, waves)
    give(form, 2, dots)
    assert form.state.blend_weights is None
    form.show_config(StyleConfig(style_weights=(1, 2)))
    assert form.config().style_weights == (1, 2)


def test_deleted_layers_are_let_go_of(form, cells, viewer, qtbot):
    dots = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], dots])
    known(form, qtbot)
    give(form, 1, dots)
    twin = viewer.add_image(viewer.layers["cells"].data, name="twin", rgb=True, scale=(0.5, 2), translate=(3, 4))
    form.pictures.choose(twin, [viewer.layers["waves"], dots])
    assert [source.name for source in form.regions._planes] == ["twin"]
    form.pictures.choose(viewer.layers["cells"])
    assert [source.name for source in form.regions._planes] == ["cells"]
    viewer.layers.remove(dots)
    form.regions.flush()
    assert form.regions.layer == cells
    assert dots not in form.regions.table._choices.values()


def test_a_real_run_leaves_everything_outside_as_it_was(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    qtbot.addWidget(form)
    data = np.zeros((48, 64), np.int32)
    data[8:40, 8:40] = 3
    form.regions.choose(viewer.add_labels(data, scale=(0.5, 2), translate=(3, 4)))
    form.show_config(StyleConfig(network="compact", size=64, iterations=2, scales=1, device="cpu"))
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    before, after = viewer.layers["cells"].data, form.session.output.layer.data
    np.testing.assert_array_equal(after[data == 0], before[data == 0])
    assert (after[data == 3] != before[data == 3]).any()
    form.release()


def test_a_saved_recipe_gives_the_same_picture_on_the_command_line(viewer, qtbot, tmp_path):
    form = StyleTransferWidget(viewer)
    qtbot.addWidget(form)
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::4, 0] = 255
    dots = viewer.add_image(stripes, name="dots")
    data = np.zeros((48, 64), np.int32)
    data[4:44, 4:30], data[4:44, 34:60] = 1, 2
    form.regions.choose(viewer.add_labels(data, name="labels", scale=(0.5, 2), translate=(3, 4)))
    form.pictures.choose(viewer.layers["cells"], [viewer.layers["waves"], dots])
    known(form, qtbot)
    give(form, 1, viewer.layers["waves"])
    give(form, 2, dots)
    form.show_config(
        StyleConfig(network="compact", size=64, iterations=2, scales=1, device="cpu", regions=form.state.regions)
    )
    form.menu.save(str(tmp_path / "recipe.json"))
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    expected = form.session.output.layer.data.astype(int)
    form.release()

    order = json.loads((tmp_path / "recipe.json").read_text())["styles"]
    assert order == ["dots", "waves"]
    for name in ("cells", *order):
        write_image(tmp_path / f"{name}.png", viewer.layers[name].data)
    tifffile.imwrite(tmp_path / "labels.tif", data)

    def off(styles):
        """Return how far the command line's picture is from the form's."""
        out = tmp_path / "out.png"
        pictures = [str(tmp_path / f"{name}.png") for name in ("cells", *styles)]
        flags = ["-o", str(out), "--labels", str(tmp_path / "labels.tif"), "--recipe", str(tmp_path / "recipe.json")]
        done = CliRunner().invoke(app, ["stylize", *pictures, *flags])
        assert done.exit_code == 0, done.output
        return np.abs(read_image(out) - expected).max()

    assert off(order) <= 1
    assert off(reversed(order)) > 20


def test_labels_get_their_new_numbers_at_once():
    data = np.array([[0, 1, 2], [3, 900, 2]], np.int32)
    assert relabelled(data, {}) is data
    np.testing.assert_array_equal(relabelled(data, {1: 7, 900: 0, 5: 6}), [[0, 7, 2], [3, 0, 2]])
    np.testing.assert_array_equal(relabelled(data, {1: 2, 2: 1}), [[0, 2, 1], [3, 900, 1]])
