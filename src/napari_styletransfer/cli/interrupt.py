"""Ctrl-C as a way to stop a run that keeps what was reached. Called by `cli.run`."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from napari_styletransfer.cli.progress import Silent
from napari_styletransfer.engine.events import Event, Fetching


class Interrupt:
    """Ctrl-C as a question: the first asks the run to stop, the second breaks it off."""

    def __init__(self) -> None:
        self.asked = False
        self._told = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def tell(self, progress: Silent) -> None:
        """Show, once, that the question was heard; not done in the handler, where printing is unsafe."""
        if self.asked and not self._told:
            self._told = True
            progress.stopping()

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Watch:
    """What a run is given to ask and to tell."""

    def __init__(self, interrupt: Interrupt, progress: Silent) -> None:
        self._interrupt, self._progress = interrupt, progress

    def should_stop(self) -> bool:
        """Tell whether the user asked to stop."""
        self._interrupt.tell(self._progress)
        return self._interrupt.asked

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if self._interrupt.asked and isinstance(event, Fetching):
            # There is no picture yet that would be worth keeping.
            raise KeyboardInterrupt
        self._progress(event)
