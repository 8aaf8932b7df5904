"""The output layer of a run: made with the first preview, refreshed in place, finished with its recipe.

A session owns one `OutputLayer` for each run and calls it on the main thread only; `prepared` does the costly
part of a preview in the worker's thread. What the user does to the layer meanwhile is respected: a renamed or
hidden layer stays so, and a deleted one is not put back before the result is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.layers.geometry import lift
from napari_styletransfer.layers.rendering import Rendering
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.write import channel_kwargs, image_kwargs, result_name, run_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.layers.rendering import LabelSource


class OutputLayer:
    """The layer that shows one run.

    Parameters
    ----------
    viewer
        Where the layer is added.
    place
        The picture it lies on: the content, or the first style where there is no content.
    content, styles
        Names for the layer's name and metadata; content is None where there is none.
    channel
        Whether the result stays one channel, in the dtype and the looks of its content; otherwise it is 8-bit RGB.
    marks, regions
        Labels of the place and what they are given, as `layers.rendering.Rendering` takes them.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        place: Snapshot | Composite,
        *,
        content: str | None,
        styles: Sequence[str],
        channel: bool = False,
        marks: LabelSource | None = None,
        regions: Mapping[int, int | None] | None = None,
    ) -> None:
        self.layer: Image | None = None
        self.alpha: npt.NDArray[Any] | None = None
        self._viewer = viewer
        self._place = place
        self._content = content
        self._styles = tuple(styles)
        self._channel = channel
        self._rendering = Rendering(place, channel=channel, marks=marks, regions=regions)

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer and still holds what was put into it."""
        return self.layer is not None and self.layer in self._viewer.layers

    def prepared(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of any scale into what the layer holds, for any thread."""
        return self._rendering(image, shape)

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the final size; see `prepared`."""
        if self.layer is None:
            self._add(image, {})
        elif self.present:
            self._write(image)
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, image: npt.NDArray[Any], **made: Any) -> None:
        """Show the result and write down how it was made, in the old layer or, where that is gone, a new one.

        Parameters
        ----------
        image
            float32 (H, W, 3) in [0, 1].
        **made
            As `layers.write.run_metadata` takes them.
        """
        image = self.prepared(image, (image.shape[0], image.shape[1]))
        # The layer may be continued, but need not: its content is not kept in memory for that.
        self._rendering.release()
        if self.layer is None or not self.present:
            self._add(image, made)
            return
        self._write(image)
        self.layer.metadata = {
            **self.layer.metadata,
            **run_metadata(content=self._content, styles=self._styles, **made),
        }
        self.layer.refresh(extent=False)

    def _add(self, image: npt.NDArray[Any], made: dict[str, Any]) -> None:
        kwargs = self._arguments(image)
        kwargs["metadata"] = run_metadata(content=self._content, styles=self._styles, **made)
        self.layer = self._viewer.add_image(**kwargs)

    def _arguments(self, image: npt.NDArray[Any]) -> dict[str, Any]:
        # A copy: the layer's data is written to with every preview, and the run's own image must stay.
        image = np.array(image)
        name = result_name(self._content, self._styles)
        if not self._channel:
            return image_kwargs(image, self._place, name=name, alpha=self.alpha, styles=self._styles)
        assert isinstance(self._place, Snapshot)
        return channel_kwargs(image, self._place, name=name, styles=self._styles)

    def _write(self, image: npt.NDArray[Any]) -> None:
        assert self.layer is not None
        pixels = lift(image, self._place.grid.resized(image.shape[:2]))
        data = self.layer.data
        ours = isinstance(data, np.ndarray) and data.ndim == pixels.ndim and data.dtype == pixels.dtype
        if ours and self._channel and data.shape == pixels.shape:
            data[...] = pixels
        elif ours and not self._channel and data.shape[:-1] == pixels.shape[:-1]:
            data[..., :3] = pixels
        else:
            # The user has put other data into the layer: it is theirs now, and the result gets its own.
            self._add(image, {})
