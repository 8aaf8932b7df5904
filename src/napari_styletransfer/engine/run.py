"""The story of a run, top to bottom: check, plan, fetch, then scale by scale targets and steps, finish.

`iter_stylize` is the only way to run. It is a plain generator of events, without threads, Qt or printing; the
form, the command line, the Python functions and the tests all consume the same stream.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial

import numpy.typing as npt

from napari_styletransfer.config import Mode, Start, StyleConfig
from napari_styletransfer.devices.compute_context import compute_context, in_compute_context
from napari_styletransfer.engine.coarse_to_fine import CoarseToFine
from napari_styletransfer.engine.recolor import colors_plan, recolor
from napari_styletransfer.engine.run_state import RunState
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.events import Event, Plan, Started
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import prepare


@compute_context()
def plan(
    content: npt.ArrayLike | None,
    styles: Sequence[npt.ArrayLike],
    config: StyleConfig | None = None,
    *,
    labels: npt.ArrayLike | None = None,
) -> Plan:
    """Tell what `iter_stylize` would do with the same arguments, without doing it.

    Raises
    ------
    ConfigError, ImageError, DeviceError, OutOfMemoryError
        As `iter_stylize` would.
    """
    config = config or StyleConfig()
    init = None
    if config.resolved_start is Start.IMAGE:
        # One that the run would start from is taken to be like its result.
        without = content is None and isinstance(styles, (list, tuple)) and styles
        init = config.first_style(styles) if without else content
    pictures = RunInputs.from_arrays(content, styles, config, init, labels)
    return colors_plan(pictures, config) if config.mode is Mode.COLORS else prepare(pictures, config).plan


@in_compute_context
def iter_stylize(
    content: npt.ArrayLike | None,
    styles: Sequence[npt.ArrayLike],
    config: StyleConfig | None = None,
    *,
    should_stop: Callable[[], bool] | None = None,
    init: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    resume: RunState | None = None,
    preview_interval: float = 0.15,
    shared: Shared | None = None,
) -> Generator[Event, None, None]:
    """Stylise a picture, telling of every step.

    Parameters
    ----------
    content
        (H, W), (H, W, 3) or (H, W, 4) of any real dtype; None for a style reconstruction of a style's size.
    styles
        Such pictures; ignored in a content reconstruction.
    config
        The settings; the defaults if None.
    should_stop
        Asked before every pass over a block; when it says yes the run finishes with the best image so far. None: never.
    init
        Image to start from, for start 'image'.
    labels
        (H, W) whole numbers in the content's pixels: only where they are not 0 is anything changed, and each label
        may have its own style (`config.regions`). A boolean mask is the simplest case.
    resume
        `Finished.state` of a run with the same pictures: goes on from there for `iterations` more steps, with the
        optimiser's memory if nothing but the stopping rules changed.
    preview_interval
        Seconds between previews, at least.
    shared
        What runs with the same styles and settings can share: hand the same object to each of them.

    Yields
    ------
    Fetching
        While weights are downloaded.
    Started
        Once, before any step.
    Preview, Step
        As the run goes; a preview of the start image comes first.
    Finished
        Last, also after a stop.

    Raises
    ------
    ConfigError, ImageError, DeviceError, OutOfMemoryError, WeightsError
        Before any long work.
    DivergedError
        If the loss becomes non-finite and stays so. This one, and an `OutOfMemoryError` of a run under way, has the
        best image so far in its attribute `finished`.
    """
    config = config or StyleConfig()
    read_inputs = partial(RunInputs.from_arrays, content, styles, config, init, labels)
    if config.mode is Mode.COLORS:
        yield from recolor(read_inputs(), config)
        return
    run = CoarseToFine(read_inputs(), config, shared or Shared(), should_stop or bool, preview_interval)
    if resume is not None and resume.sizes != run.plan.sizes:
        raise ConfigError("The run cannot be resumed at another size; start from its image instead.")
    yield from run.load_network()
    yield Started(run.plan)
    yield from run.events(resume)
