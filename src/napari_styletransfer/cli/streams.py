"""Standard streams that are not there, or whose other end goes away. Called by `cli.app`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any


class BestEffortStream:
    """A text stream that drops what it cannot write, so that no run is lost to a closed terminal, pipe or full log.

    Parameters
    ----------
    stream
        The stream behind it; None, as in a process without a console, is one that takes everything.
    """

    def __init__(self, stream: Any) -> None:
        # Takes the number of the closed one too, which would else be that of the next file that is opened.
        self._stream: Any = stream if stream is not None else open(os.devnull, "w")  # noqa: SIM115
        with suppress(AttributeError, OSError):
            # Consoles with an old code page cannot print every character of the help.
            self._stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as it goes."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, as far as it goes."""
        with suppress(OSError):
            self._stream.flush()
