"""The story of a run, top to bottom: check, plan, fetch, then scale by scale targets and steps, finish.

`iter_stylize` is the only way to run. It is a plain generator of events, without threads, Qt or printing; the
form, the command line, the Python functions and the tests all consume the same stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_styletransfer.config import Color, Mode, Start, StyleConfig
from napari_styletransfer.devices.compute_context import compute_context, in_compute_context
from napari_styletransfer.engine.objective_factory import AlphaBlend, Grams, ObjectiveFactory
from napari_styletransfer.engine.oom import TilingPolicy, attach_partial_result
from napari_styletransfer.engine.recolor import colors_plan, recolor
from napari_styletransfer.engine.record import RunRecord
from napari_styletransfer.engine.run_state import RunState
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.events import Event, Finished, Plan, Reason, Scale, Started
from napari_styletransfer.images.resize import LARGEST_PREVIEW, resize
from napari_styletransfer.losses.multiscale import MultiscaleObjective
from napari_styletransfer.losses.structure import CoarseLuminance, coarse_size
from napari_styletransfer.losses.terms import Evaluation
from napari_styletransfer.networks import weights
from napari_styletransfer.nn.frozen_network import FrozenNetwork
from napari_styletransfer.optim.create import copied
from napari_styletransfer.optim.minimizer import Minimizer
from napari_styletransfer.planning import runtime_estimate
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import Prepared, prepare
from napari_styletransfer.tiling.tiled_network import Stopped


@dataclass
class Shared:
    """What does not change between runs with the same styles and settings: the network, the style targets."""

    network: FrozenNetwork | None = None
    grams: Grams = field(default_factory=dict)
    weights_sha256: str | None = None


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
    pictures = RunInputs.from_arrays(content, styles, config, init, labels)
    if config.mode is Mode.COLORS:
        yield from recolor(pictures, config)
        return
    prepared = prepare(pictures, config)
    if resume is not None and resume.sizes != prepared.plan.sizes:
        raise ConfigError("The run cannot be resumed at another size; start from its image instead.")
    shared = shared or Shared()
    if shared.network is None:
        decided, expected = prepared.plan.config, prepared.backbone.state_dict_shapes()
        with attach_partial_result(None, prepared.plan.device):
            fetched = yield from weights.fetch(decided.network, expected, decided.weights, decided.weights_sha256)
            shared.weights_sha256 = fetched.sha256
            shared.network = FrozenNetwork(
                prepared.backbone,
                fetched.tensors,
                prepared.layers,
                pooling=decided.pooling,
                padding=decided.padding,
                device=prepared.plan.device,
                dtype=prepared.dtype,
            )
        del fetched  # float32 copies on the host; the network has its own
    prepared = prepared.made_with(shared.weights_sha256)
    yield Started(prepared.plan)
    run = _Run(pictures, prepared, shared, shared.network, should_stop or bool, preview_interval)
    del pictures  # the run lets go of them when it needs them no more
    yield from run.events(resume)


class _Run:
    """One run under way: what its scales share."""

    def __init__(
        self,
        pictures: RunInputs,
        prepared: Prepared,
        shared: Shared,
        network: FrozenNetwork,
        should_stop: Callable[[], bool],
        preview_interval: float,
    ) -> None:
        self._prepared = prepared
        self._plan = prepared.plan
        self._config = prepared.plan.config
        self._record = RunRecord(prepared.plan, preview_interval)
        self._pictures = pictures
        self._seen = pictures
        self._tiling = TilingPolicy(self._plan.block, prepared.halo, self._plan.device, prepared.budget)
        self._content = None
        if pictures.content is not None:
            self._content = CoarseLuminance.from_image(pictures.content, coarse_size(self._plan.sizes[-1]))
        colored = pictures.colored(self._config)
        self._targets = ObjectiveFactory(colored, prepared, network, shared.grams, self._tiling, should_stop)

    def events(self, resume: RunState | None) -> Generator[Event, None, None]:
        """Go through the scales, from the coarsest or from where an earlier run stood."""
        first = 0
        if resume is not None:
            first = resume.scale
            self._record.resume(resume.iterations, resume.history, first)
        reason, state = Reason.ITERATIONS, resume
        gone: list[Scale] = []
        descent: Minimizer | None = None
        for index in range(first, len(self._plan.scales)):
            size = self._plan.sizes[index]
            self._seen = self._seen_at(size)
            if descent is None:
                with attach_partial_result(None, self._plan.device):
                    start, going = self._first(size, resume)
            else:
                start, going = descent.image, None
                # What a coarser scale remembers is as large as a good part of this one.
                state = descent = None
                with self._keeping(start):
                    start = self._grey(self._targets.refined(start, size))
            with self._keeping(start):
                preview = self._record.preview(self._shown(start, preview=True), index)
            yield preview
            del preview
            # Before the optimiser takes its memory: measuring takes some that is given back.
            measured = self._measured(index, start)
            descent = going or self._descent(start)
            del start, going
            begun = descent.optimizer.iterations
            reason = Reason.STOPPED
            if measured is not None:
                reason = yield from self._descend(index, descent, *measured)
            del measured
            steps = descent.optimizer.iterations - begun
            gone.append(replace(self._plan.scales[index], iterations=steps))
            self._record.iterations += steps
            state = RunState(
                self._config,
                self._plan.storage_device,
                self._plan.sizes,
                index,
                descent.optimizer,
                self._record.iterations,
                tuple(self._record.history),
            )
            if reason in (Reason.STOPPED, Reason.TIME):
                break
        if descent is None:
            raise AssertionError("a run has at least one scale")
        with self._keeping(descent.image):
            finished = self._ended(descent.image, reason, state)
        self._learn_pace(gone, finished.seconds)
        yield finished

    def _learn_pace(self, gone: Sequence[Scale], seconds: float) -> None:
        """Remember how long the scales took, for the time told before others; one short of memory tells nothing."""
        plan, prepared = self._plan, self._prepared
        if plan.blocks == 1 and plan.memory_savings is None and gone:
            runtime_estimate.learn(
                prepared.backbone, gone, seconds, plan.device, plan.device_name, prepared.dtype, judged=prepared.judged
            )

    def _first(self, size: tuple[int, int], resume: RunState | None) -> tuple[Tensor, Minimizer | None]:
        """Begin at the start image, or go on with what an earlier run left, with its optimiser if that can be."""
        if resume is None:
            return self._grey(self._targets.start(size)), None
        if resume.is_compatible(self._config, self._plan.storage_device):
            # A copy: the state can be taken up more than once, and outlives a run that is broken off.
            optimizer = copied(resume.optimizer, self._plan.device)
            if optimizer is not None:
                return optimizer.best, Minimizer(optimizer)
        return resume.optimizer.best.to(self._plan.storage_device), None

    def _descent(self, start: Tensor) -> Minimizer:
        with self._keeping(start):
            return Minimizer.create(start, self._config, self._plan.storage_device, keep_base=self._plan.keeps_base)

    def _measured(self, index: int, start: Tensor) -> tuple[MultiscaleObjective, AlphaBlend | None] | None:
        """Measure what a scale works towards; None when the run is asked to stop."""
        size = self._plan.sizes[index]
        with self._keeping(start), suppress(Stopped):
            objective = self._tiling.retry_on_oom(size, lambda: self._targets.objective(size))
            cover = self._targets.alpha_blend(size)
            if index == len(self._plan.scales) - 1:
                self._targets.release()
                self._pictures = self._seen
            return objective, cover
        return None

    def _descend(
        self, index: int, descent: Minimizer, objective: MultiscaleObjective, cover: AlphaBlend | None
    ) -> Generator[Event, None, Reason]:
        """Step until a stopping rule holds, and return which."""
        record, begun = self._record, descent.optimizer.iterations
        record.begin_scale()
        with (
            attach_partial_result(lambda: self._ended(descent.image, Reason.FAILED), self._plan.device),
            suppress(Stopped),
        ):
            while True:
                evaluation = self._evaluated(objective, descent.trial, cover)
                accepted = descent.tell(evaluation.losses["total"], evaluation.gradient)
                losses, layers = evaluation.losses, evaluation.layers
                del evaluation  # its gradient would lie beside the next one
                done = descent.optimizer.iterations - begun
                if accepted and done > 0:
                    yield record.step(done, index, losses, layers)
                    if record.preview_due:
                        yield record.preview(self._shown(descent.image, preview=True), index)
                reason = record.stopping_reason(done, index, stalled=descent.optimizer.stalled)
                if reason is not None:
                    return reason
        return Reason.STOPPED

    def _evaluated(self, objective: MultiscaleObjective, image: Tensor, cover: AlphaBlend | None) -> Evaluation:
        """Evaluate what is seen of an image."""
        size = (image.shape[2], image.shape[3])
        if cover is not None:
            image = cover.blend(image)

        def evaluate() -> Evaluation:
            objective.set_tiles(self._tiling.tiles, self._tiling.budget)
            return objective(image)

        evaluation = self._tiling.retry_on_oom(size, evaluate)
        self._record.evaluations += 1
        if self._pictures.achromatic:
            evaluation.gradient.copy_(evaluation.gradient.mean(1, keepdim=True))
        if cover is not None:
            evaluation.gradient.mul_(cover.share)
        return evaluation

    def _keeping(self, image: Tensor) -> AbstractContextManager[None]:
        """Have an error inside hand over the image."""
        return attach_partial_result(partial(self._ended, image, Reason.FAILED), self._plan.device)

    def _ended(self, image: Tensor, reason: Reason, state: RunState | None = None) -> Finished:
        """Sum up the run, with an image of any scale at the size of the last."""
        if reason is Reason.FAILED:
            image = image.cpu()  # there may be no room for more on the device
        size = self._plan.sizes[-1]
        self._seen = self._seen_at(size)
        shown = self._shown(resize(image, *size))
        structure = None
        if self._content is not None:
            structure = self._content.correlation(torch.from_numpy(shown).permute(2, 0, 1)[None])
        return self._record.finished(shown, reason, structure, state)

    def _grey(self, image: Tensor) -> Tensor:
        """Take the colours off an image, in place, where no picture has any; a gradient that has none keeps it so."""
        return image.copy_(image.mean(1, keepdim=True)) if self._pictures.achromatic else image

    def _seen_at(self, size: tuple[int, int]) -> RunInputs:
        """Return what is shown of the pictures at a size, brought to it once."""
        shows = self._config.color is Color.CONTENT or self._pictures.regions is not None
        content = self._pictures.content_at(*size) if shows else None
        return replace(self._pictures, content=content, styles=(), init=None)

    def _shown(self, image: Tensor, *, preview: bool = False) -> npt.NDArray[np.float32]:
        """Return what people see of an image; for a preview no larger than screens are."""
        height, width = image.shape[2:]
        factor = math.ceil(math.sqrt(height * width / LARGEST_PREVIEW)) if preview else 1
        return self._seen.render(resize(image, max(1, height // factor), max(1, width // factor)), self._config)
