"""The runs of one form: started, stopped and continued here; the form only shows `status` and presses buttons.

Knows the worker, the output layer and the viewer, but no widget, so that it outlives the dock: a run whose dock
is closed is stopped, and its best image still reaches its layer.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from napari.utils import progress
from napari.utils.notifications import show_error
from psygnal import Signal, SignalGroupDescriptor

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.engine.events import Fetching, Finished, Plan, Preview, Reason, Started, Step
from napari_styletransfer.preview import OutputLayer
from napari_styletransfer.widget.job import Job, ReadOnce
from napari_styletransfer.widget.progress import PlaneMeter, WorkMeter, clock
from napari_styletransfer.widget.stack_output import StackOutput
from napari_styletransfer.widget.variations import SheetOutput
from napari_styletransfer.worker import News, PlaneBegun, Report, Run, RunHandle, engine_run, start_run

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.errors import StyleTransferError


_FILLING_IN = (StackOutput, SheetOutput)
"""Outputs of several runs, one after another."""


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


class Session:
    """One form's runs, at most one at a time.

    Parameters
    ----------
    viewer
        Where results go.
    make_run
        Makes the event generator of a run; `worker.engine_run` unless a test says otherwise.
    """

    stepped = Signal()
    """`steps` has grown, or was emptied for a new run."""

    variation_chosen = Signal(StyleConfig)
    """The user has chosen a tile of a contact sheet; its settings."""

    def __init__(self, viewer: ViewerModel, make_run: Callable[..., Run] = engine_run) -> None:
        self.status = RunStatus()
        self.steps: list[Step] = []
        self.plan: Plan | None = None
        self.finished: Finished | None = None
        self.output: OutputLayer | StackOutput | SheetOutput | None = None
        self._viewer = viewer
        self._make_run = make_run
        self._job: Job | None = None
        self._handle: RunHandle | None = None
        self._meter: WorkMeter | None = None
        self._planes: PlaneMeter | None = None
        self._bar: progress | None = None
        self._reading: ReadOnce | None = None
        self._result_came = False

    @property
    def idle(self) -> bool:
        """Whether no thread of this session is at work."""
        return self._handle is None

    @property
    def can_continue(self) -> bool:
        """Whether the last run can go on where it ended."""
        if self.status.active:
            return False
        if isinstance(self.output, StackOutput):
            return not self.output.complete
        if isinstance(self.output, SheetOutput):
            return False
        return self.finished is not None and self.finished.state is not None

    def start(self, job: Job) -> None:
        """Begin a run; does nothing while one is under way."""
        if self.status.active:
            return
        self._job = job
        self.steps.clear()
        self.finished, self._planes = None, None
        styles = [style.name for style in job.styles]
        if job.variations:
            self.output = SheetOutput(
                self._viewer, job.place, job.variations, styles=styles, on_chosen=self.variation_chosen.emit
            )
        elif job.stack is not None:
            self.output = StackOutput(self._viewer, job.stack, styles=styles, channel=job.channel)
        else:
            self.output = OutputLayer(
                self._viewer,
                job.place,
                content=None if job.content is None else job.content.name,
                styles=styles,
                dtype=job.dtype,
                channel=job.channel,
            )
        self._begin(None)

    def resume(self, config: StyleConfig) -> None:
        """Go on with the last run, in its own layer.

        One picture is given `config.iterations` steps more; a stack goes on with its first unfinished plane, and
        with the settings it began with, as its planes belong together.
        """
        if not self.can_continue or self._job is None:
            return
        if self._job.stack is not None:
            self._begin(None)
        elif self.finished is not None:
            # The pictures stay those of the first run, and so do what belongs to them.
            config = config.changed(style_weights=self._job.config.style_weights, regions=self._job.config.regions)
            self._job = replace(self._job, config=config)
            self._begin(self.finished.state)

    def stop(self) -> None:
        """Ask the run to end with its best image."""
        if self._handle is not None and self.status.state is State.RUNNING:
            self._handle.stop()
            self.status.state = State.STOPPING
            self.status.message = "Stopping …"

    def abandon(self) -> None:
        """End the run and touch nothing any more: the viewer is gone."""
        if self._handle is not None:
            self._handle.abandon()
            self._handle = None
        self._close_bar()

    def _begin(self, resume: Any) -> None:
        job, output = self._job, self.output
        assert job is not None
        assert output is not None
        self._meter, self._result_came = None, False
        self._reading = None if job.content is None else ReadOnce(job.content)
        options: dict[str, Any] = {"init": job.init, "resume": resume, "labels": job.regions}
        if isinstance(output, StackOutput):
            options |= {"planes": job.stack, "finished": output.results}
            self._planes = PlaneMeter()
        elif isinstance(output, SheetOutput):
            options |= {"variations": job.variations}
            self._planes = PlaneMeter()
        self.stepped.emit()
        self.status.fraction = None
        self.status.message = "Preparing …"
        self.status.state = State.RUNNING
        self._bar = progress(total=100, desc="Style transfer", file=io.StringIO())
        self._handle = start_run(
            self._make_run(self._reading, job.styles, job.config, **options),
            on_report=self._on_report,
            on_error=self._fail,
            on_done=self._on_done,
            prepare=lambda image, plan: output.prepared(image, _final_shape(plan)),
        )

    def _on_report(self, report: Report) -> None:
        for event in report.events:
            self._take(event)
        steps = [event for event in report.events if isinstance(event, Step)]
        if steps:
            self._tell_step(steps[-1])
            self.stepped.emit()

    def _take(self, event: News) -> None:
        assert self.output is not None
        if isinstance(event, Fetching):
            self._tell_fetching(event)
        elif isinstance(event, PlaneBegun):
            assert isinstance(self.output, _FILLING_IN)
            assert self._planes is not None
            self.output.begin(event.plane)
            self._planes.begin(event.plane, event.planes)
            self.steps.clear()
        elif isinstance(event, Started):
            self.plan, self._meter = event.plan, WorkMeter(event.plan)
            self.output.alpha = None if self._reading is None else self._reading.alpha
            if self.status.state is State.RUNNING and self._planes is None:
                self.status.message = f"Running on {event.plan.device_name} …"
        elif isinstance(event, Preview):
            self.output.show(event.image)
        elif isinstance(event, Step):
            self.steps.append(event)
            if self._meter is not None:
                self._meter.update(event)
        elif isinstance(event, Finished):
            self._take_result(event)

    def _take_result(self, result: Finished) -> None:
        assert self.output is not None
        assert self._job is not None
        self.finished, self._result_came = result, True
        config = result.config
        if self._planes is not None:
            self._planes.end(result.seconds)
            # A plane that follows another starts from it; the recipe is that of the whole stack.
            config = config.changed(start=self._job.config.start, scales=self._job.config.scales)
        self.output.finish(
            result.image,
            recipe=config.recipe(),
            history=result.history,
            losses=result.losses,
            reason=str(result.reason),
            seconds=result.seconds,
        )

    def _tell_fetching(self, event: Fetching) -> None:
        of = "" if event.total is None else f" of {event.total / 1e6:.0f}"
        self.status.fraction = event.done / event.total if event.total else None
        self.status.message = f"Downloading {event.name} · {event.done / 1e6:.0f}{of} MB"

    def _tell_step(self, step: Step) -> None:
        if self._meter is None or self.status.state is not State.RUNNING:
            return
        left, fraction, where = self._meter.seconds_left, self._meter.fraction, ""
        if self._planes is not None:
            left, fraction = self._planes.overall(self._meter)
            assert isinstance(self.output, _FILLING_IN)
            where = f"{self.output.noun.capitalize()} {self._planes.plane + 1} of {self._planes.planes} · "
        self.status.fraction = fraction
        self.status.message = f"{where}Step {step.iteration} of {step.total} · loss {step.losses['total']:.4g}" + (
            "" if left is None else f" · {clock(left)} left"
        )
        if self._bar is not None:
            self._bar.update(max(round(100 * fraction) - self._bar.n, 0))

    def refuse(self, error: StyleTransferError) -> None:
        """Tell the user why something they asked for was not done; a run under way goes on."""
        if self.status.active:
            show_error(str(error))
        else:
            self._fail(error)

    def _fail(self, error: StyleTransferError) -> None:
        self.status.message = str(error)
        self.status.fraction = 0.0
        self.status.state = State.FAILED
        show_error(str(error))

    def _on_done(self) -> None:
        self._handle = None
        self._close_bar()
        if isinstance(self.output, _FILLING_IN) and self._result_came:
            self.output.close()
        if not self.status.active:
            return
        if self.finished is None or not self._result_came:
            # napari shut the thread down with the viewer, before the run could hand over its result.
            self.status.fraction, self.status.state = 0.0, State.IDLE
            return
        self.status.message = self._ending(self.finished)
        self.status.fraction = 1.0
        self.status.state = State.STOPPED if self.finished.reason is Reason.STOPPED else State.DONE

    def _ending(self, result: Finished) -> str:
        if not isinstance(self.output, _FILLING_IN):
            return _ending(result)
        done = len(self.output.finished)
        if isinstance(self.output, SheetOutput):
            how = "Done" if self.output.complete else "Stopped"
            return f"{how}: {done} variations; double-click one to use its settings"
        if self.output.complete:
            return f"Done: {done} planes"
        return f"Stopped after {done} planes; Continue goes on with the next"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _final_shape(plan: Plan) -> tuple[int, int]:
    return plan.scales[-1].height, plan.scales[-1].width


def _ending(result: Finished) -> str:
    if result.config.mode is Mode.COLORS:
        return f"Done: colours taken over · {clock(result.seconds)}"
    how = {
        Reason.ITERATIONS: f"Done: {result.iterations} steps",
        Reason.CONVERGED: f"Done: settled after {result.iterations} steps",
        Reason.TIME: f"Time limit reached after {result.iterations} steps",
        Reason.STOPPED: f"Stopped after {result.iterations} steps; the best image is kept",
    }[result.reason]
    return f"{how} · {clock(result.seconds)} · loss {result.losses.get('total', float('nan')):.4g}"
