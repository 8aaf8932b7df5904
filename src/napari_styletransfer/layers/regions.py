"""Labels and Shapes layers as masks in the pixels of a content plane.

Labels and outlines seldom have the content's scale or axes, so they are brought over through the world, as
the canvas overlays them. `resolve_region` belongs on the thread that owns the layers; what it returns reads in any.
Called before a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from skimage.draw import polygon

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.geometry import FloatArray, Geometry, Grid, unit_factors

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

_BLOCK_VALUES = 1 << 20
_ROUNDING = 1e-6
_CLOSED = ("rectangle", "ellipse", "polygon")
_polygon: Callable[..., Any] = polygon
_CORNERS = np.linspace(0, 2 * np.pi, 128, endpoint=False)[:, None]


class Source(Protocol):
    """A plane to find regions in: a `Snapshot` or a `Composite`."""

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        ...

    @property
    def point(self) -> tuple[float, ...]:
        """World position of the plane, also along axes that only other layers have."""
        ...


@dataclass(frozen=True, eq=False)
class LabelsRegion:
    """Labels under a plane, not read yet; from `resolve_labels`.

    Attributes
    ----------
    name
        Of the layer.
    shape
        (H, W) of the plane.
    data
        Array of the level of the labels that fits the plane's pixels.
    matrix
        (n, 3) from (row, column, 1) of the plane to indices of `data`.
    numbers
        Other numbers under which labels are read.
    """

    name: str
    shape: tuple[int, int]
    data: Any = field(repr=False)
    matrix: FloatArray
    numbers: Mapping[int, int] = field(default_factory=dict)

    def read(self) -> npt.NDArray[np.int64]:
        """Read the label at the centre of each pixel: int64 (H, W), 0 where the labels end; for any thread.

        Raises
        ------
        ImageError
            If the data cannot be read.
        """
        return relabelled(self._read(), self.numbers)

    def _read(self) -> npt.NDArray[np.int64]:
        labels = np.zeros(self.shape, np.int64)
        sizes = [int(size) for size in self.data.shape]
        corners = self._indices(np.array([[0], [self.shape[0] - 1]]), np.array([[0, self.shape[1] - 1]]))
        crop = []
        for corner, size in zip(corners, sizes, strict=True):
            start, stop = max(int(corner.min()), 0), min(int(corner.max()) + 1, size)
            if start >= stop:
                return labels
            crop.append(slice(start, stop))
        try:
            data = np.asarray(self.data[tuple(crop)])
        except Exception as error:
            # Lazy data runs other people's code here, and napari's worker would swallow their RuntimeErrors.
            raise ImageError(f"The data of layer '{self.name}' cannot be read: {error!r}.") from error
        columns = np.arange(self.shape[1])[None]
        step = max(1, _BLOCK_VALUES // self.shape[1])
        for first in range(0, self.shape[0], step):
            rows = np.arange(first, min(first + step, self.shape[0]))[:, None]
            indices = self._indices(rows, columns)
            inside = np.ones((len(rows), self.shape[1]), bool)
            for index, part in zip(indices, crop, strict=True):
                index -= part.start
                inside &= (index >= 0) & (index < part.stop - part.start)
            labels[first : first + len(rows)][inside] = data[tuple(index[inside] for index in indices)]
        return labels

    def _indices(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
        """Return the nearest index along each axis of the data, for every pair of a row and a column."""
        return [
            np.floor(down * rows + across * columns + start + (0.5 + _ROUNDING)).astype(np.int64)
            for down, across, start in self.matrix
        ]


@dataclass(frozen=True, eq=False)
class ShapesRegion:
    """Outlines on a plane, in its pixels; from `resolve_shapes`.

    Attributes
    ----------
    name
        Of the layer.
    shape
        (H, W) of the plane.
    outlines
        (N, 2) rows and columns of the corners of each closed shape on the plane.
    """

    name: str
    shape: tuple[int, int]
    outlines: tuple[FloatArray, ...]
    numbers: ClassVar[Mapping[int, int]] = {}

    def read(self) -> npt.NDArray[np.bool_]:
        """Draw the mask: bool (H, W), true where a pixel's centre is in any of the outlines; for any thread."""
        mask = np.zeros(self.shape, bool)
        for outline in self.outlines:
            mask[_polygon(outline[:, 0], outline[:, 1], self.shape)] = True
        return mask


Region = LabelsRegion | ShapesRegion


