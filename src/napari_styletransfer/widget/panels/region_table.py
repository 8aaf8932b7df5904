"""The style of each label: a row for every label on the content, and what the settings say of them.

Part of the region panel, which finds the labels and tells of the chosen styles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_styletransfer.config import ALL_STYLES
from napari_styletransfer.session.layer_group import Picture, layers_of
from napari_styletransfer.widget.qt_utils import FormRows, ValueCombo

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

ALL = "all"
NONE = "none"
OTHERS = -1
"""Stands for the labels beyond those that have a row of their own."""

_MAX_ROWS = 24
_VISIBLE_ROWS = 4

Choice: TypeAlias = Picture | str


class RegionTable(QScrollArea):
    """Labels and a list of styles for each.

    Attributes
    ----------
    rows
        The list of each label that has a row, or of `OTHERS`.
    present
        The labels on the content, the smallest first.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, QComboBox] = {}
        self.present: list[int] = []
        self._layer: Labels | None = None
        self._styles: list[Picture] = []
        self._choices: dict[int, Choice] = {}
        self._default_choice = ALL
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setToolTip("<p>The style that each label is given; 'none' leaves it as it is.</p>")

    def set_layer(self, layer: Labels | None) -> None:
        """Forget what was chosen: the labels are those of another layer."""
        self._layer, self.present, self._choices, self._default_choice = layer, [], {}, ALL
        self._fill()

    def set_present(self, present: Sequence[int]) -> None:
        """Show the labels that there are."""
        self.present = list(present)
        self._fill()

    def set_styles(self, styles: Sequence[Picture]) -> None:
        """Offer these styles."""
        if list(styles) != self._styles:
            self._styles = list(styles)
            self._fill()
        else:
            # Layers may have joined or left a picture that is still the same.
            self.update_names()

    def drop_missing(self, layers: Iterable[Layer]) -> None:
        """Let go of styles that were chosen and are not among these layers any more."""
        present = list(layers)
        self._choices = {
            label: choice
            for label, choice in self._choices.items()
            if isinstance(choice, str) or all(layer in present for layer in layers_of(choice))
        }

    def set_regions(self, regions: dict[int, int | None] | None) -> None:
        """Show the style numbers of a recipe, as far as there are such styles."""
        self._choices, self._default_choice = {}, ALL if regions is None else NONE
        for label, style in (regions or {}).items():
            one_of_several = style is not None and 0 <= style < len(self._styles) > 1
            self._choices[label] = self._styles[style] if one_of_several else NONE if style is None else ALL
        self._fill()

    def regions(self) -> dict[int, int | None] | None:
        """Return the style number of each label, or None where the settings need not name them."""
        if self._is_default():
            return None
        return {label: self._number(choice) for label, choice in self._all_choices().items()}

    def relabel(self) -> dict[int, int]:
        """Return under which other numbers to read labels, where `regions` does not name them."""
        if not self._is_default():
            return {}
        # The settings have no words for "all styles here, none there": what is left alone becomes background.
        choices = self._all_choices()
        numbers = {label: 0 for label, choice in choices.items() if choice == NONE and label}
        if choices.get(0) == ALL:
            numbers[0] = max(choices) + 1
        return numbers

    def update_names(self) -> None:
        """Show the names of styles as they are now."""
        for combo in self.rows.values():
            for index in range(combo.count()):
                choice = combo.itemData(index)
                if choice != NONE:
                    combo.setItemText(index, self._all_title() if choice == ALL else choice.name)

    def _all_title(self) -> str:
        return self._styles[0].name if len(self._styles) == 1 else "all styles"

    def _choice(self, label: int) -> Choice:
        choice = self._choices.get(label, NONE if label == 0 else self._default_choice)
        gone = choice not in (ALL, NONE) and (choice not in self._styles or len(self._styles) == 1)
        return ALL if gone else choice

    def _all_choices(self) -> dict[int, Choice]:
        """Return the choice for every label there is."""
        named = self.present[:_MAX_ROWS]
        return {label: self._choice(label if label in named else OTHERS) for label in self.present}

    def _is_default(self) -> bool:
        """Tell whether the settings need not name the labels: all that are stylised take all styles."""
        choices = self._all_choices()
        if any(choice not in (ALL, NONE) for choice in choices.values()):
            return False
        usual = all((choice == NONE) == (label == 0) for label, choice in choices.items())
        return usual or len(self._styles) != 1

    def _number(self, choice: Choice) -> int | None:
        if choice == NONE:
            return None
        if choice == ALL:
            return ALL_STYLES if len(self._styles) > 1 else 0
        return self._styles.index(choice)

    def _fill(self) -> None:
        """Make a row for each label."""
        inside = QWidget()
        rows = FormRows()
        self.rows = {}
        labels = [label for label in self.present[:_MAX_ROWS] if label] + [
            label for label in self.present[:_MAX_ROWS] if not label
        ]
        if len(self.present) > _MAX_ROWS:
            labels.append(OTHERS)
        for label in labels:
            self.rows[label] = self._combo(label)
            rows.add(self._swatch(label) + _title(label, len(self.present) - _MAX_ROWS), self.rows[label])
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(8, 0, 0, 0)
        layout.addWidget(rows if labels else QLabel("no label on this plane"))
        layout.addStretch(1)
        height = max((combo.sizeHint().height() for combo in self.rows.values()), default=20) + 5
        self.setWidget(inside)
        self.setFixedHeight(min(max(len(labels), 1), _VISIBLE_ROWS) * height + 2)

    def _combo(self, label: int) -> QComboBox:
        combo = ValueCombo(self.toolTip())
        styles = self._styles if len(self._styles) > 1 else ()
        items = [(self._all_title(), ALL), *((style.name, style) for style in styles), ("none", NONE)]
        combo.set_items(items, self._choice(label))
        combo.currentIndexChanged.connect(lambda: self._on_choice(label))
        return combo

    def _on_choice(self, label: int) -> None:
        self._choices[label] = self.rows[label].currentData()
        self.changed.emit()

    def _swatch(self, label: int) -> str:
        """Return a square in the colour the label has in its layer, as rich text."""
        color = None if self._layer is None or label in (0, OTHERS) else self._layer.get_color(label)
        return "" if color is None else f'<span style="color: {_hex(color)}">■</span> '


def _title(label: int, others: int) -> str:
    return "background" if label == 0 else f"{others} others" if label == OTHERS else f"label {label}"


def _hex(color: Sequence[float]) -> str:
    return QColor.fromRgbF(*(float(part) for part in color[:3])).name()
