"""Ctrl-C, and the signals of a system that ends a process, as a way to stop a run that keeps what was reached.

Called by `cli.run`.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from napari_styletransfer.cli.progress import Silent
from napari_styletransfer.events import Event, Fetching

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    # Of a terminal that is closed, or a connection that breaks.
    _SIGNALS.append(signal.SIGHUP)


class Interrupt:
    """Ctrl-C and its like as a question: the first asks the run to stop, the second breaks it off.

    A hangup never does that: a terminal that is closed may send several.
    """

    def __init__(self) -> None:
        self.asked = False
        self._told = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # `nohup` has hangups ignored, and means it; a shell has Ctrl-C ignored in the background.
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def tell(self, progress: Silent) -> None:
        """Show, once, that the question was heard; not done in the handler, where printing is unsafe."""
        if self.asked and not self._told:
            self._told = True
            progress.stopping()

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for each in self._before.keys() & {signal.SIGINT, signal.SIGTERM}:
            signal.signal(each, signal.default_int_handler)


class Watch:
    """What a run is given to ask and to tell; `begun` once it told something, before which it has only checked."""

    def __init__(self, interrupt: Interrupt, progress: Silent) -> None:
        self.begun = False
        self._interrupt, self._progress = interrupt, progress

    def should_stop(self) -> bool:
        """Tell whether the user asked to stop."""
        self._interrupt.tell(self._progress)
        return self._interrupt.asked

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self.begun = True
        if self._interrupt.asked and isinstance(event, Fetching):
            # There is no picture yet that would be worth keeping.
            raise KeyboardInterrupt
        self._progress(event)
