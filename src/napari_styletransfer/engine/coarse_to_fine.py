"""The optimisation of an image from the coarsest scale to the finest: at each one start, targets, steps.

Who holds memory has a lifetime: the image is held by the start of a scale, then by its minimiser, which goes when the
next scale starts; the loss of a scale goes when its steps are done. Called by `engine.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from torch import Tensor

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.objective_factory import ObjectiveFactory, ScaleObjective
from napari_styletransfer.engine.oom import TilingPolicy, attach_partial_result
from napari_styletransfer.engine.record import RunRecord
from napari_styletransfer.engine.rendering import Renderer
from napari_styletransfer.engine.run_state import RunState
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.events import Event, Fetching, Finished, Plan, Preview, Reason
from napari_styletransfer.optim.minimizer import Minimizer, copy_optimizer
from napari_styletransfer.planning import runtime_estimate
from napari_styletransfer.planning.inputs import RunInputs
from napari_styletransfer.planning.planner import prepare
from napari_styletransfer.tiling.tiled_network import Stopped


@dataclass(frozen=True)
class StartImage:
    """The image at the start of a scale, until there is a minimiser."""

    image: Tensor


class CoarseToFine:
    """One run: what its scales share.

    Parameters
    ----------
    inputs
        The pictures; held as long as something is measured on them.
    shared
        The network, once it is loaded, and what is known of the styles.
    should_stop
        Asked before every pass over a tile.
    preview_interval
        Seconds between previews, at least.

    Attributes
    ----------
    plan
        What the run does.
    """

    def __init__(
        self,
        inputs: RunInputs,
        config: StyleConfig,
        shared: Shared,
        should_stop: Callable[[], bool],
        preview_interval: float,
    ) -> None:
        prepared = prepare(inputs, config)
        self.plan: Plan = prepared.plan
        self._prepared = prepared
        self._shared = shared
        self._preview_interval = preview_interval
        tiling = TilingPolicy(self.plan.block, prepared.halo, self.plan.device, prepared.budget)
        self._renderer = Renderer(inputs, self.plan.config, self.plan.sizes[-1])
        colored = inputs.colored(self.plan.config)
        self._objectives = ObjectiveFactory(colored, prepared, shared, tiling, should_stop)
        self._solution: StartImage | Minimizer | None = None

    def load_network(self) -> Generator[Fetching, None, None]:
        """Load the network, whose checksum is a part of the plan then."""
        yield from self._shared.load(self._prepared)
        # The settings of a plan are the recipe of its result.
        config = self.plan.config.changed(weights_sha256=self._shared.weights_sha256)
        self.plan = replace(self.plan, config=config)

    def events(self, resume: RunState | None) -> Generator[Event, None, None]:
        """Go through the scales, from the coarsest or from where an earlier run stood, and finish."""
        self._record = RunRecord(self.plan, self._preview_interval, resume)
        reason = Reason.ITERATIONS
        for index in range(self._record.scale, len(self.plan.scales)):
            self._record.begin_scale(index)
            reason = yield from self._run_scale(self.plan.sizes[index], resume)
            if reason in (Reason.STOPPED, Reason.TIME):
                break
        finished = self._finish(reason)
        self._learn_runtime(finished.seconds)
        yield finished

    def _run_scale(self, size: tuple[int, int], resume: RunState | None) -> Generator[Event, None, Reason]:
        """Start a scale, measure its targets, and step until a stopping rule holds; return which."""
        self._renderer.set_size(size)
        if self._solution is None:
            self._start(size, resume)
        else:
            self._refine(size)
        yield self._preview()
        # Before the optimiser takes its memory: measuring takes some that is given back.
        objective = self._measure(size)
        minimizer = self._minimizer()
        first = minimizer.optimizer.iterations
        reason = Reason.STOPPED
        if objective is not None:
            reason = yield from self._minimize(minimizer, objective)
        self._record.end_scale(minimizer.optimizer.iterations - first)
        return reason

    def _start(self, size: tuple[int, int], resume: RunState | None) -> None:
        """Begin at the start image, or go on with what an earlier run left, with its optimiser if that can be."""
        storage = self.plan.storage_device
        with self._attach_partial_result():
            if resume is None:
                self._solution = StartImage(self._objectives.start(size))
                return
            # A copy: the state can be taken up more than once, and outlives a run that is broken off.
            usable = resume.is_compatible(self.plan.config, storage)
            optimizer = copy_optimizer(resume.optimizer, self.plan.device) if usable else None
            self._solution = (
                StartImage(resume.optimizer.best.to(storage)) if optimizer is None else Minimizer(optimizer)
            )

    def _refine(self, size: tuple[int, int]) -> None:
        """Begin at what the coarser scale made."""
        # Without its minimiser, whose history is as large as a good part of this scale.
        self._solution = StartImage(self._image)
        with self._attach_partial_result():
            self._solution = StartImage(self._objectives.refined(self._image, size))

    def _measure(self, size: tuple[int, int]) -> ScaleObjective | None:
        """Measure what a scale works towards; None when the run is asked to stop."""
        with self._attach_partial_result(), suppress(Stopped):
            return self._objectives.objective(size)
        return None

    def _minimizer(self) -> Minimizer:
        """Hand the start image to a new optimiser, unless one is resumed."""
        if not isinstance(self._solution, Minimizer):
            with self._attach_partial_result():
                plan = self.plan
                self._solution = Minimizer.create(
                    self._image, plan.config, plan.storage_device, keep_base=plan.keeps_base
                )
        return self._solution

    def _minimize(self, minimizer: Minimizer, objective: ScaleObjective) -> Generator[Event, None, Reason]:
        """Step until a stopping rule holds, and return which."""
        record, optimizer = self._record, minimizer.optimizer
        first = optimizer.iterations
        with self._attach_partial_result(), suppress(Stopped):
            while True:
                accepted, losses, layers = self._evaluate(minimizer, objective)
                done = optimizer.iterations - first
                if accepted and done > 0:
                    yield record.step(done, losses, layers)
                    if record.preview_due:
                        yield record.preview(self._renderer.preview(minimizer.image))
                reason = record.stopping_reason(done, stalled=optimizer.stalled)
                if reason is not None:
                    return reason
        return Reason.STOPPED

    def _evaluate(
        self, minimizer: Minimizer, objective: ScaleObjective
    ) -> tuple[bool, dict[str, float], dict[str, float]]:
        """Evaluate the trial image, and return whether the optimiser accepts it, with its losses."""
        evaluation = objective(minimizer.trial)
        self._record.evaluations += 1
        accepted = minimizer.tell(evaluation.losses["total"], evaluation.gradient)
        return accepted, evaluation.losses, evaluation.layers

    @property
    def _image(self) -> Tensor:
        """The best image so far."""
        if self._solution is None:
            raise AssertionError("there is an image once a scale has started")
        return self._solution.image

    def _preview(self) -> Preview:
        with self._attach_partial_result():
            return self._record.preview(self._renderer.preview(self._image))

    def _attach_partial_result(self) -> AbstractContextManager[None]:
        """Have an error inside hand over the image, if there is one."""
        reached = None if self._solution is None else lambda: self._finish(Reason.FAILED)
        return attach_partial_result(reached, self.plan.device)

    def _finish(self, reason: Reason) -> Finished:
        """Sum up the run, with an image of any scale at the size of the last."""
        if reason is Reason.FAILED:
            result = self._renderer.result(self._image.cpu())  # there may be no room for more on the device
            return self._record.finished(result, reason, self._renderer.structure(result), None)
        with self._attach_partial_result():
            result = self._renderer.result(self._image)
            return self._record.finished(result, reason, self._renderer.structure(result), self._state())

    def _state(self) -> RunState | None:
        if not isinstance(self._solution, Minimizer):
            return None
        plan, record = self.plan, self._record
        optimizer = self._solution.optimizer
        return RunState(
            plan.config,
            plan.storage_device,
            plan.sizes,
            record.scale,
            optimizer,
            record.iterations,
            tuple(record.history),
        )

    def _learn_runtime(self, seconds: float) -> None:
        """Remember how long the scales took, for the time told before others; one short of memory tells nothing."""
        plan, prepared, done = self.plan, self._prepared, self._record.scales
        if plan.blocks == 1 and plan.memory_savings is None and done:
            runtime_estimate.learn(
                prepared.backbone,
                done,
                seconds,
                plan.device,
                plan.device_name,
                prepared.dtype,
                coarse_sizes=prepared.coarse_sizes,
            )
