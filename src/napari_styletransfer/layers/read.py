"""An image layer, as the viewer shows it, to the RGB picture the engine works on.

`resolve` decides on the caller's (GUI) thread what will be read and reads no pixel; the `Snapshot` it
returns reads its pixels later, in whatever thread. Axes:

* rows and columns are the two displayed axes, in the order the viewer shows them, transposed or not;
* of every other axis one index is taken, where the viewer's slider stands (or the slab it shows, where the
  layer projects thick slices), rounded and scaled to the pyramid level as napari does;
* the colour axis of an RGB layer is no axis of the layer.

Called by the widget for content and styles alike.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.geometry import Geometry, Grid, unit_factors
from napari_styletransfer.layers.planes import check_shown, shown_index, slab_reach, slice_index, world_point
from napari_styletransfer.layers.snapshot import Snapshot

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer


def resolve(
    layer: Layer,
    *,
    point_world: Sequence[float] | None = None,
    displayed: Sequence[int] | None = None,
    as_displayed: bool = True,
    colored: bool = True,
    level: int | None = None,
    max_pixels: int | None = None,
    margins: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Snapshot:
    """Decide what will be read of a layer; cheap, for the thread that owns the layer.

    Parameters
    ----------
    layer
        An Image layer of two or more axes.
    point_world
        World position of the plane, in the layer's units. If longer than the layer has axes, the last ones
        count; None takes the middle of every axis.
    displayed
        The layer's axes that are rows and columns, negative ones counted from the last; None: the last two.
    as_displayed
        Apply contrast limits and gamma; otherwise the raw values are stretched as `pixels.decode` does.
    colored
        Apply the colormap of a single-channel layer too; otherwise it is read in grey, for `channel_kwargs`.
    level
        Level of a pyramid, 0 the finest, negative ones counted from the coarsest. None: the finest that has
        at most `max_pixels`, or the coarsest if none has.
    max_pixels
        Most pixels of the plane if the level is free; None: no limit.
    margins
        How far the slab shown reaches to either side of `point_world`; only for layers that project.

    Raises
    ------
    ImageError
        If this layer, plane or level cannot be read; the message says what to do.
    """
    image = _image(layer)
    shapes = [tuple(int(size) for size in shape) for shape in image.level_shapes]
    axes = _displayed(image, displayed)
    chosen = _level(image, shapes, axes, level, max_pixels)
    shape, full = shapes[chosen], shapes[0]
    geometry = Geometry.of(image)
    point = world_point(geometry, full, point_world)
    hidden = [axis for axis in range(image.ndim) if axis not in axes]
    at = shown_index(geometry, point, hidden)
    projection = str(image.projection_mode)
    reach = None if margins is None or projection == "none" else slab_reach(geometry, margins, hidden)
    if reach is None or not reach.any():
        reach, projection = None, "none"
    check_shown(image.name, at, reach, full, hidden)
    position = np.clip(np.round(at), 0, np.array(full) - 1)
    limits = image.contrast_limits
    data = image.data[chosen] if image.multiscale else image.data
    channels = int(data.shape[-1]) if image.rgb else 1
    return Snapshot(
        name=image.name,
        kind={1: "grey", 3: "rgb", 4: "rgba"}[channels],
        dtype=np.dtype(image.dtype),
        grid=Grid(
            geometry=geometry,
            displayed=axes,
            position=tuple(float(value) for value in position),
            extent=(full[axes[0]], full[axes[1]]),
            shape=(shape[axes[0]], shape[axes[1]]),
        ),
        level=chosen,
        levels=len(shapes),
        full=full,
        as_displayed=as_displayed,
        colored=colored,
        contrast_limits=(float(limits[0]), float(limits[1])) if _finite(limits) else None,
        gamma=float(image.gamma),
        colormap=copy.copy(image.colormap),
        opacity=float(image.opacity),
        blending=str(image.blending),
        point=tuple(float(value) for value in point),
        data=data,
        index=slice_index(at, reach, shape, full, hidden),
        projection=projection,
    )


def resolve_in(viewer: ViewerModel, layer: Layer, **options: Any) -> Snapshot:
    """Decide what will be read of a layer as a viewer shows it now.

    Parameters
    ----------
    viewer
        Its sliders choose the plane, and its axis order what are rows and columns.
    layer
        An Image layer.
    **options
        As `resolve` takes them: `as_displayed`, `colored`, `level`, `max_pixels`.

    Raises
    ------
    ImageError
        As `resolve`, and if the viewer shows volumes.
    """
    image = _image(layer)
    dims = viewer.dims
    if dims.ndisplay != 2 and image.ndim > 2:
        raise ImageError(
            f"The viewer shows layer '{image.name}' as a volume, and a style can be given to a plane only. "
            "Switch the viewer to 2D with the button below the layer list."
        )
    return resolve(
        image,
        point_world=in_units_of(image, viewer, dims.point),
        displayed=_shown_axes(viewer, image),
        margins=(
            in_units_of(image, viewer, dims.margin_left),
            in_units_of(image, viewer, dims.margin_right),
        ),
        **options,
    )


def levels_in(viewer: ViewerModel, layer: Image) -> list[tuple[int, int]]:
    """Return (H, W) of each resolution level of a layer, the finest first, as the viewer turns it."""
    axes = _shown_axes(viewer, layer)
    return [(int(shape[axes[0]]), int(shape[axes[1]])) for shape in layer.level_shapes] if len(axes) == 2 else []


def in_units_of(layer: Layer, viewer: ViewerModel, coordinates: Sequence[float]) -> list[float]:
    """Convert world coordinates of the viewer to the units of a layer; axes beyond the layer's stay."""
    converted = np.array(coordinates, np.float64)
    units = getattr(viewer.dims, "units", None)
    if units is not None:
        factors = unit_factors(tuple(units), tuple(layer.units))
        # While layers come and go, the viewer tells of axes by turns: its units may outnumber its coordinates.
        shared = min(len(factors), len(converted))
        converted[len(converted) - shared :] *= factors[len(factors) - shared :]
    return [float(value) for value in converted]


