"""The form as a whole: what it asks, what it offers, how it fits."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.networks import weights
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget


def test_opening_the_form_imports_no_torch(told_by_fresh_interpreter):
    code = (
        "import sys\n"
        "from napari.components import ViewerModel\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari_styletransfer.widget.dock_widget import StyleTransferWidget\n"
        "form = StyleTransferWidget(ViewerModel())\n"
        "form.show()\n"
        "app.processEvents()\n"
        "print(sorted({'torch', 'torchvision', 'pyqtgraph'} & set(sys.modules)))"
    )
    assert told_by_fresh_interpreter(code) == "[]"


def test_napari_opens_the_form_from_its_manifest(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy()
    _, form = viewer.window.add_plugin_dock_widget("napari-styletransfer", "Style Transfer")
    assert type(form).__name__ == "StyleTransferWidget"


def test_an_empty_viewer_offers_an_example_that_can_be_run(make_napari_viewer_proxy, engine, qtbot):
    viewer = make_napari_viewer_proxy()
    form = StyleTransferWidget(viewer, engine)
    viewer.window.add_dock_widget(form)
    assert not form.controls.run.isEnabled()
    assert "no image" in form.controls.run.toolTip()
    assert not form.hint.isHidden()
    form.hint.linkActivated.emit("sample")
    assert len(viewer.layers) == 2
    qtbot.waitUntil(form.hint.isHidden)
    assert form.controls.run.isEnabled()
    form.release()


def test_the_form_fits_a_small_screen_and_a_narrow_dock(form, qtbot):
    assert form.minimumSizeHint().height() <= 900
    assert form.minimumSizeHint().width() <= 320
    form.settings.fold.expand()
    form.controls.loss_section.expand()
    QApplication.processEvents()
    assert form.minimumSizeHint().height() <= 900


def test_every_control_has_a_tooltip(form):
    buttons = [form.controls.run, form.controls.stop, form.controls.resume, form.menu]
    lists = [form.pictures.content, form.pictures.styles, form.settings.preset.native]
    editors = [editor.native for editor in form.settings.editors.values()]
    assert all(widget.toolTip() for widget in (*buttons, *lists, *editors))


def test_a_wrong_setting_hinders_run_and_says_why(form):
    form.settings.editors["tolerance"].widget.value = "x"
    assert not form.controls.run.isEnabled()
    assert "Tolerance: 'x' is not a number" in form.controls.message.text()
    form.settings.editors["tolerance"].widget.value = "0.01"
    assert form.controls.run.isEnabled()


def test_a_run_gets_the_pictures_as_they_are_shown_and_the_settings(form, engine, viewer, qtbot):
    form.settings.editors["iterations"].write(9)
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active)
    (call,) = engine.calls
    np.testing.assert_array_equal(np.rint(call["content"].read() * 255), viewer.layers["cells"].data)
    assert [style.name for style in call["styles"]] == ["waves"]
    assert call["config"] == StyleConfig(iterations=9)
    assert call["init"] is None


def test_blended_styles_go_into_the_recipe(form, engine, viewer, qtbot):
    extra = viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], extra])
    form.pictures.set_style_weights((2.0, 0.5))
    assert form.config().style_weights == (2.0, 0.5)
    job = form.job()
    assert [style.name for style in job.styles] == ["dots", "waves"]


def test_a_style_reconstruction_needs_no_content(form, engine, viewer, qtbot):
    form.settings.editors["mode"].write(Mode.STYLE)
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active)
    assert form.session.status.state is State.DONE
    assert engine.calls[0]["content"] is None
    assert form.session.output.layer.name == "waves (style alone)"


def test_settings_are_saved_and_loaded(form, tmp_path):
    path = tmp_path / "recipe.json"
    wanted = StyleConfig(balance=0.3, style_layers={"relu1_1": 1.0})
    form.show_config(wanted)
    form.menu.save(str(path))
    form.show_config(StyleConfig())
    form.menu.load(str(path))
    assert form.config() == wanted


def test_settings_made_with_other_weights_say_so(form, engine, viewer, tmp_path, qtbot):
    path = tmp_path / "recipe.json"

    def told(**fields):
        StyleConfig(network="vgg19", **fields).save(path)
        before = len(notification_manager.records)
        form.menu.load(str(path))
        assert form.config() == StyleConfig(network="vgg19")
        return notification_manager.records[before].message

    others = "Settings loaded. They were made with other weights of 'vgg19', so the picture may differ."
    assert told() == "Settings loaded."
    assert told(weights_sha256=weights.ORIGINAL_VGG19.sha256) == "Settings loaded."
    assert told(weights_sha256="1" * 64) == others
    layer = viewer.add_image(
        np.zeros((4, 4)),
        metadata={METADATA_KEY: {"recipe": StyleConfig(network="vgg19", weights_sha256="1" * 64).recipe()}},
    )
    viewer.layers.selection.active = layer
    before = len(notification_manager.records)
    form.menu.load_from_layer()
    assert notification_manager.records[before].message == others


def test_a_broken_recipe_is_told_and_changes_nothing(form, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text("not json")
    form.menu.load(str(path))
    assert "is not JSON" in form.controls.message.text()
    assert form.config() == StyleConfig()


def test_settings_that_cannot_be_written_are_told(form, tmp_path):
    form.menu.save(str(tmp_path / "no such folder" / "recipe.json"))
    assert "cannot be written" in form.controls.message.text()


def test_the_settings_of_a_result_are_loaded_from_its_layer(form, engine, viewer, qtbot):
    form.show_config(StyleConfig(balance=0.3))
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active)
    form.show_config(StyleConfig())
    viewer.layers.selection.active = viewer.layers["cells × waves"]
    form.menu.load_from_layer()
    assert form.config().balance == 0.3
    viewer.layers.selection.active = viewer.layers["cells"]
    told = len(notification_manager.records)
    form.menu.load_from_layer()
    assert "made by style transfer" in notification_manager.records[told].message


def test_the_form_follows_the_theme(form, viewer):
    dark = form.styleSheet()
    viewer.theme = "light"
    assert form.styleSheet() != dark


def test_the_loss_is_drawn_as_it_comes(form, engine, viewer, qtbot):
    form.controls.loss_section.expand(animate=False)
    engine.go.set()
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active)
    steps, losses = form.controls.plot.curve_data("total")
    assert steps == [1, 2]
    assert losses == pytest.approx([0.9, 0.45])
    viewer.theme = "light"


def test_devices_are_asked_for_only_when_somebody_looks(form, qtbot):
    combo = form.settings.editors["device"].native
    assert [combo.itemData(index) for index in range(combo.count())] == ["auto", "cpu"]
    assert "free" in combo.itemText(1)
    QApplication.sendEvent(combo, QEvent(QEvent.Type.Enter))
    qtbot.waitUntil(lambda: combo.itemText(0) != "auto", timeout=30_000)
    assert combo.itemText(0).startswith("auto · ")
    assert form.config() == StyleConfig()


def test_choices_come_in_the_order_they_are_offered_in(form):
    combo = form.settings.editors["device"].native
    form.settings.set_choices("device", [("auto", "auto"), ("cpu · 1 GiB free", "cpu")])
    form.settings.set_choices("device", [("auto · cpu", "auto"), ("cpu · 1 GiB free", "cpu")])
    assert [combo.itemText(index) for index in range(combo.count())] == ["auto · cpu", "cpu · 1 GiB free"]
    assert form.config().device == "auto"


def test_preferences_decide_what_the_form_shows_first(monkeypatch, qtbot):
    from napari import settings

    from napari_styletransfer.widget.settings.preferences import preferred_config

    class Preferences:
        class defaults:
            network, size, iterations, device = "vgg16", 256, 33, "cpu"

    monkeypatch.setattr(settings, "get_plugin_settings", lambda name: Preferences, raising=False)
    assert preferred_config() == StyleConfig(network="vgg16", size=256, iterations=33, device="cpu")
    Preferences.defaults.device = "toaster"
    assert preferred_config() == StyleConfig()


def test_the_manifest_offers_the_defaults_of_the_config(npe2pm, plugin_settings):
    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    from napari_styletransfer.widget.settings.preferences import preferred_config

    npe2pm.register(PluginManifest.from_distribution("napari-styletransfer"))
    assert preferred_config() == StyleConfig()
    get_plugin_settings("napari-styletransfer").defaults.size = 300
    assert preferred_config() == StyleConfig(size=300)


@pytest.mark.parametrize("name", ["content_and_style", "fluorescence_and_style"])
def test_sample_pictures_open_with_the_content_first(make_napari_viewer_proxy, engine, name):
    viewer = make_napari_viewer_proxy()
    form = StyleTransferWidget(viewer, engine)
    viewer.window.add_dock_widget(form)
    viewer.open_sample("napari-styletransfer", name)
    job = form.job()
    assert job.content.name == viewer.layers[0].name
    assert [style.name for style in job.styles] == [viewer.layers[1].name]
    form.release()


def test_sample_channels_are_offered_together_with_their_labels(make_napari_viewer_proxy, engine):
    viewer = make_napari_viewer_proxy()
    form = StyleTransferWidget(viewer, engine)
    viewer.window.add_dock_widget(form)
    viewer.open_sample("napari-styletransfer", "fluorescence_channels")
    (seen,) = form.pictures.groups
    form.pictures.choose(seen)
    form.regions.choose(viewer.layers["Nuclei and cytoplasm"])
    job = form.job()
    assert job.content.name == "Nuclei + Cytoplasm"
    assert [style.name for style in job.styles] == ["Marbling"]
    assert set(np.unique(job.labels[0].read())) == {0, 1, 2}
    form.release()


def test_a_real_run_with_the_built_in_network(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(form)
    form.show_config(StyleConfig(network="compact", size=64, iterations=3, scales=1, device="cpu"))
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    layer = form.session.output.layer
    assert layer.data.shape == (48, 64, 3)
    assert layer.data.dtype == np.uint8
    assert layer.data.std() > 5
    assert layer.metadata["napari-styletransfer"]["recipe"]["network"] == "compact"
    first = layer.data.copy()
    form.resume()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.state is State.DONE, form.session.status.message
    assert len(layer.metadata["napari-styletransfer"]["history"]) == 6
    assert (layer.data != first).any()
    form.release()


def test_colours_alone_are_taken_over_at_once(viewer, qtbot):
    form = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(form)
    form.show_config(StyleConfig(mode="colors"))
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active, timeout=120_000)
    assert form.session.status.message.startswith("Done: colours taken over")
    layer, style = form.session.output.layer, viewer.layers["waves"]
    np.testing.assert_allclose(layer.data.mean(axis=(0, 1)), style.data.mean(axis=(0, 1)), atol=8)
    assert not form.controls.resume.isEnabled()
    form.release()
