"""What the content's side of the loss is measured against: feature maps, kept whole or computed again tile by tile.

Kept, the maps of the default layers take twice the memory of the image. Computed again, they cost a pass through the
first stages of the network in every evaluation, and the picture is all that is kept: a byte a value where that is
exact, two elsewhere. Called by `content_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_styletransfer.config import LayerWeights
from napari_styletransfer.devices.device import malloc_trim
from napari_styletransfer.nn import functional
from napari_styletransfer.tiling.tiled_network import CoreSlices, FeatureCollector, TiledNetwork
from napari_styletransfer.tiling.tiles import Tile

_CHUNK = 1 << 20
"""Values of a picture packed at once."""


class ContentFeatures:
    """The content's feature maps.

    Parameters
    ----------
    keep
        Whether they are kept whole, on the picture's device; otherwise those of the tile at work are computed from the
        picture whenever another one is asked for.

    Attributes
    ----------
    squares
        Sum of squares and number of values of each map.
    """

    def __init__(self, tiled: TiledNetwork, picture: Tensor, layers: LayerWeights, *, keep: bool) -> None:
        self._tiled = tiled
        self._layers = layers
        self._network = tiled.network.truncated(layers)
        self._features: FeatureCollector | None = None
        self._picture: PackedImage | None = None
        self.squares = dict.fromkeys(layers, (0.0, 0))
        if keep:
            self._features = FeatureCollector(tiled.layer_regions(layers), picture.device)
            tiled.forward(picture, self._features)
            self._add_squares(self._features)
        else:
            self._picture = PackedImage(picture)
            for tile in tiled.tiles:
                self._add_squares(self._compute(self._picture, tile))

    def _add_squares(self, features: FeatureCollector) -> None:
        for name, values in features.maps.items():
            square, count = self.squares[name]
            self.squares[name] = (square + float(functional.square_sum(values)), count + values.numel())

    def at(self, core: CoreSlices, layer: str) -> Tensor:
        """Return the part of a map that belongs to a core, on the network's device."""
        if self._picture is not None and not self._holds(core, layer):
            self.release()  # before the next ones are made
            malloc_trim(self._network.device)
            tile = next(tile for tile in self._tiled.tiles if _contains(self._core(tile, layer), core.target))
            self._features = self._compute(self._picture, tile)
        if self._features is None:
            raise AssertionError("features are kept or computed")
        return self._features.part(core, layer).to(self._network.device)

    def release(self) -> None:
        """Drop what can be computed again."""
        if self._picture is not None:
            self._features = None

    def _holds(self, core: CoreSlices, layer: str) -> bool:
        return self._features is not None and _contains(self._features.regions[layer], core.target)

    def _core(self, tile: Tile, layer: str) -> tuple[slice, slice]:
        """Return the rows and columns of a layer's whole map that belong to a tile's core."""
        core = self._tiled.core_slices(tile, layer)
        if core is None:
            raise AssertionError("every tile has a core")
        return core.target

    def _compute(self, picture: PackedImage, tile: Tile) -> FeatureCollector:
        """Return what of the maps belongs to a tile's core."""
        features = FeatureCollector({name: self._core(tile, name) for name in self._layers}, self._network.device)
        self._tiled.tile_features(picture.crop(tile.outer), tile, features, self._network)
        return features


def _contains(outer: tuple[slice, slice], inner: tuple[slice, slice]) -> bool:
    return all(whole.start <= part.start and part.stop <= whole.stop for whole, part in zip(outer, inner, strict=True))


class PackedImage:
    """A picture with values in [0, 1] in a byte a value where all are multiples of 1/255, in two bytes elsewhere.

    65535 is a multiple of 255, so that pictures of 8 and of 16 bits come back as they were.
    """

    def __init__(self, picture: Tensor) -> None:
        self._dtype = picture.dtype
        values = picture.contiguous().view(-1)
        packed = torch.empty_like(values, dtype=torch.uint8)
        for part, out in zip(torch.split(values, _CHUNK), torch.split(packed, _CHUNK), strict=True):
            steps = (part * 255).round_()
            if not torch.equal(steps / 255, part):
                packed = torch.empty_like(values, dtype=torch.int16)
                for wide, out in zip(torch.split(values, _CHUNK), torch.split(packed, _CHUNK), strict=True):
                    out.copy_((wide * 65535).round_().sub_(32768))
                break
            out.copy_(steps)
        self._values = packed.view(picture.shape)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self._values.numel() * self._values.itemsize

    def crop(self, region: tuple[slice, slice]) -> Tensor:
        """Return some rows and columns of the picture."""
        values = self._values[:, :, region[0], region[1]].to(self._dtype)
        return values.div_(255) if self._values.dtype is torch.uint8 else values.add_(32768).div_(65535)