def _image(layer: Layer) -> Image:
    from napari.layers import Image

    if not isinstance(layer, Image):
        raise ImageError(
            f"Layer '{getattr(layer, 'name', layer)}' is a {type(layer).__name__} layer. Choose an Image layer."
        )
    dtype = np.dtype(layer.dtype)
    if dtype.kind not in "buif":
        raise ImageError(
            f"Layer '{layer.name}' holds values of dtype {dtype}. "
            "Choose a layer of real numbers, such as the magnitude of this one."
        )
    if layer.ndim < 2 or 0 in np.asarray(layer.level_shapes):
        raise ImageError(
            f"Layer '{layer.name}' has shape {tuple(layer.level_shapes[0])}. Choose a layer with rows and columns."
        )
    return layer


def _shown_axes(viewer: ViewerModel, layer: Layer) -> list[int]:
    """Return a layer's axes that the viewer shows as rows and columns; fewer if the layer has fewer."""
    offset = viewer.dims.ndim - layer.ndim
    return [axis - offset for axis in viewer.dims.order if axis >= offset][-2:]


def _displayed(layer: Image, displayed: Sequence[int] | None) -> tuple[int, int]:
    axes = [-2, -1] if displayed is None else list(displayed)
    known = [axis % layer.ndim for axis in axes if -layer.ndim <= axis < layer.ndim]
    if len(axes) != 2 or len(set(known)) != 2:
        raise ImageError(
            f"Expected two different axes of the {layer.ndim} of layer '{layer.name}' as rows and columns, "
            f"but got {tuple(axes)}. Show a plane of the layer."
        )
    return known[0], known[1]


def _level(
    layer: Image, shapes: list[tuple[int, ...]], axes: tuple[int, int], level: int | None, max_pixels: int | None
) -> int:
    if level is not None:
        if not -len(shapes) <= level < len(shapes):
            raise ImageError(
                f"Layer '{layer.name}' has {len(shapes)} resolution level(s), and there is none numbered {level}. "
                f"Choose one from 0 (finest) to {len(shapes) - 1}."
            )
        return level % len(shapes)
    if max_pixels is None:
        return 0
    fitting = (number for number, shape in enumerate(shapes) if shape[axes[0]] * shape[axes[1]] <= max_pixels)
    return next(fitting, len(shapes) - 1)


def _finite(limits: Sequence[float | None] | None) -> bool:
    return limits is not None and all(value is not None and np.isfinite(value) for value in limits)
