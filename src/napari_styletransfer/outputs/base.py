"""What every output is: the layer of a run, made with the first preview, refreshed in place, finished with its recipe.

A session owns one `Output` for each run and calls it on the main thread only; `render` does the costly part of a
preview in the worker's thread. What the user does to the layer meanwhile is respected: a renamed or hidden layer stays
so, and a deleted one is not put back before the result is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_styletransfer.layers.write import run_metadata

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.events import Finished


class Output(ABC):
    """The layer that shows a run.

    Parameters
    ----------
    viewer
        Where the layer is added.
    content, styles
        Names for the layer's name and metadata; content is None where there is none.

    Attributes
    ----------
    noun
        What its parts are called where there are several, one run after another; empty for a single picture.
    resumable
        Whether a run can go on in its layer.
    layer
        None before the first preview.
    alpha
        Transparency of the content (H, W) in [0, 1], once it was read and if it has one.
    """

    noun: ClassVar[str] = ""
    resumable: ClassVar[bool] = True

    def __init__(self, viewer: ViewerModel, content: str | None, styles: Sequence[str]) -> None:
        self.layer: Image | None = None
        self.alpha: npt.NDArray[Any] | None = None
        self._viewer = viewer
        self._content = content
        self._styles = tuple(styles)

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer and still holds what was put into it."""
        return self.layer is not None and self.layer in self._viewer.layers

    @property
    def run_options(self) -> dict[str, Any]:
        """What `worker.engine_run` takes for a run of this kind besides pictures and settings."""
        return {}

    @abstractmethod
    def render(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of any scale into what the layer holds at the final (h, w), for the thread of the run."""

    @abstractmethod
    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview; see `render`."""

    @abstractmethod
    def finish(self, image: npt.NDArray[np.float32], *, reason: str, **made: Any) -> None:
        """Show a result and write down how it was made.

        Parameters
        ----------
        image
            float32 (H, W, 3) in [0, 1].
        reason
            Why its run ended, as `events.Reason` has it.
        **made
            As `layers.write.run_metadata` takes them.
        """

    def begin(self, number: int) -> None:
        """Take note that the run of this part begins."""
        raise NotImplementedError(f"{type(self).__name__} has no parts")

    def close(self) -> None:
        """End the run, after the last result."""
        return

    def attach(self, layer: Image, parts: Sequence[Mapping[str, Any]]) -> None:
        """Go on with a layer that an output like this one has made; `parts` are its finished ones, by its metadata."""
        self.layer = layer

    @abstractmethod
    def blocking_reason(self, finished: Finished | None) -> str:
        """Return why a run that ended so (None: without a result) cannot go on, or an empty string."""

    @abstractmethod
    def summary(self, finished: Finished) -> str:
        """Return how the run ended, in a line for people."""

    def _metadata(self, **made: Any) -> dict[str, Any]:
        return run_metadata(content=self._content, styles=self._styles, **made)

    def _update_metadata(self, **made: Any) -> None:
        if self.present:
            assert self.layer is not None
            self.layer.metadata = {**self.layer.metadata, **self._metadata(**made)}

    def _refresh(self, *, thumbnail: bool = False) -> None:
        if self.present:
            assert self.layer is not None
            self.layer.refresh(thumbnail=thumbnail, highlight=thumbnail, extent=False)


class PartsOutput(Output):
    """One layer that is filled in part by part, each the result of a run of its own.

    Attributes
    ----------
    finished
        What the metadata say of each finished part, by its number.
    """

    def __init__(self, viewer: ViewerModel, content: str | None, styles: Sequence[str]) -> None:
        super().__init__(viewer, content, styles)
        self.finished: dict[int, dict[str, Any]] = {}
        self._array: npt.NDArray[Any] | None = None
        self._number = 0

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether every part is finished."""

    def begin(self, number: int) -> None:
        """Take note that the run of this part begins."""
        self._number = number

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the part under way; see `render`."""
        if self._array is None:
            self._array = self._empty((image.shape[0], image.shape[1]))
        self._put(image)
        if self.layer is None:
            self._add()
        else:
            self._refresh()

    def close(self) -> None:
        """End the run: bring back what the user deleted meanwhile, and draw the thumbnail."""
        if self._array is None:
            return
        if self.present:
            self._refresh(thumbnail=True)
        else:
            self._add()

    @abstractmethod
    def _empty(self, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Return the array of the layer for parts of (h, w)."""

    @abstractmethod
    def _put(self, image: npt.NDArray[Any]) -> None:
        """Write the part under way into the array."""

    @abstractmethod
    def _add(self) -> None:
        """Add a layer of the array."""
