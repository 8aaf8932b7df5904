"""The story of a run, top to bottom: check, plan, fetch, then scale by scale targets and steps, finish.

`iter_stylize` is the only way to run. It is a plain generator of events, without threads, Qt or printing; the
form, the command line, batches and tests all consume the same stream.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from napari_styletransfer.config import Color, Mode, Optimizer, Precision, StyleConfig
from napari_styletransfer.engine import weights
from napari_styletransfer.engine.adam import Adam
from napari_styletransfer.engine.blocks import Block, layout
from napari_styletransfer.engine.device import is_out_of_memory, release, sparing_a_core
from napari_styletransfer.engine.events import Event, Finished, Plan, Preview, Reason, Scale, Started, Step
from napari_styletransfer.engine.features import FrozenNetwork
from napari_styletransfer.engine.gather import Gatherer, Stopped
from napari_styletransfer.engine.inputs import Pictures
from napari_styletransfer.engine.lbfgs import LBFGS
from napari_styletransfer.engine.objective import Evaluation, Objective, StyleTarget
from napari_styletransfer.engine.planning import Prepared, prepare
from napari_styletransfer.engine.precondition import SpectralMetric
from napari_styletransfer.engine.pyramid import resized
from napari_styletransfer.engine.recolor import colors_plan, recolor
from napari_styletransfer.engine.regions import region_of
from napari_styletransfer.errors import ConfigError, OutOfMemoryError

Result = TypeVar("Result")

_FREE_TO_CHANGE = ("iterations", "max_seconds", "tolerance", "window", "memory_limit", "block_size")
"""Settings that may differ when a run is resumed with its optimiser's memory."""


@dataclass(frozen=True)
class RunState:
    """Where a run stood: handed out in `Finished.state`, handed in as `resume`."""

    config: StyleConfig
    sizes: tuple[tuple[int, int], ...]
    scale: int
    optimizer: LBFGS | Adam
    metric: SpectralMetric
    iterations: int
    history: tuple[float, ...]


@dataclass
class Shared:
    """What does not change between runs with the same styles and settings: the network, the style targets."""

    network: FrozenNetwork | None = None
    grams: dict[tuple[int, int], list[dict[str, Tensor]]] = field(default_factory=dict)


