"""What a run has told and the main thread not yet heard.

The thread puts events in, the main thread empties the box a few times a second at most, so that a busy window is
never flooded and nothing waits for the engine's next event to be seen.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from napari_styletransfer.errors import StyleTransferError
from napari_styletransfer.events import Fetching, Preview
from napari_styletransfer.worker.runs import RunEvent

REPORT_INTERVAL = 125
"""Milliseconds between reports: eight a second look like motion and leave the window free."""


@dataclass(frozen=True)
class Report:
    """What happened since the last report: of `Fetching` and `Preview` only the newest, every `Step`."""

    events: tuple[RunEvent, ...]


@dataclass(frozen=True)
class Failure:
    """The end of a run that raised."""

    error: StyleTransferError


class Mailbox:
    """What the thread has written and the main thread not yet read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[RunEvent | Failure] = []
        self.seen = threading.Event()
        """Set once a preview was shown."""

    def put(self, message: RunEvent | Failure) -> bool:
        """Add a message, drop the one it makes out of date, and say whether the box was empty."""
        with self._lock:
            was_empty = not self._waiting
            if isinstance(message, Preview | Fetching):
                self._waiting = [other for other in self._waiting if type(other) is not type(message)]
            self._waiting.append(message)
            return was_empty

    def empty(self) -> list[RunEvent | Failure]:
        """Take everything out."""
        with self._lock:
            messages, self._waiting = self._waiting, []
            return messages
