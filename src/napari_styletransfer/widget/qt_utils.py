"""How the form looks: rows with one label column, folds, headings, colours of napari's theme.

Used by every part of the form, so that they line up and follow a change of theme together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)
from superqt import QCollapsible

from napari_styletransfer.images.pixels import LUMINANCE

_LABEL_WIDTH = 17
"""Width of the label column, in average letters: the longest title of a setting."""

MIN_CONTRAST = 4.5
"""Contrast that words of this size need to be read (WCAG 2.2, level AA)."""


class FormRows(QWidget):
    """Rows of a label and a widget; the label column is equally wide in every instance."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setHorizontalSpacing(8)
        self._layout.setVerticalSpacing(5)
        self._layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def add(self, title: str, widget: QWidget) -> None:
        """Add a row; the label shows the widget's tooltip too."""
        label = QLabel(title)
        label.setToolTip(widget.toolTip())
        label.setBuddy(widget)
        label.setMinimumWidth(label.fontMetrics().averageCharWidth() * _LABEL_WIDTH + 8)
        widget.setMinimumWidth(60)
        widget.setSizePolicy(QSizePolicy.Policy.Expanding, widget.sizePolicy().verticalPolicy())
        self._layout.addRow(label, widget)

    def add_wide(self, widget: QWidget) -> None:
        """Add a row without a label."""
        self._layout.addRow(widget)

    def show_row(self, widget: QWidget, shown: bool) -> None:
        """Show or hide a widget together with its label."""
        widget.setVisible(shown)
        label = self._layout.labelForField(widget)
        if label is not None:
            label.setVisible(shown)


class WheelFilter(QObject):
    """Keeps the wheel for scrolling: a control changes by it only when it has the focus; see `filter_wheel`."""

    def eventFilter(self, control: QObject | None, event: QEvent | None) -> bool:
        """Pass a wheel event on to the scroll area unless the control has the focus."""
        if (
            isinstance(control, QWidget)
            and event is not None
            and event.type() == QEvent.Type.Wheel
            and not control.hasFocus()
        ):
            event.ignore()
            return True
        return False


def filter_wheel(control: QWidget) -> None:
    """Let a control change by the wheel only when it has the focus."""
    control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    control.installEventFilter(WheelFilter(control))


class ElideFilter(QObject):
    """Draws a list's choice as Qt does, but for the end of a long one, where Qt just stops; see `elide`."""

    def eventFilter(self, combo: QObject | None, event: QEvent | None) -> bool:
        """Draw in place of the list."""
        if not isinstance(combo, QComboBox) or event is None or event.type() != QEvent.Type.Paint:
            return False
        painter, option = QStylePainter(combo), QStyleOptionComboBox()
        combo.initStyleOption(option)
        style = combo.style()
        assert style is not None
        line = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, combo
        )
        room = line.width() - (0 if option.currentIcon.isNull() else option.iconSize.width() + 4) - 4
        option.currentText = combo.fontMetrics().elidedText(option.currentText, Qt.TextElideMode.ElideRight, room)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
        return True


def elide(combo: QComboBox) -> None:
    """Have a list end a choice that is too long for it with an ellipsis."""
    combo.installEventFilter(ElideFilter(combo))


