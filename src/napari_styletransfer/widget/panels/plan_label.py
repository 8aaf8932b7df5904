"""The line that tells before Run what the run will be: network, device, size, memory, time.

Worked out in a thread, from sizes alone, as soon as there are pictures to run; the first plan loads torch, so that Run
need not. A link takes the other network. What cannot work is said here before Run is pressed, also of a file with
weights; the form asks for `blocking_reason`.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget
from superqt.utils import QSignalDebouncer

from napari_styletransfer.config import Mode, Network
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError, WeightsError
from napari_styletransfer.progress import describe_network, rough_duration
from napari_styletransfer.session.job_builder import PlanRequest
from napari_styletransfer.session.networks import other_network
from napari_styletransfer.widget.latest_worker import LatestWorker
from napari_styletransfer.widget.qt_utils import elide_words, text_color, text_style
from napari_styletransfer.worker import load_engine, to_styletransfer_error

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_styletransfer.events import Plan

_DEBOUNCE_MS = 300
"""Milliseconds after the last change before the plan is made."""


MakePlan = Callable[[PlanRequest], "Plan"]


class PlanLabel(QLabel):
    """One line of words about the run to come.

    Parameters
    ----------
    make_plan
        Called in a thread; `plan_of` in real life, None for no plan at all.
    theme
        Of napari, for the colour of a warning.
    """

    planned = Signal()
    """The plan has come, and with it perhaps a reason not to run."""

    network_chosen = Signal(object)
    """The link was pressed: the `Network` to use in place of the planned one."""

    def __init__(self, make_plan: MakePlan | None, theme: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_plan = make_plan
        self._theme = theme
        self._request: PlanRequest | None = None
        self._text, self._warning = "", False
        self._alternative: Network | None = None
        self.blocking_reason = ""
        self.setWordWrap(True)
        links = Qt.TextInteractionFlag.LinksAccessibleByMouse | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(links)
        self.linkActivated.connect(lambda name: self.network_chosen.emit(Network(name)))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip(
            "<p>What Run will do: network, device, size of the result, most memory, and about how long at most.</p>"
        )
        self.setVisible(False)
        self._debouncer = QSignalDebouncer(parent=self)
        self._debouncer.setTimeout(_DEBOUNCE_MS)
        self._debouncer.triggered.connect(self.update_plan)
        self._worker = LatestWorker(_plan_or_error, self._on_plan, self)

    def set_request(self, request: PlanRequest | None) -> None:
        """Take note of what Run would do now; None where it could do nothing."""
        if request == self._request:
            return
        self._request, self.blocking_reason = request, ""
        self._debouncer.throttle()

    def update_plan(self) -> None:
        """Make the plan in a thread, which loads torch the first time, so that Run need not."""
        if self._make_plan is None:
            return
        if self._request is None:
            self._show("")
        else:
            self._worker.start(self._make_plan, self._request)

    def summary(self, plan: Plan, planes: int = 1) -> str:
        """Return a plan in one line."""
        last = plan.scales[-1]
        what = "colours alone" if plan.config.mode is Mode.COLORS else describe_network(plan)
        parts = [what, plan.device_name, f"{last.width} × {last.height}"]
        if planes > 1:
            parts.append(f"{planes} planes")
        if plan.blocks > 1:
            parts.append(f"{plan.blocks} blocks")
        if plan.memory_savings:
            parts.append(f"to save memory: {plan.memory_savings}")
        parts.append(plan.memory)
        if plan.seconds * planes >= 1:
            parts.append(f"at most about {rough_duration(plan.seconds * planes)}")
        return " · ".join(parts)

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self._theme = theme
        self._draw()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the words to the room there is."""
        super().resizeEvent(event)
        self._draw()

    def release(self) -> None:
        """Ask no more."""
        self._debouncer.cancel()
        self._worker.cancel()

    def _on_plan(self, answer: tuple[PlanRequest, Plan | None, StyleTransferError | None]) -> None:
        request, plan, error = answer
        if request != self._request:
            return
        # Memory may be free again when Run is pressed; a wrong setting or picture stays wrong.
        self.blocking_reason = str(error) if isinstance(error, ConfigError | ImageError | WeightsError) else ""
        if plan is not None:
            colors = plan.config.mode is Mode.COLORS
            alternative = None if colors else other_network(request.config, plan.config.network)
            self._show(self.summary(plan, request.planes), alternative)
        else:
            self._show("" if self.blocking_reason else str(error), warning=True)
        self.planned.emit()

    def _show(self, text: str, alternative: Network | None = None, *, warning: bool = False) -> None:
        self._text, self._alternative, self._warning = text, alternative, warning
        self._draw()

    def _draw(self) -> None:
        words = html.escape(elide_words(self._text, self), quote=False)
        if self._alternative is not None:
            link = text_color(self._theme, "current").name()
            words += f' · <a href="{self._alternative}" style="color: {link}">use {self._alternative}</a>'
        self.setText(words)
        self.setStyleSheet(text_style(self._theme, "warning") if self._warning else "")
        self.setVisible(bool(self._text))


def plan_of(request: PlanRequest) -> Plan:
    """Make the plan; for a thread.

    Raises
    ------
    StyleTransferError
        If the run would be refused.
    """
    load_engine("planning.planner")  # first, as it does not hold up the window
    from napari_styletransfer.engine.recolor import colors_plan
    from napari_styletransfer.images.resize import working_size
    from napari_styletransfer.losses.regions import RegionMap
    from napari_styletransfer.planning.inputs import RunInputs
    from napari_styletransfer.planning.planner import prepare

    config = request.config.changed(regions=None)
    # Stand-ins show whether pictures and settings fit together; of the real ones only the size counts.
    picture = np.zeros((2, 2, 3), np.uint8)
    content = picture if config.mode.uses_content else None
    RunInputs.from_arrays(content, [picture] * request.styles, config, init=picture)
    guide = RegionMap(np.ones((2, 2), np.int64), {1: None}, 0.0) if request.guided else None
    sized = RunInputs(None, (), (), None, working_size(*request.shape, config.size), guide, source_size=request.shape)
    if config.mode is Mode.COLORS:
        return colors_plan(sized, config)
    prepared = prepare(sized, config, request.planes)
    decided = prepared.plan.config
    if decided.weights is not None:
        try:
            state = decided.weights.expanduser().stat()
            version: tuple[int, ...] = (state.st_mtime_ns, state.st_size)
        except OSError:  # told by who reads it
            version = ()
        shapes = tuple(prepared.backbone.state_dict_shapes().items())
        _check_weights(decided.network, shapes, decided.weights, decided.weights_sha256, version)
    return prepared.plan


@lru_cache(maxsize=4)
def _check_weights(
    network: Network, shapes: tuple[tuple[str, tuple[int, ...]], ...], file: Path, sha256: str | None, version: object
) -> None:
    """Read a file of weights to see whether a run could, once for each version of it."""
    from napari_styletransfer.networks.weights import fetch

    for _ in fetch(network, dict(shapes), file, sha256):
        pass


def _plan_or_error(
    make_plan: MakePlan, request: PlanRequest
) -> tuple[PlanRequest, Plan | None, StyleTransferError | None]:
    # Not the error itself: napari's worker takes an exception that is returned for one that was raised.
    try:
        return request, make_plan(request), None
    except Exception as error:
        return request, None, to_styletransfer_error(error)
