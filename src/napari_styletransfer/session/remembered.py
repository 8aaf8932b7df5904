"""What a form said when its dock was closed, for the one that is opened next in the same viewer.

Layers are remembered by their names, so that nothing keeps alive what the user has deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.config import StyleConfig

Names = tuple[str, ...]
"""Of the layers of a picture: several where they are seen together."""


@dataclass(frozen=True)
class FormState:
    """What a form said.

    Attributes
    ----------
    config
        The settings.
    content, styles
        The pictures, where the user had chosen them.
    regions
        Name of the layer that says where.
    axes, channel
        Planes and kind of the result.
    """

    config: StyleConfig
    content: Names | None
    styles: tuple[Names, ...] | None
    regions: str | None
    axes: tuple[int, ...]
    channel: bool


_said: WeakKeyDictionary[ViewerModel, FormState] = WeakKeyDictionary()


def remember(viewer: ViewerModel, said: FormState) -> None:
    """Keep what a form says as long as there is its viewer."""
    _said[_itself(viewer)] = said


def remembered(viewer: ViewerModel) -> FormState | None:
    """Return what the last form of a viewer said when it was closed."""
    return _said.get(_itself(viewer))


def _itself(viewer: ViewerModel) -> ViewerModel:
    # napari gives plugins a proxy, a new one each time.
    itself: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return itself
