"""How a run shows itself while it goes on: a bar on a terminal, a line now and then in a log, or nothing.

`cli.stylize` and the demo hand the events of a run to one of these.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from napari_styletransfer.engine.events import Event, Fetching, Finished, Plan, Started, Step

LINE_SECONDS = 10.0
"""Time between two lines where there is no terminal."""


class Silent:
    """Shows nothing, and remembers what was planned first and how the run ended; the others add to it."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.finished: Finished | None = None
        self.plane = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Fetching):
            self.fetching(event)
        elif isinstance(event, Started):
            self.work = Work(event.plan)
            if self.plan is None:
                self.plan = event.plan
                self.started(event.plan)
        elif isinstance(event, Step):
            self.work.add(event)
            self.step(event)
        elif isinstance(event, Finished):
            self.finished = event

    def at_plane(self, number: int, count: int) -> None:
        """Take note that the events to come are of this plane of a stack."""
        self.plane = f"plane {number + 1}/{count}, "

    def fetching(self, event: Fetching) -> None:
        """Show a download."""

    def started(self, plan: Plan) -> None:
        """Show what will be done."""

    def step(self, event: Step) -> None:
        """Show a step."""

    def stopping(self) -> None:
        """Show that the user asked to stop."""


class Lines(Silent):
    """Plain lines on standard error, at the start of each scale and every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0
        self._shown = ("", -1)

    def fetching(self, event: Fetching) -> None:
        """Show a download."""
        if time.monotonic() >= self._next:
            self._say(f"fetching {event.name}: {_megabytes(event)}")

    def started(self, plan: Plan) -> None:
        """Show what will be done."""
        self._say(summary(plan))

    def step(self, event: Step) -> None:
        """Show a step."""
        if (self.plane, event.scale) != self._shown or time.monotonic() >= self._next:
            self._shown = (self.plane, event.scale)
            self._say(
                f"{self.plane}step {event.iteration}/{event.total}, {self.work.size}, loss {event.losses['total']:.4g}"
                f"{left(self.work.seconds_left)}"
            )

    def stopping(self) -> None:
        """Show that the user asked to stop."""
        self._say("stopping with the best image so far; press Ctrl-C again to give it up")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._next = time.monotonic() + LINE_SECONDS


class Bar(Silent):
    """A progress bar on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def fetching(self, event: Fetching) -> None:
        """Show a download."""
        self._show(f"fetching {event.name}", event.done, event.total, _megabytes(event))

    def started(self, plan: Plan) -> None:
        """Show what will be done."""
        self._progress.console.print(summary(plan), style="dim", highlight=False)
        self._show("starting", 0, None, "")

    def step(self, event: Step) -> None:
        """Show a step."""
        told = f"{event.iteration}/{event.total}, loss {event.losses['total']:.4g}{left(self.work.seconds_left)}"
        self._show(self.plane + self.work.size, self.work.done, self.work.total, told)

    def stopping(self) -> None:
        """Show that the user asked to stop."""
        self._progress.console.print("stopping with the best image so far; press Ctrl-C again to give it up")

    def _show(self, description: str, done: float, total: float | None, told: str) -> None:
        if self._task is None:
            self._task = self._progress.add_task(description, told=told)
        self._progress.update(self._task, description=description, completed=done, total=total, told=told)


class Work:
    """How much of a run is done, a step counting as much as its picture has pixels."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._costs = [scale.height * scale.width for scale in plan.scales]
        self._scale = 0
        self._iteration = self._first = 0
        self._spent = 0.0
        self._seconds = 0.0
        self._start: tuple[float, float] | None = None

    def add(self, step: Step) -> None:
        """Count a step."""
        if step.scale != self._scale:
            self._scale, self._first = step.scale, self._iteration
        self._spent += (step.iteration - self._iteration) * self._costs[step.scale]
        self._iteration, self._seconds = step.iteration, step.seconds
        if self._start is None:
            # The time up to the first step went into loading and targets, and says nothing about pace.
            self._start = self._spent, self._seconds

    @property
    def size(self) -> str:
        """Size of the picture now being worked on, and its place among the scales."""
        scale = self._plan.scales[self._scale]
        return f"{scale.width}×{scale.height} ({self._scale + 1}/{len(self._plan.scales)})"

    @property
    def done(self) -> float:
        """Work done; a scale that ended early counts no more than what it took."""
        return self._spent

    @property
    def total(self) -> float:
        """Work done and to come, if no further scale ends early."""
        here = self._plan.scales[self._scale].iterations - (self._iteration - self._first)
        later = zip(self._plan.scales[self._scale + 1 :], self._costs[self._scale + 1 :], strict=True)
        return self._spent + max(0, here) * self._costs[self._scale] + sum(s.iterations * cost for s, cost in later)

    @property
    def seconds_left(self) -> float | None:
        """Time to come at the pace so far; None before there is one."""
        if self._start is None or self._spent == self._start[0]:
            return None
        pace = (self._seconds - self._start[1]) / (self._spent - self._start[0])
        return pace * (self.total - self._spent)


def reporter(quiet: bool) -> Silent:
    """Return the reporter for this terminal, or for none."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def summary(plan: Plan) -> str:
    """Tell in one line what a run will do."""
    last = plan.scales[-1]
    blocks = f", {plan.blocks} blocks" if plan.blocks > 1 else ""
    spared = f"; to save memory: {plan.given_up}" if plan.given_up else ""
    scales = f"{len(plan.scales)} scale{'s' if len(plan.scales) > 1 else ''}"
    lasts = f" or about {clock(plan.seconds)}" if plan.seconds >= 1 else ""
    return (
        f"{plan.config.network} on {plan.device_name} ({plan.precision}), {last.width}×{last.height} pixels in "
        f"{scales}{blocks}, {plan.memory}, at most {plan.total_iterations} steps{lasts}{spared}"
    )


def left(seconds: float | None) -> str:
    """Tell the time to come, as the end of a sentence."""
    return "" if seconds is None else f", {clock(seconds)} left"


def clock(seconds: float) -> str:
    """Write a duration as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _megabytes(event: Fetching) -> str:
    total = "?" if event.total is None else f"{event.total / 1e6:.1f}"
    return f"{event.done / 1e6:.1f} of {total} MB"
