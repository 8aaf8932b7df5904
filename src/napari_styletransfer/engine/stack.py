"""The planes of a stack or movie, stylised one after another with the network and style targets made once.

Called by the form and the command line. Each plane may start from the result of the one before: where the content
did not change, the image then stays as it is, and a movie does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import Mode, Movie, Network, Start, StyleConfig
from napari_styletransfer.devices.compute_context import compute_context
from napari_styletransfer.engine.recolor import finished_without_steps
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.errors import NothingToDoError
from napari_styletransfer.events import Event, Finished, PlaneStarted, Reason, Started
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import prepare

ReadPlane = Callable[[], npt.ArrayLike]


def iter_stylize_stack(
    planes: Sequence[ReadPlane],
    styles: Sequence[npt.ArrayLike],
    config: StyleConfig | None = None,
    *,
    init: npt.ArrayLike | None = None,
    finished: Mapping[int, npt.NDArray[np.float32]] | None = None,
    labels: Sequence[ReadPlane] | None = None,
    should_stop: Callable[[], bool] | None = None,
    preview_interval: float = 0.15,
    shared: Shared | None = None,
) -> Generator[Event, None, None]:
    """Stylise every plane, telling of every step.

    Parameters
    ----------
    planes
        Functions that return one plane each, as `iter_stylize` takes its content; called when its turn comes.
    styles, config, should_stop, preview_interval, shared
        As for `iter_stylize`. Network 'auto' is decided once, by the time that all planes take.
    init
        As for `iter_stylize`, for each plane that does not start from the one before.
    finished
        Results of an earlier, stopped call by plane number: those planes are passed over.
    labels
        Functions that return each plane's labels.

    Yields
    ------
    Event
        For each plane that is run a `PlaneStarted` and then the events of its run. After a stop the plane under way
        ends with a `Finished` whose reason is `stopped`, and no further plane begins.
    """
    config = config or StyleConfig()
    done = finished or {}
    shared = shared or Shared()
    why = ""
    before: npt.NDArray[np.float32] | None = None
    for number, read in enumerate(planes):
        if number in done:
            before = done[number]
            continue
        content = read()
        if config.network is Network.AUTO:
            config, why = with_network(content, styles, config, images=len(planes), init=init)
        follows = before is not None and config.movie is Movie.FOLLOW
        # A coarse scale would lay the picture out anew.
        settings = config.changed(start=Start.IMAGE, scales=1) if follows else config
        events: Iterator[Event] = iter_stylize(
            content,
            styles,
            settings,
            should_stop=should_stop,
            init=before if follows else init,
            labels=labels[number]() if labels is not None else None,
            preview_interval=preview_interval,
            shared=shared,
        )
        try:
            first = next(events)
        except NothingToDoError:
            # Tracked objects come and go: a plane without any stays as it is, and the next begins anew.
            before = None
            yield PlaneStarted(number, len(planes))
            yield _unchanged(content, config)
            continue
        yield PlaneStarted(number, len(planes))
        for event in chain([first], events):
            if isinstance(event, Finished):
                before = event.image
                # The state is of no use for another plane, and far larger than one.
                event = replace(event, state=None)
            elif isinstance(event, Started):
                event = Started(replace(event.plan, why_network=why))
            yield event
            if isinstance(event, Finished) and event.reason is Reason.STOPPED:
                return


@compute_context()
def with_network(
    content: npt.ArrayLike | None,
    styles: Sequence[npt.ArrayLike],
    config: StyleConfig,
    *,
    images: int,
    init: npt.ArrayLike | None = None,
) -> tuple[StyleConfig, str]:
    """Decide network 'auto' for several images, which are to have the same.

    Parameters
    ----------
    content, styles, config, init
        Of one of them, as `iter_stylize` takes them.
    images
        How many there are.

    Returns
    -------
    config, why
        Settings that name the network, and why it is this one; as they were where they name it, or use none.
    """
    if config.network is not Network.AUTO or config.mode is Mode.COLORS:
        return config, ""
    # Regions are passed over: where they lie does not change how long a run takes.
    pictures = RunInputs.from_arrays(content, styles, config.changed(regions=None), init)
    plan = prepare(pictures, config, images).plan
    # A checksum that is asked for stays asked for, as where one image is run.
    decided = config.changed(network=plan.config.network, weights_sha256=config.weights_sha256)
    return decided, plan.why_network


@compute_context()
def _unchanged(content: npt.ArrayLike, config: StyleConfig) -> Finished:
    """Return the end of a run that did nothing: the content at the working size."""
    # Not the settings of the run: its regions and colours would ask for labels and touch the picture.
    alone = StyleConfig(mode=Mode.CONTENT, start=Start.CONTENT, size=config.size)
    pictures = RunInputs.from_arrays(content, (), alone, None)
    image = pictures.render(pictures.start_at(*pictures.size, alone), alone)
    return finished_without_steps(image, config)
