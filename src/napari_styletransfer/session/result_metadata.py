"""What a result layer tells of how it was made, written beside its recipe and read back to go on with it.

A session that is over leaves nothing but its layers. Their metadata name the pictures of the run, so that the
same planes can be read again from layers of the same names. Only plain values, which survive any file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.config.recipe import shorten
from napari_styletransfer.config.settings import Label
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.compose import Composite, compose
from napari_styletransfer.layers.read import resolve
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.write import METADATA_KEY, is_sheet

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_styletransfer.session.job import Job

PICTURES_KEY = "pictures"


def job_metadata(job: Job) -> dict[str, Any]:
    """Return what the metadata of a result say of the pictures of its run."""
    regions = None
    if job.labels is not None:
        region = job.labels[0]
        regions = {"name": region.name, "numbers": [list(pair) for pair in region.numbers.items()]}
    return {
        PICTURES_KEY: {
            "content": None if job.content is None else _plane_records(job.content),
            "styles": [_plane_records(style) for style in job.styles],
            "regions": regions,
            "axes": [] if job.stack is None else list(job.stack.axes),
        }
    }


Axis = Annotated[int, Field(ge=-64, lt=64)]
"""Of a layer, negative ones counted from the last."""

_MAX_NAMES = 3
"""How many layers a message names before it only counts them."""


class PlaneRecord(BaseModel):
    """Which plane of a layer was read, and how.

    Attributes
    ----------
    name
        Of the layer.
    point
        World position of the plane, in the layer's units.
    displayed
        The layer's axes that were rows and columns, counted from the last.
    level
        Resolution level, 0 the finest.
    shape
        (H, W) of what was read.
    projection
        How a thick slice became a plane: "none" or napari's name.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    point: tuple[FiniteFloat, ...]
    displayed: tuple[Axis, Axis]
    level: Annotated[int, Field(ge=0, le=64)]
    shape: tuple[Annotated[int, Field(gt=0, lt=2**31)], Annotated[int, Field(gt=0, lt=2**31)]]
    projection: Literal["none", "sum", "mean", "max", "min"]


class _FinishedPlane(BaseModel):
    model_config = ConfigDict(extra="allow")

    plane: Annotated[int, Field(ge=0)]


class RegionRecord(BaseModel):
    """Name of the layer that said where, and the numbers that its labels were given."""

    name: str
    numbers: tuple[tuple[Label, Label], ...]


Layers = Annotated[tuple[PlaneRecord, ...], Field(min_length=1)]
"""Of one picture: several where it was put together of several layers."""


