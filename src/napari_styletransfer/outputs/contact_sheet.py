"""A contact sheet: small runs of many settings side by side in one layer, to choose from.

The form makes the settings with `variations_of`, the session runs them one after another and shows them in a
`SheetOutput`; a double click on a tile hands its settings back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import Mode, Start, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.rendering import BYTES, fitted
from napari_styletransfer.layers.write import image_kwargs, run_metadata
from napari_styletransfer.outputs.captions import broken, caption_height, draw_caption, font_for

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.layers.geometry import Grid
    from napari_styletransfer.layers.snapshot import Snapshot

COLUMNS = 3
_BALANCES = (-0.25, 0.0, 0.25)
_STYLE_SCALES = (0.5, 1.0, 2.0)
_TILE_SIZE, _TILE_ITERATIONS = 160, 30
_SHOWN_SIZE = 320
"""Longest side of a tile as it is shown, about: words need more pixels than the picture has."""

_GAP = 4
_GROUND = 24


def variations_of(config: StyleConfig) -> list[StyleConfig]:
    """Return the settings of the tiles, row by row: more style downwards, larger strokes to the right.

    Raises
    ------
    ConfigError
        If that would make no difference with such settings.
    """
    if config.mode is not Mode.TRANSFER:
        raise ConfigError(f"Variations are of mode '{Mode.TRANSFER}', and the mode is '{config.mode}'. Change it.")
    if config.content_weight is not None:
        raise ConfigError(
            "'Content weight' is set and stands in place of 'Content ↔ style', in which variations differ. Empty it."
        )
    start = Start.AUTO if config.start is Start.IMAGE else config.start
    small = config.changed(
        size=_TILE_SIZE if config.size is None else min(_TILE_SIZE, config.size),
        iterations=min(_TILE_ITERATIONS, config.iterations),
        start=start,
    )
    return [
        small.changed(
            balance=round(min(max(config.balance + more, 0.0), 1.0), 4),
            style_scale=min(config.style_scale * factor, 8.0),
        )
        for more in _BALANCES
        for factor in _STYLE_SCALES
    ]


def caption_of(variation: StyleConfig) -> str:
    """Return what is written under a tile."""
    # The font has no arrow as the form has between the two.
    return f"content/style {variation.balance:g} · style scale {variation.style_scale:g}x"


@dataclass(frozen=True)
class _Ground:
    """Where a sheet lies: as wide as the content, and as high as tiles and words need."""

    name: str
    grid: Grid


class SheetOutput:
    """The layer that shows the tiles.

    Parameters
    ----------
    viewer
        Where the layer is added.
    place
        The content; the sheet begins at its corner and is as wide.
    variations
        Settings of the tiles, row by row.
    styles
        Names, for the metadata.
    on_chosen
        Called with the settings of a tile that the user double-clicks.
    """

    noun = "variation"

    def __init__(
        self,
        viewer: ViewerModel,
        place: Snapshot | Composite,
        variations: Sequence[StyleConfig],
        *,
        styles: Sequence[str],
        on_chosen: Callable[[StyleConfig], object],
    ) -> None:
        self.layer: Image | None = None
        self.alpha: npt.NDArray[Any] | None = None
        self.finished: dict[int, dict[str, Any]] = {}
        self._viewer = viewer
        self._place = place
        self._variations = list(variations)
        self._styles = tuple(styles)
        self._on_chosen = on_chosen
        self._array: npt.NDArray[np.uint8] | None = None
        self._tile = (0, 0)
        self._words = 0
        self._number = 0

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    @property
    def complete(self) -> bool:
        """Whether every tile is finished."""
        return len(self.finished) == len(self._variations)

    def begin(self, number: int) -> None:
        """Take note that this tile's run begins."""
        self._number = number

    def prepared(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of any scale into what a tile holds, for any thread."""
        larger = max(round(_SHOWN_SIZE / max(shape)), 1)
        return fitted(image, (larger * shape[0], larger * shape[1]), BYTES)

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the tile under way; see `prepared`."""
        if self._array is None:
            self._array = self._empty((image.shape[0], image.shape[1]))
        top, left = self.corner(self._number)
        self._array[top : top + self._tile[0], left : left + self._tile[1]] = image
        if self.layer is None:
            self._add()
        elif self.present:
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, image: npt.NDArray[np.float32], *, reason: str, **made: Any) -> None:
        """Show the result of the tile under way and write down its settings."""
        self.show(self.prepared(image, (image.shape[0], image.shape[1])))
        if reason == "stopped":
            return
        top, left = self.corner(self._number)
        self.finished[self._number] = {
            "box": [top, left, *self._tile],
            "settings": self._variations[self._number].recipe(),
            "losses": dict(made.get("losses", {})),
        }
        if self.layer is not None and self.present:
            self.layer.metadata = {**self.layer.metadata, **self._metadata()}

    def close(self) -> None:
        """End the run: bring back what the user deleted meanwhile, and draw the thumbnail."""
        if self._array is None or self.layer is None:
            return
        if self.present:
            self.layer.refresh(extent=False)
        else:
            self._add()

    def corner(self, number: int) -> tuple[int, int]:
        """Return the first row and column of a tile."""
        row, column = divmod(number, COLUMNS)
        return row * (self._tile[0] + self._words), column * (self._tile[1] + _GAP)

    def tile_at(self, position: Sequence[float]) -> int | None:
        """Return the number of the tile at a place of the layer in the world, if there is one."""
        if self.layer is None:
            return None
        index = self.layer.world_to_data(position)
        displayed = self._place.grid.displayed
        down, across = (float(index[axis]) + 0.5 for axis in displayed)
        for number in range(len(self._variations)):
            top, left = self.corner(number)
            if top <= down < top + self._tile[0] + self._words and left <= across < left + self._tile[1]:
                return number
        return None

    def choose(self, number: int) -> None:
        """Hand back the settings of a tile."""
        self._on_chosen(self._variations[number])

    def _on_double_click(self, layer: Any, event: Any) -> None:
        number = self.tile_at(event.position)
        if number is not None:
            self.choose(number)

    def _empty(self, tile: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the sheet with nothing but the words on it."""
        captions = broken(tuple(caption_of(variation) for variation in self._variations), tile[1])
        font = font_for(captions, tile[1])
        self._tile, self._words = tile, caption_height(captions, font)
        rows = -(-len(captions) // COLUMNS)
        shape = (rows * (tile[0] + self._words), COLUMNS * tile[1] + (COLUMNS - 1) * _GAP)
        sheet = np.full((*shape, 3), _GROUND, np.uint8)
        for number, caption in enumerate(captions):
            top, left = self.corner(number)
            under = slice(top + tile[0], top + tile[0] + self._words), slice(left, left + tile[1])
            draw_caption(sheet[under], caption, font)
        return sheet

    def _ground(self, shape: tuple[int, int]) -> _Ground:
        """Return where the sheet lies: its pixels are as high and wide, one to the other, as those of a tile."""
        grid = self._place.grid
        across = grid.extent[1] / shape[1]
        down = across * (grid.extent[0] / self._tile[0]) / (grid.extent[1] / self._tile[1])
        return _Ground(self._place.name, replace(grid, extent=(round(down * shape[0]), grid.extent[1])))

    def _add(self) -> None:
        assert self._array is not None
        ground = self._ground((self._array.shape[0], self._array.shape[1]))
        kwargs = image_kwargs(self._array, ground, name=f"Variations of {self._place.name}", styles=self._styles)
        self.layer = self._viewer.add_image(**{**kwargs, "metadata": self._metadata(), "interpolation2d": "linear"})
        self.layer.mouse_double_click_callbacks.append(self._on_double_click)

    def _metadata(self) -> Mapping[str, Any]:
        tiles = [self.finished[number] for number in sorted(self.finished)]
        return run_metadata(content=self._place.name, styles=self._styles, tiles=tiles)
