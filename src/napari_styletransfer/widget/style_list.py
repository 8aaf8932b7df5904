"""The list of pictures that can be a style: a check box with a thumbnail each, and weights where several are chosen.

Part of the picture panel, which decides what is in the list and what is chosen.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QVBoxLayout,
    QWidget,
)

from napari_styletransfer.session.layer_group import LayerGroup
from napari_styletransfer.widget.numbers import accept_both_separators

if TYPE_CHECKING:
    from napari.layers import Image
    from qtpy.QtGui import QResizeEvent

    from napari_styletransfer.widget.qt_utils import WheelFilter

ICON_SIZE = 22
_ROWS_SHOWN = 5
_WEIGHT_WORDS = "<p>How much this style counts against the others.</p>"


class StyleRow(QWidget):
    """One layer, or several together, that can be a style: a check box with its thumbnail, and a weight."""

    changed = Signal()

    def __init__(self, picture: Image | LayerGroup, calm: WheelFilter, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.picture = picture
        self.check = QCheckBox()
        self.check.setIconSize(QSize(ICON_SIZE, ICON_SIZE))
        self.check.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.check.toggled.connect(self.changed)
        self.weight = QDoubleSpinBox()
        self.weight.setRange(0, 100)
        self.weight.setSingleStep(0.1)
        self.weight.setValue(1)
        # The keys and the wheel serve as well, and the name needs the room.
        self.weight.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.weight.setStyleSheet("min-width: 36px; max-width: 36px;")  # napari's own sheet overrules a fixed width
        accept_both_separators(self.weight)
        self.weight.setToolTip(_WEIGHT_WORDS)
        self.weight.setVisible(False)
        self.weight.valueChanged.connect(self.changed)
        calm.guard(self.weight)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 0, 2, 0)
        layout.addWidget(self.check, 1)
        layout.addWidget(self.weight)
        self.describe()

    def explain_weight(self, unused: str) -> None:
        """Say why the weight does not count, or let it count where there is nothing to say."""
        self.weight.setEnabled(not unused)
        self.weight.setToolTip(f"<p>{unused}</p>" if unused else _WEIGHT_WORDS)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the name to the room there is."""
        super().resizeEvent(event)
        self._shorten()

    def describe(self) -> None:
        """Show the name and thumbnail as they are now."""
        name = html.escape(self.picture.name)
        tip = f"Use '{name}' as a style."
        if isinstance(self.picture, LayerGroup):
            tip = f"Use {name}, as the canvas shows them, as one style."
        self._shorten()
        self.check.setToolTip(f"<p>{tip}</p>")
        self.check.setIcon(thumbnail_icon(self.picture))

    def _shorten(self) -> None:
        words = self.picture.words if isinstance(self.picture, LayerGroup) else self.picture.name
        option, style = QStyleOptionButton(), self.check.style()
        self.check.initStyleOption(option)
        assert style is not None
        inside = style.subElementRect(QStyle.SubElement.SE_CheckBoxContents, option, self.check)
        room = max(inside.width() - ICON_SIZE - 8, 30)
        self.check.setText(self.check.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, room))


class StyleList(QScrollArea):
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


def thumbnail_icon(picture: Image | LayerGroup) -> QIcon:
    """Return a thumbnail as an icon; that of several layers is their brightest."""
    if isinstance(picture, LayerGroup):
        pixels = np.maximum.reduce([layer.thumbnail for layer in picture.layers])
    else:
        pixels = picture.thumbnail
    height, width = pixels.shape[:2]
    image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
    return QIcon(QPixmap.fromImage(image.copy()))
