"""The settings part of the form: every field of `StyleConfig`, basic ones open, the rest folded, and the presets.

The form asks `config()` for what a run should do and hands presets, recipes and preferences to `show_config`.
Which fields exist, how they are called and where they stand comes from the config alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_styletransfer.config import PRESETS, Network, StyleConfig
from napari_styletransfer.devices import system_memory
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.session.networks import network_label
from napari_styletransfer.units import format_bytes
from napari_styletransfer.widget.qt_utils import FormRows, ValueCombo, collapsible, elide, filter_wheel, hbox, heading
from napari_styletransfer.widget.settings.field_editors import Editor, make_choice_editor, make_editor, rich_tooltip
from napari_styletransfer.widget.settings.levels import level_editor
from napari_styletransfer.widget.settings.user_presets import UserPresets

CUSTOM = "custom"
FIELDS_WITHOUT_EDITOR = frozenset({"style_weights", "regions", "weights_sha256"})
"""Fields without an editor here: blend weights stand beside the styles, regions in their table, and a checksum is
nothing for people, so that the form asks for none."""

_NO_BALANCE = "<p>'Content weight' in the advanced settings is set and stands in place of this. Empty it.</p>"

FIELDS_OF_OTHER_PANELS = frozenset({"feather", "movie", "level"})
"""Fields whose editor another part of the form shows, when it applies."""


class SettingsForm(QWidget):
    """All settings of a run.

    Parameters
    ----------
    defaults
        What the form shows at first, and what a preset is laid upon.
    presets
        The user's own.
    """

    edited = Signal()

    def __init__(
        self,
        defaults: StyleConfig | None = None,
        presets: UserPresets | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._defaults = defaults or StyleConfig()
        self._presets = presets or UserPresets()
        self._user_presets = self._presets.read()
        self._updating = False
        self._shown_file: Path | None = None
        self.editors: dict[str, Editor] = {
            name: _editor_for(name, info)
            for name, info in StyleConfig.model_fields.items()
            if name not in FIELDS_WITHOUT_EDITOR
        }
        self.preset = ComboBox(
            name="preset",
            choices=self._preset_names(),
            tooltip="<p>A named set of settings; once you change one of them they are your own.</p>",
        )
        self.rows = FormRows()
        self._preset_row = hbox(self.preset.native)
        self.rows.add("Preset", self._preset_row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.rows)
        layout.addWidget(self._lay_out_editors())
        elsewhere = [self.editors[name].native for name in FIELDS_OF_OTHER_PANELS]
        for child in [*self.findChildren(QWidget), *elsewhere]:
            if isinstance(child, QAbstractSpinBox | QAbstractSlider | QComboBox) and not isinstance(child, ValueCombo):
                filter_wheel(child)
                if isinstance(child, QComboBox):
                    elide(child)
        self.preset.changed.connect(self._on_preset)
        for editor in self.editors.values():
            editor.changed.connect(self._on_edited)
        self.edited.connect(self._show_balance)
        self.edited.connect(self._show_weights)
        self.show_config(self._defaults)

    def config(self) -> StyleConfig:
        """Return what the form says.

        Raises
        ------
        ConfigError
            If a field holds something that cannot work.
        """
        return StyleConfig(**{name: editor.read() for name, editor in self.editors.items()})

    def show_config(self, config: StyleConfig) -> None:
        """Show a config in place of what the form says."""
        with self._edits_blocked():
            for name, editor in self.editors.items():
                editor.write(getattr(config, name))
            self.preset.value = self._matching_preset(self.preset.value)
        self.edited.emit()

    @property
    def user_preset(self) -> str | None:
        """The user's preset that is shown, if it is one."""
        return self.preset.value if self.preset.value in self._user_presets else None

    def save_preset(self, name: str) -> None:
        """Keep what the form says as a preset of the user, and show it as such.

        Raises
        ------
        ConfigError
            If the settings cannot work, or cannot be kept under that name.
        """
        self._presets.save(name, self.config())
        self._show_presets(name)

    def delete_preset(self, name: str) -> None:
        """Forget a preset of the user; the settings stay.

        Raises
        ------
        ConfigError
            If its file cannot be deleted.
        """
        self._presets.delete(name)
        self._show_presets(self.preset.value)

    def add_beside_preset(self, widget: QWidget) -> None:
        """Put a widget behind the list of presets."""
        self._preset_row.layout().addWidget(widget)

    def set_choices(self, name: str, choices: list[tuple[str, Any]]) -> None:
        """Give a field with choices other words, or more choices; what is chosen stays."""
        editor = self.editors[name]
        chosen = editor.read()
        if chosen not in [value for _, value in choices]:
            choices = [*choices, (str(chosen), chosen)]
        with self._edits_blocked():
            # magicgui leaves choices whose words stay the same where they are, and puts new ones behind them.
            with QSignalBlocker(editor.native):
                editor.native.clear()
            editor.widget.choices = choices
            editor.write(chosen)

    def show_networks(self) -> None:
        """Say beside each network whether its weights are here."""
        file = self._shown_file = self.editors["weights"].read()
        self.set_choices("network", [(network_label(network, file), network) for network in Network])

    @contextmanager
    def _edits_blocked(self) -> Iterator[None]:
        """Let what changes inside count as no edit of the user's."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    def _lay_out_editors(self) -> QWidget:
        """Put each editor into its place and return the folded part."""
        fold = collapsible("Advanced settings")
        groups: dict[str, FormRows] = {}
        for editor in self.editors.values():
            if editor.name in FIELDS_OF_OTHER_PANELS:
                continue
            group, advanced = _group_of(editor.name)
            rows = self.rows
            if advanced:
                if group not in groups:
                    groups[group] = FormRows()
                    fold.addWidget(heading(group))
                    fold.addWidget(groups[group])
                rows = groups[group]
            rows.add(editor.title, editor.native)
        self.fold: QCollapsible = fold
        return fold

    def _preset_names(self) -> list[tuple[str, str]]:
        return [("default", ""), *((name, name) for name in (*PRESETS, CUSTOM, *self._user_presets))]

    def _show_presets(self, wanted: str) -> None:
        self._user_presets = self._presets.read()
        with self._edits_blocked():
            self.preset.choices = self._preset_names()
            self.preset.value = self._matching_preset(wanted)

    def _on_preset(self, preset: str) -> None:
        if self._updating or preset == CUSTOM:
            return
        if preset in self._user_presets:
            self.show_config(self._user_presets[preset])
        else:
            self.show_config(self._defaults.changed(**PRESETS.get(preset, {})))

    def _on_edited(self) -> None:
        if self._updating:
            return
        with self._edits_blocked():
            self.preset.value = self._matching_preset(self.preset.value)
        self.edited.emit()

    def _show_balance(self) -> None:
        """Show whether the balance counts: a content weight stands in its place."""
        balance = self.editors["balance"].native
        counts = not self.editors["content_weight"].native.text().strip()
        balance.setEnabled(counts)
        info = StyleConfig.model_fields["balance"]
        balance.setToolTip(rich_tooltip(info) if counts else _NO_BALANCE)

    def _show_weights(self) -> None:
        """Say beside the networks that their weights are those of a file, or no longer."""
        if self.editors["weights"].read() != self._shown_file:
            self.show_networks()

    def _matching_preset(self, wanted: str) -> str:
        """Return the preset that the settings are: of equal ones the wanted one."""
        try:
            config = self.config()
        except ConfigError:
            return CUSTOM
        known = {name: self._defaults.changed(**fields) for name, fields in PRESETS.items()}
        matching = [
            name for name, preset in ({"": self._defaults} | known | self._user_presets).items() if config == preset
        ]
        return wanted if wanted in matching else next(iter(matching), CUSTOM)


def format_free_memory(free_bytes: int) -> str:
    """Return free memory as the device choices show it."""
    return f"{format_bytes(free_bytes)} free"


def _editor_for(name: str, info: Any) -> Editor:
    if name == "device":
        free, _ = system_memory.memory()
        return make_choice_editor(name, info, [("auto", "auto"), (f"cpu · {format_free_memory(free)}", "cpu")])
    return level_editor(name, info) if name == "level" else make_editor(name, info)


def _group_of(name: str) -> tuple[str, bool]:
    """Return a field's group and whether it belongs to the folded part."""
    extra = StyleConfig.model_fields[name].json_schema_extra
    if not isinstance(extra, dict):
        return "Other", True
    return str(extra["group"]), bool(extra["advanced"])