def plan(content: npt.ArrayLike | None, styles: Sequence[npt.ArrayLike], config: StyleConfig | None = None) -> Plan:
    """Tell what `iter_stylize` would do with the same arguments, without doing it.

    Raises
    ------
    ConfigError, ImageError, DeviceError, OutOfMemoryError
        As `iter_stylize` would.
    """
    config = config or StyleConfig()
    start = content if content is not None else next(iter(styles), None)
    pictures = Pictures.checked(content, styles, config, init=start)
    return colors_plan(pictures, config) if config.mode is Mode.COLORS else prepare(pictures, config).plan


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
        If the loss becomes non-finite and stays so.
    """
    config = config or StyleConfig()
    pictures = Pictures.checked(content, styles, config, init, labels)
    if config.mode is Mode.COLORS:
        yield from recolor(pictures, config)
        return
    prepared = prepare(pictures, config)
    if resume is not None and resume.sizes != prepared.plan.sizes:
        raise ConfigError("The run cannot be resumed at another size; start from its image instead.")
    shared = shared or Shared()
    if shared.network is None:
        decided, expected = prepared.plan.config, prepared.backbone.expected()
        tensors = yield from weights.fetch(decided.network, expected, decided.weights)
        shared.network = FrozenNetwork(
            prepared.backbone,
            tensors,
            prepared.layers,
            pooling=decided.pooling,
            padding=decided.padding,
            device=prepared.plan.device,
            dtype=prepared.dtype,
        )
        del tensors  # float32 copies on the host; the network has its own
    yield Started(prepared.plan)
    with sparing_a_core(prepared.plan.device):
        run = _Run(pictures, prepared, shared, shared.network, should_stop or bool, preview_interval)
        del pictures  # the run lets go of them when it needs them no more
        yield from run.events(resume)


class _Run:
    """One run under way: what its scales share."""

    def __init__(
        self,
        pictures: Pictures,
        prepared: Prepared,
        shared: Shared,
        network: FrozenNetwork,
        should_stop: Callable[[], bool],
        preview_interval: float,
    ) -> None:
        self._began = time.perf_counter()
        self._pictures = pictures
        self._colored = pictures.colored(prepared.plan.config)
        self._prepared = prepared
        self._plan = prepared.plan
        self._config = prepared.plan.config
        self._core = prepared.plan.block
        self._shared = shared
        self._network = network
        self._should_stop = should_stop
        self._preview_interval = preview_interval
        self._previewed = -float("inf")
        self._history: list[float] = []
        self._last: Step | None = None
        self._before = 0
        self._evaluations = 0
        self._total = self._plan.total_iterations
        self._exponent = self._config.spectral_exponent

    def events(self, resume: RunState | None) -> Generator[Event, None, None]:
        """Go through the scales, from the coarsest or from where an earlier run stood."""
        first, optimizer, metric = 0, None, None
        if resume is not None:
            first = resume.scale
            self._before = resume.iterations
            self._history.extend(resume.history)
            self._total = self._before + sum(scale.iterations for scale in self._plan.scales[first:])
            metric = copy.copy(resume.metric)  # it may yet be fitted
            if self._exponent is None:
                self._exponent = metric.exponent
            if _same_objective(resume.config, self._config):
                optimizer = self._copied(resume.optimizer)
            image = metric.to_image(resume.optimizer.best).to(self._plan.device)
        else:
            scale = self._plan.scales[0]
            image = self._colored.start_at(scale.height, scale.width, self._config).to(self._plan.device)
        reason, state = Reason.ITERATIONS, resume
        for index in range(first, len(self._plan.scales)):
            scale = self._plan.scales[index]
            # What a coarser scale remembers is as large as a good part of this one.
            state = None
            image = resized(image, scale.height, scale.width)
            yield self._preview(image, index)
            try:
                if optimizer is None or metric is None:
                    metric = self._metric(scale)
                    optimizer = self._optimizer(metric.to_latent(image))
                image = image[:, :, :1, :1].clone()  # from here on the optimiser has it
                begun = optimizer.iterations
                reason = yield from self._descend(index, scale, optimizer, metric)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if optimizer is not None and metric is not None:
                    image = metric.to_image(optimizer.best)
                raise self._out_of_memory(image) from error
            done = self._before + optimizer.iterations - begun
            state = RunState(self._config, self._plan.sizes, index, optimizer, metric, done, tuple(self._history))
            self._before = state.iterations
            image = metric.to_image(optimizer.best)
            if reason in (Reason.STOPPED, Reason.TIME):
                break
            optimizer = metric = None
        if state is None:
            raise AssertionError("there is a scale to go through")
        yield self._finished(image, reason, state)

    def _descend(
        self, index: int, scale: Scale, optimizer: LBFGS | Adam, metric: SpectralMetric
    ) -> Generator[Event, None, Reason]:
        """Step until a stopping rule holds, and return which."""
        begun = optimizer.iterations
        mark = len(self._history)
        try:
            objective = self._recovering(lambda: self._objective(scale), scale)
            cover = self._cover(scale)
            if index == len(self._plan.scales) - 1:
                self._let_go()
            while True:
                evaluation = self._evaluated(objective, metric.to_image(optimizer.point), scale, cover)
                self._evaluations += 1
                if metric.fit(evaluation.gradient):
                    optimizer.point.copy_(metric.to_latent(optimizer.point))
                self._exponent = metric.exponent
                accepted = optimizer.tell(evaluation.losses["total"], metric.to_latent_gradient(evaluation.gradient))
                told = replace(evaluation, gradient=evaluation.gradient[:, :, :0])
                del evaluation  # its gradient would lie beside the next one
                done = optimizer.iterations - begun
                if accepted and done > 0:
                    self._history.append(told.losses["total"])
                    yield self._step(done, index, told)
                    if self._seconds() - self._previewed >= self._preview_interval:
                        yield self._preview(metric.to_image(optimizer.best), index)
                if self._config.max_seconds and self._seconds() >= self._config.max_seconds:
                    return Reason.TIME
                if done >= scale.iterations:
                    return Reason.ITERATIONS
                if optimizer.stalled or self._levelled(mark):
                    self._total -= scale.iterations - done
                    return Reason.CONVERGED
        except Stopped:
            return Reason.STOPPED

    def _let_go(self) -> None:
        """Drop the content, which no scale is left to measure, unless what is shown needs it."""
        if self._config.color is not Color.CONTENT and self._pictures.guide is None:
            self._pictures = self._colored = replace(self._pictures, content=None, init=None)

    def _copied(self, optimizer: LBFGS | Adam) -> LBFGS | Adam | None:
        """Return a copy: the state can be taken up more than once, and outlives a run that is broken off.

        None where there is no memory for two: then the run goes on from the image alone.
        """
        try:
            return copy.deepcopy(optimizer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release(self._plan.device)
            return None

    def _objective(self, scale: Scale) -> Objective:
        """Measure the targets at a scale."""
        prepared, device = self._prepared, self._plan.device
        size = (scale.height, scale.width)
        # In other colours a style is recoloured to each run's own content: nothing to share.
        known = self._shared.grams if self._config.color is Color.STYLE else {}
        if size not in known:
            known[size] = self._style_grams(size)
        grams = known[size]
        content = self._colored.content_at(*size) if prepared.terms.content_layers else None
        return Objective(
            self._network,
            prepared.reaches,
            prepared.terms,
            size,
            self._layout(scale),
            styles=self._style_targets(grams, size),
            content=None if content is None else content.to(device),
            should_stop=self._should_stop,
        )

    def _style_grams(self, size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Measure the styles, fitted to content of a size."""
        prepared = self._prepared
        grams = []
        for picture in self._colored.styles_at(*size, self._config, prepared.smallest):
            shape = (picture.shape[2], picture.shape[3])
            blocks = layout(*shape, self._core, prepared.halo)
            gatherer = Gatherer(self._network, prepared.reaches, shape, blocks, self._should_stop)
            grams.append(gatherer.gram_means(picture.to(self._plan.device), prepared.terms.style_layers))
        return grams

    def _style_targets(self, grams: list[dict[str, Tensor]], size: tuple[int, int]) -> list[StyleTarget]:
        """Give every style its weight, and its region where there are regions."""
        weights, guide = self._colored.weights, self._colored.guide
        if guide is None:
            return [StyleTarget(gram, weight) for gram, weight in zip(grams, weights, strict=True)]
        targets: list[StyleTarget] = []
        for style, labels in guide.groups().items():
            mask = guide.mask(labels, *size)
            region = region_of(mask, self._prepared.reaches, self._network.layer_sizes(*size), self._plan.device)
            # By area, so that content and style balance in a region as they would in the whole image.
            share = float(mask.mean())
            chosen = [(grams[style], 1.0)] if style is not None else list(zip(grams, weights, strict=True))
            targets.extend(StyleTarget(gram, weight * share, region) for gram, weight in chosen)
        return targets

    def _cover(self, scale: Scale) -> tuple[Tensor, Tensor] | None:
        """Return what lies under the stylised image where regions leave it free, and how much is covered."""
        guide = self._colored.guide
        if guide is None:
            return None
        below = self._colored.content_at(scale.height, scale.width)
        if below is None:
            return None
        return below.to(self._plan.device), guide.covered(scale.height, scale.width).to(self._plan.device)

    def _evaluated(
        self, objective: Objective, image: Tensor, scale: Scale, cover: tuple[Tensor, Tensor] | None
    ) -> Evaluation:
        """Evaluate what is seen."""
        if cover is not None:
            below, share = cover
            image = torch.lerp(below, image, share)

        def evaluate() -> Evaluation:
            objective.set_blocks(self._layout(scale))
            return objective(image)

        evaluation = self._recovering(evaluate, scale)
        if cover is not None:
            evaluation.gradient.mul_(cover[1])
        return evaluation

    def _recovering(self, action: Callable[[], Result], scale: Scale) -> Result:
        """Do something on the device; when its memory runs out, do it again in blocks half as large."""
        while True:
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                core = (self._core or max(scale.height, scale.width)) // 2
                if core < self._prepared.halo.before + self._prepared.halo.after:
                    raise
            self._core = core
            release(self._plan.device)

    def _layout(self, scale: Scale) -> tuple[Block, ...]:
        return layout(scale.height, scale.width, self._core, self._prepared.halo)

    def _out_of_memory(self, image: Tensor) -> OutOfMemoryError:
        release(self._plan.device)
        error = OutOfMemoryError(
            "The device ran out of memory, even with the smallest blocks. Choose a smaller size, a shorter history, or "
            "another device."
        )
        error.image = self._pictures.shown(image, self._config)
        return error

    def _metric(self, scale: Scale) -> SpectralMetric:
        return SpectralMetric(scale.height, scale.width, self._exponent, self._plan.device)

    def _optimizer(self, start: Tensor) -> LBFGS | Adam:
        if self._config.optimizer is Optimizer.ADAM:
            return Adam(start, learning_rate=self._config.learning_rate)
        pairs, narrow = self._config.history, self._config.history_precision is Precision.BFLOAT16
        while True:
            try:
                return LBFGS(
                    start,
                    history=pairs,
                    line_search=self._config.line_search,
                    storage=torch.bfloat16 if narrow else None,
                    scaled=self._config.value_scaling,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (narrow and pairs == 1):
                    raise
            release(self._plan.device)
            # Half the memory at each turn: first by the number format, then by the number of pairs.
            pairs, narrow = (max(1, pairs // 2) if narrow else pairs), True

    def _levelled(self, mark: int) -> bool:
        """Tell whether the loss fell by less than the tolerance over the window, within this scale."""
        window = self._config.window
        if not self._config.tolerance or len(self._history) - mark <= window:
            return False
        before, now = self._history[-1 - window], self._history[-1]
        return before - now < self._config.tolerance * before

    def _step(self, done: int, index: int, evaluation: Evaluation) -> Step:
        self._last = Step(
            iteration=self._before + done,
            total=self._total,
            evaluation=self._evaluations,
            scale=index,
            losses=evaluation.losses,
            layers=evaluation.layers,
            seconds=self._seconds(),
        )
        return self._last

    def _preview(self, image: Tensor, index: int) -> Preview:
        preview = Preview(
            self._pictures.shown(image, self._config), self._last.iteration if self._last else self._before, index
        )
        self._previewed = self._seconds()
        return preview

    def _finished(self, image: Tensor, reason: Reason, state: RunState) -> Finished:
        last = self._plan.scales[-1]
        return Finished(
            image=self._pictures.shown(resized(image, last.height, last.width), self._config),
            config=self._config,
            reason=reason,
            iterations=state.iterations,
            evaluations=self._evaluations,
            seconds=self._seconds(),
            losses=self._last.losses if self._last else {},
            history=tuple(self._history),
            state=state,
        )

    def _seconds(self) -> float:
        return time.perf_counter() - self._began


def _same_objective(one: StyleConfig, other: StyleConfig) -> bool:
    neutral = {name: StyleConfig.model_fields[name].default for name in _FREE_TO_CHANGE}
    return one.changed(**neutral) == other.changed(**neutral)
