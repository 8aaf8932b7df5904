"""Where a run stood when it ended, so that it can go on: its settings, its optimiser, and how far it was.

Made and taken up by `coarse_to_fine`; nobody else looks inside.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.optim.adam import Adam
from napari_styletransfer.optim.lbfgs import LBFGS

_FREE_TO_CHANGE = (
    *("iterations", "coarse_iterations", "max_seconds", "tolerance", "window"),
    *("memory_limit", "block_size", "history", "history_precision"),
)
"""Settings that may differ when a run is resumed with its optimiser's memory."""


@dataclass(frozen=True)
class RunState:
    """Where a run stood: handed out in `Finished.state`, handed in as `resume`."""

    config: StyleConfig
    storage_device: str
    sizes: tuple[tuple[int, int], ...]
    scale: int
    optimizer: LBFGS | Adam
    iterations: int
    history: tuple[float, ...]

    def is_compatible(self, config: StyleConfig, storage_device: str) -> bool:
        """Whether the optimiser's memory is of use with these settings, where image and optimiser are kept then."""
        neutral = {name: StyleConfig.model_fields[name].default for name in _FREE_TO_CHANGE}
        return self.storage_device == storage_device and self.config.changed(**neutral) == config.changed(**neutral)
