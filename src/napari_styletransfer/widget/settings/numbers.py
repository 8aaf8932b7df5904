"""Numbers as people type them: with a decimal point or a decimal comma, whatever the locale.

Qt takes the sign that a locale does not use between a number and its decimals for one between thousands, and drops it.
Used by the editors of the settings and by the weights of styles.
"""

from __future__ import annotations

import re

from qtpy.QtCore import QLocale
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QAbstractSpinBox, QSpinBox

_LOCALE = QLocale(QLocale.Language.German, QLocale.Country.Switzerland)
"""Where the decimal point is a point, and neither point nor comma stands between thousands."""

_THOUSANDS = re.compile(r"\d{1,3}([.,]\d{3})+")
_SEPARATORS = re.compile("[.,]")


def accept_decimal_comma(box: QAbstractSpinBox) -> None:
    """Let a spin box of decimals read point and comma alike, and one of whole numbers either between thousands."""
    box.setLocale(_LOCALE)
    line = box.lineEdit()
    assert line is not None
    line.setValidator(_SeparatorValidator(box))


class _SeparatorValidator(QValidator):
    """Hands the text to its spin box as that can read it."""

    def __init__(self, box: QAbstractSpinBox) -> None:
        super().__init__(box)
        self._box = box

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Judge the text and put other signs into it."""
        text = text or ""
        if isinstance(self._box, QSpinBox) and _SEPARATORS.search(text):
            if not _THOUSANDS.fullmatch(text):
                # There may be more to come. If not, the box goes back to the number it had.
                return QValidator.State.Intermediate, text, position
            text = _SEPARATORS.sub("", text)
            position = len(text)
        state: tuple[QValidator.State, str, int] = self._box.validate(text.replace(",", "."), position)
        return state
