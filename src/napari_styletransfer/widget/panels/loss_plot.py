"""The loss over the steps of a run, drawn live on a logarithmic axis in the colours of napari's theme.

The form makes it when its fold is opened for the first time, because pyqtgraph takes a moment to import.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_styletransfer.widget.qt_utils import color, text_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_styletransfer.events import Step

TERMS = ("total", "content", "style")
_MAX_TICKS = 4


class LossPlot(QWidget):
    """A line for the total loss and one for each of its two main terms.

    Made of pyqtgraph's parts rather than its `PlotItem`, whose menus are widgets of their own that outlive it.
    """

    def __init__(self, theme: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._legend = QLabel()
        self._legend.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._canvas = pg.GraphicsLayoutWidget()
        self._canvas.setFixedHeight(130)
        self._canvas.ci.layout.setContentsMargins(0, 8, 8, 0)
        self._canvas.ci.layout.setSpacing(0)
        box = self._canvas.addViewBox(row=0, col=1, enableMenu=False, enableMouse=False, defaultPadding=0.03)
        self._axes = (_LogAxis("left"), pg.AxisItem("bottom"))
        self._axes[0].setWidth(44)
        self._axes[1].setStyle(maxTickLevel=0)
        for axis, place in zip(self._axes, ((0, 0), (1, 1)), strict=True):
            axis.linkToView(box)
            self._canvas.addItem(axis, *place)
        self._curves = {name: pg.PlotCurveItem() for name in TERMS}
        for curve in self._curves.values():
            box.addItem(curve)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._legend)
        layout.addWidget(self._canvas)
        self.set_theme(theme)

    def curve_data(self, name: str) -> tuple[list[float], list[float]]:
        """Return the steps and the losses of one line."""
        steps, logarithms = self._curves[name].getData()
        return list(steps), [10**logarithm for logarithm in logarithms]

    def show_steps(self, steps: Sequence[Step]) -> None:
        """Draw these steps, which are all of the run so far."""
        for name, curve in self._curves.items():
            known = [(step.iteration, step.losses[name]) for step in steps if step.losses.get(name, 0) > 0]
            counts, losses = np.array(known, float).reshape(-1, 2).T
            curve.setData(counts, np.log10(losses))

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self._canvas.setBackground(color(theme.background))
        shades = {name: text_color(theme, of) for name, of in zip(TERMS, ("text", "current", "warning"), strict=True)}
        for name, shade in shades.items():
            self._curves[name].setPen(pg.mkPen(shade, width=2 if name == "total" else 1.4))
        for axis in self._axes:
            axis.setPen(color(theme.highlight))
            axis.setTextPen(color(theme.text))
        words = [f'<span style="color: {shade.name()}">━ {name}</span>' for name, shade in shades.items()]
        self._legend.setText(f"<small>{' &nbsp; '.join(words)} &nbsp; by step</small>")


class _LogAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis of exponents that labels a few round numbers, also where the data stay within one decade."""

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        """Return up to four ticks of the series 1, 2, 5 between two exponents."""
        decades = range(math.floor(low), math.ceil(high) + 1)
        for digits in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
            ticks = [decade + math.log10(digit) for decade in decades for digit in digits]
            ticks = [tick for tick in ticks if low <= tick <= high]
            if len(ticks) <= _MAX_TICKS:
                break
        return [(1.0, ticks[:: math.ceil(max(len(ticks), 1) / _MAX_TICKS)])]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """Return the numbers whose logarithms these are."""
        return [f"{10**value:.3g}" for value in values]