def relabelled(labels: npt.NDArray[np.int64], numbers: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """Return labels with those in `numbers` under their new number."""
    if not numbers:
        return labels
    present, where = np.unique(labels, return_inverse=True)
    renumbered = np.array([numbers.get(label, label) for label in present.tolist()], np.int64)
    return renumbered[where].reshape(labels.shape)


def resolve_region(source: Source, layer: Layer, numbers: Mapping[int, int] | None = None) -> Region:
    """Decide what is read of a Labels or Shapes layer for a plane; see `resolve_labels` and `resolve_shapes`."""
    from napari.layers import Shapes

    return resolve_shapes(source, layer) if isinstance(layer, Shapes) else resolve_labels(source, layer, numbers)


def resolve_labels(source: Source, layer: Layer, numbers: Mapping[int, int] | None = None) -> LabelsRegion:
    """Decide which labels lie on a plane; cheap, for the thread that owns the layer.

    Parameters
    ----------
    source
        The content. Its plane is looked up in labels with more axes; labels with fewer hold for every plane.
    layer
        A Labels layer.
    numbers
        Other numbers under which labels are read.

    Raises
    ------
    ImageError
        If it is no Labels layer.
    """
    from napari.layers import Labels

    if not isinstance(layer, Labels):
        raise ImageError(f"Layer '{layer.name}' is a {type(layer).__name__} layer. Choose a Labels layer.")
    geometry = Geometry.of(layer)
    inverse = np.linalg.inv(geometry.matrix)
    matrix = (inverse @ _world_from_pixels(source, geometry))[:-1]
    level, factors = _select_level(layer, matrix)
    matrix = matrix / factors[:, None]
    matrix[:, 2] += (1 / factors - 1) / 2
    data = layer.data[level] if layer.multiscale else layer.data
    return LabelsRegion(layer.name, source.grid.shape, data, matrix, dict(numbers or {}))


def resolve_shapes(source: Source, layer: Layer) -> ShapesRegion:
    """Find the outlines on a plane; cheap, for the thread that owns the layer.

    Parameters
    ----------
    source
        The content. Of shapes with more axes those drawn on its plane count; shapes with fewer hold for every
        plane.
    layer
        A Shapes layer. Rectangles, ellipses and polygons count; lines and paths enclose nothing.

    Raises
    ------
    ImageError
        If it is no Shapes layer, or has no closed shape.
    """
    from napari.layers import Shapes

    if not isinstance(layer, Shapes):
        raise ImageError(f"Layer '{layer.name}' is a {type(layer).__name__} layer. Choose a Shapes layer.")
    closed = [
        (kind, np.asarray(corners, np.float64))
        for kind, corners in zip(layer.shape_type, layer.data, strict=True)
        if kind in _CLOSED
    ]
    if not closed:
        raise ImageError(
            f"Layer '{layer.name}' has no closed shape. Draw a rectangle, an ellipse or a polygon in it; "
            "lines and paths enclose nothing."
        )
    geometry = Geometry.of(layer)
    world = geometry.matrix
    canvas = _canvas_axes(source.grid, geometry)
    to_pixels = np.linalg.inv(np.vstack([_world_from_pixels(source, geometry)[canvas], [0, 0, 1]]))
    middle = np.append((np.array(source.grid.shape) - 1) / 2, 1)
    here = (np.linalg.inv(world) @ _world_from_pixels(source, geometry) @ middle)[:-1]
    hidden = [axis for axis in range(geometry.ndim) if axis not in canvas]
    outlines = []
    for kind, corners in closed:
        if (np.round(corners[:, hidden]) != np.round(here[hidden])).any():
            continue
        outline = _ellipse_outline(corners) if kind == "ellipse" else corners
        placed = outline @ world[:-1, :-1].T + world[:-1, -1]
        outlines.append(np.column_stack([placed[:, canvas], np.ones(len(placed))]) @ to_pixels.T[:, :2])
    return ShapesRegion(layer.name, source.grid.shape, tuple(outlines))


def _world_from_pixels(source: Source, target: Geometry) -> FloatArray:
    """Return the (n + 1, 3) matrix from (row, column, 1) of a plane to the world of a layer of n axes.

    Layers share the last axes of the world. Along those that the plane's layer does not have, the plane stands
    where the viewer did.
    """
    grid = source.grid
    ndim = target.ndim
    world = np.zeros((ndim + 1, 3))
    world[-1, 2] = 1
    point = source.point[-ndim:]
    world[ndim - len(point) : ndim, 2] = point
    shared = min(ndim, grid.geometry.ndim)
    factors = unit_factors(grid.geometry.units, target.units)
    world[ndim - shared : ndim] = grid.matrix[-shared:] * factors[:, None]
    return world


def _canvas_axes(grid: Grid, target: Geometry) -> list[int]:
    """Return the axes of a layer that lie along rows and columns of the plane."""
    axes = [axis - grid.geometry.ndim + target.ndim for axis in grid.displayed]
    if min(axes) < 0:
        raise ImageError(
            f"The plane shown lies along axes that a layer of {target.ndim} axes does not have. "
            "Show the last two axes of the content, or use regions with as many axes as it has."
        )
    return axes


def _select_level(layer: Labels, matrix: FloatArray) -> tuple[int, FloatArray]:
    """Return the coarsest level whose pixels are no larger than the plane's, and its downsampling factors."""
    steps = np.abs(matrix[:, :2]).max(axis=1)
    all_factors: FloatArray = np.asarray(layer.downsample_factors, np.float64)
    level = 0
    for number, factors in enumerate(all_factors):
        if (factors <= np.maximum(steps, 1) * (1 + _ROUNDING)).all():
            level = number
    return level, all_factors[level]


def _ellipse_outline(corners: FloatArray) -> FloatArray:
    """Return the outline of the ellipse that napari keeps as the corners of the box round it."""
    middle = corners.mean(axis=0)
    outline: FloatArray = (
        middle + np.cos(_CORNERS) * (corners[1] - corners[0]) / 2 + np.sin(_CORNERS) * (corners[3] - corners[0]) / 2
    )
    return outline
