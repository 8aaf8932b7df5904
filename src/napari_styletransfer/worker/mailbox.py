"""What a run has sent and the main thread has not yet received.

The thread puts events in, the main thread empties the box a few times a second at most, so that a busy window is
never flooded and nothing waits for the engine's next event to be seen.
"""

from __future__ import annotations

import threading

from napari_styletransfer.errors import StyleTransferError
from napari_styletransfer.events import Event, Fetching, Preview

Message = Event | StyleTransferError
"""An error is the last one, of a run that raised it."""


class Mailbox:
    """A queue that keeps every `Step`, but of `Fetching` and `Preview` only the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Message] = []
        self.preview_shown = threading.Event()
        """Set once a preview was shown."""

    def put(self, message: Message) -> bool:
        """Add a message, drop the one it makes out of date, and say whether the box was empty."""
        with self._lock:
            was_empty = not self._queue
            if isinstance(message, Preview | Fetching):
                self._queue = [other for other in self._queue if type(other) is not type(message)]
            self._queue.append(message)
            return was_empty

    def empty(self) -> list[Message]:
        """Take everything out."""
        with self._lock:
            messages, self._queue = self._queue, []
            return messages
