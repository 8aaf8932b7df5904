"""What the form's line of words says of a run and of what went wrong; shown by the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.config.recipe import error_summary
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.progress import duration

if TYPE_CHECKING:
    from napari_styletransfer.errors import StyleTransferError
    from napari_styletransfer.events import Fetching, Step


_TITLES = {name: info.title or name for name, info in StyleConfig.model_fields.items()}


def error_message(error: StyleTransferError) -> str:
    """Return an error as the form tells it: fields by the titles that stand beside them."""
    cause = error.__cause__
    if isinstance(error, ConfigError) and isinstance(cause, ValidationError):
        return error_summary(cause, _TITLES)
    return str(error)


def fetching_message(event: Fetching) -> str:
    """Tell of a download."""
    return f"Downloading {event.name} · {event.amount}"


def step_message(step: Step, seconds_left: float | None) -> str:
    """Tell of a step."""
    left = "" if seconds_left is None else f" · {duration(seconds_left)} left"
    return f"Step {step.iteration} of {step.total} · loss {step.losses['total']:.4g}{left}"
