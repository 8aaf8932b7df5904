"""Layers taken together: the one picture that the canvas shows of them, wherever a single layer can be chosen.

Made by the picture panel of the groups that `layers.compose` finds; the rest of the form reads a name and, when
Run is pressed, the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from napari.layers import Image


class LayerGroup:
    """Visible layers that make one picture; stays the same object while layers join and leave it.

    Attributes
    ----------
    layers
        From the bottom up.
    is_only
        Whether it is the only such picture there is.
    """

    def __init__(self, layers: Sequence[Image]) -> None:
        self.layers = list(layers)
        self.is_only = True

    @property
    def name(self) -> str:
        """Names of the layers as they are now, from the bottom up."""
        return " + ".join(layer.name for layer in self.layers)

    def issubset(self, layers: Sequence[Image]) -> bool:
        """Tell whether all of it is among some layers."""
        return all(layer in layers for layer in self.layers)

    @property
    def title(self) -> str:
        """How it is announced in a list."""
        return "What you see" if self.is_only else f"{self.name} (what you see)"


Picture: TypeAlias = Image | LayerGroup


def layers_of(picture: Picture) -> list[Image]:
    """Return the layer or layers of a picture, from the bottom up."""
    return picture.layers if isinstance(picture, LayerGroup) else [picture]


def title_of(picture: Picture) -> str:
    """Return how a picture is announced in a list."""
    return picture.title if isinstance(picture, LayerGroup) else picture.name


def update_groups(known: Sequence[LayerGroup], groups: Sequence[Sequence[Image]]) -> list[LayerGroup]:
    """Return a `LayerGroup` for each group: a known one that shares layers with it, updated, or a new one."""
    left = list(known)
    result = []
    for layers in groups:
        same = next((each for each in left if any(layer in each.layers for layer in layers)), None)
        if same is None:
            same = LayerGroup(layers)
        else:
            left.remove(same)
            same.layers = list(layers)
        same.is_only = len(groups) == 1
        result.append(same)
    return result
