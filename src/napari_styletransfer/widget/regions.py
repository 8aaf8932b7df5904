"""The region part of the form: where the content is stylised, and with which style.

Shown only when the viewer has a Labels or Shapes layer. For labels it finds, in a thread, which ones lie on the
content, and offers a style for each; the rest of the form asks it for `regions()` and for what to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Shapes
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_styletransfer.config import ALL_STYLES
from napari_styletransfer.errors import ImageError
from napari_styletransfer.layers.regions import LabelsRegion, ShapesRegion, Source, resolve_labels, resolve_shapes
from napari_styletransfer.widget.looks import CalmWheel, FormRows

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.widget.fields import Editor

ALL = "all"
NONE = "none"
REST = -1
"""Stands for the labels beyond those that have a row of their own."""

_MOST_ROWS = 24
_ROWS_SHOWN = 4
_PATIENCE = 300
"""Milliseconds after a change before the labels are looked through again."""

_TELLING = ("set_data", "paint", "colormap")
"""Events of a Labels layer after which other labels, or others colours, may be there."""

Choice = Image | str


@dataclass(frozen=True)
class Relabelled:
    """Labels that are read under other numbers, for any thread."""

    region: LabelsRegion
    numbers: dict[int, int] = field(default_factory=dict)

    def read(self) -> npt.NDArray[np.int64]:
        """Read the labels, those in `numbers` under their new number."""
        labels = self.region.read()
        result = labels.copy()
        for old, new in self.numbers.items():
            result[labels == old] = new
        return result


class RegionPanel(QWidget):
    """Which layer says where, and the style of each label."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, feather: Editor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed: Labels | None = None
        self._sources: list[Source] = []
        self._styles: list[Image] = []
        self._present: list[int] = []
        self._choices: dict[int, Choice] = {}
        self._unnamed = ALL
        self._filling = self._asking = self._stale = self._released = False
        self._calm = CalmWheel(self)
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
        self.table = QScrollArea()
        self.table.setWidgetResizable(True)
        self.table.setFrameShape(QFrame.Shape.NoFrame)
        self.table.setToolTip("<p>The style that each label is given; 'none' leaves it as it is.</p>")
        self.rows: dict[int, QComboBox] = {}
        self._feather = feather.native
        self._form = FormRows()
        self._form.add("Regions", self.combo)
        self._form.add_wide(self.table)
        self._form.add(feather.title, self._feather)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        self.combo.currentIndexChanged.connect(self._on_layer)
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            signal.connect(self._refill)
        self._refill()

    @property
    def layer(self) -> Labels | Shapes | None:
        """The layer that says where, or None for the whole picture."""
        return None if self.isHidden() else self.combo.currentData()

    def choose(self, layer: Labels | Shapes | None) -> None:
        """Choose a layer as if the user had."""
        self.combo.setCurrentIndex(
            next((index for index in range(self.combo.count()) if self.combo.itemData(index) == layer), 0)
        )

    def follow(self, sources: Sequence[Source], styles: Sequence[Image]) -> None:
        """Take note of the content's planes (none: there is no content) and of the chosen styles."""
        if styles != self._styles:
            self._styles = list(styles)
            self._show_rows()
        if [_place(source) for source in sources] != [_place(source) for source in self._sources]:
            self._sources = list(sources)
            self._later.start()
        self._show()

    def regions(self) -> dict[int, int | None] | None:
        """Return the style number of each label as `StyleConfig.regions` has it."""
        if not isinstance(self.layer, Labels) or self._blended():
            return None
        choices = self._spelled_out()
        return {label: self._number(choice) for label, choice in choices.items()}

    def show_regions(self, regions: dict[int, int | None] | None) -> None:
        """Show the style numbers of a recipe, as far as there are such styles."""
        self._choices, self._unnamed = {}, ALL if regions is None else NONE
        for label, style in (regions or {}).items():
            one_of_several = style is not None and 0 <= style < len(self._styles) > 1
            self._choices[label] = self._styles[style] if one_of_several else NONE if style is None else ALL
        self._show_rows()

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
        numbers: dict[int, int] = {}
        if self._blended():
            # The settings have no words for "all styles here, none there": what is left alone becomes background.
            choices = self._spelled_out()
            numbers = {label: 0 for label, choice in choices.items() if choice == NONE and label}
            if choices.get(0) == ALL:
                numbers[0] = max(choices) + 1
        return Relabelled(resolve_labels(source, layer), numbers)

    def release(self) -> None:
        """Stop following the viewer."""
        self._released = True
        self._later.stop()
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._refill)
        self._follow(None)

    def _choice(self, label: int) -> Choice:
        choice = self._choices.get(label, NONE if label == 0 else self._unnamed)
        gone = choice not in (ALL, NONE) and (choice not in self._styles or len(self._styles) == 1)
        return ALL if gone else choice

    def _spelled_out(self) -> dict[int, Choice]:
        """Return the choice for every label there is."""
        named = self._present[:_MOST_ROWS]
        return {label: self._choice(label if label in named else REST) for label in self._present}

    def _blended(self) -> bool:
        """Tell whether the settings need not name the labels: all that are stylised take all styles."""
        choices = self._spelled_out()
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

    def _refill(self) -> None:
        """Bring the list of layers up to date with the viewer."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels | Shapes)]
        wanted = self.combo.currentData()
        self._filling = True
        self.combo.clear()
        self.combo.addItem("whole picture", None)
        for layer in layers:
            self.combo.addItem(layer.name, layer)
        self.choose(wanted)
        self._filling = False
        self._on_layer()

    def _on_layer(self) -> None:
        if self._filling:
            return
        layer = self.combo.currentData()
        labels = layer if isinstance(layer, Labels) else None
        if labels != self._followed:
            self._present, self._choices, self._unnamed = [], {}, ALL
            self._follow(labels)
            self._show_rows()
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
        if not self._released and present != self._present:
            self._present = present
            self._show_rows()
            self.changed.emit()

    def _show_rows(self) -> None:
        """Make a row for each label."""
        self._filling = True
        inside = QWidget()
        rows = FormRows()
        self.rows = {}
        labels = [label for label in self._present[:_MOST_ROWS] if label] + [
            label for label in self._present[:_MOST_ROWS] if not label
        ]
        if len(self._present) > _MOST_ROWS:
            labels.append(REST)
        for label in labels:
            combo = QComboBox()
            combo.setToolTip(self.table.toolTip())
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(8)
            self._calm.guard(combo)
            only = len(self._styles) == 1
            combo.addItem(self._styles[0].name if only else "all styles", ALL)
            for style in () if only else self._styles:
                combo.addItem(style.name, style)
            combo.addItem("none", NONE)
            choice = self._choice(label)
            combo.setCurrentIndex(next(index for index in range(combo.count()) if combo.itemData(index) == choice))
            combo.currentIndexChanged.connect(lambda _, label=label: self._on_choice(label))
            rows.add(self._swatch(label) + _title(label, len(self._present) - _MOST_ROWS), combo)
            self.rows[label] = combo
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(8, 0, 0, 0)
        layout.addWidget(rows if labels else QLabel("no label on this plane"))
        layout.addStretch(1)
        height = max((combo.sizeHint().height() for combo in self.rows.values()), default=20) + 5
        self.table.setWidget(inside)
        self.table.setFixedHeight(min(max(len(labels), 1), _ROWS_SHOWN) * height + 2)
        self._filling = False

    def _on_choice(self, label: int) -> None:
        if not self._filling:
            self._choices[label] = self.rows[label].currentData()
            self.changed.emit()

    def _swatch(self, label: int) -> str:
        """Return a square in the colour the label has in its layer, as rich text."""
        color = None if self._followed is None or label in (0, REST) else self._followed.get_color(label)
        return "" if color is None else f'<span style="color: {_hex(color)}">■</span> '


def _labels_of(regions: Sequence[LabelsRegion]) -> list[int]:
    """Return the labels on some planes, the smallest first; none where they cannot be read, which Run tells."""
    found: set[int] = set()
    try:
        for region in regions:
            found.update(int(label) for label in np.unique(region.read()))
    except ImageError:
        return []
    return sorted(found)


def _title(label: int, others: int) -> str:
    return "background" if label == 0 else f"{others} others" if label == REST else f"label {label}"


def _hex(color: Sequence[float]) -> str:
    return QColor.fromRgbF(*(float(part) for part in color[:3])).name()


def _place(source: Source) -> tuple[Any, ...]:
    """Return what tells one plane from another."""
    grid = source.grid
    return (source.point, grid.shape, grid.matrix.tobytes())
