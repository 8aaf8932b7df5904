"""The foot of the form: Run, Stop and Continue, how far the run is, and its loss, always in sight.

Shows a session's status and nothing else; what the buttons do is the form's business.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_styletransfer.session.status import State
from napari_styletransfer.widget.qt_utils import collapsible, elide_words, text_style

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_styletransfer.session.run_session import Session
    from napari_styletransfer.widget.panels.loss_plot import LossPlot

RUN_KEYS = ("Ctrl+Return", "Ctrl+Enter")
STOP_KEY = "Esc"
"""Keys that hold while the form has the focus."""

_PROGRESS_STEPS = 1000


def key_text(key: str) -> str:
    """Return a key as the system writes it."""
    return QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText)


_RUNNING = "A run is under way. Stop it, or wait until it has ended."
_RUN_TOOLTIP = f"Paint the content in the manner of the style, into a new layer ({key_text(RUN_KEYS[0])})."


class RunControls(QWidget):
    """Buttons, progress bar, one line of words and the folded loss plot of a session."""

    def __init__(self, session: Session, theme: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._theme = theme
        self._blocking_reason = ""
        self._continue: tuple[str, bool] = ("", False)
        self.run = QPushButton("Run")
        self.run.setObjectName("primary")
        self.stop = QPushButton("Stop")
        self.resume = QPushButton("Continue")
        self.stop.setToolTip(f"<p>End the run at once and keep its best image ({key_text(STOP_KEY)}).</p>")
        self.bar = QProgressBar()
        self.bar.setObjectName("run")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.message = QLabel()
        self.message.setWordWrap(True)
        # Names of layers and files may look like tags.
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.plot: LossPlot | None = None
        self.loss_section = collapsible("Loss")
        self.loss_section.toggled.connect(self._on_fold)
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.stop, 1)
        buttons.addWidget(self.resume, 1)
        layout = self._lines = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.loss_section)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.message)
        self.set_theme(theme)
        session.status.events.connect(self.refresh)
        session.stepped.connect(self._draw)
        self.refresh()

    def add_above_buttons(self, widget: QWidget) -> None:
        """Put a widget between the loss and the buttons."""
        self._lines.insertWidget(1, widget)

    def set_blocking_reason(self, reason: str) -> None:
        """Say why Run cannot be pressed; an empty reason lets it."""
        self._blocking_reason = reason
        self.refresh()

    def set_continue(self, words: str, possible: bool) -> None:
        """Say what Continue would do, or why it cannot be pressed."""
        self._continue = (words, possible)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's status."""
        status = self._session.status
        self.run.setEnabled(not status.active and not self._blocking_reason)
        self.run.setToolTip(f"<p>{html.escape(self._blocking_reason, quote=False) or _RUN_TOOLTIP}</p>")
        self.stop.setEnabled(status.state is State.RUNNING)
        words, possible = self._continue
        self.resume.setEnabled(possible and not status.active)
        self.resume.setToolTip(f"<p>{_RUNNING if status.active else html.escape(words, quote=False)}</p>")
        if status.active and status.fraction is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, _PROGRESS_STEPS)
            self.bar.setValue(round(_PROGRESS_STEPS * (status.fraction or 0)))
        told = self._blocking_reason if self._blocking_reason and not status.active else status.message
        fitting = elide_words(told, self.message)
        self.message.setText(fitting)
        self.message.setToolTip("" if fitting == told else f"<p>{html.escape(told)}</p>")
        failed = status.state is State.FAILED and not self._blocking_reason
        self.message.setStyleSheet(text_style(self._theme, "error") if failed else "")

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self._theme = theme
        if self.plot is not None:
            self.plot.set_theme(theme)
        self.refresh()

    def release(self) -> None:
        """Stop following the session."""
        self._session.status.events.disconnect(self.refresh)
        self._session.stepped.disconnect(self._draw)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the words to the room there is."""
        super().resizeEvent(event)
        self.refresh()

    def _on_fold(self, unfolded: bool) -> None:
        if unfolded and self.plot is None:
            from napari_styletransfer.widget.panels.loss_plot import LossPlot

            self.plot = LossPlot(self._theme)
            self.loss_section.addWidget(self.plot)
            self.loss_section.expand(animate=False)
        self._draw()

    def _draw(self) -> None:
        if self.plot is not None and self.loss_section.isExpanded():
            self.plot.show_steps(self._session.steps)