class ResultRecord(BaseModel):
    """How a result layer was made.

    Attributes
    ----------
    name
        Of the layer.
    config
        The settings.
    history
        Loss of every step so far.
    planes
        What is known of each finished plane of a stack.
    axes
        Axes of the content that were run through; none for a single plane.
    regions
        What said where, or None.
    content, styles
        The planes of each picture; content is None where there was none.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    config: StyleConfig
    history: tuple[float, ...] = ()
    planes: tuple[_FinishedPlane, ...] = ()
    axes: tuple[Annotated[int, Field(ge=0, lt=64)], ...]
    regions: RegionRecord | None
    content: Layers | None
    styles: tuple[Layers, ...]

    @classmethod
    def of(cls, layer: Layer) -> ResultRecord:
        """Read the metadata of a layer.

        Raises
        ------
        ConfigError
            If the layer is no result, or there is nothing to go on with.
        """
        made = layer.metadata.get(METADATA_KEY)
        if not isinstance(made, Mapping):
            raise ConfigError(f"Layer '{layer.name}' was not made by style transfer. Select a result.")
        if is_sheet(layer):
            if layer.mouse_double_click_callbacks:
                raise ConfigError("Double-click a variation to use its settings, then press Run.")
            # Only the session that made a sheet listens to clicks on it.
            raise ConfigError("These variations are of an earlier session. Press ⋯ > Try variations again.")
        pictures, recipe = made.get(PICTURES_KEY), made.get("recipe")
        if not isinstance(pictures, Mapping) or not isinstance(recipe, Mapping):
            raise ConfigError(
                f"Layer '{layer.name}' does not say how it was made, so it cannot be gone on with. "
                "Choose it as the start image instead."
            )
        config = StyleConfig.from_recipe(recipe)
        try:
            record = cls.model_validate({**made, **pictures, "name": layer.name, "config": config})
        except ValidationError as error:
            raise _damaged(layer, ".".join(map(str, error.errors()[0]["loc"]))) from None
        if config.mode is Mode.COLORS and not record.axes:
            raise ConfigError("Colours are taken over at once, so there is nothing to go on with.")
        record._check_layer(layer)
        return record

    def _check_layer(self, layer: Layer) -> None:
        """Raise `ConfigError` if it cannot be a record of this layer."""
        from napari.layers import Image

        if not isinstance(layer, Image):
            raise ConfigError(f"Layer '{layer.name}' is no image layer any more. Select a result.")
        if self.content is None and (self.axes or not self.styles):
            raise _damaged(layer, "content")
        out_of_place = len(set(self.axes)) < len(self.axes) or max(self.axes, default=-1) >= layer.ndim
        if out_of_place or (self.axes and layer.ndim < len(self.axes) + 2):
            raise _damaged(layer, "axes")
        numbers = {plane.plane for plane in self.planes}
        if len(numbers) < len(self.planes) or max(numbers, default=-1) >= self.plane_count(layer):
            raise _damaged(layer, "planes")

    def plane_count(self, layer: Image) -> int:
        """Return how many planes the result has when it is done."""
        return math.prod(int(layer.level_shapes[0][axis]) for axis in self.axes)

    @property
    def names(self) -> list[str]:
        """Names of all layers that the run was made from, each once."""
        planes = [*(self.content or ()), *(plane for style in self.styles for plane in style)]
        names = [plane.name for plane in planes]
        return list(dict.fromkeys([*names, *([] if self.regions is None else [self.regions.name])]))

    def check_present(self, layers: Iterable[Layer]) -> None:
        """Raise `ConfigError` that names the layers of the run that are not there."""
        present = {layer.name for layer in layers}
        missing = [f"'{shorten(name, 60)}'" for name in self.names if name not in present]
        if missing:
            verb, it = ("is", "it") if len(missing) == 1 else ("are", "them")
            more = [f"{len(missing) - _MAX_NAMES} more"] if len(missing) > _MAX_NAMES else []
            raise ConfigError(
                f"'{self.name}' was made from {' and '.join([*missing[:_MAX_NAMES], *more])}, which {verb} not in the "
                f"viewer. Open {it} again, or give a layer that name."
            )


def resolve_record(
    planes: Sequence[PlaneRecord], layers: Iterable[Layer], *, colored: bool = True
) -> Snapshot | Composite:
    """Decide to read what a record says of one picture.

    Parameters
    ----------
    planes
        From a `ResultRecord`.
    layers
        Where to find the layers by name.
    colored
        As in `read.resolve`.

    Raises
    ------
    ImageError
        If a layer has no such plane any more.
    ConfigError
        If the plane has another size now, or the record says of a thick slice, which is not kept.
    """
    by_name = {layer.name: layer for layer in layers}
    snapshots = []
    for plane in planes:
        if plane.projection != "none":
            raise ConfigError(
                f"Layer '{plane.name}' was read as the {plane.projection} of a thick slice, which cannot be "
                "found again. Choose the result as the start image instead."
            )
        snapshot = resolve(
            by_name[plane.name],
            point_world=plane.point,
            displayed=plane.displayed,
            level=plane.level,
            colored=colored,
        )
        if list(snapshot.shape) != list(plane.shape):
            now, then = (" × ".join(str(side) for side in shape) for shape in (snapshot.shape, plane.shape))
            raise ConfigError(
                f"Layer '{plane.name}' is {now} now and was {then}: it seems to be another picture. Open the one "
                "that the result was made from."
            )
        snapshots.append(snapshot)
    return snapshots[0] if len(snapshots) == 1 else compose(snapshots)


def resolve_result(layer: Image, reference: Snapshot | Composite) -> Snapshot:
    """Decide to read a result as the picture it was when the run ended, whatever its looks are now.

    Parameters
    ----------
    layer
        The result, of one plane.
    reference
        The content it lies on.

    Raises
    ------
    ImageError
        If the layer cannot be read.
    """
    middle = [(size - 1) / 2 for size in layer.level_shapes[0]]
    displayed = [axis - reference.grid.geometry.ndim for axis in reference.grid.displayed]
    seen = resolve(
        layer,
        point_world=layer.data_to_world(middle),
        displayed=displayed,
        as_displayed=not layer.rgb,
        colored=False,
    )
    if layer.rgb or not isinstance(reference, Snapshot):
        return seen
    return replace(seen, contrast_limits=reference.contrast_limits, gamma=reference.gamma)


def _damaged(layer: Layer, where: str) -> ConfigError:
    return ConfigError(
        f"What layer '{layer.name}' says of its making is damaged ({shorten(where, 80)}). Choose it as the start "
        "image instead."
    )


def _plane_records(picture: Snapshot | Composite) -> list[dict[str, Any]]:
    return [
        {
            "name": snapshot.name,
            "point": list(snapshot.point),
            "displayed": [axis - snapshot.grid.geometry.ndim for axis in snapshot.grid.displayed],
            "level": snapshot.level,
            "shape": list(snapshot.shape),
            "projection": snapshot.projection,
        }
        for snapshot in picture.snapshots
    ]
