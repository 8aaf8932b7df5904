"""The work of `stylize` when the content is a stack or a movie: plane by plane from one TIFF file to another.

Called by `cli.run`. The planes share one value range, so that equal pixels stay equal, and the result is
written while the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_styletransfer import api
from napari_styletransfer.cli.progress import Monitor
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError, NothingToDoError, StyleTransferError
from napari_styletransfer.events import Finished, PlaneStarted, Reason, Started
from napari_styletransfer.images.pixels import decode, encoding_of
from napari_styletransfer.io import Stack, read_labels, read_stack, writing_stack

if TYPE_CHECKING:
    from napari_styletransfer.engine.shared import Shared

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class PlaneSelection:
    """The planes of a stack that are wanted, in one value range.

    Attributes
    ----------
    stack
        Where they come from.
    indices
        Which, counted from 0 in the order of the file.
    low, high
        Values that become 0 and 1 in every plane.
    """

    stack: Stack
    indices: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def from_stack(cls, stack: Stack, indices: Sequence[int]) -> PlaneSelection:
        """Look at every plane once: at its values, and whether it can be read at all.

        Raises
        ------
        ImageError
            Naming the plane that cannot be used.
        """
        ends: list[tuple[float, float]] = []
        for index in indices:
            try:
                encoding = encoding_of(stack.plane(index))
            except ImageError as error:
                raise ImageError(f"{stack.path}, plane {index}: {error}") from error
            ends.append((encoding.low, encoding.high))
        return cls(stack, tuple(indices), min(low for low, _ in ends), max(high for _, high in ends))

    @property
    def axes(self) -> tuple[str, tuple[int, ...]]:
        """Letters and lengths of the axes of the result; some planes only are one row of them."""
        if len(self.indices) == len(self.stack):
            return self.stack.axes, self.stack.counts
        return self.stack.axes[-1], (len(self.indices),)

    @property
    def increments(self) -> dict[str, float]:
        """Distance of the result's planes, as `io.Stack.increments`; none where they are not equally far apart."""
        if len(self.indices) == len(self.stack):
            return dict(self.stack.increments)
        apart = {after - before for before, after in pairwise(self.indices)}
        if len(self.stack.axes) > 1 or len(apart) != 1:
            return {}
        (every,) = apart
        return {axis: abs(every) * distance for axis, distance in self.stack.increments.items()}

    def read_rgb(self, index: int) -> npt.NDArray[np.float32]:
        """Read a plane as RGB in [0, 1]."""
        rgb, _ = decode(self.stack.plane(self.indices[index]), low=self.low, high=self.high)
        return rgb


def parse_planes(text: str | None, count: int) -> list[int]:
    """Read which planes are wanted: "4" is one, "2:8" those from 2 to 7, "::2" every second, None all.

    Raises
    ------
    ConfigError
        If the text says nothing of the kind, or no such plane is there.
    """
    if text is None:
        return list(range(count))
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if len(parts) > 3 or parts == [None] or parts[2:] == [0]:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"--planes: expected a number such as 4, or a range such as 0:10, but got '{text}'."
        ) from None
    first = parts[0]
    numbers = list(range(count))[slice(*parts)] if len(parts) > 1 else [n for n in range(count) if n == first]
    if not numbers:
        raise ConfigError(f"--planes: there is no plane {text}; the stack has planes 0 to {count - 1}.")
    return numbers


def label_readers(
    path: Path, shape: tuple[int, ...], stack: Stack | None = None, indices: Sequence[int] = (0,)
) -> list[Callable[[], npt.NDArray[Any]]]:
    """Return a reader of the labels of each plane: of one picture for all, or of a stack with as many planes.

    Parameters
    ----------
    path
        Of the labels.
    shape
        Of the content, or of its planes.
    stack, indices
        The content's, if it is one, and which of its planes are wanted.

    Raises
    ------
    ImageError
        If the labels are not of the content's size or number of planes.
    """
    source = (read_stack(path) if stack else None) or read_labels(path)
    if source.shape != shape[:2]:
        size = "×".join(map(str, source.shape[1::-1]))
        raise ImageError(
            f"The labels {path} are {size} pixels, the content is {shape[1]}×{shape[0]}. Give labels of its size."
        )
    if stack is None or not isinstance(source, Stack):
        return [partial(np.asarray, source)] * len(indices)
    if len(source) != len(stack):
        raise ImageError(
            f"The labels {path} have {len(source)} planes, the content has {len(stack)}. Give one label picture for "
            "all planes, or one for each."
        )
    return [partial(source.plane, index) for index in indices]


