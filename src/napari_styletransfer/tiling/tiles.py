"""An image cut into tiles that can be worked on one after another with exactly the whole image's result.

Every feature belongs to the core of one tile. A tile reaches beyond its core by a halo as wide as the
receptive field of the deepest layer, so that the features of the core, and their gradients with respect to
the image, are those of the whole image. Cores begin at multiples of the network's total stride, which
keeps the pooling windows where they are in the whole image. Called by `planner`, `oom` and `tiled_network`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_styletransfer.networks.architectures import ReceptiveField


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in pixels of the image: the core within what is read."""

    outer: slice
    core: slice
    last: bool

    def core_of(self, receptive_field: ReceptiveField, size: int) -> slice:
        """Positions of a layer, counted within the tile, that belong to the core.

        `size` is the length of the layer's axis in the whole image; the last core takes all that is left.
        """
        target, shift = self.target_of(receptive_field, size), self.outer.start // receptive_field.stride
        return slice(target.start - shift, target.stop - shift)

    def target_of(self, receptive_field: ReceptiveField, size: int) -> slice:
        """Return the same positions counted in the whole image."""
        stride = receptive_field.stride
        return slice(self.core.start // stride, size if self.last else self.core.stop // stride)


@dataclass(frozen=True)
class Tile:
    """A tile: its rows and its columns."""

    rows: Span
    columns: Span

    @property
    def outer(self) -> tuple[slice, slice]:
        """What is read of the image."""
        return self.rows.outer, self.columns.outer

    @property
    def area(self) -> int:
        """Pixels read."""
        rows, columns = self.outer
        return (rows.stop - rows.start) * (columns.stop - columns.start)


@dataclass(frozen=True)
class Halo:
    """Pixels that a tile needs before and after its core, in multiples of the total `stride`."""

    before: int
    after: int
    stride: int

    @classmethod
    def for_layers(cls, receptive_fields: Iterable[ReceptiveField]) -> Halo:
        """Return the halo that serves all the given layers."""
        fields = tuple(receptive_fields)
        stride = max((field.stride for field in fields), default=1)
        before = max((field.before for field in fields), default=0)
        after = max((field.after + 1 - field.stride for field in fields), default=0)
        return cls(_round_up(before, stride), _round_up(max(after, 0), stride), stride)


def tile_layout(height: int, width: int, core: int | None, halo: Halo) -> tuple[Tile, ...]:
    """Cut an image into tiles with square cores of about `core` pixels a side, or into one for None.

    Cores along an axis are as equal as the stride allows, so that no narrow rest remains; they may exceed `core` by
    two strides.
    """
    return tuple(Tile(rows, columns) for rows in _spans(height, core, halo) for columns in _spans(width, core, halo))


def _spans(size: int, core: int | None, halo: Halo) -> list[Span]:
    if core is None or size <= core:
        return [Span(slice(0, size), slice(0, size), last=True)]
    count = -(-size // core)
    side = _round_up(-(-size // count), halo.stride)
    starts = list(range(0, size, side))
    if len(starts) > 1 and size - starts[-1] < halo.stride:
        starts.pop()
    spans = []
    for start, stop in zip(starts, [*starts[1:], size], strict=True):
        outer = slice(max(0, start - halo.before), min(size, stop + halo.after))
        spans.append(Span(outer, slice(start, stop), last=stop == size))
    return spans


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
