"""A run that changes colours alone: no network, no steps, done at once.

The content gets the mean and covariance of the style's colours, as in stain normalisation. It serves as a
quick preview of what a style's palette does to a picture. Called by `engine.run` for mode `colors`.
"""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.devices.device import choose
from napari_styletransfer.events import Event, Finished, Plan, Preview, Reason, Scale, Started
from napari_styletransfer.planning.inputs import RunInputs


def colors_plan(pictures: RunInputs, config: StyleConfig) -> Plan:
    """Return the plan of such a run: one pass over the picture on the host."""
    host = choose("cpu")
    height, width = pictures.size
    decided = config.changed(start=config.resolved_start, device=host.name)
    # Pixels and their matched copy in float64 on the way, and float32 before and after.
    needed = height * width * 3 * (2 * 8 + 2 * 4)
    return Plan(
        config=decided,
        device=host.name,
        device_name=host.label,
        precision="float32",
        scales=(Scale(height, width, 0),),
        block=None,
        blocks=1,
        memory_bytes=needed,
        memory_available=host.free_bytes,
    )


def recolor(pictures: RunInputs, config: StyleConfig) -> Generator[Event, None, None]:
    """Run: the same events as a transfer, without a step."""
    began = time.perf_counter()
    plan = colors_plan(pictures, config)
    yield Started(plan)
    image = pictures.render(pictures.start_at(*pictures.size, plan.config), plan.config)
    yield Preview(image, iteration=0, scale=0)
    yield finished_without_steps(image, plan.config, time.perf_counter() - began)


def finished_without_steps(image: npt.NDArray[np.float32], config: StyleConfig, seconds: float = 0.0) -> Finished:
    """Return the end of a run that took no step."""
    return Finished(image, config, Reason.ITERATIONS, 0, evaluations=0, seconds=seconds, losses={}, history=())
