"""The region part of the form: where the content is stylised, and with which style.

Shown only when the viewer has a Labels or Shapes layer. For labels it finds, in a thread, which ones lie on the
content, and offers a style for each; the rest of the form asks it for `regions()` and for what to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.regions import LabelsRegion, ShapesRegion, Source, resolve_labels, resolve_shapes
from napari_styletransfer.session.job import Relabelled
from napari_styletransfer.widget.next_turn import NextTurn
from napari_styletransfer.widget.qt_utils import FormRows, WheelFilter, elide
from napari_styletransfer.widget.region_table import RegionTable

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_styletransfer.session.layer_group import Picture
    from napari_styletransfer.widget.field_editors import Editor

_PATIENCE = 300
"""Milliseconds after a change before the labels are looked through again."""

_TELLING = ("set_data", "paint", "colormap")
"""Events of a Labels layer after which other labels, or others colours, may be there."""

_UNBLENDED = "Weights do not count here: each region has a style of its own, and none is given all styles."


class RegionPanel(QWidget):
    """Which layer says where, and the style of each label."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, feather: Editor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed: Labels | None = None
        self._named: list[Layer] = []
        self._sources: list[Source] = []
        self._filling = self._asking = self._stale = self._released = False
        self._calm = WheelFilter(self)
        self._late = NextTurn(self._refill, self)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_PATIENCE)
        self._later.timeout.connect(self.look)
        self.combo = QComboBox()
        self.combo.setToolTip(
            "<p>Stylise only where this Labels or Shapes layer says; everything else stays as it is.</p>"
        )
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(8)
        self._calm.guard(self.combo)
        elide(self.combo)
        self.table = RegionTable()
        self._feather = feather.native
        self._form = FormRows()
        self._form.add("Regions", self.combo)
        self._form.add_wide(self.table)
        self._form.add(feather.title, self._feather)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        self.combo.currentIndexChanged.connect(self._on_layer)
        self.table.changed.connect(self.changed)
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            signal.connect(self._late.ask)
        self._refill()

    @property
    def rows(self) -> dict[int, QComboBox]:
        """The list of styles of each label that has a row."""
        return self.table.rows

    @property
    def layer(self) -> Labels | Shapes | None:
        """The layer that says where, or None for the whole picture."""
        self._late.settle()
        return None if self.isHidden() else self.combo.currentData()

    def choose(self, layer: Labels | Shapes | None) -> None:
        """Choose a layer as if the user had."""
        self._late.settle()
        self._choose(layer)

    def _choose(self, layer: Labels | Shapes | None) -> None:
        self.combo.setCurrentIndex(
            next((index for index in range(self.combo.count()) if self.combo.itemData(index) == layer), 0)
        )

    def follow(self, sources: Sequence[Source], styles: Sequence[Picture]) -> None:
        """Take note of the content's planes (none: there is no content) and of the chosen styles."""
        self.table.show_styles(styles)
        before, self._sources = self._sources, list(sources)
        if [_place(source) for source in sources] != [_place(source) for source in before]:
            self._later.start()
        self._show()

    def regions(self) -> dict[int, int | None] | None:
        """Return the style number of each label as `StyleConfig.regions` has it."""
        return self.table.regions() if isinstance(self.layer, Labels) else None

    @property
    def unblended(self) -> str:
        """Why styles are blended nowhere: each label has one of its own; empty where they may be."""
        return _UNBLENDED if isinstance(self.layer, Labels) and self.table.unblended() else ""

    def show_regions(self, regions: dict[int, int | None] | None) -> None:
        """Show the style numbers of a recipe, as far as there are such styles."""
        self.table.show_regions(regions)

    def resolve(self, source: Source) -> Relabelled | ShapesRegion | None:
        """Return what to read for a plane of the content, or None for the whole picture.

        Raises
        ------
        ImageError
            If the layer has nothing that can serve.
        """
        layer = self.layer
        if layer is None:
            return None
        if isinstance(layer, Shapes):
            return resolve_shapes(source, layer)
        return Relabelled(resolve_labels(source, layer), self.table.renumbered())

    def release(self) -> None:
        """Stop following the viewer."""
        self._released = True
        self._later.stop()
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._late.ask)
        self._late.cancel()
        self._follow(None)
        self._follow_names([])

    def _refill(self) -> None:
        """Bring the list of layers up to date with the viewer."""
        self._follow_names(list(self._viewer.layers))
        self.table.forget_all_but(self._viewer.layers)
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels | Shapes)]
        if self.combo.count() and layers == [self.combo.itemData(index) for index in range(1, self.combo.count())]:
            return
        wanted = self.combo.currentData()
        self._filling = True
        self.combo.clear()
        self.combo.addItem("whole picture", None)
        for layer in layers:
            self.combo.addItem(layer.name, layer)
        self._choose(wanted)
        self._filling = False
        self._on_layer()

    def _on_layer(self) -> None:
        if self._filling:
            return
        layer = self.combo.currentData()
        labels = layer if isinstance(layer, Labels) else None
        if labels != self._followed:
            self._follow(labels)
            self.table.begin(labels)
            self.look()
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        """Show what applies."""
        self.setVisible(self.combo.count() > 1 and bool(self._sources))
        self._form.show_row(self.table, isinstance(self.combo.currentData(), Labels))
        self._form.show_row(self._feather, self.combo.currentData() is not None)

    def _follow(self, layer: Labels | None) -> None:
        if self._followed is not None:
            for name in _TELLING:
                getattr(self._followed.events, name).disconnect(self._on_painted)
        self._followed = layer
        if layer is not None:
            for name in _TELLING:
                getattr(layer.events, name).connect(self._on_painted)

    def _follow_names(self, layers: list[Layer]) -> None:
        """Listen to the names of exactly these layers, images among them: they are the styles."""
        for layer in self._named:
            if layer not in layers:
                layer.events.name.disconnect(self._describe)
        for layer in layers:
            if layer not in self._named:
                layer.events.name.connect(self._describe)
        self._named = layers

    def _describe(self, event: Any = None) -> None:
        """Show names as they are now."""
        for index in range(1, self.combo.count()):
            self.combo.setItemText(index, self.combo.itemData(index).name)
        self.table.describe()

    def _on_painted(self, event: Any = None) -> None:
        self._later.start()

    def look(self) -> None:
        """Find in a thread which labels lie on the content."""
        if self._followed is None or not self._sources or self._released:
            return
        if self._asking:
            self._stale = True
            return
        try:
            regions = [resolve_labels(source, self._followed) for source in self._sources]
        except ImageError:
            # Told when Run is pressed; a list of labels is no place for it.
            return
        self._asking = True
        create_worker(
            _labels_of, regions, _ignore_errors=True, _connect={"returned": self._take, "finished": self._looked}
        )

    def _looked(self) -> None:
        self._asking = False
        if self._stale:
            self._stale = False
            self.look()

    def _take(self, present: list[int]) -> None:
        if not self._released and present != self.table.present:
            self.table.show_present(present)
            self.changed.emit()


def _labels_of(regions: Sequence[LabelsRegion]) -> list[int]:
    """Return the labels on some planes, the smallest first; none where they cannot be read, which Run tells."""
    found: set[int] = set()
    try:
        for region in regions:
            found.update(int(label) for label in np.unique(region.read()))
    except ImageError:
        return []
    return sorted(found)


def _place(source: Source) -> tuple[Any, ...]:
    """Return what tells one plane from another."""
    grid = source.grid
    return (source.point, grid.shape, grid.matrix.tobytes())
