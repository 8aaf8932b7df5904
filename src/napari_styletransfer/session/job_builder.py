"""From what a form says to the job that Run would run, and to what its plan depends on.

Called by the form whenever its state changes, and when a button is pressed; runs nothing and shows nothing.
`resolve_pictures` decides once what is read of each layer; all else is made of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_styletransfer.devices import system_memory
from napari_styletransfer.errors import ImageError, StyleTransferError
from napari_styletransfer.layers.compose import Composite, compose_in
from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.regions import Region, resolve_region
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.stack import Stack, stack_of
from napari_styletransfer.outputs.contact_sheet import make_variations
from napari_styletransfer.session.job import Job, with_structure_weight
from napari_styletransfer.session.layer_group import LayerGroup, Picture
from napari_styletransfer.units import format_bytes

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.session.form_state import FormState


@dataclass(frozen=True, eq=False)
class ResolvedPictures:
    """What is read of the layers that a form has chosen.

    Attributes
    ----------
    content, styles, init
        As in `Job`; as far as they could be resolved.
    error
        Why the next one cannot be read as the viewer shows it, or None.
    """

    content: Snapshot | Composite | None = None
    styles: tuple[Snapshot | Composite, ...] = ()
    init: Snapshot | Composite | None = None
    error: StyleTransferError | None = None


@dataclass(frozen=True)
class PlanRequest:
    """What a plan depends on.

    Attributes
    ----------
    shape
        (H, W) of the content, or of the first style where there is no content.
    styles
        Number of style pictures.
    config
        The settings.
    planes
        Number of planes to run.
    guided
        Whether regions say where.
    """

    shape: tuple[int, int]
    styles: int
    config: StyleConfig
    planes: int = 1
    guided: bool = False


def resolve_pictures(viewer: ViewerModel, state: FormState) -> ResolvedPictures:
    """Decide what is read of each layer as a viewer shows it now; cheap, for the viewer's own thread."""
    config = state.settings

    def resolved(picture: Picture, scale: float = 1.0, level: int | None = None) -> Snapshot | Composite:
        # The finest level of at most four times the run's size: where levels halve, at least twice.
        most = None if config.size is None else int(16 * (config.size * max(scale, 1)) ** 2)
        if isinstance(picture, LayerGroup):
            return compose_in(viewer, picture.layers, level=level, max_pixels=most)
        return resolve_in(viewer, picture, max_pixels=most, level=level if picture.multiscale else None)

    pictures = ResolvedPictures()
    try:
        if state.content is not None:
            pictures = replace(pictures, content=resolved(state.content, level=config.level))
        for style in state.styles:
            pictures = replace(pictures, styles=(*pictures.styles, resolved(style, config.style_scale)))
        if state.init is not None:
            pictures = replace(pictures, init=resolved(state.init))
    except StyleTransferError as error:
        return replace(pictures, error=error)
    return pictures


def region_planes(state: FormState, content: Snapshot | Composite | None) -> Sequence[Snapshot | Composite]:
    """Return the planes of the content in which labels are looked for; none where they cannot be read."""
    if content is None:
        return ()
    if not state.axes or state.region_layer is None:
        return [content]
    try:
        return stack_of(content, state.axes)
    except ImageError:
        # Told when Run is pressed.
        return ()


def plan_request(state: FormState, pictures: ResolvedPictures) -> PlanRequest | None:
    """Return what the plan of the run to come depends on, or None while its size is not known."""
    if pictures.content is None and (pictures.error is not None or not pictures.styles):
        # The content cannot be read as it is shown, and the style says nothing of its size.
        return None
    try:
        config = state.settings.changed(style_weights=state.blend_weights)
        # A style gives the size where there is no content.
        reference = pictures.content or config.first_style(pictures.styles)
        planes = len(stack_of(reference, state.axes)) if state.axes else 1
    except StyleTransferError:
        return None
    return PlanRequest(reference.shape, len(state.styles), config, planes, state.region_layer is not None)


def build_job(viewer: ViewerModel, state: FormState) -> Job:
    """Return what Run would run now.

    Raises
    ------
    StyleTransferError
        If a setting is wrong, a layer cannot be read as the viewer shows it, or the result would not fit into memory.
    """
    config = state.config()
    pictures = resolve_pictures(viewer, state)
    if pictures.error is not None:
        raise pictures.error
    content = pictures.content
    if state.channel and isinstance(content, Snapshot):
        content = replace(content, colored=False)
    stack = None if content is None or not state.axes else _stack(state, content)
    return Job(
        content=content,
        styles=pictures.styles,
        config=with_structure_weight(config, content),
        init=pictures.init,
        labels=None if content is None else _resolve_regions(state, [content] if stack is None else stack),
        stack=stack,
        channel=state.channel,
    )


def build_contact_sheet(viewer: ViewerModel, state: FormState) -> Job:
    """Return what a contact sheet of variations would run: one plane, in colour, for looking at.

    Raises
    ------
    StyleTransferError
        As `build_job`.
    """
    job = build_job(viewer, state)
    return replace(
        job,
        variations=make_variations(job.config),
        images=1 if job.stack is None else len(job.stack),
        stack=None,
        channel=False,
        init=None,
        labels=None if job.labels is None else _resolve_regions(state, [job.reference]),
    )


def _stack(state: FormState, content: Snapshot | Composite) -> Stack:
    stack = stack_of(content, state.axes)
    # With regions the result has the content's own size: what is left alone is not made smaller.
    size = state.settings.size if state.region_layer is None else None
    height, width = content.shape
    shrunk = min(1.0, (size or max(content.shape)) / max(content.shape))
    pixel_bytes = stack.bottom.dtype.itemsize if state.channel else 3
    needed = int(len(stack) * height * width * shrunk**2 * pixel_bytes)
    free, _ = system_memory.memory()
    if needed > free:
        raise ImageError(
            f"The results of {len(stack)} planes take {format_bytes(needed)}, and {format_bytes(free)} are "
            "free. Choose a smaller size, or fewer axes."
        )
    return stack


def _resolve_regions(state: FormState, planes: Sequence[Snapshot | Composite]) -> list[Region] | None:
    """Return what to read for the labels of each plane, or None for whole pictures."""
    layer = state.region_layer
    return None if layer is None else [resolve_region(plane, layer, state.relabel) for plane in planes]
