"""What a form says: the one record that its parts write and everything else reads.

The dock widget follows `FormState.changed`; `job_builder` makes the job and what its plan depends on from the record.
When the form is closed, what it said is saved for the next one in the same viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_styletransfer.config import ALL_STYLES, StyleConfig
from napari_styletransfer.session.job import for_channel

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Shapes

    from napari_styletransfer.errors import ConfigError
    from napari_styletransfer.session.layer_group import Picture


@dataclass(eq=False)
class FormState:
    """What a form says now; whoever writes fields emits `changed` after the last one.

    Attributes
    ----------
    settings
        The settings alone, the last ones that could work.
    error
        Why the fields of the form cannot work now, or None.
    content, styles, init
        The chosen pictures that the mode needs; styles from the top of the list.
    style_weights
        One for each style, or None if all count alike.
    region_layer
        The layer that says where, or None for the whole picture.
    regions
        The style number of each label, as `StyleConfig.regions`.
    relabel
        Under which other numbers to read labels, where `regions` cannot name what is wanted of them.
    axes
        Axes of the content that are run through; none means the plane shown.
    channel
        Whether the result stays one channel.
    """

    changed = Signal()

    settings: StyleConfig = field(default_factory=StyleConfig)
    error: ConfigError | None = None
    content: Picture | None = None
    styles: tuple[Picture, ...] = ()
    style_weights: tuple[float, ...] | None = None
    init: Image | None = None
    region_layer: Labels | Shapes | None = None
    regions: dict[int, int | None] | None = None
    relabel: dict[int, int] = field(default_factory=dict)
    axes: tuple[int, ...] = ()
    channel: bool = False

    @property
    def blended(self) -> bool:
        """Whether blend weights count: not where each region has a style of its own and none is given all styles."""
        return not self.regions or ALL_STYLES in self.regions.values() or len(self.styles) < 2

    @property
    def blend_weights(self) -> tuple[float, ...] | None:
        """The weights of the styles, or None if they all count alike, or do not count."""
        return self.style_weights if self.blended else None

    def config(self) -> StyleConfig:
        """Return the settings, blend weights and regions included.

        Raises
        ------
        ConfigError
            If a field holds something that cannot work, or they contradict each other.
        """
        if self.error is not None:
            raise self.error
        config = for_channel(self.settings, channel=self.channel)
        return config.changed(style_weights=self.blend_weights, regions=self.regions)


Names = tuple[str, ...]
"""Of the layers of a picture: several where they are seen together."""


@dataclass(frozen=True)
class SavedForm:
    """What a form said, with layers by their names, so that nothing keeps alive what the user has deleted.

    Attributes
    ----------
    config
        The settings, blend weights and regions included.
    content, styles
        The pictures, where the user had chosen them.
    region_layer
        Name of the layer that says where.
    axes, channel
        As in `FormState`.
    """

    config: StyleConfig
    content: Names | None
    styles: tuple[Names, ...] | None
    region_layer: str | None
    axes: tuple[int, ...]
    channel: bool


_saved: WeakKeyDictionary[ViewerModel, SavedForm] = WeakKeyDictionary()


def save_form(viewer: ViewerModel, form: SavedForm) -> None:
    """Keep what a form says as long as there is its viewer."""
    _saved[_unwrapped(viewer)] = form


def saved_form(viewer: ViewerModel) -> SavedForm | None:
    """Return what the last form of a viewer said when it was closed."""
    return _saved.get(_unwrapped(viewer))


def _unwrapped(viewer: ViewerModel) -> ViewerModel:
    # napari gives plugins a proxy, a new one each time.
    unwrapped: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return unwrapped
