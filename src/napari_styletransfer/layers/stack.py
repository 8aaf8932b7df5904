"""Every plane along chosen axes of a layer, and the one output they fill.

Called by the widget for stacks and movies: `stack_of` on the thread that owns the layer, the rest in any. A `Stack` is
a sequence of planes, made when asked for, so that a long movie costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.compose import Composite
from napari_styletransfer.layers.geometry import FloatArray, Geometry, to_layer_axes, unit_factors
from napari_styletransfer.layers.snapshot import Snapshot

_TOLERANCE = 0.05
"""How far planes of two layers may lie apart that are taken for the same, in units of their distance."""


@dataclass(frozen=True, eq=False)
class Stack(Sequence[Snapshot | Composite]):
    """Planes of one layer, or of several seen as one picture, in the order they are worked on.

    Attributes
    ----------
    base
        The plane the viewer shows; what it says of the other axes holds for all.
    axes
        Axes of the bottom layer that are run through; the last varies fastest.
    counts
        Number of planes along each of `axes`.
    """

    base: Snapshot | Composite
    axes: tuple[int, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, number: int) -> Snapshot | Composite: ...

    @overload
    def __getitem__(self, number: slice) -> list[Snapshot | Composite]: ...

    def __getitem__(self, number: int | slice) -> Snapshot | Composite | list[Snapshot | Composite]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = dict(zip(self.axes, self.unravel(number), strict=True))
        planes = []
        for snapshot in self.base.snapshots:
            own = {_axis_of(snapshot, self.bottom, axis): at for axis, at in place.items()}
            planes.append(_plane_at(snapshot, {axis: at for axis, at in own.items() if axis is not None}))
        return planes[0] if isinstance(self.base, Snapshot) else Composite(tuple(planes))

    @property
    def bottom(self) -> Snapshot:
        """The plane of the bottom layer, which says where the output lies."""
        return self.base.snapshots[0]

    def unravel(self, number: int) -> tuple[int, ...]:
        """Return the index of a plane along each of `axes`, in planes of the level that is read."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"plane {number} of {len(self)}")
        return tuple(int(at) for at in np.unravel_index(number % len(self), self.counts)) if self.axes else ()

    def empty(self, shape: tuple[int, int], *, channels: int = 3, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Return a black output for results of (h, w); `channels` 1 has no colour axis."""
        sizes = [1] * self.base.grid.geometry.ndim
        for axis, size in zip((*self.axes, *self.base.grid.displayed), (*self.counts, *shape), strict=True):
            sizes[axis] = size
        return np.zeros((*sizes, channels) if channels > 1 else tuple(sizes), dtype)

    def put(self, output: Any, number: int, image: npt.NDArray[Any]) -> None:
        """Write the result of a plane, (h, w) or (h, w, C), into the output.

        Parameters
        ----------
        output
            From `empty`, or any array of its shape that can be written to by slices.
        number
            Of the plane.
        image
            Oriented as displayed, in the output's dtype.

        Raises
        ------
        ImageError
            If `image` is not of the output's plane shape.
        """
        lifted = to_layer_axes(image, self.base.grid)
        where: list[slice] = [slice(None)] * output.ndim
        for axis, at in zip(self.axes, self.unravel(number), strict=True):
            where[axis] = slice(at, at + 1)
        expected = tuple(1 if axis in self.axes else size for axis, size in enumerate(output.shape))
        if lifted.shape != expected:
            raise ImageError(
                f"The result of plane {number} has shape {image.shape} and does not fit the output, whose planes are "
                f"{expected} with the axes of the layer. Run every plane at the same size."
            )
        output[tuple(where)] = lifted

    def geometry(self, shape: tuple[int, int]) -> Geometry:
        """Return the place of the output whose results are (h, w): `arguments()` are for `add_image`."""
        grid = self.base.grid.resized(shape)
        factors, origin = grid.factors, grid.origin
        for axis in self.axes:
            factors[axis] = _factor(self.bottom, axis)
            origin[axis] = (factors[axis] - 1) / 2
        return grid.geometry.regridded(factors, origin)


def stack_of(base: Snapshot | Composite, axes: Sequence[int] | None = None) -> Stack:
    """Return all planes of a snapshot's layer, or of those of a composite, along some axes.

    Parameters
    ----------
    base
        The plane the viewer shows: its level, reading and orientation hold for all planes.
    axes
        Axes of the layer, or of the bottom one, to run through, the last fastest, negative ones counted from the last;
        None: all but rows and columns. Along axes left out, the plane stays where it is. A layer above that does not
        have one of these axes is the same in all planes along it.

    Raises
    ------
    ImageError
        If an axis is not there, is given twice or is displayed, a layer shows thick slices, or the planes of two layers
        do not lie on each other.
    """
    bottom = base.snapshots[0]
    ndim = bottom.grid.geometry.ndim
    hidden = tuple(axis for axis in range(ndim) if axis not in bottom.grid.displayed)
    chosen = hidden if axes is None else tuple(axis + ndim if axis < 0 else axis for axis in axes)
    if not set(chosen) <= set(hidden) or len(set(chosen)) != len(chosen):
        raise ImageError(
            f"Layer '{base.name}' has no planes along axes {tuple(axes or ())}. Choose from its axes that are not "
            f"displayed: {hidden or 'there are none'}."
        )
    for snapshot in base.snapshots:
        name, projection = snapshot.name, snapshot.projection
        if projection != "none":
            raise ImageError(
                f"Layer '{name}' shows the {projection} of a thick slice, which has no single planes. "
                "Set its projection mode to 'none'."
            )
        for axis in chosen:
            own = _axis_of(snapshot, bottom, axis)
            if own is not None:
                _check_same_planes(bottom, axis, snapshot, own)
    return Stack(base, chosen, tuple(int(bottom.data.shape[axis]) for axis in chosen))


def _plane_at(base: Snapshot, place: Mapping[int, int]) -> Snapshot:
    """Return another plane of a layer: at other indices along some axes, in planes of the level that is read."""
    index, position = list(base.index), list(base.grid.position)
    for axis, at in place.items():
        factor = _factor(base, axis)
        index[axis] = at
        position[axis] = factor * at + (factor - 1) / 2
    return replace(base, index=tuple(index), grid=replace(base.grid, position=tuple(position)))


def _factor(base: Snapshot, axis: int) -> float:
    return base.full[axis] / int(base.data.shape[axis])


def _axis_of(snapshot: Snapshot, bottom: Snapshot, axis: int) -> int | None:
    """Return which axis of a layer is this one of the bottom layer's; None where it has no such axis."""
    own = axis - bottom.grid.geometry.ndim + snapshot.grid.geometry.ndim
    return own if own >= 0 else None


def _check_same_planes(bottom: Snapshot, axis: int, snapshot: Snapshot, own: int) -> None:
    """Raise `ImageError` if the planes of two layers do not lie on each other along an axis of each."""
    count, other = int(bottom.data.shape[axis]), int(snapshot.data.shape[own])
    ends = _ends(bottom, axis, bottom)
    step = np.ptp(ends) / max(bottom.full[axis] - 1, 1)
    if count != other or np.abs(_ends(snapshot, own, bottom) - ends).max() > _TOLERANCE * step:
        raise ImageError(
            f"The {other} planes of layer '{snapshot.name}' do not lie on the {count} of '{bottom.name}', so they make "
            "no one movie. Choose one of the layers, or bring them to the same number of planes, scale and place."
        )


def _ends(snapshot: Snapshot, axis: int, like: Snapshot) -> FloatArray:
    """Return where the first and the last plane along an axis lie in the world, in the units of another layer."""
    geometry = snapshot.grid.geometry
    to_units = unit_factors(geometry.units, like.grid.geometry.units)[axis - geometry.ndim]
    row = geometry.matrix[axis]
    ends: FloatArray = to_units * (row[-1] + row[axis] * np.array([0, snapshot.full[axis] - 1]))
    return ends
