"""The plugin's dock widget: pictures, settings, and Run.

Named in the manifest; napari makes one when the user opens "Style Transfer". It gathers a `Job` from its parts
when Run is pressed and leaves the run to its session. Opening it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QFrame, QLabel, QMenu, QScrollArea, QToolButton, QVBoxLayout, QWidget

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, StyleTransferError
from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import read_recipe
from napari_styletransfer.widget.controls import RunControls
from napari_styletransfer.widget.devices import DeviceList
from napari_styletransfer.widget.job import Job
from napari_styletransfer.widget.looks import color, form_style, rule, theme_of
from napari_styletransfer.widget.pictures import PicturePanel
from napari_styletransfer.widget.preferences import preferred_config
from napari_styletransfer.widget.regions import RegionPanel
from napari_styletransfer.widget.result import ResultPanel
from napari_styletransfer.widget.session import Session, State
from napari_styletransfer.widget.settings import SettingsForm
from napari_styletransfer.worker import Run, engine_run

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_styletransfer.layers.read import Snapshot

_HINT = (
    "Open two pictures, a content and a style, or "
    '<a href="sample" style="color: {link}">load an example</a>. '
    "File ▸ Open Sample ▸ Style Transfer has more."
)
_RECIPE_FILES = "Recipes (*.json)"


class StyleTransferWidget(QWidget):
    """Style transfer, as a form beside the viewer.

    Parameters
    ----------
    napari_viewer
        Given by napari.
    make_run
        Makes the event generator of a run; for tests.
    """

    def __init__(self, napari_viewer: Viewer, make_run: Callable[..., Run] = engine_run) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._docked = False
        self.session = Session(napari_viewer, make_run)
        self.pictures = PicturePanel(napari_viewer)
        self.settings = SettingsForm(preferred_config())
        self.settings.offer_networks()
        self.regions = RegionPanel(napari_viewer, self.settings.editors["feather"])
        self.result = ResultPanel(napari_viewer, self.settings.editors["movie"])
        self.controls = RunControls(self.session, theme_of(napari_viewer))
        self.hint = QLabel()
        self.menu = self._recipe_button()
        self._devices = DeviceList(self.settings)
        self._lay_out()
        self._connect()
        self._on_theme()
        self._check()

    def run(self) -> None:
        """Start a run with what the form says."""
        if self.session.status.active:
            return
        try:
            job = self.job()
        except StyleTransferError as error:
            self.session.refuse(error)
            return
        self.session.start(job)

    def stop(self) -> None:
        """Stop the run and keep its best image."""
        self.session.stop()

    def go_on(self) -> None:
        """Continue the last run, on the same pictures, with the settings as they are now."""
        try:
            config = self.config()
        except ConfigError as error:
            self.session.refuse(error)
            return
        self.session.resume(config)

    def config(self) -> StyleConfig:
        """Return the settings of the form, blend weights and regions included."""
        return self.settings.config().changed(
            style_weights=self.pictures.style_weights, regions=self.regions.regions()
        )

    def show_config(self, config: StyleConfig) -> None:
        """Show the settings of a preset, a recipe or a layer."""
        self.settings.show_config(config)
        self.pictures.set_style_weights(config.style_weights)
        self.regions.show_regions(config.regions)

    def job(self) -> Job:
        """Return what Run would run now.

        Raises
        ------
        StyleTransferError
            If a setting is wrong or a layer cannot be read as the viewer shows it.
        """
        config = self.config()

        content, init = self._content(config), self.pictures.init_layer
        stack = self.result.stack(content, config.size)
        planes = [content] if stack is None else stack
        regions = [] if content is None else [self.regions.resolve(plane) for plane in planes]
        return Job(
            content=content,
            styles=tuple(self._snapshot(layer, config, config.style_scale) for layer in self.pictures.style_layers),
            config=config,
            init=None if init is None else self._snapshot(init, config),
            regions=None if None in regions or not regions else regions,
            stack=stack,
            channel=self.result.channel,
        )

    def _content(self, config: StyleConfig) -> Snapshot | None:
        """Decide what is read of the content."""
        layer = self.pictures.content_layer
        return None if layer is None else self._snapshot(layer, config, colored=not self.result.channel)

    def _snapshot(self, layer: Image, config: StyleConfig, scale: float = 1.0, *, colored: bool = True) -> Snapshot:
        # Of a pyramid the finest level of at most four times the run's size: where levels halve, at least twice.
        most = None if config.size is None else int(16 * (config.size * max(scale, 1)) ** 2)
        return resolve_in(self._viewer, layer, max_pixels=most, colored=colored)

    def load_settings(self, path: str) -> None:
        """Show the settings of a recipe file."""
        self._show_loaded(lambda: StyleConfig.load(path))

    def save_settings(self, path: str) -> None:
        """Write the settings to a recipe file."""
        try:
            self.config().save(path)
        except ConfigError as error:
            self.session.refuse(error)
        except OSError as error:
            self.session.refuse(
                ConfigError(f"The settings cannot be written to {path}: {error}. Choose another place.")
            )

    def load_settings_from_layer(self) -> None:
        """Show the settings that made the selected layer."""
        layer = self._viewer.layers.selection.active
        recipe = None if layer is None else read_recipe(layer)
        if recipe is None:
            self.session.refuse(ConfigError("Select a layer that was made by style transfer; it carries its settings."))
        else:
            self._show_loaded(lambda: StyleConfig.from_recipe(recipe))

    def release(self) -> None:
        """End the form: its run is stopped, and it follows the viewer no more."""
        self.session.stop()
        self._ties.cut()

    def event(self, event: QEvent | None) -> bool:
        """Notice that the dock was closed: napari then takes the form out of it and forgets it."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                QTimer.singleShot(0, self._end_if_orphaned)
        return super().event(event)

    def _end_if_orphaned(self) -> None:
        if self.parent() is None:
            self.release()
            self.deleteLater()

    def _lay_out(self) -> None:
        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(8, 6, 8, 4)
        body.setSpacing(8)
        self.hint.setWordWrap(True)
        body.addWidget(self.hint)
        body.addWidget(self.pictures)
        body.addWidget(self.regions)
        body.addWidget(self.result)
        body.addWidget(rule())
        body.addWidget(self.settings)
        body.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(scroll, 1)
        layout.addWidget(rule())
        foot = QVBoxLayout()
        foot.setContentsMargins(8, 4, 8, 8)
        foot.addWidget(self.controls)
        layout.addLayout(foot)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self.controls.run.clicked.connect(self.run)
        self.controls.stop.clicked.connect(self.stop)
        self.controls.go_on.clicked.connect(self.go_on)
        self.hint.linkActivated.connect(self._open_sample)
        self.pictures.changed.connect(self._check)
        self.regions.changed.connect(self._check)
        self.result.changed.connect(self._check)
        self._viewer.dims.events.point.connect(self._follow_slider)
        self.settings.edited.connect(self._check)
        self.session.status.events.state.connect(self._on_state)
        self._viewer.events.theme.connect(self._on_theme)
        self._ties = _Ties(
            self.session,
            (
                self.pictures.release,
                self.regions.release,
                partial(self._viewer.dims.events.point.disconnect, self._follow_slider),
                self.controls.release,
                partial(self.session.status.events.state.disconnect, self._on_state),
                partial(self._viewer.events.theme.disconnect, self._on_theme),
            ),
        )
        # Not a method of the form: Qt calls none of those once the form is being destroyed.
        self.destroyed.connect(self._ties.on_destroyed)

    def _check(self) -> None:
        """Follow the settings in what pictures are asked for, and say whether Run may be pressed."""
        hindrance = ""
        try:
            config = self.settings.config()
        except ConfigError as error:
            hindrance = str(error)
        else:
            self.pictures.follow_settings(config.mode, config.start)
            self._follow_content(config)
            hindrance = self.pictures.missing() or self._contradiction()
        self.hint.setVisible(len(self.pictures.image_layers) < 2)
        self.controls.hinder(hindrance)

    def _follow_content(self, config: StyleConfig) -> None:
        """Tell the parts that depend on the content which plane it is."""
        planes: Sequence[Snapshot] = []
        try:
            content = self._content(config)
            self.result.follow(content)
            if content is not None:
                several = self.result.axes and self.regions.layer is not None
                planes = stack_of(content, self.result.axes) if several else [content]
        except StyleTransferError:
            # Told when Run is pressed: the user may be on the way to another plane.
            planes = []
        self.regions.follow(planes, self.pictures.style_layers)

    def _contradiction(self) -> str:
        try:
            self.config()
        except ConfigError as error:
            return str(error)
        return ""

    def _follow_slider(self) -> None:
        try:
            config = self.settings.config()
        except ConfigError:
            return
        self._follow_content(config)

    def _on_state(self, state: State) -> None:
        if state is State.DONE or state is State.STOPPED:
            self.settings.offer_networks()
            self._devices.refresh_if_known()

    def _on_theme(self) -> None:
        theme = theme_of(self._viewer)
        self.setStyleSheet(form_style(theme))
        # napari's accent is too dark to read as text on its dark ground.
        link = color(theme.current).lighter(160) if theme.type == "dark" else color(theme.current).darker(150)
        self.hint.setText(_HINT.format(link=link.name()))
        self.controls.set_theme(theme)

    def _open_sample(self) -> None:
        self._viewer.open_sample("napari-styletransfer", "content_and_style")

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load settings", "", _RECIPE_FILES)
        if path:
            self.load_settings(path)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save settings", "style-transfer.json", _RECIPE_FILES)
        if path:
            self.save_settings(path)

    def _show_loaded(self, load: Callable[[], StyleConfig]) -> None:
        try:
            self.show_config(load())
        except ConfigError as error:
            self.session.refuse(error)
        else:
            show_info("Settings loaded.")

    def _recipe_button(self) -> QToolButton:
        menu = QMenu(self)
        menu.addAction("Load settings …", self._on_load)
        menu.addAction("Save settings …", self._on_save)
        menu.addAction("Load settings from selected layer", self.load_settings_from_layer)
        button = QToolButton()
        button.setObjectName("menu")
        button.setText("⋯")
        button.setToolTip("<p>Load and save settings.</p>")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setMenu(menu)
        self.settings.add_beside_preset(button)
        return button


class _Ties:
    """What holds a form to its viewer and its session; outlives the form by a moment."""

    def __init__(self, session: Session, cuts: Sequence[Callable[[], object]]) -> None:
        self._session = session
        self._cuts = list(cuts)

    def cut(self) -> None:
        """Undo every connection, once."""
        while self._cuts:
            self._cuts.pop()()

    def on_destroyed(self) -> None:
        """End the run of a form that went down with its window, without being closed before."""
        if self._cuts:
            self.cut()
            self._session.abandon()
