"""The layer that a job is shown in, by its kind: one picture, a stack, or a sheet of variations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_styletransfer.outputs.base import Output
from napari_styletransfer.outputs.contact_sheet import SheetOutput
from napari_styletransfer.outputs.image import ImageOutput
from napari_styletransfer.outputs.stack import StackOutput

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.session.job import Job


def make_output(
    viewer: ViewerModel, job: Job, on_choice: Callable[[StyleConfig], object] = lambda variation: None
) -> Output:
    """Return what will show a job in a viewer; `on_choice` gets the settings of a variation that is double-clicked."""
    styles = [style.name for style in job.styles]
    if job.variations:
        return SheetOutput(viewer, job.reference, job.variations, styles=styles, images=job.images, on_choice=on_choice)
    regions = job.config.regions
    if job.stack is not None:
        return StackOutput(viewer, job.stack, styles=styles, channel=job.channel, labels=job.labels, regions=regions)
    return ImageOutput(
        viewer,
        job.reference,
        content=None if job.content is None else job.content.name,
        styles=styles,
        channel=job.channel,
        labels=None if job.labels is None else job.labels[0],
        regions=regions,
    )
