"""The settings part says what the config says, and nothing is lost on the way."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_styletransfer.config import PRESETS, Network, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.widget.settings import ELSEWHERE, PLACED_ELSEWHERE, SettingsForm, network_words


@pytest.fixture
def settings(qtbot):
    form = SettingsForm()
    qtbot.addWidget(form)
    return form


def test_the_defaults_make_the_default_config(settings):
    assert settings.config() == StyleConfig()
    assert settings.preset.value == ""


def test_every_field_is_in_the_form(settings):
    assert set(settings.editors) | ELSEWHERE == set(StyleConfig.model_fields)
    placed = [editor.native for name, editor in settings.editors.items() if name not in PLACED_ELSEWHERE]
    assert all(settings.isAncestorOf(widget) for widget in placed)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_shown_and_comes_back_equal(settings, name):
    settings.preset.value = name
    assert settings.config() == StyleConfig.from_preset(name)
    assert settings.preset.value == name


def test_a_preset_left_for_the_default_leaves_nothing_behind(settings):
    settings.preset.value = "notebook-style"
    settings.preset.value = ""
    assert settings.config() == StyleConfig()


def test_changing_a_field_makes_the_preset_custom_and_back(settings):
    settings.preset.value = "compact-fast"
    settings.editors["iterations"].write(61)
    assert settings.preset.value == "custom"
    settings.editors["iterations"].write(60)
    assert settings.preset.value == "compact-fast"


def test_a_preset_is_laid_upon_the_preferences(qtbot):
    form = SettingsForm(StyleConfig(device="cpu", seed=5))
    qtbot.addWidget(form)
    form.preset.value = "compact-fast"
    assert form.config() == StyleConfig.from_preset("compact-fast", device="cpu", seed=5)


def test_any_config_is_shown_and_comes_back_equal(settings):
    config = StyleConfig(
        network="vgg19",
        weights="a/b.pth",
        style_layers={"relu1_1": 0.3},
        balance=0.777,
        content_weight=1e-9,
        size=None,
        scales=2,
        start="white-noise",
        seed=2**40,
        device="cuda:1",
        max_seconds=12.5,
        memory_limit=0.1,
        block_size=512,
    )
    settings.show_config(config)
    assert settings.config() == config
    assert settings.preset.value == "custom"


def test_a_wrong_setting_is_told_by_name(settings):
    settings.editors["content_layers"].widget.value = "relu1_1=0"
    with pytest.raises(ConfigError, match="content_layers: name at least one layer"):
        settings.config()


def test_every_edit_is_announced_once(settings, qtbot):
    heard = []
    settings.edited.connect(lambda: heard.append(settings.config()))
    settings.editors["balance"].write(0.25)
    assert [config.balance for config in heard] == [0.25]
    settings.preset.value = "gatys-2016"
    assert len(heard) == 2


def test_networks_say_whether_their_weights_are_here(settings):
    settings.offer_networks()
    combo = settings.editors["network"].native
    words = [combo.itemText(index) for index in range(combo.count())]
    assert words[0] == "auto"
    assert "compact · built in" in words
    assert any(text.startswith("vgg19 · download") for text in words)
    assert settings.config() == StyleConfig()


def test_a_downloaded_network_is_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "download" in network_words(Network.SQUEEZENET)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"x")
    assert network_words(Network.SQUEEZENET) == "squeezenet1_1 · on disk"


def test_offered_devices_keep_the_chosen_one(settings):
    settings.editors["device"].write("cuda:7")
    settings.offer("device", [("auto · cpu", "auto"), ("cpu · 3 GiB free", "cpu")])
    assert settings.config().device == "cuda:7"


def test_the_wheel_scrolls_the_form_and_changes_nothing(settings, qtbot):
    settings.show()
    for name in ("size", "network", "balance"):
        native = settings.editors[name].native
        native.clearFocus()
        turn = QWheelEvent(
            QPointF(5, 5),
            native.mapToGlobal(QPointF(5, 5)),
            QPoint(0, 0),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(native, turn)
    assert settings.config() == StyleConfig()


def test_a_content_weight_stands_in_place_of_the_balance(settings):
    balance = settings.editors["balance"].native
    assert balance.isEnabled()
    settings.editors["content_weight"].write(0.01)
    assert not balance.isEnabled()
    assert "'Content weight'" in balance.toolTip()
    settings.preset.value = "gatys-2016"
    assert balance.isEnabled()
    assert StyleConfig.model_fields["balance"].description in balance.toolTip()