def run_stack(
    planes: PlaneSelection,
    styles: Sequence[npt.NDArray[Any]],
    config: StyleConfig,
    output: Path,
    labels: Sequence[Callable[[], npt.NDArray[Any]]] | None,
    density: tuple[float, float] | None,
    monitor: Monitor,
    keep_partial: bool = True,
    shared: Shared | None = None,
) -> tuple[int, StyleTransferError | None]:
    """Stylise the planes into a TIFF stack.

    Returns
    -------
    planes
        How many are finished. They are in the file and the rest of it is zero; without `keep_partial` there is no file
        unless it is whole.
    failure
        What ended the run of the next one, if that failed.

    Raises
    ------
    ImageError
        If there is no room for the file, before the first step.
    StyleTransferError
        If the run of the first plane fails; there is no file then.
    """
    # Only now, because it loads torch.
    from napari_styletransfer.engine.stack import iter_stylize_stack

    if labels is not None:
        _check_labels(planes, labels, len(styles), config)
    axes, counts = planes.axes
    channels = 4 if planes.stack.shape[2:] == (4,) else 3
    write: Callable[[int, npt.NDArray[Any]], None] | None = None
    plane = done = 0
    reason: Reason | None = None
    with suppress(_PartialStack), ExitStack() as files:
        events = iter_stylize_stack(
            [partial(planes.read_rgb, index) for index in range(len(planes.indices))],
            styles,
            config,
            labels=labels,
            should_stop=monitor.should_stop,
            shared=shared,
        )
        try:
            for event in files.enter_context(closing(events)):
                monitor(event)
                if isinstance(event, PlaneStarted):
                    plane = event.plane
                if write is None and isinstance(event, (Started, Finished)):
                    # Before anything long, for there may be no room; a plane without labels ends without a start.
                    last = event.plan.sizes[-1] if isinstance(event, Started) else event.image.shape[:2]
                    write = files.enter_context(
                        writing_stack(
                            output,
                            counts,
                            axes,
                            (*last, channels),
                            planes.stack.dtype,
                            density=None if density is None else scale_density(density, planes.stack.shape, last),
                            increments=planes.increments,
                        )
                    )
                if write is not None and isinstance(event, Finished):
                    content = planes.stack.plane(planes.indices[plane])
                    encoding = encoding_of(content, low=planes.low, high=planes.high)
                    own = labels[plane]() if labels is not None else None
                    write(plane, api.encode_result(event, encoding, content, own, len(styles)))
                    done, reason = plane + 1, event.reason
        # Whatever it is, the planes before are kept.
        except Exception as error:
            if not done or not keep_partial:
                raise
            failure = StyleTransferError(
                f"Plane {planes.indices[done]} failed; {output} holds the {done} before it, and nothing of the others. "
                f"{error}"
            )
            failure.__cause__ = error
            return done, failure
        if not keep_partial and (done < len(planes.indices) or reason is Reason.STOPPED):
            raise _PartialStack
    return done, None


class _PartialStack(Exception):
    """Raised so that a stack that lacks planes does not take its place."""


def _check_labels(
    planes: PlaneSelection, labels: Sequence[Callable[[], npt.NDArray[Any]]], styles: int, config: StyleConfig
) -> None:
    """Refuse labels that cannot be used, or that mark nothing in any plane."""
    from napari_styletransfer.losses.regions import RegionMap

    height, width = planes.stack.shape[:2]
    marked = False
    for index, read in zip(planes.indices, labels, strict=True):
        try:
            RegionMap.from_arrays(read(), (height, width), styles, config)
            marked = True
        except NothingToDoError:
            # Tracked objects come and go: such a plane is left as it is.
            continue
        except ImageError as error:
            raise ImageError(f"The labels of plane {index}: {error}") from error
    if not marked:
        raise NothingToDoError(
            f"In none of the {len(planes.indices)} planes is a label given a style: there would be nothing to do. "
            "Give labels that are not 0 with --labels, or their styles with --regions."
        )


def scale_density(density: tuple[float, float], before: tuple[int, ...], after: tuple[int, ...]) -> tuple[float, float]:
    """Return the pixels per centimetre of a result, along x and y, from those of a content of another size."""
    return density[0] * after[1] / before[1], density[1] * after[0] / before[0]
