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
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_styletransfer.config import Mode, Start
from napari_styletransfer.layers.write import METADATA_KEY
from napari_styletransfer.widget.looks import CalmWheel, FormRows

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtGui import QResizeEvent

_ICON = 22
_ROWS_SHOWN = 5


class StyleRow(QWidget):
    """One image layer that can be a style: a check box with its thumbnail, and a weight."""

    changed = Signal()

    def __init__(self, layer: Image, calm: CalmWheel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer = layer
        self.check = QCheckBox()
        self.check.setIconSize(QSize(_ICON, _ICON))
        self.check.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.check.toggled.connect(self.changed)
        self.weight = QDoubleSpinBox()
        self.weight.setRange(0, 100)
        self.weight.setSingleStep(0.1)
        self.weight.setValue(1)
        self.weight.setFixedWidth(72)
        self.weight.setToolTip("<p>How much this style counts against the others.</p>")
        self.weight.setVisible(False)
        self.weight.valueChanged.connect(self.changed)
        calm.guard(self.weight)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 0, 2, 0)
        layout.addWidget(self.check, 1)
        layout.addWidget(self.weight)
        self.describe()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the name to the room there is."""
        super().resizeEvent(event)
        self.describe()

    def describe(self) -> None:
        """Show the layer's name and thumbnail as they are now."""
        room = self.check.width() - _ICON - 30
        self.check.setText(self.fontMetrics().elidedText(self.layer.name, Qt.TextElideMode.ElideRight, max(room, 30)))
        self.check.setToolTip(f"<p>Use '{self.layer.name}' as a style.</p>")
        self.check.setIcon(thumbnail_icon(self.layer))


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
        self.styles = _StyleList()
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
        """The chosen content, or None where there is none or the mode needs none."""
        return None if self._mode is Mode.STYLE else self.content.currentData()

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

    def choose(self, content: Image | None = None, styles: Sequence[Image] = ()) -> None:
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
        if self._mode is not Mode.STYLE and self.content_layer is None:
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
        combo.setIconSize(QSize(_ICON, _ICON))
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
        if content not in images:
            self._content_chosen, content = False, None
        if not self._content_chosen and not self._style_chosen:
            content = next(iter(_pictures(images)), content)
        for combo, wanted in ((self.content, content), (self.init, self.init.currentData())):
            combo.clear()
            for layer in images:
                combo.addItem(thumbnail_icon(layer), layer.name, layer)
            combo.setCurrentIndex(max(_index_of(combo, wanted), 0) if images else -1)
        self._filling = False
        self._refill_styles()

    def _refill_styles(self) -> None:
        if self._filling:
            return
        content = self.content.currentData()
        others = [layer for layer in reversed(self.image_layers) if layer != content]
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
        for layer in images:
            if layer not in self._followed:
                layer.events.name.connect(self._describe)
                layer.events.thumbnail.connect(self._describe)
        self._followed = list(images)

    def _describe(self, event: Any = None) -> None:
        for combo in (self.content, self.init):
            for index in range(combo.count()):
                layer = combo.itemData(index)
                combo.setItemText(index, layer.name)
                combo.setItemIcon(index, thumbnail_icon(layer))
        for row in self._rows:
            row.describe()


class _StyleList(QScrollArea):
    """The style rows; as high as they are many, up to a few, then it scrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setToolTip("<p>The pictures whose manner is taken over; tick several to blend them.</p>")
        self._inside = QWidget()
        self._layout = QVBoxLayout(self._inside)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._empty = QLabel("no other image")
        self._empty.setEnabled(False)
        self._layout.addWidget(self._empty)
        self._layout.addStretch(1)
        self.setWidget(self._inside)

    def show_rows(self, rows: list[StyleRow], gone: list[StyleRow]) -> None:
        """Show these rows in this order, and delete those that are gone."""
        for row in gone:
            self._layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        for index, row in enumerate(rows):
            self._layout.insertWidget(index, row)
        self._empty.setVisible(not rows)
        height = max((row.sizeHint().height() for row in rows), default=self._empty.sizeHint().height())
        shown = min(max(len(rows), 1), _ROWS_SHOWN)
        self.setFixedHeight(shown * (height + self._layout.spacing()) + 4)
        self.show_chosen(rows)

    def show_chosen(self, rows: list[StyleRow]) -> None:
        """Scroll to the first chosen row."""
        chosen = next((row for row in rows if row.check.isChecked()), None)
        if chosen is not None:
            self._layout.activate()
            self.ensureWidgetVisible(chosen, 0, 0)


def _index_of(combo: QComboBox, layer: Image | None) -> int:
    # Compared by value: napari gives plugins proxies of its layers, a new one each time.
    return next((index for index in range(combo.count()) if combo.itemData(index) == layer), -1)


def thumbnail_icon(layer: Image) -> QIcon:
    """Return a layer's thumbnail as an icon."""
    pixels = layer.thumbnail
    height, width = pixels.shape[:2]
    image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
    return QIcon(QPixmap.fromImage(image.copy()))


def _pictures(images: Sequence[Image]) -> list[Image]:
    """Return the layers that are not results of ours: a result is the first guess for nothing."""
    return [layer for layer in images if METADATA_KEY not in layer.metadata]
