"""Which planes of the content are run and what kind of layer comes out; shown only where there is a choice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations
from math import prod
from typing import TYPE_CHECKING

from napari_styletransfer.layers.snapshot import Snapshot
from napari_styletransfer.widget.qt_utils import FormRows, ValueCombo

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.layers.compose import Composite
    from napari_styletransfer.session.form_state import FormState
    from napari_styletransfer.widget.settings.field_editors import Editor


class OutputOptions(FormRows):
    """Planes and the kind of result: `axes` and `channel` of the form's state."""

    def __init__(self, viewer: ViewerModel, state: FormState, movie: Editor) -> None:
        super().__init__()
        self._viewer = viewer
        self._state = state
        self.planes = ValueCombo("<p>Run the plane that is shown, or all planes one after another.</p>")
        self.kind = ValueCombo(
            "<p>RGB layer: with the colours of the style. Channel: only the structure changes. The result has the data "
            "type, contrast limits and colormap of the content, and its brightness: dark stays dark. Colours 'style' "
            "count as 'match' then.</p>"
        )
        self.kind.set_items([("RGB layer", False), ("channel", True)], False)
        self._movie = movie.native
        self.add("Planes", self.planes)
        self.add("Each plane", self._movie)
        self.add("Result as", self.kind)
        self.planes.currentIndexChanged.connect(self._on_edited)
        self.kind.currentIndexChanged.connect(self._on_edited)
        self.set_content(None)

    def set_content(self, content: Snapshot | Composite | None) -> None:
        """Offer what this content allows, and write down what is chosen of that."""
        items = [("this plane", ()), *([] if content is None else _stack_choices(content, self._axis_name))]
        if items != [(self.planes.itemText(index), axes) for index, axes in enumerate(self.planes.values)]:
            self.planes.set_items(items, self.planes.currentData(), missing=0)
        several = len(items) > 1
        grey = isinstance(content, Snapshot) and content.kind == "grey"
        self.show_row(self.planes, several)
        self.show_row(self._movie, several and bool(self.planes.currentData()))
        self.show_row(self.kind, grey)
        self.setVisible(several or grey)
        self._write()

    def choose(self, axes: tuple[int, ...] | None = None, channel: bool | None = None) -> None:
        """Choose as if the user had."""
        if axes is not None:
            self.planes.setCurrentIndex(self.planes.index_of(axes, missing=0))
        if channel is not None:
            self.kind.setCurrentIndex(self.kind.index_of(channel))

    def _write(self) -> None:
        self._state.axes = self.planes.currentData()
        self._state.channel = not self.kind.isHidden() and self.kind.currentData()

    def _on_edited(self) -> None:
        self._write()
        self._state.changed.emit()

    def _axis_name(self, axis: int, ndim: int) -> str:
        """Return what the viewer calls an axis, counted from the last, of a layer of `ndim` axes."""
        labels = self._viewer.dims.axis_labels
        # A layer that is just coming may have more axes than the viewer knows of yet.
        number = max(len(labels), ndim) + axis
        label = str(labels[axis]) if -axis <= len(labels) else ""
        # Unnamed axes are labelled with their number, by newer versions of napari counted from the last.
        return f"axis {number}" if label.lstrip("-").isdigit() or not label else label


def _stack_choices(content: Snapshot | Composite, name: Callable[[int, int], str]) -> list[tuple[str, tuple[int, ...]]]:
    """Return every way to run through the hidden axes, in words and as axes; those of the bottom layer of several."""
    bottom = content.snapshots[0]
    ndim, sizes = len(bottom.full), bottom.data.shape
    hidden = [axis for axis in range(ndim) if axis not in bottom.grid.displayed and sizes[axis] > 1]
    found = []
    for axes in chain.from_iterable(combinations(hidden, count) for count in range(1, len(hidden) + 1)):
        names = ", ".join(name(axis - ndim, ndim) for axis in axes)
        found.append((f"all {prod(int(sizes[axis]) for axis in axes)} along {names}", axes))
    return found
