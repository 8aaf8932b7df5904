"""A list to choose one picture from: a layer, or several that are seen together, with a thumbnail each.

The picture panel has one for the content and one for the start image.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QComboBox

from napari_styletransfer.session.layer_group import LayerGroup, Picture
from napari_styletransfer.widget.qt_utils import elide
from napari_styletransfer.widget.style_list import ICON_SIZE, thumbnail_icon


class PictureCombo(QComboBox):
    """Pictures to choose from."""

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        self.setIconSize(QSize(ICON_SIZE, ICON_SIZE))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        elide(self)

    @property
    def picture(self) -> Picture | None:
        """The chosen picture, or None while there is none."""
        picture: Picture | None = self.currentData()
        return picture

    def choose(self, picture: Picture | None) -> None:
        """Choose a picture; one that is not offered leaves none chosen."""
        # Compared by value: napari gives plugins proxies of its layers, a new one each time.
        found = (index for index in range(self.count()) if self.itemData(index) == picture)
        self.setCurrentIndex(next(found, -1))

    def offer(self, pictures: Sequence[Picture], chosen: Picture | None) -> None:
        """Offer these in place of those before."""
        self.clear()
        for picture in pictures:
            self.addItem("", picture)
        self.choose(chosen)
        self.describe()

    def describe(self) -> None:
        """Show names and thumbnails as they are now."""
        for index in range(self.count()):
            picture = self.itemData(index)
            words, tip = picture.name, html.escape(picture.name)
            if isinstance(picture, LayerGroup):
                words, tip = picture.words, f"{tip}, as the canvas shows them."
            self.setItemData(index, f"<p>{tip}</p>", Qt.ItemDataRole.ToolTipRole)
            self.setItemText(index, words)
            self.setItemIcon(index, thumbnail_icon(picture))
