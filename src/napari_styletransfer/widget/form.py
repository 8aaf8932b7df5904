"""The plugin's dock widget: pictures, settings, and Run.

Named in the manifest; napari makes one when the user opens "Style Transfer". It gathers a `Job` from its parts
when Run is pressed and leaves the run to its session. Opening it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QInputDialog,
    QLabel,
    QMenu,
    QScrollArea,
    QShortcut,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, StyleTransferError
from napari_styletransfer.layers.compose import Composite, compose
from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import read_recipe
from napari_styletransfer.widget.controls import RUN_KEYS, STOP_KEY, RunControls
from napari_styletransfer.widget.devices import DeviceList
from napari_styletransfer.widget.job import Job
from napari_styletransfer.widget.looks import color, form_style, rule, theme_of
from napari_styletransfer.widget.pictures import PicturePanel
from napari_styletransfer.widget.plan_line import MakePlan, PlanLine, Question, plan_of
from napari_styletransfer.widget.preferences import preferred_config
from napari_styletransfer.widget.regions import RegionPanel
from napari_styletransfer.widget.result import ResultPanel
from napari_styletransfer.widget.session import Session, State
from napari_styletransfer.widget.settings import SettingsForm
from napari_styletransfer.widget.variations import SheetOutput, variations_of
from napari_styletransfer.worker import Run, engine_run

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_HINT = (
    "Open two pictures, a content and a style, or "
    '<a href="sample" style="color: {link}">load an example</a>. '
    "File ▸ Open Sample ▸ Style Transfer has more."
)
_PATIENCE = 100
"""Milliseconds after the slider stood still before the form follows it."""

_RECIPE_FILES = "Recipes (*.json)"


class StyleTransferWidget(QWidget):
    """Style transfer, as a form beside the viewer.

    Parameters
    ----------
    napari_viewer
        Given by napari.
    make_run, make_plan
        Make the event generator of a run, and its plan; for tests.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        make_run: Callable[..., Run] = engine_run,
        make_plan: MakePlan | None = None,
    ) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._docked = False
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_PATIENCE)
        self.session = Session(napari_viewer, make_run)
        self.pictures = PicturePanel(napari_viewer)
        self.settings = SettingsForm(preferred_config())
        self.settings.offer_networks()
        self.regions = RegionPanel(napari_viewer, self.settings.editors["feather"])
        self.result = ResultPanel(napari_viewer, self.settings.editors["movie"])
        self.controls = RunControls(self.session, theme_of(napari_viewer))
        self.plan = PlanLine(plan_of if make_run is engine_run else make_plan, theme_of(napari_viewer))
        self.controls.add_above_buttons(self.plan)
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

    def try_variations(self) -> None:
        """Run a contact sheet of small pictures with settings around those of the form."""
        if self.session.status.active:
            return
        try:
            job = self.job()
            # One plane, in colour: the sheet is for looking at.
            job = replace(job, variations=variations_of(job.config), stack=None, channel=False, init=None)
            job = replace(job, regions=None if job.regions is None else [self.regions.resolve(job.place)])
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
        return self.settings.config().changed(style_weights=self.pictures.style_weights, regions=self.regions.regions())

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

    def _content(self, config: StyleConfig) -> Snapshot | Composite | None:
        """Decide what is read of the content."""
        if self.pictures.content_visible:
            return compose([self._snapshot(layer, config, level=config.level) for layer in self.pictures.together])
        layer = self.pictures.content_layer
        if layer is None:
            return None
        return self._snapshot(layer, config, colored=not self.result.channel, level=config.level)

    def _snapshot(
        self, layer: Image, config: StyleConfig, scale: float = 1.0, *, colored: bool = True, level: int | None = None
    ) -> Snapshot:
        # Of a pyramid the finest level of at most four times the run's size: where levels halve, at least twice.
        most = None if config.size is None else int(16 * (config.size * max(scale, 1)) ** 2)
        chosen = level if layer.multiscale else None
        return resolve_in(self._viewer, layer, max_pixels=most, colored=colored, level=chosen)

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

    def keep_preset(self, name: str) -> None:
        """Keep the settings as a preset of the user."""
        try:
            self.settings.save_preset(name.strip())
        except ConfigError as error:
            self.session.refuse(error)

    def delete_preset(self) -> None:
        """Delete the preset that is shown, if it is the user's own."""
        name = self.settings.own_preset
        if name is None:
            return
        try:
            self.settings.delete_preset(name)
        except ConfigError as error:
            self.session.refuse(error)

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
        for key, press in (*((key, self.controls.run) for key in RUN_KEYS), (STOP_KEY, self.controls.stop)):
            # A press of the button, so that a key does nothing that a click could not.
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(press.click)
        self.hint.linkActivated.connect(self._open_sample)
        self.pictures.changed.connect(self._check)
        self.regions.changed.connect(self._check)
        self.result.changed.connect(self._check)
        self.plan.told.connect(self._check)
        self._devices.known.connect(self.plan.ask)
        # Later: while layers come and go, napari tells of axes that its layers do not have yet, or no longer.
        self._settled.timeout.connect(self._check)
        self._viewer.dims.events.point.connect(self._on_slider)
        self.settings.edited.connect(self._check)
        self.session.status.events.state.connect(self._on_state)
        self.session.variation_chosen.connect(self._use_variation)
        self._viewer.events.theme.connect(self._on_theme)
        self._ties = _Ties(
            self.session,
            (
                self.pictures.release,
                self.regions.release,
                self.plan.release,
                self._settled.stop,
                partial(self._viewer.dims.events.point.disconnect, self._on_slider),
                self.controls.release,
                partial(self.session.status.events.state.disconnect, self._on_state),
                partial(self.session.variation_chosen.disconnect, self._use_variation),
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
            hindrance = self.pictures.missing() or self._contradiction() or self.plan.hindrance
        self.hint.setVisible(len(self.pictures.image_layers) < 2)
        self.controls.hinder(hindrance)

    def _follow_content(self, config: StyleConfig) -> None:
        """Tell the parts that depend on the content which plane it is."""
        planes: Sequence[Snapshot | Composite] = []
        try:
            content = self._content(config)
            self.result.follow(content)
            if isinstance(content, Snapshot) and self.result.axes and self.regions.layer is not None:
                planes = stack_of(content, self.result.axes)
            elif content is not None:
                planes = [content]
        except StyleTransferError:
            # Told when Run is pressed: the user may be on the way to another plane.
            planes = []
        self.regions.follow(planes, self.pictures.style_layers)
        self.plan.follow(self._question(config, planes))

    def _question(self, config: StyleConfig, planes: Sequence[Snapshot | Composite]) -> Question | None:
        """Return what the plan of the run to come depends on, or None while a picture is missing."""
        styles = self.pictures.style_layers
        if self.pictures.missing():
            return None
        try:
            # The style gives the size where there is no content.
            first = planes[0] if planes else self._snapshot(styles[0], config)
            weights = self.pictures.style_weights
            config = config.changed(style_weights=weights)
            axes = self.result.axes
            count = len(stack_of(first, axes)) if axes and isinstance(first, Snapshot) else 1
        except StyleTransferError:
            return None
        return Question(first.shape, len(styles), config, count)

    def _on_slider(self) -> None:
        self._settled.start()

    def _contradiction(self) -> str:
        try:
            self.config()
        except ConfigError as error:
            return str(error)
        return ""

    def _on_state(self, state: State) -> None:
        if state is State.DONE or state is State.STOPPED:
            self.settings.offer_networks()
            self._devices.refresh_if_known()
            # The small pictures of a contact sheet say little about the pace of a large one.
            if self.session.plan is not None and not isinstance(self.session.output, SheetOutput):
                self.plan.learn(self.session.plan, self.session.steps)

    def _on_theme(self) -> None:
        theme = theme_of(self._viewer)
        self.setStyleSheet(form_style(theme))
        # napari's accent is too dark to read as text on its dark ground.
        link = color(theme.current).lighter(160) if theme.type == "dark" else color(theme.current).darker(150)
        self.hint.setText(_HINT.format(link=link.name()))
        self.controls.set_theme(theme)
        self.plan.set_theme(theme)

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

    def _use_variation(self, variation: StyleConfig) -> None:
        """Take over what a tile of the contact sheet was made with, but not its size."""
        try:
            config = self.config().changed(balance=variation.balance, style_scale=variation.style_scale)
        except ConfigError as error:
            self.session.refuse(error)
            return
        self.show_config(config)
        show_info(f"Settings taken over: balance {variation.balance:g}, style scale {variation.style_scale:g}.")

    def _on_keep(self) -> None:
        name, accepted = QInputDialog.getText(
            self, "Keep settings as preset", "Name:", text=self.settings.own_preset or ""
        )
        if accepted:
            self.keep_preset(name)

    def _show_loaded(self, load: Callable[[], StyleConfig]) -> None:
        try:
            self.show_config(load())
        except ConfigError as error:
            self.session.refuse(error)
        else:
            show_info("Settings loaded.")

    def _recipe_button(self) -> QToolButton:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        sheet = menu.addAction("Try variations", self.try_variations)
        sheet.setToolTip("<p>A sheet of nine small pictures: more style downwards, larger strokes to the right.</p>")
        menu.addSeparator()
        menu.addAction("Load settings …", self._on_load)
        menu.addAction("Save settings …", self._on_save)
        menu.addAction("Load settings from selected layer", self.load_settings_from_layer)
        menu.addSeparator()
        menu.addAction("Keep settings as preset …", self._on_keep)
        delete = menu.addAction("Delete this preset", self.delete_preset)
        menu.aboutToShow.connect(lambda: sheet.setEnabled(self.controls.run.isEnabled()))
        menu.aboutToShow.connect(lambda: delete.setEnabled(self.settings.own_preset is not None))
        button = QToolButton()
        button.setObjectName("menu")
        button.setText("⋯")
        button.setToolTip("<p>Try variations; load and save settings, and keep them as presets.</p>")
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
