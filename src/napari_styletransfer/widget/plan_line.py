"""The line that tells before Run what the run will be: network, device, size, memory, time.

Worked out in a thread, from sizes alone. Where the settings name the network, that waits until torch is loaded; what
'auto' would be is told as soon as there are pictures to run. A link takes the other network. What cannot work is said
here before Run is pressed; the form asks for `hindrance`.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from napari_styletransfer.config import Mode, Network
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError
from napari_styletransfer.progress import network_told, rough_duration
from napari_styletransfer.widget.looks import colored, text_color
from napari_styletransfer.widget.networks import other_network
from napari_styletransfer.worker import load_engine, translated

if TYPE_CHECKING:
    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.engine.events import Plan, Step

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

    @property
    def undecided(self) -> bool:
        """Whether the plan is to choose the network."""
        return self.config.network is Network.AUTO and self.config.mode is not Mode.COLORS


MakePlan = Callable[[Question], "Plan"]


class PlanLine(QLabel):
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
        self._paces: dict[tuple[str, str], float] = {}
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
        """Make the plan in a thread, if torch is loaded, which makes it quick, or if it is to choose the network."""
        undecided = self._question is not None and self._question.undecided
        if self._make_plan is None or not (undecided or "torch" in sys.modules):
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

    def learn(self, plan: Plan, steps: Sequence[Step]) -> None:
        """Take note of how long the steps of a run took, with all that was done before and between them."""
        # A run that goes on counts its seconds from the start again.
        falls = [number for number, (one, next_) in enumerate(pairwise(steps), 1) if next_.seconds < one.seconds]
        last = steps[falls[-1] if falls else 0 :]
        # Of a run that ended early, what was done before its steps would be most.
        if sum(step.scale == len(plan.scales) - 1 for step in last) > 1:
            work = sum(plan.scales[step.scale].height * plan.scales[step.scale].width for step in last)
            self._paces[plan.config.network.value, plan.device] = last[-1].seconds / work
        self.ask()

    def words(self, plan: Plan, planes: int = 1) -> str:
        """Return a plan in one line."""
        last = plan.scales[-1]
        what = "colours alone" if plan.config.mode is Mode.COLORS else network_told(plan)
        parts = [what, plan.device_name, f"{last.width} × {last.height}"]
        if planes > 1:
            parts.append(f"{planes} planes")
        if plan.blocks > 1:
            parts.append(f"{plan.blocks} blocks")
        if plan.given_up:
            parts.append(f"to save memory: {plan.given_up}")
        parts.append(plan.memory)
        pace = self._paces.get((plan.config.network.value, plan.device))
        if pace is not None and plan.total_iterations:
            work = sum(scale.height * scale.width * scale.iterations for scale in plan.scales)
            seconds = pace * work
        else:
            seconds = plan.seconds  # before a run has shown how fast it is
        if seconds >= 1:
            parts.append(f"at most about {rough_duration(seconds * planes)}")
        return " · ".join(parts)

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self._theme = theme
        self._draw()

    def release(self) -> None:
        """Ask no more."""
        self._later.stop()
        self._make_plan = None

    def _take(self, question: Question, plan: Plan | None, error: StyleTransferError | None) -> None:
        if question != self._question or self._make_plan is None:
            return
        # Memory may be free again when Run is pressed; a wrong setting or picture stays wrong.
        self.hindrance = str(error) if isinstance(error, ConfigError | ImageError) else ""
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
        words = html.escape(self._text, quote=False)
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
    load_engine("planning")  # first, as it does not hold up the window
    from napari_styletransfer.engine.inputs import Pictures
    from napari_styletransfer.engine.planning import prepare
    from napari_styletransfer.engine.pyramid import working_size
    from napari_styletransfer.engine.recolor import colors_plan
    from napari_styletransfer.engine.regions import Guide

    config = question.config.changed(regions=None)
    # Stand-ins show whether pictures and settings fit together; of the real ones only the size counts.
    picture = np.zeros((2, 2, 3), np.uint8)
    content = None if config.mode is Mode.STYLE else picture
    Pictures.checked(content, [picture] * question.styles, config, init=picture)
    guide = Guide(np.ones((2, 2), np.int64), {1: None}, 0.0) if question.guided else None
    sized = Pictures(None, (), (), None, working_size(*question.shape, config.size), guide, own=question.shape)
    return colors_plan(sized, config) if config.mode is Mode.COLORS else prepare(sized, config, question.planes).plan


def _answer(make_plan: MakePlan, question: Question) -> tuple[Plan | None, StyleTransferError | None]:
    # Not the error itself: napari's worker takes an exception that is returned for one that was raised.
    try:
        return make_plan(question), None
    except Exception as error:
        return None, translated(error)
