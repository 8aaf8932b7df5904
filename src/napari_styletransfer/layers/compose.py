"""What the canvas shows: the visible image layers of one pixel grid as one picture.

Fluorescence channels usually are separate layers, and what a scientist sees is their sum. `groups_in` finds on
the GUI thread which layers belong together; the `Composite` that `compose_in` makes of them there reads in any
thread and serves wherever a `Snapshot` does, as content or as style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.display import FloatImage, Picture
from napari_styletransfer.layers.geometry import FloatArray, Grid, unit_factors
from napari_styletransfer.layers.read import resolve_in
from napari_styletransfer.layers.snapshot import Snapshot

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

_TRANSLUCENT = ("translucent", "translucent_no_depth")
_BLENDINGS = (*_TRANSLUCENT, "additive", "minimum", "opaque", "multiplicative")
_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Composite:
    """Several planes on one pixel grid, seen as one picture; from `compose`.

    Attributes
    ----------
    snapshots
        From the bottom to the top.
    """

    snapshots: tuple[Snapshot, ...]

    @property
    def name(self) -> str:
        """Names of the layers, from the bottom to the top."""
        return " + ".join(snapshot.name for snapshot in self.snapshots)

    @property
    def grid(self) -> Grid:
        """Grid of the bottom layer, which all share."""
        return self.snapshots[0].grid

    @property
    def point(self) -> tuple[float, ...]:
        """World position the plane was chosen by."""
        return self.snapshots[0].point

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        return self.grid.shape

    def read(self) -> FloatImage:
        """Read the picture as the canvas shows it, on black: float32 (H, W, 3) in [0, 1]; for any thread.

        Raises
        ------
        ImageError
            If one of the layers cannot be read.
        """
        canvas = np.zeros((*self.shape, 3), np.float32)
        canvas_alpha = np.ones((*self.shape, 1), np.float32)
        for number, snapshot in enumerate(self.snapshots):
            blending = snapshot.blending
            if number == 0 and blending in ("opaque", "multiplicative"):
                # napari draws the lowest layer so, lest it blend with the background of the canvas.
                blending = "translucent"
            _draw(canvas, canvas_alpha, snapshot.picture(), snapshot.opacity, blending, first=number == 0)
        return canvas

    def picture(self) -> Picture:
        """Read the picture in the form of `Snapshot.picture`; all is opaque."""
        return Picture(self.read())


def compose(snapshots: Sequence[Snapshot]) -> Composite:
    """Put planes of one pixel grid on top of each other, with the blending and opacity of their layers.

    Parameters
    ----------
    snapshots
        From the bottom to the top.

    Raises
    ------
    ImageError
        If there are none, or their pixels do not lie on each other.
    """
    if not snapshots:
        raise ImageError("There is no picture to compose. Make a layer visible, or move the sliders.")
    bottom = snapshots[0]
    for snapshot in snapshots:
        if snapshot.blending not in _BLENDINGS:
            raise ImageError(
                f"Layer '{snapshot.name}' has blending '{snapshot.blending}', which is none of "
                f"{', '.join(_BLENDINGS)}. Choose another for it, or hide it."
            )
        if not _same_pixels(bottom.grid, snapshot.grid):
            raise ImageError(
                f"The pixels of layer '{snapshot.name}' ({snapshot.shape[0]} × {snapshot.shape[1]}) do not lie on "
                f"those of '{bottom.name}' ({bottom.shape[0]} × {bottom.shape[1]}), so they make no one picture. "
                "Hide one of them, or bring them to the same shape, scale and place."
            )
    return Composite(tuple(snapshots))


def compose_in(
    viewer: ViewerModel, layers: Iterable[Image], *, level: int | None = None, max_pixels: int | None = None
) -> Composite:
    """Decide what will be read of layers as a viewer shows them now; cheap, for the viewer's own thread.

    Parameters
    ----------
    viewer
        Its sliders and axis order count.
    layers
        From the bottom to the top.
    level
        Of those that are pyramids. None: one that `max_pixels` allows. Where they do not all have it, the finest.
    max_pixels
        Most pixels of the picture if the level is free; None: no limit.

    Raises
    ------
    ImageError
        As `read.resolve_in` and `compose`.
    """
    layers = list(layers)
    snapshots = [
        resolve_in(viewer, layer, level=level if layer.multiscale else None, max_pixels=max_pixels) for layer in layers
    ]
    if len({snapshot.shape for snapshot in snapshots}) > 1:
        # Only some are pyramids, or by other factors: their finest pixels are those that lie on each other.
        snapshots = [resolve_in(viewer, layer, level=0) for layer in layers]
    return compose(snapshots)


def groups_in(viewer: ViewerModel, layers: Iterable[Image]) -> list[tuple[Image, ...]]:
    """Find the visible layers that make one picture where the viewer stands; cheap, for the viewer's own thread.

    Parameters
    ----------
    viewer
        Its sliders and axis order count.
    layers
        That may belong to a picture, from the bottom to the top.

    Returns
    -------
    groups
        Of at least two layers each, whose pixels lie on each other, from the bottom to the top. What an opaque
        picture covers is not seen and belongs to none.
    """
    groups: list[list[tuple[Image, Snapshot]]] = []
    for layer in layers:
        if not layer.visible or layer.opacity == 0:
            continue
        try:
            # Other levels have other grids; the finest ones tell.
            seen = resolve_in(viewer, layer, level=0)
        except ImageError:
            continue
        group = next((group for group in groups if _fits(group[0][1], seen)), None)
        if group is None:
            groups.append(group := [])
        if _is_opaque(seen):
            group.clear()
        group.append((layer, seen))
    return [tuple(layer for layer, _ in group) for group in groups if len(group) > 1]


def _draw(
    canvas: FloatImage, canvas_alpha: FloatImage, picture: Picture, opacity: float, blending: str, *, first: bool
) -> None:
    """Draw a picture onto the canvas in place, by the blend functions napari sets in OpenGL."""
    color = picture.rgb
    alpha = np.full_like(canvas_alpha, opacity)
    if picture.alpha is not None:
        alpha *= picture.alpha[..., None]
    if blending in _TRANSLUCENT:
        canvas *= 1 - alpha
        canvas += color * alpha
        canvas_alpha += alpha
    elif blending == "additive":
        canvas *= 0 if first else canvas_alpha
        canvas += color * alpha
        canvas_alpha += alpha
    elif blending == "multiplicative":
        canvas *= color
        canvas_alpha += alpha
    elif blending == "minimum" and not first:
        np.minimum(canvas, color, out=canvas)
        np.minimum(canvas_alpha, alpha, out=canvas_alpha)
    else:
        canvas[...] = color
        canvas_alpha[...] = 1 if first else alpha
    np.clip(canvas, 0, 1, out=canvas)
    np.clip(canvas_alpha, 0, 1, out=canvas_alpha)


def _fits(one: Snapshot, other: Snapshot) -> bool:
    return other.blending in _BLENDINGS and _same_pixels(one.grid, other.grid)


def _is_opaque(seen: Snapshot) -> bool:
    """Tell whether nothing below a layer can be seen."""
    return seen.opacity == 1 and seen.kind != "rgba" and seen.blending in ("opaque", *_TRANSLUCENT)


def _same_pixels(one: Grid, other: Grid) -> bool:
    """Tell whether pixels lie on each other on the canvas, to a small part of a pixel."""
    if one.shape != other.shape:
        return False
    height, width = one.shape
    corners = np.array([[0, 0, 1], [height - 1, 0, 1], [0, width - 1, 1]], np.float64).T
    places = [_pixel_to_canvas(grid, one) @ corners for grid in (one, other)]
    pixel = np.abs(_pixel_to_canvas(one, one)[:, :2]).sum(axis=1).min()
    return bool(np.abs(places[0] - places[1]).max() <= _TOLERANCE * pixel)


def _pixel_to_canvas(grid: Grid, like: Grid) -> FloatArray:
    """Return the (2, 3) matrix from pixels to the displayed axes of the world, in the units of `like`."""
    factors = unit_factors(grid.geometry.units, like.geometry.units)
    axes = [axis - grid.geometry.ndim for axis in grid.displayed]
    matrix: FloatArray = grid.matrix[axes] * factors[axes][:, None]
    return matrix
