"""Which planes of the content are run and what kind of layer comes out; shown only where there is a choice.

Asked by the form when it makes a job.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_styletransfer.devices import system_memory
from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.layers.stack import Stack, stack_of
from napari_styletransfer.units import format_bytes
from napari_styletransfer.widget.qt_utils import FormRows, WheelFilter, elide

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.widget.field_editors import Editor


class OutputOptions(QWidget):
    """Planes and the kind of result."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, movie: Editor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._offered: list[tuple[str, tuple[int, ...]]] = []
        self._calm = WheelFilter(self)
        self.planes = self._combo("<p>Run the plane that is shown, or all planes one after another.</p>")
        self.kind = self._combo(
            "<p>RGB layer: with the colours of the style. Channel: only the structure changes. The result has the data "
            "type, contrast limits and colormap of the content, and its brightness: dark stays dark. Colours 'style' "
            "count as 'match' then.</p>"
        )
        self.kind.addItem("RGB layer", False)
        self.kind.addItem("channel", True)
        self._movie = movie.native
        self._form = FormRows()
        self._form.add("Planes", self.planes)
        self._form.add("Each plane", self._movie)
        self._form.add("Result as", self.kind)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        self.follow(None)

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the content that are run through; none means the plane shown."""
        return () if self.isHidden() else self.planes.currentData() or ()

    @property
    def channel(self) -> bool:
        """Whether the result stays one channel."""
        return not self.isHidden() and not self.kind.isHidden() and bool(self.kind.currentData())

    def follow(self, content: Snapshot | Composite | None) -> None:
        """Offer what this content allows."""
        offered = [] if content is None else _choices(content, self._axis_name)
        if offered != self._offered:
            chosen = self.planes.currentData()
            self._offered = offered
            self.planes.blockSignals(True)
            self.planes.clear()
            self.planes.addItem("this plane", ())
            for words, axes in offered:
                self.planes.addItem(words, axes)
            self.planes.setCurrentIndex(max(self._index_of(chosen), 0))
            self.planes.blockSignals(False)
        grey = isinstance(content, Snapshot) and content.kind == "grey"
        self._form.show_row(self.planes, bool(offered))
        self._form.show_row(self._movie, bool(offered) and bool(self.planes.currentData()))
        self._form.show_row(self.kind, grey)
        self.setVisible(bool(offered) or grey)

    def choose(self, axes: tuple[int, ...] | None = None, channel: bool | None = None) -> None:
        """Choose as if the user had."""
        if axes is not None:
            self.planes.setCurrentIndex(self._index_of(axes))
        if channel is not None:
            self.kind.setCurrentIndex(int(channel))

    def stack(self, content: Snapshot | Composite | None, size: int | None) -> Stack | None:
        """Return the planes to run, or None for the one that is shown.

        Raises
        ------
        ImageError
            If the layer has no such planes, or the results would not fit into memory.
        """
        if not self.axes or content is None:
            return None
        stack = stack_of(content, self.axes)
        height, width = content.shape
        shrunk = min(1.0, (size or max(content.shape)) / max(content.shape))
        width_of_pixel = stack.bottom.dtype.itemsize if self.channel else 3
        needed = int(len(stack) * height * width * shrunk**2 * width_of_pixel)
        free, _ = system_memory.memory()
        if needed > free:
            raise ImageError(
                f"The results of {len(stack)} planes take {format_bytes(needed)}, and {format_bytes(free)} are "
                "free. Choose a smaller size, or fewer axes."
            )
        return stack

    def _index_of(self, axes: Any) -> int:
        return next((index for index in range(self.planes.count()) if self.planes.itemData(index) == axes), 0)

    def _axis_name(self, axis: int, ndim: int) -> str:
        """Return what the viewer calls an axis, counted from the last, of a layer of `ndim` axes."""
        labels = self._viewer.dims.axis_labels
        # A layer that is just coming may have more axes than the viewer knows of yet.
        number = max(len(labels), ndim) + axis
        label = str(labels[axis]) if -axis <= len(labels) else ""
        # Unnamed axes are labelled with their number, by newer versions of napari counted from the last.
        return f"axis {number}" if label.lstrip("-").isdigit() or not label else label

    def _combo(self, tooltip: str) -> QComboBox:
        combo = QComboBox()
        combo.setToolTip(tooltip)
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(8)
        combo.currentIndexChanged.connect(self.changed)
        self._calm.guard(combo)
        elide(combo)
        return combo


def _choices(content: Snapshot | Composite, name: Callable[[int, int], str]) -> list[tuple[str, tuple[int, ...]]]:
    """Return every way to run through the hidden axes, in words and as axes; those of the bottom layer of several."""
    bottom = content.snapshots[0]
    ndim, sizes = len(bottom.full), bottom.data.shape
    hidden = [axis for axis in range(ndim) if axis not in bottom.grid.displayed and sizes[axis] > 1]
    found = []
    for axes in chain.from_iterable(combinations(hidden, count) for count in range(1, len(hidden) + 1)):
        planes = 1
        for axis in axes:
            planes *= int(sizes[axis])
        words = ", ".join(name(axis - ndim, ndim) for axis in axes)
        found.append((f"all {planes} along {words}", axes))
    return found
