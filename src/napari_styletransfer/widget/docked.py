"""A widget in a dock: parts that scroll above a footer, and an end with its dock.

napari only takes a widget out of a dock that is closed, and forgets it.
"""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_styletransfer.widget.qt_utils import hline


class DockedWidget(QWidget):
    """Released and deleted when its dock is closed, but not when it is moved to another."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False

    def set_parts(self, parts: Sequence[QWidget], footer: QWidget) -> None:
        """Lay out some parts below each other, which scroll where they are too high, and a footer that stays."""
        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(8, 6, 8, 4)
        body.setSpacing(8)
        for part in parts:
            body.addWidget(part)
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
        foot.addWidget(footer)
        layout.addLayout(foot)
        self.setMinimumWidth(300)

    def release(self) -> None:
        """Let go of everything outside; called once the dock is closed."""
        raise NotImplementedError

    def event(self, event: QEvent | None) -> bool:
        """Notice that the dock was closed."""
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
