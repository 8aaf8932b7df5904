"""What a form's run is doing, as the form shows it; kept up to date by the session, followed by the controls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from psygnal import SignalGroupDescriptor


class State(StrEnum):
    """What a form's run is doing."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class RunStatus:
    """What the form shows of its run; every change is an event.

    Attributes
    ----------
    state
        What the buttons follow.
    message
        One line for people.
    fraction
        Of the work done, in [0, 1], or None while that cannot be said.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    state: State = State.IDLE
    message: str = ""
    fraction: float | None = 0.0

    @property
    def active(self) -> bool:
        """Whether a thread is at work."""
        return self.state in (State.RUNNING, State.STOPPING)
