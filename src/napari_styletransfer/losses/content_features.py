"""What the content's side of the loss is measured against: feature maps, kept whole or made again block by block.

Kept, the maps of the default layers take twice the memory of the image. Made again, they cost a pass through the first
stages of the network in every evaluation, and the picture is all that is kept: a byte a value where that is exact, two
elsewhere. Called by `objective`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_styletransfer.config import LayerWeights
from napari_styletransfer.devices.device import malloc_trim
from napari_styletransfer.nn import functional
from napari_styletransfer.tiling.tiled_network import CoreSlices, Stopped, TiledNetwork
from napari_styletransfer.tiling.tiles import Tile

_AT_ONCE = 1 << 20
"""Values of a picture packed at once."""


class CachedContentFeatures:
    """The content's feature maps, on the content's device.

    Attributes
    ----------
    squares
        Sum of squares and number of values of each map.
    """

    def __init__(self, tiled: TiledNetwork, picture: Tensor, layers: LayerWeights) -> None:
        self._maps = tiled.feature_maps(picture, layers)
        self._device = tiled.network.device
        self.squares = {
            name: (float(functional.square_sum(whole)), whole.numel()) for name, whole in self._maps.items()
        }

    def at(self, place: CoreSlices, name: str) -> Tensor:
        """Return the part of a map that belongs to a place, on the network's device."""
        rows, columns = place.target
        return self._maps[name][:, :, rows, columns].to(self._device)

    def release(self) -> None:
        """Drop what can be made again: nothing."""


class RecomputedContentFeatures:
    """The same from the picture, for the block at work and whenever another one is asked for."""

    def __init__(
        self, tiled: TiledNetwork, picture: Tensor, layers: LayerWeights, should_stop: Callable[[], bool] = bool
    ) -> None:
        self._tiled = tiled
        self._network = tiled.network.truncated(layers)
        self._picture = PackedImage(picture)
        self._block: Tile | None = None
        self._pieces: dict[str, Tensor] = {}
        self.squares = dict.fromkeys(layers, (0.0, 0))
        for block in tiled.blocks:
            if should_stop():
                raise Stopped
            for name, piece in self._compute(block).items():
                square, count = self.squares[name]
                self.squares[name] = (square + float(functional.square_sum(piece)), count + piece.numel())

    def at(self, place: CoreSlices, name: str) -> Tensor:
        """Return the part of a map that belongs to a place, on the network's device."""
        if self._block is None or not self._holds(self._block, place, name):
            self.release()  # before the next ones are made
            malloc_trim(self._network.device)
            block = next(block for block in self._tiled.blocks if self._holds(block, place, name))
            self._block, self._pieces = block, self._compute(block)
        rows, columns = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(place.target, self._core(self._block, name).target, strict=True)
        )
        return self._pieces[name][:, :, rows, columns]

    def release(self) -> None:
        """Drop the maps of the block at work."""
        self._block, self._pieces = None, {}

    def _core(self, block: Tile, name: str) -> CoreSlices:
        core = self._tiled.core_slices(block, name, 0, self._tiled.positions(name))
        if core is None:
            raise AssertionError("every block has a core")
        return core

    def _holds(self, block: Tile, place: CoreSlices, name: str) -> bool:
        core = self._core(block, name)
        return all(
            whole.start <= part.start and part.stop <= whole.stop
            for part, whole in zip(place.target, core.target, strict=True)
        )

    def _compute(self, block: Tile) -> dict[str, Tensor]:
        """Return what of the maps belongs to a block's core."""
        pieces: dict[str, Tensor] = {}

        def visit(name: str, feature_map: Tensor, row: int) -> None:
            place = self._tiled.core_slices(block, name, row, feature_map.shape[2])
            if place is None:
                return
            rows, columns = self._core(block, name).target
            if name not in pieces:
                pieces[name] = torch.empty(
                    (1, feature_map.shape[1], rows.stop - rows.start, columns.stop - columns.start),
                    dtype=feature_map.dtype,
                    device=feature_map.device,
                    memory_format=torch.channels_last,
                )
            first = place.target[0].start - rows.start
            part = place.select(feature_map)
            pieces[name][:, :, first : first + part.shape[2]] = part

        self._network.forward(self._picture.crop(block.outer).to(self._network.device), visit, keep=False)
        return pieces


class PackedImage:
    """A picture with values in [0, 1] in a byte a value where all are multiples of 1/255, in two bytes elsewhere.

    65535 is a multiple of 255, so that pictures of 8 and of 16 bits come back as they were.
    """

    def __init__(self, picture: Tensor) -> None:
        self._dtype = picture.dtype
        flat = picture.contiguous().view(-1)
        packed = torch.empty_like(flat, dtype=torch.uint8)
        for part in range(0, len(flat), _AT_ONCE):
            values = flat[part : part + _AT_ONCE]
            steps = (values * 255).round_()
            if not torch.equal(steps / 255, values):
                packed = torch.empty_like(flat, dtype=torch.int16)
                break
            packed[part : part + _AT_ONCE] = steps
        if packed.dtype is torch.int16:
            for part in range(0, len(flat), _AT_ONCE):
                packed[part : part + _AT_ONCE] = (flat[part : part + _AT_ONCE] * 65535).round_().sub_(32768)
        self._values = packed.view(picture.shape)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self._values.numel() * self._values.itemsize

    def crop(self, region: tuple[slice, slice]) -> Tensor:
        """Return some rows and columns of the picture."""
        values = self._values[:, :, region[0], region[1]].to(self._dtype)
        return values.div_(255) if self._values.dtype is torch.uint8 else values.add_(32768).div_(65535)
