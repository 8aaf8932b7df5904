"""The plugin's dock widget: pictures, settings, and Run.

Named in the manifest; napari makes one when the user opens "Style Transfer". It gathers a `Job` from its parts
when Run is pressed and leaves the run to its session. Opening it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QFrame,
    QScrollArea,
    QShortcut,
    QVBoxLayout,
    QWidget,
)

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, StyleTransferError
from napari_styletransfer.session.job import Job
from napari_styletransfer.session.layer_group import LayerGroup
from napari_styletransfer.session.messages import message_of
from napari_styletransfer.session.remembered import FormState, remember, remembered
from napari_styletransfer.session.resume import Continuation, chosen_result, continuation
from napari_styletransfer.session.run_session import Session
from napari_styletransfer.session.status import State
from napari_styletransfer.widget.devices import DeviceList
from napari_styletransfer.widget.docked import DockedWidget
from napari_styletransfer.widget.hint import Hint
from napari_styletransfer.widget.job_builder import JobBuilder
from napari_styletransfer.widget.output_options import OutputOptions
from napari_styletransfer.widget.picture_panel import PicturePanel
from napari_styletransfer.widget.plan_label import MakePlan, PlanLabel, plan_of
from napari_styletransfer.widget.preferences import preferred_config
from napari_styletransfer.widget.qt_utils import form_style, hline, theme_of
from napari_styletransfer.widget.region_panel import RegionPanel
from napari_styletransfer.widget.run_controls import RUN_KEYS, STOP_KEY, RunControls
from napari_styletransfer.widget.settings_form import SettingsForm
from napari_styletransfer.widget.settings_menu import SettingsMenu
from napari_styletransfer.widget.ties import Ties
from napari_styletransfer.worker import Run, engine_run

if TYPE_CHECKING:
    from napari.viewer import Viewer

_PATIENCE = 100
"""Milliseconds after the slider stood still before the form follows it."""


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
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_PATIENCE)
        self.session = Session(napari_viewer, make_run)
        self._valid = preferred_config()
        self.settings = SettingsForm(self._valid)
        self.settings.offer_networks()
        self.pictures = PicturePanel(napari_viewer, self.settings.editors["level"])
        self.regions = RegionPanel(napari_viewer, self.settings.editors["feather"])
        self.result = OutputOptions(napari_viewer, self.settings.editors["movie"])
        self.controls = RunControls(self.session, theme_of(napari_viewer))
        self.plan = PlanLabel(plan_of if make_run is engine_run else make_plan, theme_of(napari_viewer))
        self.controls.add_above_buttons(self.plan)
        self.hint = Hint(napari_viewer)
        self.maker = JobBuilder(napari_viewer, self.settings, self.pictures, self.regions, self.result)
        self.recipes = SettingsMenu(napari_viewer, self.session, self.settings, self.pictures, self.maker)
        self.settings.add_beside_preset(self.recipes)
        self._devices = DeviceList(self.settings)
        self._lay_out()
        self._connect()
        self._on_theme()
        self._check()
        said = remembered(napari_viewer)
        if said is not None:
            self._say_again(said)

    def run(self) -> None:
        """Start a run with what the form says."""
        self._start(self.maker.job)

    def try_variations(self) -> None:
        """Run a contact sheet of small pictures with settings around those of the form."""
        self._start(self.maker.sheet)

    def stop(self) -> None:
        """Stop the run and keep its best image."""
        self.session.stop()

    def go_on(self) -> None:
        """Continue the selected result, or else the content if that is one, or else the last run."""
        if self.session.status.active:
            return
        try:
            run = self._continuation().take_up(self.settings.config())
        except StyleTransferError as error:
            self.session.refuse(error)
            return
        self.session.resume(run)

    def config(self) -> StyleConfig:
        """Return the settings of the form, blend weights and regions included."""
        return self.maker.config()

    def show_config(self, config: StyleConfig) -> None:
        """Show the settings of a preset, a recipe or a layer."""
        self.settings.show_config(config)
        self.pictures.set_style_weights(config.style_weights)
        self.regions.show_regions(config.regions)
        # Whether blend weights count is decided by the regions, which the settings were shown without.
        self._check()

    def job(self) -> Job:
        """Return what Run would run now; see `JobBuilder.job`."""
        return self.maker.job()

    def release(self) -> None:
        """End the form: what it says is remembered, its run is stopped, and it follows the viewer no more."""
        self.session.stop()
        if self._ties.cut():
            remember(self._viewer, self._said())

    def _said(self) -> FormState:
        config, layer = self._valid, self.regions.layer
        # Fields that cannot work, and weights that do not go with them, are not worth remembering.
        with suppress(ConfigError):
            config = config.changed(style_weights=self.pictures.style_weights, regions=self.regions.regions())
        return FormState(
            config,
            *self.pictures.chosen_names,
            regions=None if layer is None else layer.name,
            axes=self.result.axes,
            channel=self.result.channel,
        )

    def _say_again(self, said: FormState) -> None:
        """Say what a form said before, as far as its layers are still there."""
        self.pictures.choose_names(said.content, said.styles)
        self.regions.choose(next((layer for layer in self._viewer.layers if layer.name == said.regions), None))
        self.show_config(said.config)
        self.result.choose(said.axes, said.channel)

    def _start(self, make: Callable[[], Job]) -> None:
        if self.session.status.active:
            return
        try:
            job = make()
        except StyleTransferError as error:
            self.session.refuse(error)
            return
        self.session.start(job)

    def _lay_out(self) -> None:
        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(8, 6, 8, 4)
        body.setSpacing(8)
        body.addWidget(self.hint)
        body.addWidget(self.pictures)
        body.addWidget(self.regions)
        body.addWidget(self.result)
        body.addWidget(hline())
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
        layout.addWidget(hline())
        foot = QVBoxLayout()
        foot.setContentsMargins(8, 4, 8, 8)
        foot.addWidget(self.controls)
        layout.addLayout(foot)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self.controls.run.clicked.connect(self.run)
        self.recipes.variations_wanted.connect(self.try_variations)
        self.recipes.loaded.connect(self.show_config)
        self.recipes.opened.connect(self._on_menu)
        self.controls.stop.clicked.connect(self.stop)
        self.controls.go_on.clicked.connect(self.go_on)
        for key, press in (*((key, self.controls.run) for key in RUN_KEYS), (STOP_KEY, self.controls.stop)):
            # A press of the button, so that a key does nothing that a click could not.
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(press.click)
        self.pictures.changed.connect(self._check)
        self.regions.changed.connect(self._check)
        self.result.changed.connect(self._check)
        self.plan.told.connect(self._check)
        self.plan.network_wanted.connect(self.settings.editors["network"].write)
        self._devices.known.connect(self.plan.ask)
        # Later: while layers come and go, napari tells of axes that its layers do not have yet, or no longer.
        self._settled.timeout.connect(self.pictures.look_again)
        self._viewer.dims.events.point.connect(self._on_slider)
        self._viewer.layers.selection.events.active.connect(self._check_continue)
        self.settings.edited.connect(self.session.clear_error)
        self.settings.edited.connect(self._check)
        self.session.status.events.state.connect(self._on_state)
        self.session.variation_chosen.connect(self._use_variation)
        self._viewer.events.theme.connect(self._on_theme)
        self._ties = Ties(
            self.session,
            (
                self.session.release,
                self.pictures.release,
                self.regions.release,
                self.plan.release,
                self._settled.stop,
                partial(self._viewer.dims.events.point.disconnect, self._on_slider),
                partial(self._viewer.layers.selection.events.active.disconnect, self._check_continue),
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
            hindrance = message_of(error)
        else:
            self._valid = config
            self.pictures.follow_settings(config.mode, config.start)
            self._follow_content(config)
            hindrance = self.pictures.missing() or self.maker.blocking_reason() or self.plan.hindrance
        self.hint.setVisible(len(self.pictures.image_layers) < 2)
        self.controls.set_blocking_reason(hindrance)
        self._check_continue()

    def _follow_content(self, config: StyleConfig) -> None:
        """Tell the parts that depend on the content which plane it is."""
        planes = self.maker.planes(config)
        self.regions.follow(planes, self.pictures.style_layers)
        self.pictures.explain_weights(self.regions.unblended)
        self.plan.follow(self.maker.question(config, planes))

    def _continuation(self) -> Continuation:
        content, active = self.pictures.content_layer, self._viewer.layers.selection.active
        # Of a selection napari hands plugins a proxy, of which not everything can be copied.
        selected = next((layer for layer in self._viewer.layers if layer == active), None)
        candidates = (selected, None if isinstance(content, LayerGroup) else content)
        return continuation(self.session, self._viewer, chosen_result(candidates))

    def _check_continue(self) -> None:
        """Say what Continue would go on with, or why it cannot."""
        if self.pictures.behind:
            # A layer has just come or gone; once that is followed, all is checked.
            return
        try:
            words, possible = self._continuation().words, True
        except ConfigError as error:
            words, possible = str(error), False
        self.controls.offer_continue(words, possible)

    def _on_menu(self) -> None:
        self.recipes.sheet.setEnabled(self.controls.run.isEnabled())

    def _on_slider(self) -> None:
        self._settled.start()

    def _on_state(self, state: State) -> None:
        if not self.session.status.active:
            self._check_continue()
        if state is State.DONE or state is State.STOPPED:
            self.settings.offer_networks()
            self._devices.refresh_if_known()
            self.plan.ask()  # as the time told is that of the last runs

    def _on_theme(self) -> None:
        theme = theme_of(self._viewer)
        self.setStyleSheet(form_style(theme))
        self.hint.set_theme(theme)
        self.controls.set_theme(theme)
        self.plan.set_theme(theme)

    def _use_variation(self, variation: StyleConfig) -> None:
        """Take over what a tile of the contact sheet was made with, but not its size."""
        try:
            config = self.settings.config().changed(balance=variation.balance, style_scale=variation.style_scale)
        except ConfigError as error:
            self.session.refuse(error)
            return
        self.settings.show_config(config)
        words = f"content ↔ style {variation.balance:g}, style scale {variation.style_scale:g}"
        show_info(f"Settings taken over: {words}.")
