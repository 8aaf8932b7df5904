"""Which plane of a layer the viewer shows, by napari's own rules.

Called by `read` only. An index is a position along an axis of the layer in pixels of its full resolution,
not rounded; hidden axes are those that are neither rows nor columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.geometry import FloatArray, Geometry


def world_point(geometry: Geometry, full: Sequence[int], point_world: Sequence[float] | None) -> FloatArray:
    """Return a world position with at least the layer's axes; None stands for the middle of the layer."""
    if point_world is None:
        middle = [(size - 1) // 2 for size in full]
        world: FloatArray = geometry.matrix @ [*middle, 1]
        return world[:-1]
    return _pad(point_world, geometry.ndim)


def shown_index(geometry: Geometry, point: FloatArray, hidden: list[int]) -> FloatArray:
    """Return the index, along every axis, of what the viewer shows at a world position; 0 where not hidden."""
    # Where the layer is sheared or turned out of the plane shown, the canvas ignores that part of its place;
    # the displayed coordinates of the point are arbitrary and must not choose another plane than it shows.
    inverse = np.linalg.inv(geometry.matrix)
    at = np.zeros(geometry.ndim)
    world = point[len(point) - geometry.ndim :]
    at[hidden] = inverse[np.ix_(hidden, hidden)] @ world[hidden] + inverse[hidden, -1]
    return np.nan_to_num(at)


def slab_reach(geometry: Geometry, margins: Sequence[Sequence[float]], hidden: list[int]) -> FloatArray:
    """Return how far a slab reaches before and after its index along every axis: (2, n)."""
    zero = shown_index(geometry, np.zeros(geometry.ndim), hidden)
    return np.array([shown_index(geometry, _pad(margin, geometry.ndim), hidden) - zero for margin in margins])


def check_shown(name: str, at: FloatArray, reach: FloatArray | None, full: Sequence[int], hidden: list[int]) -> None:
    """Raise `ImageError` if neither plane nor slab touches the layer."""
    before, after = (0, 0) if reach is None else reach
    first, last = np.round(at - before), np.round(at + after)
    for axis in hidden:
        if last[axis] < 0 or first[axis] > full[axis] - 1:
            raise ImageError(
                f"Layer '{name}' has no plane where the viewer stands: along its axis {axis} that is index "
                f"{np.round(at[axis]):g}, and the layer has 0 to {full[axis] - 1}. Move the slider onto the layer."
            )


def slice_index(
    at: FloatArray, reach: FloatArray | None, shape: Sequence[int], full: Sequence[int], hidden: list[int]
) -> tuple[int | slice, ...]:
    """Return what to take along each axis of a level: a plane or slab of the hidden ones, all of the others.

    Parameters
    ----------
    at, reach
        From `shown_index` and `slab_reach`; without a reach, single planes are taken.
    shape, full
        Sizes of the axes of the level and at full resolution.
    hidden
        The hidden axes.
    """
    index: list[int | slice] = [slice(None)] * len(shape)
    for axis in hidden:
        factor = full[axis] / shape[axis]
        center = float(np.clip(at[axis] / factor, 0, shape[axis] - 1))
        if reach is None:
            index[axis] = int(np.round(center))
            continue
        start = max(int(np.round(center - reach[0, axis] / factor)), 0)
        end = center + reach[1, axis] / factor
        stop = max(int(np.round(end)), 0)
        # A slab that ends on a plane includes it, and none is empty.
        stop += 1 if np.isclose(stop, end) or stop == start else 0
        index[axis] = slice(start, stop)
    return tuple(index)


def _pad(values: Sequence[float], ndim: int) -> FloatArray:
    padded = np.zeros(max(ndim, len(values)))
    padded[len(padded) - len(values) :] = values
    return padded
