"""Runs of the engine as the jobs take them: step by step, timed, with the backward pass of choice. Called by `jobs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.setting import PLAIN, Case, Setting
from benchmarks.textbook import Textbook
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.events import Event, Step
from napari_styletransfer.losses.objective import Objective
from napari_styletransfer.losses.terms import Evaluation
from napari_styletransfer.nn.frozen_network import FrozenNetwork

WARM_SIZE = 64
"""Side in pixels of the run that readies the convolution library before anything is measured."""

_ENDLESS = 100_000
"""Iterations that no job waits for."""


def events(
    setting: Setting, network: FrozenNetwork, *, preview_interval: float, config: StyleConfig | None = None
) -> Iterator[tuple[Event, float]]:
    """Yield the events of a run with the seconds that each took to come; without `config` the case's, and endless."""
    if config is None:
        config = setting.config
        if "iterations" not in setting.case.fields:
            config = config.changed(iterations=_ENDLESS)
    run = iter_stylize(
        setting.content, [setting.style], config, shared=Shared(network), preview_interval=preview_interval
    )
    plain = plain_autograd(setting) if setting.case.backward != "engine" else None
    while True:
        began = time.perf_counter()
        # Only while this run is at work: others may take turns with it.
        with mock.patch.object(Objective, "__call__", plain) if plain else nullcontext():
            event = next(run, None)
        if event is None:
            return
        settle(setting.device)
        yield event, time.perf_counter() - began


def steps(setting: Setting, network: FrozenNetwork) -> Iterator[tuple[Step, float]]:
    """Yield the steps of a run with the seconds an evaluation took."""
    before = 0
    for event, spent in events(setting, network, preview_interval=float("inf")):
        if isinstance(event, Step):
            yield event, spent / (event.evaluation - before)
            before = event.evaluation


def textbook(setting: Setting, **formats: Any) -> Textbook:
    """Return the textbook's loss for the pictures of a case; `formats` as in `Textbook`."""
    model = Textbook(setting.prepared.plan.config, setting.tensors(), setting.device, **formats)
    return model.aim(setting.content_tensor(), setting.style_tensor())


def plain_autograd(setting: Setting) -> Callable[[Objective, Tensor], Evaluation]:
    """Return what may stand in for an objective's own evaluation: the same loss, by autograd and torch's modules.

    The loss is that of the image as it is shown; only the engine's own has a term that holds values to their range.
    """
    model = textbook(setting, dtype=setting.prepared.dtype, layout=PLAIN[setting.case.backward])

    def evaluate(_: Objective, image: Tensor) -> Evaluation:
        with torch.enable_grad():
            image = image.detach().requires_grad_()
            # Not clamp alone: values exactly 0 or 1 would have no gradient, and never leave.
            shown = torch.where((image < 0) | (image > 1), image.detach().clamp(0, 1), image)
            content, style = model.terms(shown)
            content, style = content * model.content_weight, style * model.style_weight
            (gradient,) = torch.autograd.grad(content + style, image)
        terms = {"content": content.item(), "style": style.item()}
        return Evaluation({**terms, "total": sum(terms.values())}, {}, gradient)

    return evaluate


def warm_up(case: dict[str, Any], *, by_textbook: bool = False) -> None:
    """Do a small part of the work, which readies the convolution library."""
    small = Setting(replace(Case(**case), height=WARM_SIZE, width=WARM_SIZE))
    if by_textbook:
        next(textbook(small).descend(small.content_tensor()))
    else:
        next(steps(small, small.network()))


def timed(function: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes."""
    settle(device)
    began = time.perf_counter()
    function()
    settle(device)
    return time.perf_counter() - began


def settle(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()
