"""Ctrl-C, and the signals of a system that ends a process, as a way to stop a run that keeps what was reached."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    # Of a terminal that is closed, or a connection that breaks.
    _SIGNALS.append(signal.SIGHUP)


class Interrupt:
    """Ctrl-C and its like as a question: the first asks the run to stop, the second breaks it off.

    A hangup never does that: a terminal that is closed may send several.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # `nohup` has hangups ignored, and means it; a shell has Ctrl-C ignored in the background.
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for each in self._handlers.keys() & {signal.SIGINT, signal.SIGTERM}:
            signal.signal(each, signal.default_int_handler)
