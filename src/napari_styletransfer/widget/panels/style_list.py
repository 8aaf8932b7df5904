"""Lists of pictures with a thumbnail each: one to choose from, and one to tick styles in and weigh them.

Parts of the picture panel, which decides what is in them and what is chosen.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
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

from napari_styletransfer.session.layer_group import LayerGroup, Picture, layers_of, title_of
from napari_styletransfer.widget.qt_utils import ValueCombo, filter_wheel
from napari_styletransfer.widget.settings.numbers import accept_decimal_comma

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent


ICON_SIZE = 22
_VISIBLE_ROWS = 5
_WEIGHT_TOOLTIP = "<p>How much this style counts against the others.</p>"
_NOT_BLENDED = "<p>Weights do not count here: each region has a style of its own, and none is given all styles.</p>"


class StyleRow(QWidget):
    """One layer, or several together, that can be a style: a check box with its thumbnail, and a weight."""

    changed = Signal()

    def __init__(self, picture: Picture) -> None:
        super().__init__()
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
        accept_decimal_comma(self.weight)
        self.weight.setToolTip(_WEIGHT_TOOLTIP)
        self.weight.setVisible(False)
        self.weight.valueChanged.connect(self.changed)
        filter_wheel(self.weight)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 0, 2, 0)
        layout.addWidget(self.check, 1)
        layout.addWidget(self.weight)
        self.update_name()

    def set_blended(self, blended: bool) -> None:
        """Show whether the weight counts."""
        self.weight.setEnabled(blended)
        self.weight.setToolTip(_WEIGHT_TOOLTIP if blended else _NOT_BLENDED)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the name to the room there is."""
        super().resizeEvent(event)
        self._elide()

    def update_name(self) -> None:
        """Show the name and thumbnail as they are now."""
        name = html.escape(self.picture.name)
        tip = f"Use '{name}' as a style."
        if isinstance(self.picture, LayerGroup):
            tip = f"Use {name}, as the canvas shows them, as one style."
        self._elide()
        self.check.setToolTip(f"<p>{tip}</p>")
        self.check.setIcon(thumbnail_icon(self.picture))

    def _elide(self) -> None:
        words = title_of(self.picture)
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
        shown = min(max(len(rows), 1), _VISIBLE_ROWS)
        self.setFixedHeight(shown * (height + self._layout.spacing()) + 4)
        self.show_checked(rows)

    def show_checked(self, rows: list[StyleRow]) -> None:
        """Scroll to the first ticked row."""
        chosen = next((row for row in rows if row.check.isChecked()), None)
        if chosen is not None:
            self._layout.activate()
            self.ensureWidgetVisible(chosen, 0, 0)


class PictureCombo(ValueCombo):
    """A list to choose one picture from, with a thumbnail each."""

    def __init__(self, tooltip: str) -> None:
        super().__init__(tooltip)
        self.setIconSize(QSize(ICON_SIZE, ICON_SIZE))

    @property
    def picture(self) -> Picture | None:
        """The chosen picture, or None while there is none."""
        picture: Picture | None = self.currentData()
        return picture

    def set_pictures(self, pictures: Sequence[Picture], chosen: Picture | None) -> None:
        """Offer these in place of those before, without a signal."""
        self.set_items([("", picture) for picture in pictures], chosen)
        self.update_names()

    def update_names(self) -> None:
        """Show names and thumbnails as they are now."""
        for index, picture in enumerate(self.values):
            tip = html.escape(picture.name)
            if isinstance(picture, LayerGroup):
                tip = f"{tip}, as the canvas shows them."
            self.setItemData(index, f"<p>{tip}</p>", Qt.ItemDataRole.ToolTipRole)
            self.setItemText(index, title_of(picture))
            self.setItemIcon(index, thumbnail_icon(picture))


def thumbnail_icon(picture: Picture) -> QIcon:
    """Return a thumbnail as an icon; that of several layers is their brightest."""
    pixels = np.maximum.reduce([layer.thumbnail for layer in layers_of(picture)])
    height, width = pixels.shape[:2]
    image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
    return QIcon(QPixmap.fromImage(image.copy()))
