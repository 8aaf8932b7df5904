"""A short run in a process of its own, with the memory that it took: a script for `test_memory`.

Arguments: settings of the run as JSON, and the longest and the shortest side of its pictures. Prints planned bytes,
measured bytes and number of blocks.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import numpy.typing as npt

from benchmarks.memory import Peak
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.engine.run import iter_stylize
from napari_styletransfer.engine.shared import Shared
from napari_styletransfer.events import Plan, Started

Picture = npt.NDArray[np.uint8]


def pictures(height: int, width: int) -> tuple[Picture, Picture]:
    """Make a content and a style."""
    rng = np.random.default_rng(0)
    content, style = (rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(2))
    return content, style


def taken(config: StyleConfig, shared: Shared, content: Picture, style: Picture) -> Plan:
    """Run and return the plan."""
    plan: Plan | None = None
    for event in iter_stylize(content, [style], config, preview_interval=float("inf"), shared=shared):
        if isinstance(event, Started):
            plan = event.plan
    assert plan is not None
    return plan


def main() -> None:
    """Run once small, which loads the weights and what the libraries need, and once as asked."""
    fields, width, height = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    config, shared = StyleConfig(**fields), Shared()
    taken(config.changed(block_size=None, memory_limit=None), shared, *pictures(64, 256))
    shared.grams.clear()
    given = pictures(height, width)
    peak = Peak("cpu")
    plan = taken(config, shared, *given)
    print(plan.memory_bytes, peak.bytes(), plan.blocks)


if __name__ == "__main__":
    main()
