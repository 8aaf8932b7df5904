"""A widget that ends with its dock: napari only takes it out of a dock that is closed, and forgets it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QWidget


class DockedWidget(QWidget):
    """Released and deleted when its dock is closed, but not when it is moved to another."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False

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
