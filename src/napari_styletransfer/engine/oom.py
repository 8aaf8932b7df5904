"""What is done when memory runs out, step by step: smaller blocks, a narrower and shorter history, and a clear error.

Estimates can be wrong, and other programs take memory while a run goes on. Each step down costs time or a little
precision, never the run, and none of them changes what is optimised. Called by `coarse_to_fine`, `shared` and
`objective_factory`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from napari_styletransfer.devices.device import empty_cache
from napari_styletransfer.errors import DivergedError, OutOfMemoryError, is_out_of_memory
from napari_styletransfer.events import Finished
from napari_styletransfer.tiling.tiles import Halo, Tile, tile_layout

Result = TypeVar("Result")


class TilingPolicy:
    """How images are cut into blocks: as planned at first, finer from each time on that memory ran out.

    Parameters
    ----------
    core
        Side of the blocks' cores in pixels, None for whole images.
    halo
        What the blocks need around their cores.
    device
        Whose memory it is.
    budget
        Bytes for what is kept of blocks between the passes of an evaluation; none from the first time on.
    """

    def __init__(self, core: int | None, halo: Halo, device: str, budget: int = 0) -> None:
        self.budget = budget
        self._core = core
        self._halo = halo
        self._device = device

    def tiles(self, size: tuple[int, int]) -> tuple[Tile, ...]:
        """Return the blocks of an image (H, W) as they are cut now."""
        return tile_layout(*size, self._core, self._halo)

    def retry_on_oom(self, size: tuple[int, int], action: Callable[[], Result]) -> Result:
        """Do something with an image (H, W); when memory runs out, do it again in blocks half as large.

        Where more than needed is kept of blocks, it is done again without that first.
        """
        while True:
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                core = self._core
                if not self.budget:
                    core = (core or max(size)) // 2
                    if core < self._halo.before + self._halo.after:
                        raise
            # Here, not above: what the failed attempt made lives on with its error.
            self._core, self.budget = core, 0
            empty_cache(self._device)


@contextmanager
def attach_partial_result(reached: Callable[[], Finished] | None, device: str) -> Iterator[None]:
    """Give an error that ends a run what the run has reached; of an exhausted memory one that says what to do.

    `reached` is None as long as there is no image.
    """
    try:
        yield
    except DivergedError as error:
        error.finished = reached() if reached is not None else None
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # What failed must go before anything else is made of the little there is.
        traceback.clear_frames(error.__traceback__)
        empty_cache(device)
        failure = OutOfMemoryError(_NO_ROOM_TO_START if reached is None else _NO_ROOM_LEFT)
        if reached is not None:
            with suppress(RuntimeError, MemoryError):
                failure.finished = reached()
        raise failure from error


_NO_ROOM_TO_START = (
    "The device has no room for the network and the image. Choose the network 'compact', a smaller size, or another "
    "device."
)
_NO_ROOM_LEFT = (
    "The device ran out of memory, even with the smallest blocks. Choose a smaller size, a shorter history, or another "
    "device."
)
