"""What the form's line of words says of a run and of what went wrong; shown by the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.config.recipe import summary
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.events import Reason
from napari_styletransfer.outputs.contact_sheet import SheetOutput
from napari_styletransfer.outputs.factory import FILLING_IN
from napari_styletransfer.progress import duration, structure_told

if TYPE_CHECKING:
    from napari_styletransfer.errors import StyleTransferError
    from napari_styletransfer.events import Fetching, Finished, Step
    from napari_styletransfer.outputs.factory import Output


_TITLES = {name: info.title or name for name, info in StyleConfig.model_fields.items()}


def message_of(error: StyleTransferError) -> str:
    """Return an error as the form tells it: fields by the titles that stand beside them."""
    cause = error.__cause__
    if isinstance(error, ConfigError) and isinstance(cause, ValidationError):
        return summary(cause, _TITLES)
    return str(error)


def fetching_words(event: Fetching) -> str:
    """Tell of a download."""
    return f"Downloading {event.name} · {event.amount}"


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
    count = f"{result.iterations} step{'' if result.iterations == 1 else 's'}"
    when, kept = f"after {count}", "the best image is kept"
    if result.iterations == 0:
        when, kept = "before the first step", "the picture is what the run starts from"
    how = {
        Reason.ITERATIONS: f"Done: {count}",
        Reason.CONVERGED: f"Done: settled {when}",
        Reason.TIME: f"Time limit reached {when}",
        Reason.STOPPED: f"Stopped {when}; {kept}",
    }[result.reason]
    # A run that was stopped before its first step has no loss.
    loss = f"loss {result.losses['total']:.4g}" if result.losses else ""
    return " · ".join(filter(None, (how, duration(result.seconds), loss, structure_told(result))))
