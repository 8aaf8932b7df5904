"""The counts, time and losses of a run so far, as the events that the interfaces consume.

Called by `coarse_to_fine`.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_styletransfer.engine.run_state import RunState
from napari_styletransfer.events import Finished, Plan, Preview, Reason, Scale, Step


class RunRecord:
    """Counts steps and evaluations over all scales of a run, from the moment it is made.

    Parameters
    ----------
    resume
        Where an earlier run stood, to count on from there.

    Attributes
    ----------
    scale
        Number of the scale under way.
    scales
        Those that are done in this run, each with the steps taken.
    iterations
        Steps of the scales that are done.
    evaluations
        Evaluations of the loss in this run.
    history
        Total loss after each step.
    """

    def __init__(self, plan: Plan, preview_interval: float, resume: RunState | None = None) -> None:
        self._began = time.perf_counter()
        self._plan = plan
        self._interval = preview_interval
        self._previewed = -float("inf")
        self._last: Step | None = None
        self._first_of_scale = 0
        self.scale = 0 if resume is None else resume.scale
        self.scales: list[Scale] = []
        self.iterations = 0 if resume is None else resume.iterations
        self.evaluations = 0
        self.history: list[float] = [] if resume is None else [*resume.history]
        self._total = self.iterations + sum(scale.iterations for scale in plan.scales[self.scale :])

    def begin_scale(self, index: int) -> None:
        """Judge progress from here on: losses of different scales say nothing about each other."""
        self.scale = index
        self._first_of_scale = len(self.history)

    def end_scale(self, iterations: int) -> None:
        """Count the scale with the steps that it took."""
        self.scales.append(replace(self._plan.scales[self.scale], iterations=iterations))
        self.iterations += iterations

    def step(self, done: int, losses: dict[str, float], layers: dict[str, float]) -> Step:
        """Tell of a step, the scale's number `done`."""
        self.history.append(losses["total"])
        self._last = Step(
            iteration=self.iterations + done,
            total=self._total,
            evaluation=self.evaluations,
            scale=self.scale,
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

    def preview(self, image: npt.NDArray[np.float32]) -> Preview:
        """Tell what the image looks like now."""
        self._previewed = self.seconds
        return Preview(image, self._done, self.scale)

    def finished(
        self, image: npt.NDArray[np.float32], reason: Reason, structure: float | None, state: RunState | None
    ) -> Finished:
        """Sum up the run."""
        return Finished(
            image=image,
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

    def stopping_reason(self, done: int, *, stalled: bool) -> Reason | None:
        """Return the stopping rule that holds after `done` steps of the scale, None to go on."""
        config = self._plan.config
        if config.max_seconds and self.seconds >= config.max_seconds:
            return Reason.TIME
        planned = self._plan.scales[self.scale].iterations
        if done >= planned:
            return Reason.ITERATIONS
        if stalled or self._reached_plateau():
            self._total -= planned - done
            return Reason.CONVERGED
        return None

    def _reached_plateau(self) -> bool:
        """Tell whether the loss fell by less than the tolerance over the window, within the scale."""
        window, tolerance = self._plan.config.window, self._plan.config.tolerance
        if not tolerance or len(self.history) - self._first_of_scale <= window:
            return False
        before, now = self.history[-1 - window], self.history[-1]
        return before - now < tolerance * before

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.perf_counter() - self._began
