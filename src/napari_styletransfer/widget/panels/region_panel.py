"""The region part of the form: where the content is stylised, and with which style.

Shown only when the viewer has a Labels or Shapes layer. For labels it finds, in a thread, which ones lie on the
content, and offers a style for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtWidgets import QComboBox
from superqt.utils import QSignalDebouncer

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.regions import LabelsRegion, Source, resolve_labels
from napari_styletransfer.widget.latest_worker import LatestWorker
from napari_styletransfer.widget.panels import LIST_EVENTS
from napari_styletransfer.widget.panels.region_table import RegionTable
from napari_styletransfer.widget.qt_utils import FormRows, ValueCombo

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.session.form_state import FormState
    from napari_styletransfer.widget.settings.field_editors import Editor

_DEBOUNCE_MS = 300
"""Milliseconds after a change before the labels are looked through again."""

_LABELS_EVENTS = ("set_data", "paint", "colormap")
"""Events of a Labels layer after which other labels, or others colours, may be there."""


class RegionPanel(FormRows):
    """Which layer says where, and the style of each label.

    Writes `region_layer`, `regions` and `relabel` of the form's state.
    """

    def __init__(self, viewer: ViewerModel, state: FormState, feather: Editor) -> None:
        super().__init__()
        self._viewer = viewer
        self._state = state
        self._labels: Labels | None = None
        self._planes: list[Source] = []
        self._deferred = QSignalDebouncer(parent=self)
        self._deferred.triggered.connect(self._update)
        self._debouncer = QSignalDebouncer(parent=self)
        self._debouncer.setTimeout(_DEBOUNCE_MS)
        self._debouncer.triggered.connect(self.find_labels)
        self._worker = LatestWorker(_labels_of, self._on_labels_found, self)
        self.combo = ValueCombo(
            "<p>Stylise only where this Labels or Shapes layer says; everything else stays as it is.</p>"
        )
        self.table = RegionTable()
        self._feather = feather.native
        self.add("Regions", self.combo)
        self.add_wide(self.table)
        self.add(feather.title, self._feather)
        self.combo.currentIndexChanged.connect(self._on_layer)
        self.table.changed.connect(self._on_edited)
        viewer.layers.events.connect(self._on_layers)
        self._update()

    @property
    def rows(self) -> dict[int, QComboBox]:
        """The list of styles of each label that has a row."""
        return self.table.rows

    @property
    def layer(self) -> Labels | Shapes | None:
        """The layer that says where, or None for the whole picture."""
        self.flush()
        return self._state.region_layer

    def choose(self, layer: Labels | Shapes | None) -> None:
        """Choose a layer as if the user had."""
        self.flush()
        self.combo.setCurrentIndex(self.combo.index_of(layer, missing=0))

    def set_planes(self, planes: Sequence[Source]) -> None:
        """Take note of the content's planes (none: there is no content) and of the chosen styles."""
        self.table.set_styles(self._state.styles)
        before, self._planes = self._planes, list(planes)
        if [_location(plane) for plane in planes] != [_location(plane) for plane in before]:
            self._debouncer.throttle()
        self._show()
        self._write()

    def set_regions(self, regions: dict[int, int | None] | None) -> None:
        """Show the style numbers of a recipe, as far as there are such styles."""
        self.table.set_regions(regions)
        self._write()

    def find_labels(self) -> None:
        """Find in a thread which labels lie on the content."""
        if self._labels is None or not self._planes:
            return
        try:
            regions = [resolve_labels(plane, self._labels) for plane in self._planes]
        except ImageError:
            # Told when Run is pressed; a list of labels is no place for it.
            return
        self._worker.start(regions)

    def flush(self) -> None:
        """Follow now what came and went in the list of layers in this turn of the event loop."""
        self._deferred.flush(restart_timer=False)

    def release(self) -> None:
        """Stop following the viewer."""
        self._worker.cancel()
        self._debouncer.cancel()
        self._deferred.cancel()
        self._viewer.layers.events.disconnect(self._on_layers)
        self._follow(None)

    def _on_layers(self, event: Any) -> None:
        """Follow an event of the list of layers, or of one of them; images are the styles."""
        if event.type in LIST_EVENTS:
            self._deferred.throttle()
        elif event.type == "name":
            for index, layer in enumerate(self.combo.values[1:], 1):
                self.combo.setItemText(index, layer.name)
            self.table.update_names()

    def _update(self) -> None:
        """Bring the list of layers up to date with the viewer."""
        self.table.drop_missing(self._viewer.layers)
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels | Shapes)]
        if self.combo.count() and layers == self.combo.values[1:]:
            return
        items = [("whole picture", None), *((layer.name, layer) for layer in layers)]
        self.combo.set_items(items, self.combo.currentData(), missing=0)
        self._on_layer()

    def _on_layer(self) -> None:
        layer = self.combo.currentData()
        labels = layer if isinstance(layer, Labels) else None
        if labels != self._labels:
            self._follow(labels)
            self.table.set_layer(labels)
            self.find_labels()
        self._show()
        self._on_edited()

    def _show(self) -> None:
        """Show what applies."""
        self.setVisible(self.combo.count() > 1 and bool(self._planes))
        self.show_row(self.table, isinstance(self.combo.currentData(), Labels))
        self.show_row(self._feather, self.combo.currentData() is not None)

    def _on_edited(self) -> None:
        self._write()
        self._state.changed.emit()

    def _write(self) -> None:
        layer = None if self.isHidden() else self.combo.currentData()
        labelled = isinstance(layer, Labels)
        self._state.region_layer = layer
        self._state.regions = self.table.regions() if labelled else None
        self._state.relabel = self.table.relabel() if labelled else {}

    def _follow(self, layer: Labels | None) -> None:
        if self._labels is not None:
            for name in _LABELS_EVENTS:
                getattr(self._labels.events, name).disconnect(self._on_painted)
        self._labels = layer
        if layer is not None:
            for name in _LABELS_EVENTS:
                getattr(layer.events, name).connect(self._on_painted)

    def _on_painted(self, event: Any = None) -> None:
        self._debouncer.throttle()

    def _on_labels_found(self, present: list[int]) -> None:
        if present != self.table.present:
            self.table.set_present(present)
            self._on_edited()


def _labels_of(regions: Sequence[LabelsRegion]) -> list[int]:
    """Return the labels on some planes, the smallest first; none where they cannot be read, which Run tells."""
    found: set[int] = set()
    try:
        for region in regions:
            found.update(int(label) for label in np.unique(region.read()))
    except ImageError:
        return []
    return sorted(found)


def _location(plane: Source) -> tuple[Any, ...]:
    """Return what tells one plane from another."""
    grid = plane.grid
    return (plane.point, grid.shape, grid.matrix.tobytes())
