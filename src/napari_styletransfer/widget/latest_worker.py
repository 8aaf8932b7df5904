"""Questions answered in a thread, one at a time; the plan, the labels and the devices are asked for so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject


class LatestWorker(QObject):
    """Calls a function in a thread of napari's; of calls that are asked for meanwhile, only the last one is made.

    Parameters
    ----------
    function
        Must not raise: napari's worker swallows a `RuntimeError`.
    on_returned
        Gets each result, on the main thread.
    parent
        With it goes what has not been answered yet.
    """

    def __init__(self, function: Callable[..., Any], on_returned: Callable[[Any], object], parent: QObject) -> None:
        super().__init__(parent)
        self._function = function
        self._on_returned = on_returned
        self._running = self._cancelled = False
        self._next: tuple[Any, ...] | None = None

    def start(self, *args: Any) -> None:
        """Make the call now, or when the one under way has returned."""
        if self._running or self._cancelled:
            self._next = args
            return
        self._running = True
        create_worker(
            self._function,
            *args,
            _ignore_errors=True,
            _connect={"returned": self._return, "finished": self._finish},
        )

    def cancel(self) -> None:
        """Make no more calls, and pass on no more results."""
        self._cancelled = True

    def _return(self, result: Any) -> None:
        if not self._cancelled:
            self._on_returned(result)

    def _finish(self) -> None:
        self._running = False
        if self._next is not None and not self._cancelled:
            args, self._next = self._next, None
            self.start(*args)
