"""The picture part of the form: which layer is the content, which are the styles and how much each counts.

Follows the viewer's image layers as they come, go, move and are renamed. A layer the user has chosen stays
chosen; until they choose, the first image is the content and the last other one the style, which is what opening
two pictures means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_styletransfer.config import Mode, Start
from napari_styletransfer.layers.compose import groups_in
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.widget.looks import CalmWheel, FormRows
from napari_styletransfer.widget.style_list import ICON_SIZE, StyleList, StyleRow, thumbnail_icon

if TYPE_CHECKING:
    from napari.components import ViewerModel


WHAT_YOU_SEE = "what you see"
"""Stands for a layer where the visible ones are taken together."""


class PicturePanel(QWidget):
    """Content, styles, and where it matters the start image."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed: list[Image] = []
        self._rows: list[StyleRow] = []
        self._mode, self._start = Mode.TRANSFER, Start.AUTO
        self._content_chosen = self._style_chosen = self._filling = False
        self._calm = CalmWheel(self)
        self.content = self._layer_combo("<p>The picture to be painted anew, as it is shown now.</p>")
        self.init = self._layer_combo("<p>The picture the run starts from.</p>")
        self._together: list[Image] = []
        self.styles = StyleList()
        self._form = FormRows()
        self._form.add("Content", self.content)
        self._form.add("Style", self.styles)
        self._form.add("Start image", self.init)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        self.content.activated.connect(self._choose_content)
        self.content.currentIndexChanged.connect(self._refill_styles)
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            signal.connect(self._refill)
        self._refill()
        self.follow_settings(self._mode, self._start)

    @property
    def content_layer(self) -> Image | None:
        """The chosen layer, or None where there is none, the mode needs none, or `content_visible`."""
        content = self.content.currentData()
        return None if self._mode is Mode.STYLE or content == WHAT_YOU_SEE else content

    @property
    def content_visible(self) -> bool:
        """Whether the content is what the canvas shows of the layers in `together`."""
        return self._mode is not Mode.STYLE and self.content.currentData() == WHAT_YOU_SEE

    @property
    def together(self) -> list[Image]:
        """The visible layers that make one picture, from the bottom up, if there are at least two."""
        return list(self._together)

    @property
    def style_layers(self) -> list[Image]:
        """The chosen styles, from the top of the list; none where the mode needs none."""
        return [] if self._mode is Mode.CONTENT else [row.layer for row in self._chosen()]

    @property
    def style_weights(self) -> tuple[float, ...] | None:
        """One weight for each of `style_layers`, or None if they all count alike."""
        weights = tuple(row.weight.value() for row in self._chosen()) if self.style_layers else ()
        return None if len(set(weights)) < 2 and 0.0 not in weights else weights

    @property
    def init_layer(self) -> Image | None:
        """The start image, or None where the run makes its own."""
        return self.init.currentData() if self._start is Start.IMAGE else None

    def choose(self, content: Image | str | None = None, styles: Sequence[Image] = ()) -> None:
        """Choose layers as if the user had."""
        if content is not None:
            self.content.setCurrentIndex(_index_of(self.content, content))
            self._content_chosen = True
        if styles:
            self._style_chosen = True
            for row in self._rows:
                row.check.setChecked(row.layer in styles)
            self.styles.show_chosen(self._rows)

    def set_style_weights(self, weights: Sequence[float] | None) -> None:
        """Show blend weights, as far as there are chosen styles for them."""
        chosen = self._chosen()
        for row, weight in zip(chosen, weights or [1.0] * len(chosen), strict=False):
            row.weight.setValue(weight)

    def follow_settings(self, mode: Mode, start: Start) -> None:
        """Show what this mode and start need."""
        self._mode, self._start = mode, start
        self._form.show_row(self.content, mode is not Mode.STYLE)
        self._form.show_row(self.styles, mode is not Mode.CONTENT)
        self._form.show_row(self.init, start is Start.IMAGE)

    def missing(self) -> str:
        """Return what the user must still choose, or an empty string."""
        images = self.image_layers
        if not images:
            return "The viewer has no image yet."
        if self._mode is not Mode.STYLE and self.content_layer is None and not self.content_visible:
            return "Choose a content layer."
        if self._mode is not Mode.CONTENT and not self.style_layers:
            alone = self._mode is Mode.TRANSFER and len(images) == 1
            return "Add a second picture as the style." if alone else "Tick at least one style."
        if self._start is Start.IMAGE and self.init_layer is None:
            return "Choose the start image."
        return ""

    def release(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._refill)
        self._follow([])

    @property
    def image_layers(self) -> list[Image]:
        """The viewer's image layers, from the bottom up."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _chosen(self) -> list[StyleRow]:
        return [row for row in self._rows if row.check.isChecked()]

    def _layer_combo(self, tooltip: str) -> QComboBox:
        combo = QComboBox()
        combo.setToolTip(tooltip)
        combo.setIconSize(QSize(ICON_SIZE, ICON_SIZE))
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(8)
        combo.currentIndexChanged.connect(self._tell)
        self._calm.guard(combo)
        return combo

    def _choose_content(self) -> None:
        self._content_chosen = True

    def _refill(self) -> None:
        """Bring all lists up to date with the viewer."""
        images = self.image_layers
        self._follow(images)
        self._filling = True
        content = self.content.currentData()
        self._together = self._found_together(images)
        if content not in images and not (content == WHAT_YOU_SEE and self._together):
            self._content_chosen, content = False, None
        if not self._content_chosen and not self._style_chosen:
            content = next(iter(_pictures(images)), content)
        for combo, wanted in ((self.content, content), (self.init, self.init.currentData())):
            combo.clear()
            if combo is self.content and self._together:
                combo.addItem("What you see", WHAT_YOU_SEE)
                names = " + ".join(layer.name for layer in self._together)
                combo.setItemData(0, f"<p>{names}, as the canvas shows them.</p>", Qt.ItemDataRole.ToolTipRole)
            for layer in images:
                combo.addItem(thumbnail_icon(layer), layer.name, layer)
            first = _index_of(combo, images[0]) if images else -1
            found = _index_of(combo, wanted)
            combo.setCurrentIndex(first if found < 0 else found)
        self._filling = False
        self._refill_styles()

    def _refill_styles(self) -> None:
        if self._filling:
            return
        content = self.content.currentData()
        taken = self._together if content == WHAT_YOU_SEE else [content]
        others = [layer for layer in reversed(self.image_layers) if layer not in taken]
        pictures = _pictures(others)
        candidates = [*pictures, *(layer for layer in others if layer not in pictures)]
        known = {row.layer: row for row in self._rows}
        if not any(row.check.isChecked() and row.layer in candidates for row in self._rows):
            self._style_chosen = False
        rows = []
        for layer in candidates:
            row = known.pop(layer, None)
            if row is None:
                row = StyleRow(layer, self._calm)
                row.check.clicked.connect(self._choose_style)
                row.changed.connect(self._tell)
            rows.append(row)
        self._rows = rows
        self._filling = True
        if not self._style_chosen:
            guess = candidates[0] if candidates else None
            for row in rows:
                row.check.setChecked(row.layer == guess)
        self._filling = False
        self.styles.show_rows(rows, list(known.values()))
        self._tell()

    def _choose_style(self) -> None:
        self._style_chosen = True

    def _tell(self) -> None:
        if self._filling:
            return
        several = len(self._chosen()) > 1
        for row in self._rows:
            row.weight.setVisible(several and row.check.isChecked())
            row.describe()
        self.changed.emit()

    def _follow(self, images: list[Image]) -> None:
        """Listen to names and thumbnails of exactly these layers."""
        for layer in self._followed:
            if layer not in images:
                layer.events.name.disconnect(self._describe)
                layer.events.thumbnail.disconnect(self._describe)
                for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
                    event.disconnect(self._on_visible)
        for layer in images:
            if layer not in self._followed:
                layer.events.name.connect(self._describe)
                layer.events.thumbnail.connect(self._describe)
                for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
                    event.connect(self._on_visible)
        self._followed = list(images)

    def _on_visible(self, event: Any = None) -> None:
        """Offer what is seen now."""
        if self._found_together(self.image_layers) != self._together:
            self._refill()

    def _found_together(self, images: Sequence[Image]) -> list[Image]:
        """Return the lowest visible layers, results of ours left out, that make one picture."""
        return list(next(iter(groups_in(self._viewer, _pictures(images))), ()))

    def _describe(self, event: Any = None) -> None:
        for combo in (self.content, self.init):
            for index in range(combo.count()):
                layer = combo.itemData(index)
                if layer == WHAT_YOU_SEE:
                    continue
                combo.setItemText(index, layer.name)
                combo.setItemIcon(index, thumbnail_icon(layer))
        for row in self._rows:
            row.describe()


def _index_of(combo: QComboBox, layer: Image | str | None) -> int:
    # Compared by value: napari gives plugins proxies of its layers, a new one each time.
    return next((index for index in range(combo.count()) if combo.itemData(index) == layer), -1)


def _pictures(images: Sequence[Image]) -> list[Image]:
    """Return the layers that are not results of ours: a result is the first guess for nothing."""
    return [layer for layer in images if METADATA_KEY not in layer.metadata]
