"""Presets of the user, and the keys of Run and Stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QShortcut

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.session.run_session import State
from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.settings import user_presets
from napari_styletransfer.widget.settings.user_presets import UserPresets

real_presets_folder = user_presets.presets_folder


@pytest.fixture
def viewer(request):
    return request.getfixturevalue("napari_window" if "window" in request.fixturenames else "model")


def names(form):
    return [form.settings.preset.native.itemText(index) for index in range(form.settings.preset.native.count())]


def test_settings_are_kept_under_a_name_and_come_back_in_every_form(form, viewer, engine, presets_folder):
    form.show_config(StyleConfig(balance=0.3, iterations=40))
    form.menu.save_preset(" soft swirls ")
    assert form.settings.preset.value == "soft swirls"
    assert names(form)[-2:] == ["custom", "soft swirls"]
    form.settings.preset.value = ""
    assert form.config() == StyleConfig()
    other = StyleTransferWidget(viewer, engine)
    other.settings.preset.value = "soft swirls"
    assert other.config() == StyleConfig(balance=0.3, iterations=40)
    other.release()


def test_a_deleted_preset_leaves_its_settings_in_the_form(form, presets_folder):
    form.show_config(StyleConfig(balance=0.3))
    form.menu.save_preset("mine")
    form.menu.delete_preset()
    assert "mine" not in names(form)
    assert form.settings.preset.value == "custom"
    assert form.config().balance == 0.3
    assert list(presets_folder.iterdir()) == []


def test_a_built_in_preset_cannot_be_deleted_or_replaced(form, presets_folder):
    form.settings.preset.value = "compact-fast"
    form.menu.delete_preset()
    form.menu.save_preset("compact-fast")
    assert "built-in preset" in form.controls.message.text()
    assert not presets_folder.exists()


@pytest.mark.parametrize("name", ["", "../elsewhere", "a/b", ".hidden", "x" * 41])
def test_a_name_that_makes_no_file_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name"):
        UserPresets(tmp_path).save(name, StyleConfig())


def test_a_damaged_preset_is_passed_over(tmp_path, caplog):
    (tmp_path / "broken.json").write_text("{")
    StyleConfig(seed=3).save(tmp_path / "good.json")
    StyleConfig(seed=4, network="vgg19", weights_sha256="1" * 64).save(tmp_path / "of a run.json")
    assert UserPresets(tmp_path).read() == {
        "good": StyleConfig(seed=3),
        "of a run": StyleConfig(seed=4, network="vgg19"),
    }
    assert "broken.json" in caplog.text


def test_presets_lie_beside_the_settings_of_napari():
    folder = real_presets_folder()
    assert isinstance(folder, Path)
    assert folder.parts[-2:] == ("napari-styletransfer", "presets")


def shortcuts(form):
    return {shortcut.key().toString(): shortcut for shortcut in form.findChildren(QShortcut)}


def test_run_and_stop_have_keys_that_hold_in_the_form_only(form, engine, qtbot):
    keys = shortcuts(form)
    assert set(keys) == {"Ctrl+Return", "Ctrl+Enter", "Esc"}
    assert all(key.context() == Qt.ShortcutContext.WidgetWithChildrenShortcut for key in keys.values())
    keys["Ctrl+Return"].activated.emit()
    qtbot.waitUntil(engine.halfway.is_set)
    keys["Esc"].activated.emit()
    qtbot.waitUntil(lambda: not form.session.status.active)
    assert form.session.status.state is State.STOPPED
    assert len(engine.calls) == 1


def test_the_tooltips_tell_the_keys(form):
    assert "Ctrl+Return" in form.controls.run.toolTip()
    assert "Esc" in form.controls.stop.toolTip()


def test_of_presets_of_equal_settings_the_chosen_one_is_shown_and_deleted(form, presets_folder):
    form.show_config(StyleConfig(balance=0.3))
    for name in ("first", "second", "third"):
        form.menu.save_preset(name)
        assert form.settings.preset.value == name
    form.settings.preset.value = "second"
    assert form.settings.preset.value == "second"
    form.menu.delete_preset()
    assert [path.stem for path in sorted(presets_folder.iterdir())] == ["first", "third"]
    assert form.settings.preset.value == "first"


def test_a_preset_equal_to_a_built_in_one_can_be_deleted(form, presets_folder):
    form.settings.preset.value = "compact-fast"
    form.menu.save_preset("my fast")
    form.settings.preset.value = ""
    form.settings.preset.value = "my fast"
    form.menu.delete_preset()
    assert list(presets_folder.iterdir()) == []
    assert form.settings.preset.value == "compact-fast"
