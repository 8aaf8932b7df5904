"""The line that tells before Run what the run will be: network, device, size, memory, time.

Worked out in a thread, from sizes alone, as soon as there are pictures to run; the first plan loads torch, so that Run
need not. A link takes the other network. What cannot work is said here before Run is pressed, also of a file with
weights; the form asks for `blocking_reason`.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from napari_styletransfer.config import Mode, Network
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError, WeightsError
from napari_styletransfer.progress import network_text, rough_duration
from napari_styletransfer.session.networks import other_network
from napari_styletransfer.widget.qt_utils import colored, text_color, words_fitting
from napari_styletransfer.worker import load_engine, to_styletransfer_error

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.events import Plan

_PATIENCE = 300
"""Milliseconds after the last change before the plan is made."""


@dataclass(frozen=True)
class Question:
    """What a plan depends on.

    Attributes
    ----------
    shape
        (H, W) of the content, or of the first style where there is no content.
    styles
        Number of style pictures.
    config
        The settings.
    planes
        Number of planes to run.
    guided
        Whether regions say where.
    """

    shape: tuple[int, int]
    styles: int
    config: StyleConfig
    planes: int = 1
    guided: bool = False


MakePlan = Callable[[Question], "Plan"]


class PlanLabel(QLabel):
    """One line of words about the run to come.

    Parameters
    ----------
    make_plan
        Called in a thread; `plan_of` in real life, None for no plan at all.
    theme
        Of napari, for the colour of a warning.
    """

    told = Signal()
    """The plan has come, and with it perhaps a hindrance."""

    network_wanted = Signal(object)
    """The link was pressed: the `Network` to use in place of the planned one."""

    def __init__(self, make_plan: MakePlan | None, theme: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_plan = make_plan
        self._theme = theme
        self._question: Question | None = None
        self._asking = self._stale = False
        self._text, self._warning = "", False
        self._offered: Network | None = None
        self.hindrance = ""
        self.setWordWrap(True)
        links = Qt.TextInteractionFlag.LinksAccessibleByMouse | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(links)
        self.linkActivated.connect(lambda name: self.network_wanted.emit(Network(name)))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip(
            "<p>What Run will do: network, device, size of the result, most memory, and about how long at most.</p>"
        )
        self.setVisible(False)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_PATIENCE)
        self._later.timeout.connect(self.ask)

    def follow(self, question: Question | None) -> None:
        """Take note of what Run would do now; None where it could do nothing."""
        if question == self._question:
            return
        self._question, self.hindrance = question, ""
        self._later.start()

    def ask(self) -> None:
        """Make the plan in a thread, which loads torch the first time, so that Run need not."""
        if self._make_plan is None:
            return
        if self._question is None:
            self._show("")
        elif self._asking:
            self._stale = True
        else:
            self._asking = True
            question = self._question
            create_worker(
                _answer,
                self._make_plan,
                question,
                _ignore_errors=True,
                _connect={"returned": lambda answer: self._take(question, *answer), "finished": self._done},
            )

    def words(self, plan: Plan, planes: int = 1) -> str:
        """Return a plan in one line."""
        last = plan.scales[-1]
        what = "colours alone" if plan.config.mode is Mode.COLORS else network_text(plan)
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
        self._later.stop()
        self._make_plan = None

    def _take(self, question: Question, plan: Plan | None, error: StyleTransferError | None) -> None:
        if question != self._question or self._make_plan is None:
            return
        # Memory may be free again when Run is pressed; a wrong setting or picture stays wrong.
        self.hindrance = str(error) if isinstance(error, ConfigError | ImageError | WeightsError) else ""
        if plan is not None:
            colors = plan.config.mode is Mode.COLORS
            offered = None if colors else other_network(question.config, plan.config.network)
            self._show(self.words(plan, question.planes), offered)
        else:
            self._show("" if self.hindrance else str(error), warning=True)
        self.told.emit()

    def _done(self) -> None:
        self._asking = False
        if self._stale:
            self._stale = False
            self.ask()

    def _show(self, text: str, offered: Network | None = None, *, warning: bool = False) -> None:
        self._text, self._offered, self._warning = text, offered, warning
        self._draw()

    def _draw(self) -> None:
        words = html.escape(words_fitting(self._text, self), quote=False)
        if self._offered is not None:
            link = text_color(self._theme, "current").name()
            words += f' · <a href="{self._offered}" style="color: {link}">use {self._offered}</a>'
        self.setText(words)
        self.setStyleSheet(colored(self._theme, "warning") if self._warning else "")
        self.setVisible(bool(self._text))


def plan_of(question: Question) -> Plan:
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

    config = question.config.changed(regions=None)
    # Stand-ins show whether pictures and settings fit together; of the real ones only the size counts.
    picture = np.zeros((2, 2, 3), np.uint8)
    content = None if config.mode is Mode.STYLE else picture
    RunInputs.from_arrays(content, [picture] * question.styles, config, init=picture)
    guide = RegionMap(np.ones((2, 2), np.int64), {1: None}, 0.0) if question.guided else None
    sized = RunInputs(None, (), (), None, working_size(*question.shape, config.size), guide, source_size=question.shape)
    if config.mode is Mode.COLORS:
        return colors_plan(sized, config)
    prepared = prepare(sized, config, question.planes)
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


def _answer(make_plan: MakePlan, question: Question) -> tuple[Plan | None, StyleTransferError | None]:
    # Not the error itself: napari's worker takes an exception that is returned for one that was raised.
    try:
        return make_plan(question), None
    except Exception as error:
        return None, to_styletransfer_error(error)
