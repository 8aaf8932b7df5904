"""How a run is shown and stopped: by a bar on a terminal, a line now and then in a log, or nothing; and by Ctrl-C.

`cli.run` hands one of these to a run, as its `on_event` and `should_stop`.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from napari_styletransfer.cli.interrupt import Interrupt
from napari_styletransfer.events import Event, Fetching, Finished, Plan, Started, Step
from napari_styletransfer.progress import RunProgress, describe_network, duration, rough_duration

LINE_SECONDS = 10.0
"""Time between two lines where there is no terminal."""


class Monitor:
    """Shows nothing, and remembers what was planned first and how the run ended; the others add to it.

    Attributes
    ----------
    begun
        Whether there was an event; before the first, a run only checks.
    plan, finished
        The first plan, and the end of the run or of its last plane.
    """

    def __init__(self) -> None:
        self.begun = False
        self.plan: Plan | None = None
        self.finished: Finished | None = None
        self._run_progress = RunProgress()
        self._interrupt = Interrupt()
        self._acknowledged = False

    def __enter__(self) -> Self:
        self._interrupt.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupt.__exit__(kind, error, trace)

    @property
    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""
        return self._interrupt.requested

    def should_stop(self) -> bool:
        """Tell whether the user asked to stop, and show once that this was heard."""
        # Not in the handler of the signal, where printing is unsafe.
        if self.stop_requested and not self._acknowledged:
            self._acknowledged = True
            self.note("stopping with the best image so far; press Ctrl-C again to give it up")
        return self.stop_requested

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        self.begun = True
        self._run_progress(event)
        if isinstance(event, Fetching):
            if self.stop_requested:
                # There is no picture yet that would be worth keeping.
                raise KeyboardInterrupt
            self.show(f"fetching {event.name}", event.amount, event.done / event.total if event.total else None)
        elif isinstance(event, Started):
            self._scales = event.plan.scales
            if self.plan is None:
                self.plan = event.plan
                self.note(plan_summary(event.plan, self._run_progress.planes))
        elif isinstance(event, Step):
            progress, scale = self._run_progress, self._scales[event.scale]
            plane = f"plane {progress.plane + 1}/{progress.planes}, " if progress.planes > 1 else ""
            where = f"{plane}{scale.width}×{scale.height} ({event.scale + 1}/{len(self._scales)})"
            left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
            status = f"step {event.iteration}/{event.total}, loss {event.losses['total']:.4g}{left}"
            self.show(where, status, progress.fraction)
        elif isinstance(event, Finished):
            self.finished = event

    def note(self, line: str) -> None:
        """Show a line that stays."""

    def show(self, what: str, status: str, fraction: float | None) -> None:
        """Show what is being done and how far it is, in [0, 1] or None where that is not known."""


class LineMonitor(Monitor):
    """Plain lines on standard error, at the start of each scale and every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0
        self._shown = ""

    def note(self, line: str) -> None:
        """Show a line that stays."""
        print(line, file=sys.stderr, flush=True)
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, what: str, status: str, fraction: float | None) -> None:
        """Show what is being done and how far it is."""
        if what != self._shown or time.monotonic() >= self._next:
            self._shown = what
            self.note(f"{what}: {status}")


class BarMonitor(Monitor):
    """A progress bar on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, status="")

    def __enter__(self) -> Self:
        self._progress.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._progress.stop()

    def note(self, line: str) -> None:
        """Show a line that stays."""
        self._progress.console.print(line, style="dim", highlight=False)

    def show(self, what: str, status: str, fraction: float | None) -> None:
        """Show what is being done and how far it is."""
        total = None if fraction is None else 1.0
        self._progress.update(self._task, description=what, completed=fraction or 0.0, total=total, status=status)


def create_monitor(quiet: bool) -> Monitor:
    """Return the monitor for this terminal, or for none."""
    if quiet:
        return Monitor()
    return BarMonitor() if sys.stderr.isatty() else LineMonitor()


def plan_summary(plan: Plan, planes: int = 1) -> str:
    """Tell in one line what a run will do, or one of so many planes; the time is that of all."""
    last = plan.scales[-1]
    blocks = f", {plan.blocks} blocks" if plan.blocks > 1 else ""
    spared = f"; to save memory: {plan.memory_savings}" if plan.memory_savings else ""
    scales = f"{len(plan.scales)} scale{'s' if len(plan.scales) > 1 else ''}"
    each = f" for each of {planes} planes" if planes > 1 else ""
    lasts = f", at most about {rough_duration(plan.seconds * planes)}" if plan.seconds >= 1 else ""
    return (
        f"{describe_network(plan)} on {plan.device_name} ({plan.precision}), {last.width}×{last.height} pixels in "
        f"{scales}{blocks}, {plan.memory}, at most {plan.total_iterations} steps{each}{lasts}{spared}"
    )
