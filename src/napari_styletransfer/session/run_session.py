"""The runs of one form: started, stopped and continued here; the form only shows `status` and presses buttons.

Knows the worker, the output layer and the viewer, but no widget, so that it outlives the dock: a run whose dock
is closed is stopped, and its best image still reaches its layer.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.utils import progress
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.events import Event, Fetching, Finished, Plan, PlaneStarted, Preview, Reason, Started, Step
from napari_styletransfer.outputs.factory import make_output
from napari_styletransfer.progress import RunProgress
from napari_styletransfer.session.job import CachedReader, Job
from napari_styletransfer.session.messages import error_message, fetching_message, step_message
from napari_styletransfer.session.result_metadata import job_metadata
from napari_styletransfer.session.run_cache import EndedRun, RunCache
from napari_styletransfer.session.status import RunStatus, State
from napari_styletransfer.worker import Run, RunHandle, engine_run

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.errors import StyleTransferError
    from napari_styletransfer.outputs.base import Output


class Session:
    """One form's runs, at most one at a time.

    Parameters
    ----------
    viewer
        Where results go.
    make_run
        Makes the event generator of a run; `worker.engine_run` unless a test says otherwise.

    Attributes
    ----------
    status
        What the form shows.
    steps, plan
        Of the run under way or, if there is none, the last one.
    last
        That run, as far as it has come.
    cache
        Runs that can go on.
    released
        Whether the form is closed: the viewer is not followed any more.
    """

    stepped = Signal()
    """`steps` has grown, or was emptied for a new run."""

    variation_chosen = Signal(StyleConfig)
    """The user has chosen a tile of a contact sheet; its settings."""

    def __init__(self, viewer: ViewerModel, make_run: Callable[..., Run] = engine_run) -> None:
        self.status = RunStatus()
        self.steps: list[Step] = []
        self.plan: Plan | None = None
        self.last: EndedRun | None = None
        self.cache = RunCache()
        self._viewer = viewer
        self._make_run = make_run
        self._handle: RunHandle | None = None
        self._progress = RunProgress()
        self._bar: progress | None = None
        self._content: CachedReader | None = None
        self._has_result = self._discarding = self.released = False
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def idle(self) -> bool:
        """Whether no thread of this session is at work."""
        return self._handle is None

    @property
    def output(self) -> Output | None:
        """What shows the last run."""
        return None if self.last is None else self.last.output

    def start(self, job: Job) -> None:
        """Begin a run; does nothing while one is under way."""
        if self.status.active:
            return
        self.steps.clear()
        self._begin(EndedRun(job, make_output(self._viewer, job, self.variation_chosen.emit)))

    def resume(self, run: EndedRun) -> None:
        """Go on with a run in its own layer; does nothing while one is under way.

        One picture is given as many steps more as its settings say, a stack goes on with its first unfinished plane.
        """
        if self.status.active:
            return
        if run.output is not self.output:
            self.steps.clear()
        self._begin(run)

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

    def release(self) -> None:
        """Follow the viewer no more; a run under way still brings its result."""
        self.released = True
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _begin(self, run: EndedRun) -> None:
        job, output, finished = run.job, run.output, run.finished
        self.last = run
        self.cache.make_room(run)
        self._progress, self._has_result, self._discarding = RunProgress(), False, False
        self._content = None if job.content is None else CachedReader(job.content)
        options: dict[str, Any] = {
            "init": job.init,
            "resume": None if finished is None else finished.state,
            "labels": job.labels,
            **output.run_options,
        }
        self.stepped.emit()
        self.status.fraction = None
        self.status.message = "Preparing …"
        self.status.state = State.RUNNING
        self._bar = progress(total=100, desc="Style transfer", file=io.StringIO())
        self._handle = RunHandle(
            self._make_run(self._content, job.styles, job.config, **options),
            on_events=self._on_events,
            on_error=self._on_error,
            on_done=self._on_done,
            prepare=lambda image, plan: output.render(image, _final_shape(plan)),
        )

    def _on_events(self, events: Sequence[Event]) -> None:
        if self._discarding:
            return
        for event in events:
            self._on_event(event)
        steps = [event for event in events if isinstance(event, Step)]
        if steps:
            self._show_step(steps[-1])
            self.stepped.emit()

    def _on_event(self, event: Event) -> None:
        assert self.output is not None
        self._progress(event)
        if isinstance(event, Fetching):
            self.status.fraction = event.done / event.total if event.total else None
            self.status.message = fetching_message(event)
        elif isinstance(event, PlaneStarted):
            self.output.begin(event.plane)
            self.steps.clear()
        elif isinstance(event, Started):
            self.plan = event.plan
            self.output.alpha = None if self._content is None else self._content.alpha
            if self.status.state is State.RUNNING and not self.output.noun:
                self.status.message = f"Running on {event.plan.device_name} …"
        elif isinstance(event, Preview):
            self.output.show(event.image)
        elif isinstance(event, Step):
            self.steps.append(event)
        elif isinstance(event, Finished):
            self._on_result(event)

    def _on_result(self, result: Finished) -> None:
        assert self.last is not None
        self._has_result = True
        self.last = replace(self.last, finished=result)
        self._write(result)

    def _write(self, result: Finished) -> None:
        """Show a result in its layer, with how it was made."""
        assert self.last is not None
        job, output = self.last.job, self.last.output
        # A plane that follows another starts from it, as does a run from the picture of an earlier one: the recipe
        # is that of the whole.
        whole = job.config if output.noun else job.original
        config = result.config if whole is None else result.config.changed(start=whole.start, scales=whole.scales)
        output.finish(
            result.image,
            recipe=config.recipe(),
            history=(*job.history, *result.history),
            losses=result.losses,
            structure=result.structure,
            reason=str(result.reason),
            seconds=result.seconds,
            level=job.level,
            **job_metadata(job),
        )

    def _show_step(self, step: Step) -> None:
        assert self.output is not None
        if self.status.state is not State.RUNNING:
            return
        progress, noun = self._progress, self.output.noun
        part = f"{noun.capitalize()} {progress.plane + 1} of {progress.planes} · " if noun else ""
        self.status.fraction = progress.fraction
        self.status.message = part + step_message(step, progress.seconds_left)
        if self._bar is not None:
            self._bar.update(max(round(100 * progress.fraction) - self._bar.n, 0))

    def report_error(self, error: StyleTransferError) -> None:
        """Tell the user why something they asked for was not done; a run under way goes on."""
        if self.status.active:
            show_error(error_message(error))
        else:
            self._fail(error)

    def clear_error(self) -> None:
        """Tell no longer of what went wrong: the user has gone on to something else."""
        if self.status.state is State.FAILED:
            self.status.message, self.status.state = "", State.IDLE

    def _on_error(self, error: StyleTransferError) -> None:
        """Show what a run has reached that failed under way, and tell the error."""
        assert self.last is not None
        if self._discarding:
            return
        output, reached, before = self.last.output, error.finished, self.last.finished
        stepped = reached is not None and reached.iterations > (0 if before is None else before.iterations)
        if not output.noun and reached is not None and stepped:
            self._write(reached)
            # It goes on from that picture, not from what the optimiser remembers of an earlier one.
            self.last = replace(self.last, finished=None)
            self._fail(error, more=" The best image so far is in its layer.")
        else:
            self._fail(error)

    def _fail(self, error: StyleTransferError, more: str = "") -> None:
        self.status.message = f"{error_message(error)}{more}"
        self.status.fraction = 0.0
        self.status.state = State.FAILED
        show_error(self.status.message)

    def _on_done(self) -> None:
        self._handle = None
        self._close_bar()
        if self._discarding:
            self.status.message = "Stopped, as all layers were removed"
            self.status.fraction, self.status.state = 0.0, State.IDLE
            return
        assert self.last is not None
        output, result = self.last.output, self.last.finished
        if self._has_result:
            output.close()
        if output.resumable and result is not None:
            self.cache.put(self.last)
        if not self.status.active:
            return
        if result is None or not self._has_result:
            # Stopped while weights were downloaded, or shut down by napari with the viewer.
            self.status.message = "Stopped before there was a picture"
            self.status.fraction, self.status.state = 0.0, State.IDLE
            return
        self.status.message = output.summary(result)
        self.status.fraction = 1.0
        self.status.state = State.STOPPED if result.reason is Reason.STOPPED else State.DONE

    def _on_removed(self, event: Any) -> None:
        self.cache.prune()
        if self.status.active and not self._viewer.layers:
            # Who removes everything wants nothing put back.
            self._discarding = True
            self.stop()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _final_shape(plan: Plan) -> tuple[int, int]:
    return plan.scales[-1].height, plan.scales[-1].width
