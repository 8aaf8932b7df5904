"""The output layer of a stack: one layer that fills in plane by plane.

Stands in for `outputs.image.OutputLayer` in a session that runs a whole stack. The slider goes along with the plane
under way as long as the user leaves it there.
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
from napari_styletransfer.layers.write import result_name, run_metadata, stack_kwargs

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_styletransfer.layers.rendering import LabelSource
    from napari_styletransfer.layers.stack import Stack


class StackOutput:
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
    marks
        Labels of each plane, where there are regions.
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
        marks: Sequence[LabelSource] | None = None,
        regions: Mapping[int, int | None] | None = None,
    ) -> None:
        self.layer: Image | None = None
        self.alpha: npt.NDArray[Any] | None = None
        self.finished: dict[int, dict[str, Any]] = {}
        self._viewer = viewer
        self._stack = stack
        self._styles = tuple(styles)
        self._channel = channel
        self._marks = marks
        self._regions = regions
        self._renderings: dict[int, Rendering] = {}
        self._read = 0
        self._made: dict[str, Any] = {}
        self._array: npt.NDArray[Any] | None = None
        self._number = 0
        self._shown: int | None = None

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer and still holds what was put into it."""
        return self.layer is not None and self.layer in self._viewer.layers and self.layer.data is self._array

    @property
    def complete(self) -> bool:
        """Whether every plane is finished."""
        return len(self.finished) == len(self._stack)

    @property
    def results(self) -> Mapping[int, npt.NDArray[Any]]:
        """The finished planes as the engine takes them; a view, read when asked for."""
        return _Results(self)

    @property
    def planes(self) -> Sequence[Any]:
        """The planes as the engine takes them, each to be read in the thread of the run when its turn comes."""
        return [_Plane(self, number) for number in range(len(self._stack))]

    def adopt(self, layer: Image, planes: Sequence[Mapping[str, Any]]) -> None:
        """Go on with a layer that has some planes already.

        Parameters
        ----------
        layer
            As this output would have made it.
        planes
            What its metadata say of the finished planes.

        Raises
        ------
        ConfigError
            If the layer is not of the shape or type of the stack's results.
        """
        rows, columns = self._stack.base.grid.displayed
        shape, dtype = tuple(int(size) for size in layer.data.shape), np.dtype(layer.data.dtype)
        expected = self._stack.empty(
            (shape[rows], shape[columns]), channels=1 if self._channel else 3, dtype=self._dtype
        )
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
        self.finished = {int(plane["plane"]): dict(plane) for plane in planes}

    def read(self, number: int) -> npt.NDArray[np.float32]:
        """Read a plane whose turn has come, and what its result needs of it; for the thread of the run."""
        source = self._stack[number]
        marks = None if self._marks is None else self._marks[number]
        rendering = Rendering(source, channel=self._channel, marks=marks, regions=self._regions)
        rendering.load()
        self._renderings[number] = rendering
        self._read = number
        return source.read()

    def begin(self, number: int) -> None:
        """Take note that this plane's run begins."""
        self._number = number

    def prepared(self, image: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Turn an image of the plane that was read last into what the layer holds; for the thread of the run."""
        # The main thread may yet be showing the plane before.
        return self._renderings[self._read](image, shape)

    def show(self, image: npt.NDArray[Any]) -> None:
        """Show a preview of the plane under way; see `prepared`."""
        if self._array is None:
            self._array = self._stack.empty(
                (image.shape[0], image.shape[1]), channels=1 if self._channel else 3, dtype=self._dtype
            )
            self._stack.put(self._array, self._number, image)
            self._add()
        else:
            self._stack.put(self._array, self._number, image)
            if self.present:
                assert self.layer is not None
                self.layer.refresh(thumbnail=False, highlight=False, extent=False)
        self._go_along()

    def finish(self, image: npt.NDArray[np.float32], *, reason: str, recipe: Mapping[str, Any], **made: Any) -> None:
        """Show the result of the plane under way and write down how it was made; a stopped one is not finished."""
        self.show(self._renderings.pop(self._number)(image, (image.shape[0], image.shape[1])))
        if reason != "stopped":
            self.finished[self._number] = {"plane": self._number, "losses": made.get("losses", {}), "reason": reason}
        self._made = {"recipe": recipe, "planes": list(self.finished.values()), **made}
        if self.present:
            assert self.layer is not None
            made_now = run_metadata(content=self._stack.base.name, styles=self._styles, **self._made)
            self.layer.metadata = {**self.layer.metadata, **made_now}

    def close(self) -> None:
        """End the run: bring back what the user deleted meanwhile, and draw the thumbnail."""
        if self._array is None:
            return
        if not self.present:
            self._add()
        elif self.layer is not None:
            self.layer.refresh(extent=False)

    def plane(self, number: int) -> npt.NDArray[Any]:
        """Return a finished plane as displayed: uint8 (h, w, 3), or for a channel float32 in [0, 1]."""
        assert self._array is not None
        base, displayed = self._stack.bottom, self._stack.base.grid.displayed
        where: list[Any] = [0] * base.grid.geometry.ndim
        for axis, at in zip(self._stack.axes, self._stack.place(number), strict=True):
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

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._stack.bottom.dtype if self._channel else BYTES

    def _add(self) -> None:
        assert self._array is not None
        name = result_name(self._stack.base.name, self._styles)
        kwargs = stack_kwargs(self._array, self._stack, name=name, styles=self._styles, **self._made)
        self.layer = self._viewer.add_image(**kwargs)

    def _go_along(self) -> None:
        """Move the slider to a plane that has just begun, unless the user has left the one before, or the layer."""
        number, before = self._number, self._shown
        if number == before or not self.present:
            return
        self._shown = number
        if before is not None and not all(
            np.isclose(self._viewer.dims.point[axis], at, atol=self._viewer.dims.range[axis].step / 2)
            for axis, at in self._slider(before).items()
        ):
            return
        for axis, at in self._slider(number).items():
            self._viewer.dims.set_point(axis, at)

    def _slider(self, number: int) -> dict[int, float]:
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
