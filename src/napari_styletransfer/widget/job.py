"""What to run: pictures and settings as they were when Run was pressed. Made by the form, run by the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.layers.snapshot import Snapshot

if TYPE_CHECKING:
    from napari_styletransfer.config import StyleConfig
    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.layers.stack import Stack
    from napari_styletransfer.worker import Readable


@dataclass(frozen=True)
class Job:
    """Pictures, not read yet, and the settings.

    Attributes
    ----------
    content, styles, init
        The pictures of the run; content is None where the mode needs none.
    config
        The settings.
    regions
        What to read for the labels of the content or, with a stack, of each of its planes.
    stack
        The planes to run one after another; `content` is one of them then.
    channel
        Whether the result stays one channel, like its content.
    variations
        Settings to try one after another on a contact sheet, in place of one run.
    """

    content: Snapshot | Composite | None
    styles: tuple[Snapshot | Composite, ...]
    config: StyleConfig
    init: Snapshot | None = None
    regions: Sequence[Readable] | None = None
    stack: Stack | None = None
    channel: bool = False
    variations: Sequence[StyleConfig] = ()

    @property
    def place(self) -> Snapshot | Composite:
        """The picture that the result lies on."""
        return self.styles[0] if self.content is None else self.content

    @property
    def dtype(self) -> np.dtype[Any]:
        """What an RGB output layer holds: bytes for bytes, else floats."""
        place = self.place
        eight_bit = isinstance(place, Snapshot) and place.dtype == np.uint8
        return np.dtype(np.uint8 if eight_bit else np.float32)


@dataclass
class ReadOnce:
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
