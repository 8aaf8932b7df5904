"""The real runs, of one picture, a stack or variations, as the thread drives them; made by the session.

Pictures are read, and torch is imported, only when a run begins, which is in the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from napari_styletransfer.events import Event, Finished, PlaneStarted, Reason
from napari_styletransfer.worker import loading

if TYPE_CHECKING:
    from napari_styletransfer.config import StyleConfig

ShouldStop = Callable[[], bool]
Run = Callable[[ShouldStop], Generator[Event, None, None]]


class Readable(Protocol):
    """A picture that is read when it is needed, in the thread: `layers.read.Snapshot` is one."""

    def read(self) -> npt.NDArray[Any]:
        """Return the pixels as `pixels.decode` takes them."""
        ...


def engine_run(
    content: Readable | None,
    styles: Sequence[Readable],
    config: StyleConfig,
    *,
    init: Readable | None = None,
    resume: Any = None,
    labels: Sequence[Readable] | None = None,
    planes: Sequence[Readable] | None = None,
    finished: Mapping[int, npt.NDArray[Any]] | None = None,
    variations: Sequence[StyleConfig] = (),
    images: int = 1,
) -> Run:
    """Return the real run of these pictures, for a `RunHandle`.

    Parameters
    ----------
    content, styles, config, init, resume
        As `engine.run.iter_stylize` takes them.
    labels
        Of the content, or of each of the planes.
    planes
        To be run one after another in place of `content`.
    finished
        Results of planes that are not to be run again.
    variations
        Settings to be run one after another in place of `config`, all with the network that a run with `config` has.
    images
        How many images such a run makes, for the choice of the network.
    """

    def run_planes(should_stop: ShouldStop) -> Generator[Event, None, None]:
        assert planes is not None
        yield from loading.load_engine("engine.stack").iter_stylize_stack(
            [plane.read for plane in planes],
            [style.read() for style in styles],
            config,
            init=None if init is None else init.read(),
            finished=finished,
            labels=None if labels is None else [label.read for label in labels],
            should_stop=should_stop,
        )

    def run_variations(should_stop: ShouldStop) -> Generator[Event, None, None]:
        engine = loading.load_engine("engine.run")
        pixels = None if content is None else content.read()
        pictures = [style.read() for style in styles]
        marks = None if labels is None else labels[0].read()
        named, _ = loading.load_engine("engine.stack").with_network(
            pixels, pictures, config, images=images, init=pixels
        )
        new_shared = loading.load_engine("engine.shared").Shared
        shared = new_shared()
        for number, variation in enumerate(variations):
            yield PlaneStarted(number, len(variations))
            # The network is the same, but not what was measured of the styles: they are fitted differently.
            shared = new_shared(network=shared.network, weights_sha256=shared.weights_sha256)
            tile = variation.changed(network=named.network, weights_sha256=variation.weights_sha256)
            for event in engine.iter_stylize(
                pixels, pictures, tile, should_stop=should_stop, labels=marks, shared=shared
            ):
                if isinstance(event, Finished):
                    # The state is of no use for another variation, and far larger than one.
                    event = replace(event, state=None)
                yield event
                if isinstance(event, Finished) and event.reason is Reason.STOPPED:
                    return

    def run(should_stop: ShouldStop) -> Generator[Event, None, None]:
        yield from loading.load_engine("engine.run").iter_stylize(
            None if content is None else content.read(),
            [style.read() for style in styles],
            config,
            should_stop=should_stop,
            init=None if init is None else init.read(),
            resume=resume,
            labels=None if labels is None else labels[0].read(),
        )

    if variations:
        return run_variations
    return run if planes is None else run_planes
