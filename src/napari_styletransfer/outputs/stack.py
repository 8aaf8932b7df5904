"""The output layer of a stack: one layer that fills in plane by plane.

The slider follows the plane under way as long as the user leaves it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer.errors import ConfigError
from napari_styletransfer.layers.read import in_units_of
from napari_styletransfer.layers.rendering import BYTES, Rendering
from napari_styletransfer.layers.write import result_name, stack_kwargs
from napari_styletransfer.outputs.base import PartsOutput

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.events import Finished
    from napari_styletransfer.layers.rendering import LabelSource
    from napari_styletransfer.layers.stack import Stack


class StackOutput(PartsOutput):
    """The layer that shows the run of a stack.

    Parameters
    ----------
    viewer
        Where the layer is added.
    stack
        The planes.
    styles
        Names, for the layer's name and metadata.
    channel
        Whether the result stays one channel in the content's dtype; otherwise it is 8-bit RGB.
    labels
        Of each plane, where there are regions.
    regions
        As `StyleConfig.regions`.
    """

    noun = "plane"

    def __init__(
        self,
        viewer: ViewerModel,
        stack: Stack,
        *,
        styles: Sequence[str],
        channel: bool = False,
        labels: Sequence[LabelSource] | None = None,
        regions: Mapping[int, int | None] | None = None,
    ) -> None:
        super().__init__(viewer, stack.base.name, styles)
        self._stack = stack
        self._channel = channel
        self._labels = labels
        self._regions = regions
        self._renderings: dict[int, Rendering] = {}
        self._read = 0
        self._made: dict[str, Any] = {}
        self._slider_plane: int | None = None

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer and still holds what was put into it."""
        return super().present and self.layer is not None and self.layer.data is self._array

    @property
    def complete(self) -> bool:
        """Whether every plane is finished."""
        return len(self.finished) == len(self._stack)

    @property
    def results(self) -> Mapping[int, npt.NDArray[Any]]:
        """The finished planes as the engine takes them; a view, read when asked for."""
        return _Results(self)

    @property
    def run_options(self) -> dict[str, Any]:
        """What the engine takes: planes, each read in the thread of the run when its turn comes, and what is done."""
        return {"planes": [_Plane(self, number) for number in range(len(self._stack))], "finished": self.results}

    def attach(self, layer: Image, parts: Sequence[Mapping[str, Any]]) -> None:
        """Go on with a layer that has some planes already.

        Raises
        ------
        ConfigError
            If the layer is not of the shape or type of the stack's results.
        """
        rows, columns = self._stack.base.grid.displayed
        shape, dtype = tuple(int(size) for size in layer.data.shape), np.dtype(layer.data.dtype)
        expected = self._empty((shape[rows], shape[columns]))
        if shape != expected.shape or dtype != expected.dtype:
            raise ConfigError(
                f"Layer '{layer.name}' is {dtype} of shape {shape}, but the results of '{self._stack.base.name}' are "
                f"{expected.dtype} of shape {expected.shape}. Run it anew."
            )
        if isinstance(layer.data, np.ndarray) and layer.data.flags.writeable:
            self._array = layer.data
        else:
            # As it comes out of a file: lazy, or not to be written to.
            expected[...] = layer.data
            self._array = layer.data = expected
        self.layer = layer
        self.finished = {int(part["plane"]): dict(part) for part in parts}

    def blocking_reason(self, finished: Finished | None) -> str:
        """Return why the planes that are left cannot be run, or an empty string."""
        return "All planes of this result are done." if self.complete else ""

    def summary(self, finished: Finished) -> str:
        """Return how many planes are done, in a line for people."""
        done = len(self.finished)
        if self.complete:
            return f"Done: {done} planes"
        return f"Stopped after {done} planes; Continue goes on with the next"

    def read(self, number: int) -> npt.NDArray[np.float32]:
        """Read a plane whose turn has come, and what its result needs of it; for the thread of the run."""
        source = self._stack[number]
        labels = None if self._labels is None else self._labels[number]
        rendering = Rendering(source, channel=self._channel, labels=labels, regions=self._regions)
        rendering.load()
        self._renderings[number] = rendering
        self._read = number
        return source.read()

    def render(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of the plane that was read last into what the layer holds; for the thread of the run."""
        # The main thread may yet be showing the plane before.
        return self._renderings[self._read](image, shape)

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the plane under way; see `render`."""
        super().show(image)
        self._move_slider()

    def finish(self, image: npt.NDArray[np.float32], *, reason: str, **made: Any) -> None:
        """Show the result of the plane under way and write down how it was made; a stopped one is not finished."""
        self.show(self._renderings.pop(self._number)(image, (image.shape[0], image.shape[1])))
        if reason != "stopped":
            self.finished[self._number] = {"plane": self._number, "losses": made.get("losses", {}), "reason": reason}
        self._made = {"planes": list(self.finished.values()), **made}
        self._update_metadata(**self._made)

    def plane(self, number: int) -> npt.NDArray[Any]:
        """Return a finished plane as displayed: uint8 (h, w, 3), or for a channel float32 in [0, 1]."""
        assert self._array is not None
        base, displayed = self._stack.bottom, self._stack.base.grid.displayed
        where: list[Any] = [0] * base.grid.geometry.ndim
        for axis, at in zip(self._stack.axes, self._stack.unravel(number), strict=True):
            where[axis] = at
        for axis in displayed:
            where[axis] = slice(None)
        plane = self._array[tuple(where)]
        if displayed[0] > displayed[1]:
            plane = plane.swapaxes(0, 1)
        if not self._channel:
            return plane
        low, high = base.contrast_limits or (0.0, 1.0)
        unit = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1) ** base.gamma
        return np.repeat(unit.astype(np.float32)[..., None], 3, axis=2)

    def _empty(self, shape: tuple[int, int]) -> npt.NDArray[Any]:
        channels, dtype = (1, self._stack.bottom.dtype) if self._channel else (3, BYTES)
        return self._stack.empty(shape, channels=channels, dtype=dtype)

    def _put(self, image: npt.NDArray[Any]) -> None:
        self._stack.put(self._array, self._number, image)

    def _add(self) -> None:
        assert self._array is not None
        kwargs = stack_kwargs(self._array, self._stack)
        name = result_name(self._content, self._styles)
        self.layer = self._viewer.add_image(**kwargs, name=name, metadata=self._metadata(**self._made))

    def _move_slider(self) -> None:
        """Move the slider to a plane that has just begun, unless the user has left the one before, or the layer."""
        number, before = self._number, self._slider_plane
        if number == before or not self.present:
            return
        self._slider_plane = number
        if before is not None and not all(
            np.isclose(self._viewer.dims.point[axis], at, atol=self._viewer.dims.range[axis].step / 2)
            for axis, at in self._slider_positions(before).items()
        ):
            return
        for axis, at in self._slider_positions(number).items():
            self._viewer.dims.set_point(axis, at)

    def _slider_positions(self, number: int) -> dict[int, float]:
        """Return where the viewer's sliders stand for a plane, by axis of the viewer."""
        assert self.layer is not None
        grid = self._stack[number].grid
        world = grid.geometry.matrix @ np.append(grid.position, 1)
        offset = self._viewer.dims.ndim - grid.geometry.ndim
        units = in_units_of(self.layer, self._viewer, [1.0] * self._viewer.dims.ndim)
        return {axis + offset: float(world[axis] / units[axis + offset]) for axis in self._stack.axes}


@dataclass(frozen=True)
class _Plane:
    """A plane that the output reads for the engine."""

    output: StackOutput
    number: int

    def read(self) -> npt.NDArray[np.float32]:
        """Read the plane."""
        return self.output.read(self.number)


class _Results(Mapping[int, npt.NDArray[Any]]):
    """Finished planes by number, taken out of the layer one at a time."""

    def __init__(self, output: StackOutput) -> None:
        self._output = output

    def __getitem__(self, number: int) -> npt.NDArray[Any]:
        if number not in self._output.finished:
            raise KeyError(number)
        return self._output.plane(number)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._output.finished))

    def __len__(self) -> int:
        return len(self._output.finished)
