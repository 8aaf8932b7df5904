"""Ctrl-C, and the signals of a system that ends a process, as a way to stop a run that keeps what was reached."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    # Of a terminal that is closed, or a connection that breaks.
    _SIGNALS.append(signal.SIGHUP)


class Interrupt:
    """Ctrl-C and its like as a question: the first asks the run to stop, the second breaks it off.

    A hangup never does that: a terminal that is closed may send several. One inside another hears what that one heard.
    """

    _innermost: ClassVar[Interrupt | None] = None

    def __init__(self) -> None:
        self._requested = False
        self._outer: Interrupt | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._requested or (self._outer is not None and self._outer.requested)

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._outer, Interrupt._innermost = Interrupt._innermost, self
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
        if Interrupt._innermost is self:
            Interrupt._innermost = self._outer

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        for each in self._handlers.keys() & {signal.SIGINT, signal.SIGTERM}:
            signal.signal(each, signal.default_int_handler)
