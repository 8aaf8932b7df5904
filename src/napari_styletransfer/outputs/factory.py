"""The layer that a job is shown in, by its kind: one picture, a stack, or a sheet of variations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_styletransfer.outputs.contact_sheet import SheetOutput
from napari_styletransfer.outputs.image import OutputLayer
from napari_styletransfer.outputs.stack import StackOutput

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.session.job import Job

Output = OutputLayer | StackOutput | SheetOutput

FILLING_IN = (StackOutput, SheetOutput)
"""Outputs of several runs, one after another."""


def output_for(
    viewer: ViewerModel, job: Job, on_chosen: Callable[[StyleConfig], object] = lambda variation: None
) -> Output:
    """Return what will show a job in a viewer; `on_chosen` gets the settings of a variation that is double-clicked."""
    styles = [style.name for style in job.styles]
    if job.variations:
        return SheetOutput(viewer, job.place, job.variations, styles=styles, on_chosen=on_chosen)
    if job.stack is not None:
        return StackOutput(
            viewer,
            job.stack,
            styles=styles,
            channel=job.channel,
            marks=job.regions,
            regions=job.config.regions,
        )
    return OutputLayer(
        viewer,
        job.place,
        content=None if job.content is None else job.content.name,
        styles=styles,
        channel=job.channel,
        marks=None if job.regions is None else job.regions[0],
        regions=job.config.regions,
    )
