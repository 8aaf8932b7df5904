"""A number typed with a decimal point or a decimal comma is the same number, in every field and every locale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from qtpy.QtCore import QLocale, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QLineEdit

from napari_styletransfer.widget.dock_widget import StyleTransferWidget

LOCALES = {"German": QLocale.Language.German, "English": QLocale.Language.English, "French": QLocale.Language.French}


@pytest.fixture(params=LOCALES)
def locale(request) -> Iterator[None]:
    before = QLocale()
    QLocale.setDefault(QLocale(LOCALES[request.param]))
    yield
    QLocale.setDefault(before)


@pytest.fixture
def viewer(model):
    return model


@pytest.fixture
def form(locale, viewer, engine, qtbot):
    form = StyleTransferWidget(viewer, engine)
    qtbot.addWidget(form)
    form.show()
    yield form
    form.release()


def typed(line, text):
    """Type text in place of what a line holds, and leave the line."""
    line.selectAll()
    QTest.keyClicks(line, text)
    QTest.keyClick(line, Qt.Key.Key_Return)


def line_of(native):
    if isinstance(native, QAbstractSpinBox):
        return native.lineEdit()
    box = native.findChild(QDoubleSpinBox)
    return box.lineEdit() if box is not None else native


@pytest.mark.parametrize("text", ["0.75", "0,75"])
def test_a_number_is_read_with_either_separator_wherever_there_is_one(form, viewer, text):
    editors = form.settings.editors
    numbers = [editor for editor in editors.values() if isinstance(editor.read(), float)]
    optional = [editors[name] for name in ("content_weight", "max_seconds", "memory_limit", "spectral_exponent")]
    # At least 1 by its limits.
    numbers.remove(editors["coarse_iterations"])
    assert len(numbers) >= 6
    for editor in (*numbers, *optional):
        typed(line_of(editor.native), text)
        assert editor.read() == 0.75, editor.name
    typed(line_of(editors["coarse_iterations"].native), text.replace("0", "2"))
    assert editors["coarse_iterations"].read() == 2.75
    viewer.add_image(np.zeros((8, 8)), name="dots")
    form.pictures.choose(styles=[viewer.layers["waves"], viewer.layers["dots"]])
    for box in form.pictures.findChildren(QDoubleSpinBox):
        typed(box.lineEdit(), text)
        assert box.value() == 0.75
    assert len(form.pictures.findChildren(QDoubleSpinBox)) >= 2


@pytest.mark.parametrize("text", ["relu1_1=0.5, relu2_1=2, relu3_1", "relu1_1=0,5, relu2_1=2, relu3_1"])
def test_layer_weights_are_read_with_either_separator(form, text):
    editor = form.settings.editors["style_layers"]
    assert isinstance(editor.native, QLineEdit)
    typed(editor.native, text)
    assert editor.read() == {"relu1_1": 0.5, "relu2_1": 2.0, "relu3_1": 1.0}


@pytest.mark.parametrize(("text", "number"), [("1.5", 1), ("1,5", 1), ("1.000", 1000), ("1,234", 1234), ("77", 77)])
def test_a_separator_in_a_whole_number_never_makes_it_a_larger_one(form, text, number):
    editor = form.settings.editors["iterations"]
    typed(line_of(editor.native), text)
    assert editor.read() == number
    assert editor.native.text() == str(number)


@pytest.mark.parametrize("text", ["1.234,5", "1,234.5", "1,234,567"])
def test_separators_of_thousands_are_told_rather_than_guessed(form, text):
    typed(form.settings.editors["tv_weight"].native, text)
    assert not form.controls.run.isEnabled()
    assert f"Smoothness: '{text}' is not a number" in form.controls.message.text()


def test_empty_fields_keep_their_words(form):
    assert form.settings.editors["scales"].native.text() == "as many as fit"
    assert form.settings.editors["scales"].read() is None
