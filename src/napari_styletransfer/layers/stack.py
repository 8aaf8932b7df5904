"""Every plane along chosen axes of a layer, and the one output they fill.

Called by the widget for stacks and movies: `stack_of` on the thread that owns the layer, the rest in any. A `Stack` is a
sequence of `Snapshot`s, made when asked for, so that a long movie costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, overload

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.geometry import Geometry, lift
from napari_styletransfer.layers.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Stack(Sequence[Snapshot]):
    """Planes of one layer in the order they are worked on.

    Attributes
    ----------
    base
        The plane the viewer shows; what it says of the other axes holds for all.
    axes
        Axes of the layer that are run through; the last varies fastest.
    counts
        Number of planes along each of `axes`.
    """

    base: Snapshot
    axes: tuple[int, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, number: int) -> Snapshot: ...

    @overload
    def __getitem__(self, number: slice) -> list[Snapshot]: ...

    def __getitem__(self, number: int | slice) -> Snapshot | list[Snapshot]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        base, grid = self.base, self.base.grid
        index, position = list(base.index), list(grid.position)
        for axis, at in zip(self.axes, self.place(number), strict=True):
            factor = self._factor(axis)
            index[axis] = at
            position[axis] = factor * at + (factor - 1) / 2
        return replace(base, index=tuple(index), grid=replace(grid, position=tuple(position)))

    def place(self, number: int) -> tuple[int, ...]:
        """Return the index of a plane along each of `axes`, in planes of the level that is read."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"plane {number} of {len(self)}")
        return tuple(int(at) for at in np.unravel_index(number % len(self), self.counts)) if self.axes else ()

    def number(self, snapshot: Snapshot) -> int:
        """Return the number of a plane of the same layer, such as `base`."""
        at = tuple(cast(int, snapshot.index[axis]) for axis in self.axes)
        return int(np.ravel_multi_index(at, self.counts)) if at else 0

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
        lifted = lift(image, self.base.grid)
        where: list[slice] = [slice(None)] * output.ndim
        for axis, at in zip(self.axes, self.place(number), strict=True):
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
            factors[axis] = self._factor(axis)
            origin[axis] = (factors[axis] - 1) / 2
        return grid.geometry.regridded(factors, origin)

    def _factor(self, axis: int) -> float:
        return self.base.full[axis] / int(self.base.data.shape[axis])


def stack_of(base: Snapshot, axes: Sequence[int] | None = None) -> Stack:
    """Return all planes of a snapshot's layer along some axes.

    Parameters
    ----------
    base
        The plane the viewer shows: its level, reading and orientation hold for all planes.
    axes
        Axes of the layer to run through, the last fastest, negative ones counted from the last; None: all but
        rows and columns. Along axes left out, the plane stays where it is.

    Raises
    ------
    ImageError
        If an axis is not there, is given twice or is displayed, or the layer shows thick slices.
    """
    ndim = base.grid.geometry.ndim
    hidden = tuple(axis for axis in range(ndim) if axis not in base.grid.displayed)
    chosen = hidden if axes is None else tuple(axis + ndim if axis < 0 else axis for axis in axes)
    if not set(chosen) <= set(hidden) or len(set(chosen)) != len(chosen):
        raise ImageError(
            f"Layer '{base.name}' has no planes along axes {tuple(axes or ())}. Choose from its axes that are not "
            f"displayed: {hidden or 'there are none'}."
        )
    if base.projection != "none":
        raise ImageError(
            f"Layer '{base.name}' shows the {base.projection} of a thick slice, which has no single planes. "
            "Set its projection mode to 'none'."
        )
    return Stack(base, chosen, tuple(int(base.data.shape[axis]) for axis in chosen))
