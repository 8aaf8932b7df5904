"""What a run has to tell so far: its counts, its time and its losses, as the events that the windows consume.

Called by `engine.run`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.events import Finished, Plan, Preview, Reason, Step


class RunRecord:
    """Counts steps and evaluations over all scales of a run, from the moment it is made.

    Attributes
    ----------
    iterations
        Steps of the scales that are done.
    evaluations
        Evaluations of the loss in this run.
    history
        Total loss after each step.
    """

    def __init__(self, plan: Plan, preview_interval: float) -> None:
        self._began = time.perf_counter()
        self._plan = plan
        self._interval = preview_interval
        self._previewed = -float("inf")
        self._total = plan.total_iterations
        self._last: Step | None = None
        self._mark = 0
        self.iterations = 0
        self.evaluations = 0
        self.history: list[float] = []

    def resume(self, iterations: int, history: tuple[float, ...], scale: int) -> None:
        """Count on from where an earlier run stood."""
        self.iterations = iterations
        self.history.extend(history)
        self._total = iterations + sum(scale.iterations for scale in self._plan.scales[scale:])

    def begin_scale(self) -> None:
        """Judge progress from here on: losses of different scales say nothing about each other."""
        self._mark = len(self.history)

    def step(self, done: int, scale: int, losses: dict[str, float], layers: dict[str, float]) -> Step:
        """Tell of a step, the scale's number `done`."""
        self.history.append(losses["total"])
        self._last = Step(
            iteration=self.iterations + done,
            total=self._total,
            evaluation=self.evaluations,
            scale=scale,
            losses=losses,
            layers=layers,
            seconds=self.seconds,
        )
        return self._last

    @property
    def _done(self) -> int:
        """Steps over all scales, those of the scale under way too."""
        return self._last.iteration if self._last else self.iterations

    @property
    def preview_due(self) -> bool:
        """Whether the last preview is long enough ago."""
        return self.seconds - self._previewed >= self._interval

    def preview(self, shown: npt.NDArray[np.float32], scale: int) -> Preview:
        """Tell what the image looks like now."""
        preview = Preview(shown, self._done, scale)
        self._previewed = self.seconds
        return preview

    def finished(self, shown: npt.NDArray[np.float32], reason: Reason, structure: float | None, state: Any) -> Finished:
        """Sum up the run."""
        return Finished(
            image=shown,
            config=self._plan.config,
            reason=reason,
            iterations=self._done,
            evaluations=self.evaluations,
            seconds=self.seconds,
            losses=self._last.losses if self._last else {},
            history=tuple(self.history),
            structure=structure,
            state=state,
        )

    def stopping_reason(self, done: int, scale: int, *, stalled: bool) -> Reason | None:
        """Return the stopping rule that holds after `done` steps of a scale, None to go on."""
        config = self._plan.config
        if config.max_seconds and self.seconds >= config.max_seconds:
            return Reason.TIME
        most = self._plan.scales[scale].iterations
        if done >= most:
            return Reason.ITERATIONS
        if stalled or self._reached_plateau():
            self._total -= most - done
            return Reason.CONVERGED
        return None

    def _reached_plateau(self) -> bool:
        """Tell whether the loss fell by less than the tolerance over the window, within the scale."""
        window, tolerance = self._plan.config.window, self._plan.config.tolerance
        if not tolerance or len(self.history) - self._mark <= window:
            return False
        before, now = self.history[-1 - window], self.history[-1]
        return before - now < tolerance * before

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.perf_counter() - self._began
