"""What Continue goes on with: a run of this session, or one that has left nothing but its layer.

The form asks for the `Continuation` of the layer the user means, to say beside the button what will happen or why
nothing can, and hands what it makes of it to the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_styletransfer.config import Movie, Network, Start, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.regions import resolve_region
from napari_styletransfer.layers.stack import stack_of
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.outputs.factory import make_output
from napari_styletransfer.session.job import Job, for_channel
from napari_styletransfer.session.networks import made_with_other_weights
from napari_styletransfer.session.result_metadata import ResultRecord, resolve_record, resolve_result
from napari_styletransfer.session.run_cache import EndedRun

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_styletransfer.session.run_session import Session

_RUN_FIELDS = ("iterations", "max_seconds", "device", "memory_limit")
"""Settings that say how long and where to go on, not what the picture is to become."""

_PICTURE_FIELDS = ("style_weights", "regions", "start", "level", "size", "scales")
"""Settings that belong to the pictures of a run and their sizes, which stay as they are while it goes on."""


@dataclass(frozen=True)
class Continuation:
    """What Continue would do.

    Attributes
    ----------
    description
        That, for people.
    prepare
        Returns the run to go on with, given the settings of the form; raises a `StyleTransferError` where the
        layers of the run cannot be read again.
    """

    description: str
    prepare: Callable[[StyleConfig], EndedRun]


def find_result(candidates: Iterable[Layer | None]) -> Layer | None:
    """Return the first of the layers that is a result."""
    return next((layer for layer in candidates if layer is not None and METADATA_KEY in layer.metadata), None)


def find_continuation(session: Session, viewer: ViewerModel, layer: Layer | None) -> Continuation:
    """Find out how to go on with a result, or with the last run where no layer is given.

    Raises
    ------
    ConfigError
        If there is nothing to go on with; says why.
    """
    last = session.last
    run = last if layer is None else session.cache.get(layer)
    if layer is not None and last is not None and last.output.layer == layer:
        run = last
    if run is None and layer is None:
        raise ConfigError("There is no result yet. Press Run, or select a layer that was made by style transfer.")
    if run is None or (run.blocking_reason and run.finished is None and layer is not None):
        assert layer is not None
        return _from_layer(viewer, layer)
    if run.blocking_reason:
        raise ConfigError(run.blocking_reason)
    run = replace(run, keeps_settings=run.keeps_settings or run is not last)
    return Continuation(_describe_run(run), lambda settings: _with_settings(run, settings))


def _describe_run(run: EndedRun) -> str:
    name = "the last result" if run.output.layer is None else f"'{run.output.layer.name}'"
    if run.output.noun:
        return f"Go on with {name}, in its layer, with the {run.output.noun}s that are not done."
    whose = "its own settings" if run.keeps_settings else "the settings as they are now (but for the size)"
    return f"Go on with {name}, in its layer, with {whose}, from where it stopped: for as many iterations more."


def _with_settings(run: EndedRun, settings: StyleConfig) -> EndedRun:
    """Return a run of this session as it goes on.

    The last run takes the settings as they are now; its pictures stay, and so do what belongs to them. One that is
    taken up after another keeps its own. The planes of a stack belong together, so a stack keeps them too.
    """
    job = run.job
    if run.output.noun:
        config = job.config
    elif run.keeps_settings:
        config = _with_run_options(job.config, settings)
    else:
        settings = for_channel(settings, channel=job.channel)
        config = settings.changed(**{name: getattr(job.config, name) for name in _PICTURE_FIELDS})
    if config.network is Network.AUTO and run.finished is not None:
        # Whatever 'auto' would be for the steps to come: the picture goes on with the network that it was begun with.
        config = config.changed(network=run.finished.config.network)
    return replace(run, job=replace(job, config=config))


def _with_run_options(config: StyleConfig, settings: StyleConfig) -> StyleConfig:
    return config.changed(**{name: getattr(settings, name) for name in _RUN_FIELDS})


def _from_layer(viewer: ViewerModel, layer: Layer) -> Continuation:
    record = ResultRecord.of(layer)
    record.check_present(viewer.layers)
    if made_with_other_weights(record.config):
        raise ConfigError(
            f"'{layer.name}' was made with other weights of '{record.config.network}' than those installed here, so it "
            "cannot go on as it began. Load its settings and run them anew."
        )
    if not record.axes:
        words = f"Go on with '{layer.name}', from its picture and with its own settings, in its layer."
        return Continuation(words, lambda settings: _resume_layer(viewer, layer, record, settings))
    if len(record.planes) == record.plane_count(layer):
        raise ConfigError("All planes of this result are done.")
    if record.config.start is Start.IMAGE and not (record.planes and record.config.movie is Movie.FOLLOW):
        # Which picture that was is not written down; only a plane that follows another does without.
        raise ConfigError(f"'{layer.name}' began from a start image, which is not known any more. Run it anew.")
    words = f"Go on with '{layer.name}', with its own settings and the planes that are not done, in its layer."
    return Continuation(words, lambda settings: _resume_layer(viewer, layer, record, settings))


def _resume_layer(viewer: ViewerModel, layer: Layer, record: ResultRecord, settings: StyleConfig) -> EndedRun:
    """Return a run that starts from the picture of a layer, or one of the planes that a layer does not have yet."""
    content = None
    if record.content is not None:
        content = resolve_record(record.content, viewer.layers, colored=layer.rgb)
    styles = tuple(resolve_record(style, viewer.layers) for style in record.styles)
    stack = stack_of(content, record.axes) if content is not None and record.axes else None
    planes = stack if stack is not None else [] if content is None else [content]
    labels = None
    if record.regions is not None and planes:
        regions, numbers = viewer.layers[record.regions.name], dict(record.regions.numbers)
        labels = [resolve_region(plane, regions, numbers) for plane in planes]
    job = Job(content, styles, record.config, labels=labels, stack=stack, channel=not layer.rgb)
    if stack is not None:
        config = record.config.changed(device=settings.device, memory_limit=settings.memory_limit)
        job = replace(job, config=config)
    else:
        job = replace(
            job,
            # A coarse scale would lay the picture out anew.
            config=_with_run_options(record.config, settings).changed(start=Start.IMAGE, scales=1),
            init=resolve_result(layer, job.reference),
            original=record.config,
            history=record.history,
        )
    output = make_output(viewer, job)
    output.attach(layer, [plane.model_dump() for plane in record.planes])
    return EndedRun(job, output, keeps_settings=True)
