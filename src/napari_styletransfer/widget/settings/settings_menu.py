"""The menu beside the presets: variations, and settings that are loaded, saved, and kept as presets.

Made by the form, which is told of settings to show and asked for those it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAction, QFileDialog, QInputDialog, QMenu, QToolButton

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.write import read_recipe
from napari_styletransfer.session.networks import made_with_other_weights

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.session.form_state import FormState
    from napari_styletransfer.session.run_session import Session
    from napari_styletransfer.widget.settings.settings_form import SettingsForm

_RECIPE_FILES = "Recipes (*.json)"


class SettingsMenu(QToolButton):
    """A button with the menu.

    Parameters
    ----------
    viewer
        Has the selected layer.
    session
        Tells the user what was refused.
    settings, state
        Where settings come from.
    """

    opened = Signal()
    """The menu is about to be shown."""

    variations_requested = Signal()
    loaded = Signal(object)
    """Settings to show: a `StyleConfig`."""

    def __init__(self, viewer: ViewerModel, session: Session, settings: SettingsForm, state: FormState) -> None:
        super().__init__()
        self._viewer = viewer
        self._session = session
        self._settings = settings
        self._state = state
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.variations_action = _add_action(menu, "Try variations", self.variations_requested.emit)
        self.variations_action.setToolTip(
            "<p>A sheet of nine small pictures: more style downwards, larger strokes to the right.</p>"
        )
        menu.addSeparator()
        _add_action(menu, "Load settings …", self._on_load)
        _add_action(menu, "Save settings …", self._on_save)
        _add_action(menu, "Load settings from selected layer", self.load_from_layer)
        menu.addSeparator()
        _add_action(menu, "Keep settings as preset …", self._on_save_preset)
        delete = _add_action(menu, "Delete this preset", self.delete_preset)
        menu.aboutToShow.connect(lambda: delete.setEnabled(settings.user_preset is not None))
        menu.aboutToShow.connect(self.opened)
        self.setObjectName("menu")
        self.setText("⋯")
        self.setToolTip("<p>Try variations; load and save settings, and keep them as presets.</p>")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setMenu(menu)

    def load(self, path: str) -> None:
        """Show the settings of a recipe file."""
        self._load(lambda: StyleConfig.load(path))

    def save(self, path: str) -> None:
        """Write the settings to a recipe file."""

        def save() -> None:
            try:
                self._state.config().save(path, styles=[style.name for style in self._state.styles])
            except OSError as error:
                raise ConfigError(
                    f"The settings cannot be written to {path}: {error}. Choose another place."
                ) from error

        self._attempt(save)

    def load_from_layer(self) -> None:
        """Show the settings that made the selected layer."""
        layer = self._viewer.layers.selection.active
        recipe = None if layer is None else read_recipe(layer)
        if recipe is None:
            self._session.report_error(
                ConfigError("Select a layer that was made by style transfer; it carries its settings.")
            )
        else:
            self._load(lambda: StyleConfig.from_recipe(recipe))

    def save_preset(self, name: str) -> None:
        """Keep the settings as a preset of the user."""
        self._attempt(lambda: self._settings.save_preset(name.strip()))

    def delete_preset(self) -> None:
        """Delete the preset that is shown, if it is the user's own."""
        name = self._settings.user_preset
        if name is not None:
            self._attempt(lambda: self._settings.delete_preset(name))

    def _attempt(self, act: Callable[[], object]) -> None:
        """Do something that may be refused; once it was done, an earlier refusal is told no longer."""
        try:
            act()
        except ConfigError as error:
            self._session.report_error(error)
        else:
            self._session.clear_error()

    def _load(self, read: Callable[[], StyleConfig]) -> None:
        def load() -> None:
            config = read()
            self.loaded.emit(config)
            show_info(f"Settings loaded.{_weights_note(config)}")

        self._attempt(load)

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load settings", "", _RECIPE_FILES)
        if path:
            self.load(path)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save settings", "style-transfer.json", _RECIPE_FILES)
        if path:
            self.save(path)

    def _on_save_preset(self) -> None:
        name, accepted = QInputDialog.getText(
            self, "Keep settings as preset", "Name:", text=self._settings.user_preset or ""
        )
        if accepted:
            self.save_preset(name)


def _weights_note(config: StyleConfig) -> str:
    """Return the rest of what is said of settings that were made with other weights than those here."""
    if not made_with_other_weights(config):
        return ""
    return f" They were made with other weights of '{config.network}', so the picture may differ."


def _add_action(menu: QMenu, words: str, act: Callable[[], object]) -> QAction:
    action = QAction(words, menu)
    action.triggered.connect(lambda: act())
    menu.addAction(action)
    return action
