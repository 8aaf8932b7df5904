"""How far a run is and how long it will still take, told from its plan and its steps, and durations in words.

A step at a fine scale costs more than one at a coarse scale, so both count work in pixels: the bar then moves
evenly, and the time left is right long before the last scale begins. Used by the form and the command line.
"""

from __future__ import annotations

from napari_styletransfer.config import Network
from napari_styletransfer.events import Event, Finished, Plan, PlaneStarted, Started, Step


class WorkMeter:
    """Follows one run; a continued one counts from the scale it goes on at."""

    def __init__(self, plan: Plan) -> None:
        self._work = [scale.height * scale.width * scale.iterations for scale in plan.scales]
        self._pixels = [scale.height * scale.width for scale in plan.scales]
        self._first: int | None = None
        self._scale = -1
        self._before = 0
        self._mark = (0.0, 0.0)
        self.fraction = 0.0
        self.seconds_left: float | None = None

    def update(self, step: Step) -> None:
        """Take note of a step."""
        if self._first is None:
            self._first = step.scale
        new_scale = step.scale != self._scale
        if new_scale:
            self._scale, self._before = step.scale, step.iteration - 1
        total = sum(self._work[self._first :])
        done = sum(self._work[self._first : step.scale]) + self._pixels[step.scale] * (step.iteration - self._before)
        if new_scale:
            # The first step of a scale also pays for its preparation: the pace is measured from here on.
            self._mark = (step.seconds, done)
        self.fraction = min(max(self.fraction, done / total), 1.0)
        seconds, work = step.seconds - self._mark[0], done - self._mark[1]
        if work > 0 and seconds > 0:
            self.seconds_left = max(total - done, 0) * seconds / work


class RunProgress:
    """Follows the events of a run, of one picture or of several planes one after another.

    Attributes
    ----------
    plane, planes
        Number of the plane under way, counted from 0, and how many there are.
    fraction
        Of the work done, in [0, 1].
    seconds_left
        For all planes; None while that cannot be said.
    """

    def __init__(self) -> None:
        self.plane = 0
        self.planes = 1
        self.fraction = 0.0
        self.seconds_left: float | None = None
        self._meter: WorkMeter | None = None
        self._plane_seconds: float | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, PlaneStarted):
            self.plane, self.planes = event.plane, event.planes
        elif isinstance(event, Started):
            self._meter = WorkMeter(event.plan)
        elif isinstance(event, Step) and self._meter is not None:
            self._meter.update(event)
            self.fraction = (self.plane + self._meter.fraction) / self.planes
            self.seconds_left = seconds = self._meter.seconds_left
            if seconds is not None:
                # Later planes start from results and take less than the first, so the last one tells most.
                each = seconds if self._plane_seconds is None else self._plane_seconds
                self.seconds_left = seconds + each * (self.planes - self.plane - 1)
        elif isinstance(event, Finished) and event.seconds:
            # A plane that was left as it is says nothing of the others.
            self._plane_seconds = event.seconds


def describe_network(plan: Plan) -> str:
    """Return the network of a plan and, where 'auto' became it, why: ``vgg19 (auto: there is a GPU)``."""
    why = f" ({Network.AUTO}: {plan.why_network})" if plan.why_network else ""
    return f"{plan.config.network}{why}"


def describe_structure(structure: float | None) -> str:
    """Tell how far bright and dark are where the content has them; nothing without content."""
    return "" if structure is None else f"structure kept {structure:.2f}"


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``7 s``, ``2 min 5 s`` or ``1 h 2 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rough_duration(seconds: float) -> str:
    """Return a duration that is known roughly: ``7 s``, ``2 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
