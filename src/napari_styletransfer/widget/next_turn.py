"""Work put off to the event loop's next turn, where napari itself has much to do in this one.

When a layer comes, napari builds its controls and draws it in the same turn of the event loop in which it tells of
it. The parts of the form that list layers follow in the next turn, so that the window is held up less, and come up
to date at once where somebody asks them before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from qtpy.QtCore import QObject


class NextTurn:
    """Does something once in the next turn, however often it is asked for in this one.

    Parameters
    ----------
    work
        What to do.
    parent
        With it goes what has not been done yet.
    """

    def __init__(self, work: Callable[[], None], parent: QObject) -> None:
        self._work = work
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(work)

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return self._timer.isActive()

    def ask(self, event: Any = None) -> None:
        """Have it done in the next turn."""
        self._timer.start()

    def settle(self) -> None:
        """Do now what is still to do."""
        if self.pending:
            self._timer.stop()
            self._work()

    def cancel(self) -> None:
        """Leave undone what is still to do."""
        self._timer.stop()
