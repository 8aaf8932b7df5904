"""What to run: pictures and settings as they were when Run was pressed. Made by the form, run by the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import CHANNEL_STRUCTURE, Color, StyleConfig
from napari_styletransfer.layers.compose import Composite
from napari_styletransfer.layers.snapshot import Snapshot

if TYPE_CHECKING:
    from napari_styletransfer.layers.regions import Region
    from napari_styletransfer.layers.stack import Stack


@dataclass(frozen=True)
class Job:
    """Pictures, not read yet, and the settings.

    Attributes
    ----------
    content, styles, init
        The pictures of the run; content is None where the mode needs none.
    config
        The settings.
    labels
        What to read for the labels of the content or, with a stack, of each of its planes.
    stack
        The planes to run one after another; `content` is one of them then.
    channel
        Whether the result stays one channel, like its content.
    variations
        Settings to try one after another on a contact sheet, in place of one run.
    images
        How many images the run makes that the contact sheet is for.
    original
        Settings of the run whose picture this one starts from; its start and scales are those of the recipe.
    history
        Loss of every step of that run.
    """

    content: Snapshot | Composite | None
    styles: tuple[Snapshot | Composite, ...]
    config: StyleConfig
    init: Snapshot | Composite | None = None
    labels: Sequence[Region] | None = None
    stack: Stack | None = None
    channel: bool = False
    variations: Sequence[StyleConfig] = ()
    images: int = 1
    original: StyleConfig | None = None
    history: tuple[float, ...] = ()

    @property
    def reference(self) -> Snapshot | Composite:
        """The picture that the result lies on."""
        return self.config.first_style(self.styles) if self.content is None else self.content

    @property
    def level(self) -> int:
        """Resolution level at which the reference is read; 0, the finest, also where there is but one."""
        return self.reference.snapshots[0].level


def with_structure_weight(config: StyleConfig, content: Snapshot | Composite | None) -> StyleConfig:
    """Return settings that keep the structure of channels, one or several seen together, if they leave it open."""
    data = content is not None and (isinstance(content, Composite) or content.kind == "grey")
    return config.changed(structure_weight=CHANNEL_STRUCTURE) if data and config.structure_weight is None else config


def for_channel(config: StyleConfig, *, channel: bool) -> StyleConfig:
    """Return settings as they serve a result that is a channel, or one that is not."""
    # A channel keeps its own brightness; the colours of a style would only blur what is dark and what is bright.
    return config.changed(color=Color.MATCH) if channel and config.color is Color.STYLE else config


@dataclass
class CachedReader:
    """A picture that keeps its transparency for the output layer when the thread reads it."""

    source: Snapshot | Composite
    alpha: npt.NDArray[np.float32] | None = field(default=None, init=False)

    def read(self) -> npt.NDArray[np.float32]:
        """Read the colours."""
        if not isinstance(self.source, Snapshot) or self.source.kind != "rgba":
            return self.source.read()
        picture = self.source.picture()
        self.alpha = picture.alpha
        return picture.rgb
