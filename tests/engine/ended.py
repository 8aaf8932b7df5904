"""How a run ended, for tests that look at its last event."""

from __future__ import annotations

from collections.abc import Sequence

from napari_styletransfer.events import Event, Finished


def end(events: Sequence[Event]) -> Finished:
    """Return the last of the events of a run, which tells of its end."""
    last = events[-1]
    assert isinstance(last, Finished)
    return last
