"""What the form writes can be read, in every theme."""

from __future__ import annotations

import re

import pytest
from napari.utils.theme import available_themes
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QComboBox

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, DeviceError
from napari_styletransfer.widget.qt_utils import color, elide, text_color, theme_of

from .conftest import contrast

READABLE = 4.5
"""What WCAG asks of text, level AA."""


def ground_of(label):
    """Return the colour around the words of a label, as the screen has it."""
    picture = label.grab().toImage()
    return QColor(picture.pixel(picture.width() - 2, 1))


def colors_in(text):
    return [QColor(found) for found in re.findall(r"color: (#\w{6})", text)]


@pytest.mark.parametrize("name", available_themes())
def test_words_in_colours_of_a_theme_can_be_read_on_its_ground(viewer, name):
    viewer.theme = name
    theme = theme_of(viewer)
    for part in ("text", "error", "warning", "current"):
        assert contrast(text_color(theme, part), color(theme.background)) >= READABLE, part
    # A colour that can be read as it is stays so.
    assert text_color(theme, "text") == color(theme.text)


@pytest.mark.parametrize("name", ["dark", "light"])
def test_errors_warnings_and_the_legend_can_be_read(form, viewer, name):
    viewer.theme = name
    theme = theme_of(viewer)
    ground = color(theme.background)
    form.controls.loss_section.expand(animate=False)
    form.session.report_error(ConfigError("That will not do."))
    message = form.controls.message
    assert message.text() == "That will not do."
    assert ground_of(message) == ground
    (shown,) = colors_in(message.styleSheet())
    assert message.palette().color(QPalette.ColorRole.WindowText) == shown
    assert contrast(shown, ground) >= READABLE
    assert shown.red() > 1.3 * shown.blue()
    form.plan._show(str(DeviceError("There is no such device.")), warning=True)
    (shown,) = colors_in(form.plan.styleSheet())
    assert contrast(shown, ground) >= READABLE
    legend = colors_in(form.controls.plot._legend.text())
    assert len(legend) == 3
    assert all(contrast(shade, ground) >= READABLE for shade in legend)
    (primary,) = re.findall(r"QPushButton#primary \{ background: (#\w{6}); color: (\w+);", form.styleSheet())
    assert contrast(*map(QColor, primary)) >= READABLE


def test_the_message_of_a_run_that_went_well_has_no_colour_of_its_own(form, engine, qtbot):
    form.session.report_error(ConfigError("That will not do."))
    engine.go.set()
    form.show_config(StyleConfig(iterations=3))
    form.run()
    qtbot.waitUntil(lambda: not form.session.status.active)
    assert form.controls.message.styleSheet() == ""


def test_a_choice_too_long_for_its_list_ends_with_an_ellipsis(qtbot):
    name = "a name that is much too long for the list that it stands in"
    combo, plain = QComboBox(), QComboBox()
    for each in (combo, plain):
        qtbot.addWidget(each)
        each.resize(180, 26)
    combo.addItem(name)
    plain.addItem(name)
    assert combo.grab().toImage() == plain.grab().toImage()
    elide(combo)
    drawn, looks = combo.grab().toImage(), []
    for letters in range(len(name)):
        plain.setItemText(0, f"{name[:letters]}…")
        looks.append(plain.grab().toImage() == drawn)
    # As one of the beginnings of the name with an ellipsis would look, and not one that is cut off.
    assert sum(looks) == 1
    assert 5 < looks.index(True) < 40
    for each in (combo, plain):
        each.setItemText(0, "short")
    assert combo.grab().toImage() == plain.grab().toImage()
