"""What a run's line of words says while it goes on and when it has ended; shown by the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_styletransfer.config import Mode
from napari_styletransfer.engine.events import Reason
from napari_styletransfer.progress import duration, structure_told
from napari_styletransfer.widget.outputs import FILLING_IN
from napari_styletransfer.widget.variations import SheetOutput

if TYPE_CHECKING:
    from napari_styletransfer.engine.events import Fetching, Finished, Step
    from napari_styletransfer.widget.outputs import Output


def fetching_words(event: Fetching) -> str:
    """Tell of a download."""
    of = "" if event.total is None else f" of {event.total / 1e6:.0f}"
    return f"Downloading {event.name} · {event.done / 1e6:.0f}{of} MB"


def step_words(step: Step, seconds_left: float | None) -> str:
    """Tell of a step."""
    left = "" if seconds_left is None else f" · {duration(seconds_left)} left"
    return f"Step {step.iteration} of {step.total} · loss {step.losses['total']:.4g}{left}"


def ending_words(output: Output, result: Finished) -> str:
    """Tell how a run has ended."""
    if not isinstance(output, FILLING_IN):
        return _ending_of_one(result)
    done = len(output.finished)
    if isinstance(output, SheetOutput):
        how = "Done" if output.complete else "Stopped"
        return f"{how}: {done} variations; double-click one to use its settings"
    if output.complete:
        return f"Done: {done} planes"
    return f"Stopped after {done} planes; Continue goes on with the next"


def _ending_of_one(result: Finished) -> str:
    if result.config.mode is Mode.COLORS:
        return f"Done: colours taken over · {duration(result.seconds)}"
    how = {
        Reason.ITERATIONS: f"Done: {result.iterations} steps",
        Reason.CONVERGED: f"Done: settled after {result.iterations} steps",
        Reason.TIME: f"Time limit reached after {result.iterations} steps",
        Reason.STOPPED: f"Stopped after {result.iterations} steps; the best image is kept",
    }[result.reason]
    # A run that was stopped before its first step has no loss.
    loss = f"loss {result.losses['total']:.4g}" if result.losses else ""
    return " · ".join(filter(None, (how, duration(result.seconds), loss, structure_told(result))))
