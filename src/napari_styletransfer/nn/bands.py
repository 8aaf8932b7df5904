"""The bands of rows in which stages with large maps are worked through.

A band is what is needed for some rows of a pooled map: of each map since the pooling before it twice as many rows, and
a few more on either side that the neighbouring band needs as well. Called by `frozen_network`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from napari_styletransfer.networks.architectures import Conv, Pool, Stage

_BAND_BYTES, _BAND_BYTES_GPU = 4 << 20, 32 << 20
"""Size of the largest map of a band: a few of them fit in the cache of a processor. Larger bands are a little faster
and leave larger gaps in the heap: of VGG-19 at 512 px 145 bytes a pixel with twice as much. Elsewhere every band costs
the time to start its programs."""


@dataclass(frozen=True)
class RowRange:
    """Rows `first` to `stop` of a map that is `height` rows high."""

    first: int
    stop: int
    height: int

    @classmethod
    def whole(cls, height: int) -> RowRange:
        """Return all rows of a map."""
        return cls(0, height, height)

    @property
    def at_top(self) -> bool:
        """Whether the first row is the map's."""
        return self.first == 0

    @property
    def at_bottom(self) -> bool:
        """Whether the last row is the map's."""
        return self.stop == self.height

    def dilated(self, by: int) -> RowRange:
        """Return the rows with some more on either side, as far as there are any."""
        return RowRange(max(0, self.first - by), min(self.height, self.stop + by), self.height)

    def slice_in(self, outer: RowRange) -> slice:
        """Return where these rows lie in a part of the map that holds `outer`."""
        return slice(self.first - outer.first, self.stop - outer.first)


@dataclass(frozen=True)
class Band:
    """Rows of the convolutions' maps that belong to the band, and of the pooled map."""

    core: RowRange
    pooled: RowRange
    whole: bool

    def core_of(self, rows: RowRange) -> RowRange:
        """Return which rows of a map belong to the band, `rows` being there."""
        return rows if self.whole else self.core


def segments(stages: Sequence[Stage]) -> list[range]:
    """Cut the stages after every pooling."""
    found = []
    start = 0
    for index, stage in enumerate(stages):
        if isinstance(stage, Pool) or index + 1 == len(stages):
            found.append(range(start, index + 1))
            start = index + 1
    return found


def band_bytes(device: str) -> int:
    """Return the size of the largest map of a band on a kind of device."""
    return _BAND_BYTES if device == "cpu" else _BAND_BYTES_GPU


def bands(stages: Sequence[Stage], height: int, width: int, values: int) -> list[Band]:
    """Cut the maps of a segment into bands of about `values` values in the largest map, where it can be cut.

    A band has rows enough that what it needs of a neighbour is the neighbour's own.
    """
    count = 1
    if _is_divisible(stages):
        channels = max(stage.out_channels for stage in stages if isinstance(stage, Conv))
        count = max(1, min(height // 16, round(height * width * channels / values)))
    if count == 1:
        pooled = height
        for stage in stages:
            pooled = stage.out_size(pooled)
        return [Band(RowRange.whole(height), RowRange.whole(pooled), whole=True)]
    pooled = height // 2
    edges = [pooled * index // count for index in range(count + 1)]
    found = []
    for first, stop in pairwise(edges):
        end = height if stop == pooled else 2 * stop
        found.append(Band(RowRange(2 * first, end, height), RowRange(first, stop, pooled), whole=False))
    return found


def _is_divisible(stages: Sequence[Stage]) -> bool:
    """Tell whether a segment is of 3 by 3 convolutions that keep the size, and ends with a pooling that halves it."""
    *convolutions, last = stages
    return (
        bool(convolutions)
        and isinstance(last, Pool)
        and (last.kernel, last.stride, last.ceil) == (2, 2, False)
        and all(
            isinstance(stage, Conv) and (stage.kernel, stage.stride, stage.pad, len(stage.branches)) == (3, 1, 1, 1)
            for stage in convolutions
        )
    )
