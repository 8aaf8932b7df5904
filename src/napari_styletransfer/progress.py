"""How far a run is and how long it will still take, told from its plan and its steps, and durations in words.

A step at a fine scale costs more than one at a coarse scale, so both count work in pixels: the bar then moves
evenly, and the time left is right long before the last scale begins. Used by the form and the command line.
"""

from __future__ import annotations

from napari_styletransfer.config import Network
from napari_styletransfer.events import Plan, Step


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


class PlaneMeter:
    """Follows the planes of a stack, whose own progress a `WorkMeter` tells."""

    def __init__(self) -> None:
        self.plane = 0
        self.planes = 1
        self._seconds: list[float] = []

    def begin(self, plane: int, planes: int) -> None:
        """Take note that a plane begins."""
        self.plane, self.planes = plane, planes

    def end(self, seconds: float) -> None:
        """Take note of how long the plane took; one that was left as it is says nothing of the others."""
        if seconds:
            self._seconds.append(seconds)

    def overall(self, meter: WorkMeter) -> tuple[float | None, float]:
        """Return the seconds left for all planes and the share of the work done, `meter` being the plane's."""
        fraction = (self.plane + meter.fraction) / self.planes
        if meter.seconds_left is None:
            return None, fraction
        # Later planes start from results and take less than the first, so the last one tells most.
        each = self._seconds[-1] if self._seconds else meter.seconds_left
        return meter.seconds_left + each * (self.planes - self.plane - 1), fraction


def network_text(plan: Plan) -> str:
    """Return the network of a plan and, where 'auto' became it, why: ``vgg19 (auto: there is a GPU)``."""
    why = f" ({Network.AUTO}: {plan.why_network})" if plan.why_network else ""
    return f"{plan.config.network}{why}"


def structure_text(structure: float | None) -> str:
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
