"""A contact sheet: small runs of many settings side by side in one layer, to choose from.

The form makes the settings with `make_variations`, the session runs them one after another and shows them in a
`SheetOutput`; a double click on a tile hands its settings back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import Mode, Start, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.rendering import BYTES, resize
from napari_styletransfer.layers.write import image_kwargs
from napari_styletransfer.outputs.base import PartsOutput
from napari_styletransfer.outputs.captions import caption_height, draw_caption, font_for, wrap_captions

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.events import Finished
    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.layers.geometry import Grid
    from napari_styletransfer.layers.snapshot import Snapshot

COLUMNS = 3
_BALANCES = (-0.25, 0.0, 0.25)
_STYLE_SCALES = (0.5, 1.0, 2.0)
_TILE_SIZE, _TILE_ITERATIONS = 160, 30
_DISPLAY_SIZE = 320
"""Longest side of a tile as it is shown, about: words need more pixels than the picture has."""

_GAP = 4
_BACKGROUND = 24


def make_variations(config: StyleConfig) -> list[StyleConfig]:
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


class SheetOutput(PartsOutput):
    """The layer that shows the tiles.

    Parameters
    ----------
    viewer
        Where the layer is added.
    reference
        The content; the sheet begins at its corner and is as wide.
    variations
        Settings of the tiles, row by row.
    styles
        Names, for the metadata.
    images
        How many images the run makes that the sheet is for.
    on_choice
        Called with the settings of a tile that the user double-clicks.
    """

    noun = "variation"
    resumable = False

    def __init__(
        self,
        viewer: ViewerModel,
        reference: Snapshot | Composite,
        variations: Sequence[StyleConfig],
        *,
        styles: Sequence[str],
        images: int,
        on_choice: Callable[[StyleConfig], object],
    ) -> None:
        super().__init__(viewer, reference.name, styles)
        self._reference = reference
        self._variations = list(variations)
        self._images = images
        self._on_choice = on_choice
        self._tile = (0, 0)
        self._caption_height = 0

    @property
    def complete(self) -> bool:
        """Whether every tile is finished."""
        return len(self.finished) == len(self._variations)

    @property
    def run_options(self) -> dict[str, Any]:
        """What the engine takes: the settings to run one after another."""
        return {"variations": self._variations, "images": self._images}

    def blocking_reason(self, finished: Finished | None) -> str:
        """Return what to do in place of going on."""
        return "Double-click a variation to use its settings, then press Run."

    def summary(self, finished: Finished) -> str:
        """Return how many tiles are done and what to do with them, in a line for people."""
        how = "Done" if self.complete else "Stopped"
        return f"{how}: {len(self.finished)} variations; double-click one to use its settings"

    def render(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of any scale into what a tile holds, for any thread."""
        larger = max(round(_DISPLAY_SIZE / max(shape)), 1)
        return resize(image, (larger * shape[0], larger * shape[1]), BYTES)

    def finish(self, image: npt.NDArray[np.float32], *, reason: str, **made: Any) -> None:
        """Show the result of the tile under way and write down its settings."""
        self.show(self.render(image, (image.shape[0], image.shape[1])))
        if reason == "stopped":
            return
        top, left = self.corner(self._number)
        self.finished[self._number] = {
            "box": [top, left, *self._tile],
            "settings": self._variations[self._number].recipe(),
            "losses": dict(made.get("losses", {})),
        }
        self._update_metadata(tiles=self._tiles)

    def corner(self, number: int) -> tuple[int, int]:
        """Return the first row and column of a tile."""
        row, column = divmod(number, COLUMNS)
        return row * (self._tile[0] + self._caption_height), column * (self._tile[1] + _GAP)

    def tile_at(self, position: Sequence[float]) -> int | None:
        """Return the number of the tile at a place of the layer in the world, if there is one."""
        if self.layer is None:
            return None
        index = self.layer.world_to_data(position)
        displayed = self._reference.grid.displayed
        down, across = (float(index[axis]) + 0.5 for axis in displayed)
        for number in range(len(self._variations)):
            top, left = self.corner(number)
            if top <= down < top + self._tile[0] + self._caption_height and left <= across < left + self._tile[1]:
                return number
        return None

    def choose(self, number: int) -> None:
        """Hand back the settings of a tile."""
        self._on_choice(self._variations[number])

    def _on_double_click(self, layer: Any, event: Any) -> None:
        number = self.tile_at(event.position)
        if number is not None:
            self.choose(number)

    def _empty(self, tile: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the sheet with nothing but the words on it."""
        captions = wrap_captions(tuple(caption_of(variation) for variation in self._variations), tile[1])
        font = font_for(captions, tile[1])
        self._tile, self._caption_height = tile, caption_height(captions, font)
        rows = -(-len(captions) // COLUMNS)
        shape = (rows * (tile[0] + self._caption_height), COLUMNS * tile[1] + (COLUMNS - 1) * _GAP)
        sheet = np.full((*shape, 3), _BACKGROUND, np.uint8)
        for number, caption in enumerate(captions):
            top, left = self.corner(number)
            under = slice(top + tile[0], top + tile[0] + self._caption_height), slice(left, left + tile[1])
            draw_caption(sheet[under], caption, font)
        return sheet

    def _put(self, image: npt.NDArray[Any]) -> None:
        assert self._array is not None
        top, left = self.corner(self._number)
        self._array[top : top + self._tile[0], left : left + self._tile[1]] = image

    def _grid(self, shape: tuple[int, int]) -> Grid:
        """Return where the sheet lies: its pixels are as high and wide, one to the other, as those of a tile."""
        grid = self._reference.grid
        across = grid.extent[1] / shape[1]
        down = across * (grid.extent[0] / self._tile[0]) / (grid.extent[1] / self._tile[1])
        return replace(grid, extent=(round(down * shape[0]), grid.extent[1]))

    def _add(self) -> None:
        assert self._array is not None
        grid = self._grid((self._array.shape[0], self._array.shape[1]))
        self.layer = self._viewer.add_image(
            **image_kwargs(self._array, grid),
            name=f"Variations of {self._reference.name}",
            metadata=self._metadata(tiles=self._tiles),
            interpolation2d="linear",
        )
        self.layer.mouse_double_click_callbacks.append(self._on_double_click)

    @property
    def _tiles(self) -> list[dict[str, Any]]:
        return [self.finished[number] for number in sorted(self.finished)]
