"""How far a run is and how long it will still take, told from its plan and its steps.

A step at a fine scale costs more than one at a coarse scale, so both count work in pixels: the bar then moves
evenly, and the time left is right long before the last scale begins.
"""

from __future__ import annotations

from napari_styletransfer.engine.events import Plan, Step


class WorkMeter:
    """Follows one run."""

    def __init__(self, plan: Plan) -> None:
        self._pixels = [scale.height * scale.width for scale in plan.scales]
        self._planned = [scale.iterations for scale in plan.scales]
        self._scale = -1
        self._before = 0
        self._mark = (0.0, 0.0)
        self.fraction = 0.0
        self.seconds_left: float | None = None

    def update(self, step: Step) -> None:
        """Take note of a step."""
        if step.scale != self._scale:
            self._scale = step.scale
            self._before = step.iteration - 1
        done = self._done(step.iteration - self._before)
        total = sum(pixels * steps for pixels, steps in zip(self._pixels, self._planned, strict=True))
        if step.iteration == self._before + 1:
            # The first step of a scale also pays for its preparation: the pace is measured from here on.
            self._mark = (step.seconds, done)
        self.fraction = min(max(self.fraction, done / total), 1.0)
        since, work = step.seconds - self._mark[0], done - self._mark[1]
        if work > 0 and since > 0:
            self.seconds_left = (total - done) * since / work

    def _done(self, steps: int) -> float:
        coarser = zip(self._pixels[: self._scale], self._planned[: self._scale], strict=True)
        return sum(pixels * planned for pixels, planned in coarser) + self._pixels[self._scale] * steps


def clock(seconds: float) -> str:
    """Return a duration as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
