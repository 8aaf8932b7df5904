"""The output layer of a run of one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.config import Mode
from napari_styletransfer.events import Reason
from napari_styletransfer.layers.geometry import to_layer_axes
from napari_styletransfer.layers.rendering import Rendering
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.write import channel_kwargs, image_kwargs, result_name
from napari_styletransfer.outputs.base import Output
from napari_styletransfer.progress import describe_structure, duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel

    from napari_styletransfer.events import Finished
    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.layers.rendering import LabelSource


class ImageOutput(Output):
    """The layer that shows one picture.

    Parameters
    ----------
    viewer, content, styles
        As in `Output`.
    reference
        The picture it lies on: the content, or the first style where there is no content.
    channel
        Whether the result stays one channel, in the dtype and the looks of its content; otherwise it is 8-bit RGB.
    labels, regions
        Labels of the reference and what they are given, as `layers.rendering.Rendering` takes them.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        reference: Snapshot | Composite,
        *,
        content: str | None,
        styles: Sequence[str],
        channel: bool = False,
        labels: LabelSource | None = None,
        regions: Mapping[int, int | None] | None = None,
    ) -> None:
        super().__init__(viewer, content, styles)
        self._reference = reference
        self._channel = channel
        self._rendering = Rendering(reference, channel=channel, labels=labels, regions=regions)

    def render(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of any scale into what the layer holds at the final (h, w), for the thread of the run."""
        return self._rendering(image, shape)

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the final size; see `render`."""
        if self.layer is None:
            self._add(image)
        elif self.present:
            self._write(image)
            self._refresh()

    def finish(self, image: npt.NDArray[np.float32], *, reason: str = "", **made: Any) -> None:
        """Show the result and write down how it was made, in the old layer or, where that is gone, a new one."""
        pixels = self.render(image, (image.shape[0], image.shape[1]))
        # The layer may be continued, but need not: its content is not kept in memory for that.
        self._rendering.release()
        if self.layer is None or not self.present:
            self._add(pixels, reason=reason, **made)
            return
        self._write(pixels)
        self._update_metadata(reason=reason, **made)
        self._refresh(thumbnail=True)

    def blocking_reason(self, finished: Finished | None) -> str:
        """Return why a run that ended so cannot go on, or an empty string."""
        if finished is None:
            return "The last run did not come to a result."
        return (
            "" if finished.state is not None else "Colours are taken over at once, so there is nothing to go on with."
        )

    def summary(self, finished: Finished) -> str:
        """Return how the run ended, in a line for people."""
        if finished.config.mode is Mode.COLORS:
            return f"Done: colours taken over · {duration(finished.seconds)}"
        count = f"{finished.iterations} step{'' if finished.iterations == 1 else 's'}"
        when, kept = f"after {count}", "the best image is kept"
        if finished.iterations == 0:
            when, kept = "before the first step", "the picture is what the run starts from"
        how = {
            Reason.ITERATIONS: f"Done: {count}",
            Reason.CONVERGED: f"Done: settled {when}",
            Reason.TIME: f"Time limit reached {when}",
            Reason.STOPPED: f"Stopped {when}; {kept}",
        }[finished.reason]
        # A run that was stopped before its first step has no loss.
        loss = f"loss {finished.losses['total']:.4g}" if finished.losses else ""
        return " · ".join(filter(None, (how, duration(finished.seconds), loss, describe_structure(finished.structure))))

    def _add(self, image: npt.NDArray[Any], **made: Any) -> None:
        # A copy: the layer's data is written to with every preview, and the run's own image must stay.
        image = np.array(image)
        if self._channel:
            assert isinstance(self._reference, Snapshot)
            kwargs = channel_kwargs(image, self._reference)
        else:
            kwargs = image_kwargs(image, self._reference.grid, alpha=self.alpha)
        name = result_name(self._content, self._styles)
        self.layer = self._viewer.add_image(**kwargs, name=name, metadata=self._metadata(**made))

    def _write(self, image: npt.NDArray[Any]) -> None:
        assert self.layer is not None
        pixels = to_layer_axes(image, self._reference.grid.resized(image.shape[:2]))
        data = self.layer.data
        ours = isinstance(data, np.ndarray) and data.ndim == pixels.ndim and data.dtype == pixels.dtype
        if ours and self._channel and data.shape == pixels.shape:
            data[...] = pixels
        elif ours and not self._channel and data.shape[:-1] == pixels.shape[:-1]:
            data[..., :3] = pixels
        else:
            # The user has put other data into the layer: it is theirs now, and the result gets its own.
            self._add(image)
