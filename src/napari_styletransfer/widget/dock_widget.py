"""The plugin's dock widget: pictures, settings, and Run.

Named in the manifest; napari makes one when the user opens "Style Transfer". Its parts write a `FormState`, which it
follows; when Run is pressed it makes a `Job` of that and leaves the run to its session. Opening it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QLabel, QShortcut
from superqt.utils import QSignalDebouncer

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, StyleTransferError
from napari_styletransfer.session.form_state import FormState, SavedForm, save_form, saved_form
from napari_styletransfer.session.job import Job
from napari_styletransfer.session.job_builder import (
    build_contact_sheet,
    build_job,
    plan_request,
    region_planes,
    resolve_pictures,
)
from napari_styletransfer.session.layer_group import LayerGroup
from napari_styletransfer.session.messages import error_message
from napari_styletransfer.session.resume import Continuation, find_continuation, find_result
from napari_styletransfer.session.run_session import Session
from napari_styletransfer.session.status import State
from napari_styletransfer.widget.docked import DockedWidget
from napari_styletransfer.widget.panels.output_options import OutputOptions
from napari_styletransfer.widget.panels.picture_panel import PicturePanel
from napari_styletransfer.widget.panels.plan_label import MakePlan, PlanLabel, plan_of
from napari_styletransfer.widget.panels.region_panel import RegionPanel
from napari_styletransfer.widget.panels.run_controls import RUN_KEYS, STOP_KEY, RunControls
from napari_styletransfer.widget.qt_utils import form_style, hline, text_color, theme_of
from napari_styletransfer.widget.settings.devices import DeviceList
from napari_styletransfer.widget.settings.preferences import preferred_config
from napari_styletransfer.widget.settings.settings_form import SettingsForm
from napari_styletransfer.widget.settings.settings_menu import SettingsMenu
from napari_styletransfer.worker import Run, engine_run

if TYPE_CHECKING:
    from napari.viewer import Viewer

_DEBOUNCE_MS = 100
"""Milliseconds after the slider stood still before the form follows it."""

_HINT = (
    "Open two pictures, a content and a style, or "
    '<a href="sample" style="color: {link}">load an example</a>. '
    "File ▸ Open Sample ▸ Style Transfer has more."
)


class StyleTransferWidget(DockedWidget):
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
        self._connections = ExitStack()
        self.session = Session(napari_viewer, make_run)
        self.state = FormState(preferred_config())
        self.settings = SettingsForm(self.state.settings)
        self.settings.show_networks()
        self.pictures = PicturePanel(napari_viewer, self.state, self.settings.editors["level"])
        self.regions = RegionPanel(napari_viewer, self.state, self.settings.editors["feather"])
        self.output = OutputOptions(napari_viewer, self.state, self.settings.editors["movie"])
        self.controls = RunControls(self.session, theme_of(napari_viewer))
        self.plan = PlanLabel(plan_of if make_run is engine_run else make_plan, theme_of(napari_viewer))
        self.controls.add_above_buttons(self.plan)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.menu = SettingsMenu(napari_viewer, self.session, self.settings, self.state)
        self.settings.add_beside_preset(self.menu)
        self._devices = DeviceList(self.settings)
        self._debouncer = QSignalDebouncer(parent=self)
        self._debouncer.setTimeout(_DEBOUNCE_MS)
        parts = (self.hint, self.pictures, self.regions, self.output, hline(), self.settings)
        self.set_parts(parts, footer=self.controls)
        self._connect()
        self._on_theme()
        self._refresh()
        saved = saved_form(napari_viewer)
        if saved is not None:
            self._restore(saved)

    def run(self) -> None:
        """Start a run with what the form says."""
        self._start(self.job)

    def try_variations(self) -> None:
        """Run a contact sheet of small pictures with settings around those of the form."""
        self._start(lambda: build_contact_sheet(self._viewer, self._flushed()))

    def stop(self) -> None:
        """Stop the run and keep its best image."""
        self.session.stop()

    def resume(self) -> None:
        """Continue the selected result, or else the content if that is one, or else the last run."""
        if self.session.status.active:
            return
        self._flushed()
        try:
            run = self._continuation().prepare(self.settings.config())
        except StyleTransferError as error:
            self.session.report_error(error)
            return
        self.session.resume(run)

    def config(self) -> StyleConfig:
        """Return the settings of the form, blend weights and regions included."""
        return self._flushed().config()

    def show_config(self, config: StyleConfig) -> None:
        """Show the settings of a preset, a recipe or a layer."""
        self.settings.show_config(config)
        with self.state.changed.blocked():
            self.pictures.set_style_weights(config.style_weights)
            self.regions.set_regions(config.regions)
        self._refresh()

    def job(self) -> Job:
        """Return what Run would run now; see `build_job`."""
        return build_job(self._viewer, self._flushed())

    def release(self) -> None:
        """End the form: what it says is saved, its run is stopped, and it follows the viewer no more."""
        if not self.session.released:
            self.session.stop()
            save_form(self._viewer, self._saved())
            self._connections.close()

    def _saved(self) -> SavedForm:
        config, layer = self.state.settings, self.state.region_layer
        # Fields that cannot work, and weights that do not go with them, are not worth saving.
        with suppress(ConfigError):
            config = config.changed(style_weights=self.state.blend_weights, regions=self.state.regions)
        return SavedForm(
            config,
            *self.pictures.chosen_names,
            region_layer=None if layer is None else layer.name,
            axes=self.state.axes,
            channel=self.state.channel,
        )

    def _restore(self, saved: SavedForm) -> None:
        """Say what a form said before, as far as its layers are still there."""
        self.pictures.choose_names(saved.content, saved.styles)
        self.regions.choose(next((layer for layer in self._viewer.layers if layer.name == saved.region_layer), None))
        self.show_config(saved.config)
        self.output.choose(saved.axes, saved.channel)

    def _start(self, make: Callable[[], Job]) -> None:
        if self.session.status.active:
            return
        try:
            job = make()
        except StyleTransferError as error:
            self.session.report_error(error)
            return
        self.session.start(job)

    def _connect(self) -> None:
        self.controls.run.clicked.connect(self.run)
        self.controls.stop.clicked.connect(self.stop)
        self.controls.resume.clicked.connect(self.resume)
        for key, button in (*((key, self.controls.run) for key in RUN_KEYS), (STOP_KEY, self.controls.stop)):
            # A click of the button, so that a key does nothing that a click could not.
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(button.click)
        self.menu.variations_requested.connect(self.try_variations)
        self.menu.loaded.connect(self.show_config)
        self.menu.opened.connect(lambda: self.menu.variations_action.setEnabled(self.controls.run.isEnabled()))
        self.hint.linkActivated.connect(lambda: self._viewer.open_sample("napari-styletransfer", "content_and_style"))
        self.settings.edited.connect(self._on_settings)
        self.plan.planned.connect(self._refresh)
        self.plan.network_chosen.connect(self.settings.editors["network"].write)
        self._devices.found.connect(self.plan.update_plan)
        # Later: while layers come and go, napari tells of axes that its layers do not have yet, or no longer.
        self._debouncer.triggered.connect(self.pictures.update_later)
        for signal, slot in (
            (self.state.changed, self._refresh),
            (self.session.status.events.state, self._on_status),
            (self.session.variation_chosen, self._use_variation),
            (self._viewer.dims.events.point, self._on_slider),
            (self._viewer.layers.selection.events.active, self._update_continue),
            (self._viewer.events.theme, self._on_theme),
        ):
            signal.connect(slot)
            self._connections.callback(signal.disconnect, slot)
        self._connections.callback(self._debouncer.cancel)
        for part in (self.controls, self.plan, self.regions, self.pictures, self.session):
            self._connections.callback(part.release)
        # Not a method of the form: Qt calls none of those once the form is being destroyed.
        self.destroyed.connect(partial(_on_destroyed, self._connections, self.session))

    def _on_settings(self) -> None:
        self.session.clear_error()
        try:
            self.state.settings, self.state.error = self.settings.config(), None
        except ConfigError as error:
            self.state.error = error
        self.state.changed.emit()

    def _flushed(self) -> FormState:
        """Return the state as it is once the layers that came or went in this turn of the event loop are followed."""
        with self.state.changed.blocked():
            self.pictures.flush()
            self.regions.flush()
        return self.state

    def _refresh(self) -> None:
        """Follow the state in what is asked for, and say whether Run may be pressed."""
        state = self._flushed()
        if state.error is not None:
            blocking_reason = error_message(state.error)
        else:
            with state.changed.blocked():
                blocking_reason = self._update_parts() or self.plan.blocking_reason
        self.hint.setVisible(len(self.pictures.image_layers) < 2)
        self.controls.set_blocking_reason(blocking_reason)
        self._update_continue()

    def _update_parts(self) -> str:
        """Update each part by those before it, reading every layer's looks once; return why Run may not be pressed."""
        state = self.state
        self.pictures.update_settings()
        pictures = resolve_pictures(self._viewer, state)
        self.output.set_content(pictures.content)
        self.regions.set_planes(region_planes(state, pictures.content))
        self.pictures.set_blended(state.blended)
        missing = self.pictures.missing()
        self.plan.set_request(None if missing else plan_request(state, pictures))
        if missing:
            return missing
        try:
            state.config()
        except ConfigError as error:
            return error_message(error)
        return "" if pictures.error is None else error_message(pictures.error)

    def _continuation(self) -> Continuation:
        content, active = self.state.content, self._viewer.layers.selection.active
        # Of a selection napari hands plugins a proxy, of which not everything can be copied.
        selected = next((layer for layer in self._viewer.layers if layer == active), None)
        candidates = (selected, None if isinstance(content, LayerGroup) else content)
        return find_continuation(self.session, self._viewer, find_result(candidates))

    def _update_continue(self) -> None:
        """Say what Continue would go on with, or why it cannot."""
        try:
            words, possible = self._continuation().description, True
        except ConfigError as error:
            words, possible = str(error), False
        self.controls.set_continue(words, possible)

    def _on_slider(self) -> None:
        self._debouncer.throttle()

    def _on_status(self, state: State) -> None:
        if not self.session.status.active:
            self._update_continue()
        if state is State.DONE or state is State.STOPPED:
            self.settings.show_networks()
            self._devices.refresh_if_known()
            self.plan.update_plan()  # as the time told is that of the last runs

    def _on_theme(self) -> None:
        theme = theme_of(self._viewer)
        self.setStyleSheet(form_style(theme))
        self.hint.setText(_HINT.format(link=text_color(theme, "current").name()))
        self.controls.set_theme(theme)
        self.plan.set_theme(theme)

    def _use_variation(self, variation: StyleConfig) -> None:
        """Take over what a tile of the contact sheet was made with, but not its size."""
        try:
            config = self.settings.config().changed(balance=variation.balance, style_scale=variation.style_scale)
        except ConfigError as error:
            self.session.report_error(error)
            return
        self.settings.show_config(config)
        words = f"content ↔ style {variation.balance:g}, style scale {variation.style_scale:g}"
        show_info(f"Settings taken over: {words}.")


def _on_destroyed(connections: ExitStack, session: Session) -> None:
    """End the run of a form that went down with its window, without being closed before."""
    if not session.released:
        connections.close()
        session.abandon()