class ValueCombo(QComboBox):
    """A list that offers values under names, and is no wider than its place; the wheel is left to scrolling."""

    def __init__(self, tooltip: str = "") -> None:
        super().__init__()
        self.setToolTip(tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        filter_wheel(self)
        elide(self)

    @property
    def values(self) -> list[Any]:
        """All values, in the order of the list."""
        return [self.itemData(index) for index in range(self.count())]

    def index_of(self, value: Any, missing: int = -1) -> int:
        """Return the index of a value, or `missing`."""
        # Compared by value: napari gives plugins proxies of its layers, a new one each time.
        return next((index for index, other in enumerate(self.values) if other == value), missing)

    def set_items(self, items: Iterable[tuple[str, Any]], chosen: Any, missing: int = -1) -> None:
        """Offer these in place of those before, without a signal."""
        with QSignalBlocker(self):
            self.clear()
            for name, value in items:
                self.addItem(name, value)
            self.setCurrentIndex(self.index_of(chosen, missing))


def elide_words(text: str, label: QLabel) -> str:
    """Return text for a label that wraps it, with ellipses in those words that are longer than its lines."""
    if not label.isVisible():
        return text
    metrics, room = label.fontMetrics(), max(label.width() - 4, 40)
    return re.sub(r"\S+", lambda word: metrics.elidedText(word[0], Qt.TextElideMode.ElideMiddle, room), text)


def hbox(*widgets: QWidget) -> QWidget:
    """Return widgets in one line, the first one taking the room there is."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 0 if index else 1)
    line.setToolTip(widgets[0].toolTip())
    return line


def heading(text: str) -> QLabel:
    """Return a small title for a group of rows."""
    label = QLabel(text.upper())
    label.setStyleSheet("font-weight: bold; font-size: 8pt; padding-top: 8px;")
    label.setEnabled(False)
    return label


def collapsible(title: str) -> QCollapsible:
    """Return a folded part whose header is plain text instead of napari's checked button."""
    # Without icons of its own: superqt draws them in a colour that a dark theme swallows.
    # Clear ones rather than empty ones, which count as none in PySide.
    clear = QPixmap(1, 1)
    clear.fill(Qt.GlobalColor.transparent)
    fold = QCollapsible(f"▸  {title}", expandedIcon=QIcon(clear), collapsedIcon=QIcon(clear))
    fold.toggleButton().setIconSize(QSize(0, 0))
    fold.toggled.connect(lambda unfolded: fold.setText(f"{'▾' if unfolded else '▸'}  {title}"))
    fold.setDuration(0)
    for part in (fold, fold.content()):
        layout = part.layout()
        assert layout is not None
        layout.setContentsMargins(0, 0, 0, 0)
    fold.toggleButton().setStyleSheet(
        "QPushButton { text-align: left; border: none; background: transparent; padding: 4px 0px; }"
        "QPushButton:hover { text-decoration: underline; }"
    )
    return fold


def theme_of(viewer: Any) -> Any:
    """Return the viewer's theme: an object with colours as attributes."""
    from napari.utils.theme import get_theme

    return get_theme(viewer.theme)


def color(theme_color: Any) -> QColor:
    """Turn a colour of a napari theme into one of Qt's."""
    return QColor(*theme_color.as_rgb_tuple()[:3])


def contrast(one: QColor, other: QColor) -> float:
    """Return the contrast of two colours after WCAG 2.2: 1 for equal ones, 21 for black and white."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def text_color(theme: Any, name: str) -> QColor:
    """Return a colour of a theme, made lighter or darker until words in it can be read on the theme's ground."""
    ground, shade = color(theme.background), color(getattr(theme, name))
    away = QColor("white" if theme.type == "dark" else "black")
    shades = (_blend(shade, away, share / 20) for share in range(21))
    return next((each for each in shades if contrast(each, ground) >= MIN_CONTRAST), away)


def text_style(theme: Any, name: str) -> str:
    """Return a style sheet of words in a colour of a theme; see `text_color`."""
    return f"color: {text_color(theme, name).name()};"


def _blend(one: QColor, other: QColor, share: float) -> QColor:
    parts = zip(one.getRgbF()[:3], other.getRgbF()[:3], strict=True)
    return QColor.fromRgbF(*((1 - share) * first + share * second for first, second in parts))


def _luminance(shade: QColor) -> float:
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shade.getRgbF()[:3])
    return sum(weight * part for weight, part in zip(LUMINANCE, linear, strict=True))


def form_style(theme: Any) -> str:
    """Return what the form's style sheet adds to napari's."""
    accent, text = color(theme.current), "white" if theme.type == "dark" else "black"
    ground, shade = color(theme.foreground).name(), color(theme.highlight).name()
    return (
        f"QPushButton#primary {{ background: {accent.name()}; color: {text}; font-weight: bold; padding: 6px; }}"
        f"QPushButton#primary:hover {{ background: {accent.lighter(118).name()}; }}"
        f"QPushButton#primary:pressed {{ background: {accent.darker(115).name()}; }}"
        f"QPushButton#primary:disabled {{ background: {ground}; color: {shade}; }}"
        f"QProgressBar#run {{ background: {ground}; border: none; border-radius: 3px; }}"
        f"QProgressBar#run::chunk {{ background: {accent.name()}; border-radius: 3px; }}"
        f"QFrame#rule {{ background: {ground}; border: none; padding: 0px; }}"
        "QToolButton#menu { padding: 3px 7px; }"
        "QToolButton#menu::menu-indicator { image: none; width: 0px; }"
    )


def hline() -> QFrame:
    """Return a thin line between parts."""
    line = QFrame()
    line.setObjectName("rule")
    line.setFixedHeight(1)
    return line
