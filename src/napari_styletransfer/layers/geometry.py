"""Where the pixels of a layer, and of one plane of it, lie in the world.

`Geometry` holds what napari knows of a layer's place; `Grid` a plane of pixels in it, perhaps coarser than
the layer's own. Read from a layer by `read`, turned into the place of a result by `write` and `stack`, and
used by `regions` and `compose` to bring two layers together. Like napari, it puts whole coordinates at
pixel centres and lets layers of fewer axes share the last axes of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari.layers import Layer

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """A layer's place in the world: world = affine · (rotate · shear · scale · index + translate).

    Attributes
    ----------
    scale, translate
        (n,) for a layer of n axes (the colour axis does not count).
    rotate, shear
        (n, n) matrices.
    affine
        (n + 1, n + 1) homogeneous matrix.
    units, axis_labels
        One per axis, as napari gives them.
    """

    scale: FloatArray
    translate: FloatArray
    rotate: FloatArray
    shear: FloatArray
    affine: FloatArray
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def of(cls, layer: Layer) -> Geometry:
        """Read a layer's geometry; later changes of the layer do not show here."""
        return cls(
            scale=np.array(layer.scale, np.float64),
            translate=np.array(layer.translate, np.float64),
            rotate=np.array(layer.rotate, np.float64),
            shear=_shear_matrix(np.asarray(layer.shear, np.float64), layer.ndim),
            affine=np.array(layer.affine.affine_matrix, np.float64),
            units=tuple(layer.units),
            axis_labels=tuple(layer.axis_labels),
        )

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.scale)

    @property
    def matrix(self) -> FloatArray:
        """(n + 1, n + 1) homogeneous matrix from indices to the world."""
        own = np.eye(self.ndim + 1)
        own[:-1, :-1] = self._linear
        own[:-1, -1] = self.translate
        return self.affine @ own

    @property
    def _linear(self) -> FloatArray:
        return self.rotate @ self.shear @ np.diag(self.scale)

    def regridded(self, factors: npt.ArrayLike, origin: npt.ArrayLike) -> Geometry:
        """Return the place of an array whose pixel k lies at index `factors * k + origin` of this one."""
        # The translation is applied after rotation and shear but before the affine, so the step to the new
        # origin has to go through the former and not through the latter.
        return replace(
            self,
            scale=self.scale * np.asarray(factors, np.float64),
            translate=self.translate + self._linear @ np.asarray(origin, np.float64),
        )

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `viewer.add_image` that put an array here."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }


@dataclass(frozen=True, eq=False)
class Grid:
    """A plane of pixels in a layer.

    Attributes
    ----------
    geometry
        Of the layer at its full resolution.
    displayed
        The layer's axes that are the rows and the columns of the plane, in this order; the viewer may show
        them transposed.
    position
        Index of the plane along each of the layer's axes, at full resolution; 0 for the displayed ones.
    extent
        (H, W) of the plane in pixels of the full resolution.
    shape
        (H, W) of the plane in its own pixels.
    """

    geometry: Geometry
    displayed: tuple[int, int]
    position: tuple[float, ...]
    extent: tuple[int, int]
    shape: tuple[int, int]

    def resized(self, shape: tuple[int, int]) -> Grid:
        """Return the grid of the same plane in other, larger or smaller, pixels."""
        return replace(self, shape=shape)

    @property
    def factors(self) -> FloatArray:
        """(n,) pixels of the full resolution in one pixel, along each of the layer's axes."""
        factors = np.ones(self.geometry.ndim)
        factors[list(self.displayed)] = np.divide(self.extent, self.shape)
        return factors

    @property
    def origin(self) -> FloatArray:
        """(n,) index, at full resolution, of the centre of pixel (0, 0)."""
        # The first pixel of a coarser grid begins at the same edge, half a pixel before index 0.
        origin = np.array(self.position, np.float64)
        origin[list(self.displayed)] = (self.factors[list(self.displayed)] - 1) / 2
        return origin

    @property
    def placed(self) -> Geometry:
        """Geometry of an n-axes array that holds this plane; its other axes have length 1."""
        return self.geometry.regridded(self.factors, self.origin)

    @property
    def matrix(self) -> FloatArray:
        """(n, 3) matrix from (row, column, 1) to the world."""
        rows, columns = self.displayed
        return self.placed.matrix[:-1, [rows, columns, -1]]


def to_layer_axes(image: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """View a picture of the plane as an array with the axes of the layer.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), oriented as displayed.
    grid
        The plane, whatever its shape.

    Returns
    -------
    array
        A view of `image` in which rows and columns are in the layer's order and all other axes have length 1;
        what is written to it shows in `image`, and the other way round.
    """
    oriented = image.swapaxes(0, 1) if grid.displayed[0] > grid.displayed[1] else image
    others = tuple(axis for axis in range(grid.geometry.ndim) if axis not in grid.displayed)
    return np.expand_dims(oriented, others)


def unit_factors(source: Sequence[Any], target: Sequence[Any]) -> FloatArray:
    """Return what to multiply coordinates in `source` units by to have them in `target` units.

    Axes are matched from the last; those whose units do not convert into each other, such as pixels and
    micrometres, get 1, as napari draws them.
    """
    count = min(len(source), len(target))
    pairs = zip(source[len(source) - count :], target[len(target) - count :], strict=True)
    return np.array([_ratio(one, other) for one, other in pairs], np.float64)


def _ratio(one: Any, other: Any) -> float:
    if one == other or not (hasattr(one, "is_compatible_with") and one.is_compatible_with(other)):
        return 1.0
    return float((1 * one).to(other).magnitude)


def _shear_matrix(shear: FloatArray, ndim: int) -> FloatArray:
    """Return the matrix of what napari gives as one, or as the values above its diagonal."""
    if shear.ndim == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, k=1)] = shear
    return matrix
