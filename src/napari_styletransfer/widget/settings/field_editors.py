"""One editor for each field of a pydantic model, so that the form has nothing to say that the config does not.

The settings form calls `make_editor` with a field of `StyleConfig`; type, limits, title and description decide
which magicgui widget it becomes. Nothing here knows what the fields mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from magicgui.widgets import CheckBox, ComboBox, FileEdit, FloatSlider, FloatSpinBox, LineEdit
from qtpy.QtWidgets import QAbstractSpinBox, QSpinBox

from napari_styletransfer.config.fields import parse_decimal, parse_layer_weights, to_text, unwrap
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.widget.settings.numbers import accept_decimal_comma

if TYPE_CHECKING:
    from magicgui.widgets.bases import ValueWidget
    from pydantic.fields import FieldInfo
    from qtpy.QtWidgets import QWidget

_SPINBOX_MAX = 2**31 - 1


@dataclass(frozen=True)
class Editor:
    """A widget and the two ways between what it shows and what the config holds.

    Attributes
    ----------
    name, title
        The field's name, and the words beside the widget.
    native
        The Qt widget.
    changed
        A signal to connect to: the user (or `write`) changed the value.
    read, write
        Get and show a value of the field; `read` raises `ConfigError` for text that means nothing.
    widget
        The magicgui widget, where it is one.
    """

    name: str
    title: str
    native: QWidget
    changed: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]
    widget: ValueWidget[Any] | None = None


def make_editor(name: str, info: FieldInfo) -> Editor:
    """Return the editor of a field.

    Parameters
    ----------
    name
        The field's name.
    info
        Its description: annotation, limits, title, tooltip and default.

    Raises
    ------
    TypeError
        If no editor fits the annotation; a new kind of field needs a new editor.
    """
    kind, optional = unwrap(info.annotation)
    look: dict[str, Any] = {"name": name, "label": info.title or name, "tooltip": rich_tooltip(info)}
    low, high = _limits(info)
    empty = _none_text(info) if optional else None
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        editor = _choice(name, kind, look)
    elif kind is bool:
        editor = _value_editor(name, _unlabelled(CheckBox(**look)))
    elif kind is int:
        editor = _integer(name, look, low, high, empty)
    elif kind is float and not optional and low is not None and high is not None and _closed(info):
        editor = _lossless(_value_editor(name, _bounded_float(look, low, high)))
    elif kind is float:
        editor = _text(name, LineEdit(**look), _parse_number, _number_to_text, empty)
    elif kind is Path:
        editor = _path(name, FileEdit(mode="r", nullable=True, **look), empty)
    elif get_origin(kind) is dict:
        editor = _text(name, LineEdit(**look), parse_layer_weights, partial(to_text, separator=", "), empty)
    elif kind is str:
        editor = _value_editor(name, LineEdit(**look))
    else:
        raise TypeError(f"There is no editor for the field '{name}' of type {info.annotation}.")
    editor.write(info.get_default(call_default_factory=True))
    return editor


def make_choice_editor(name: str, info: FieldInfo, choices: list[tuple[str, str]]) -> Editor:
    """Return an editor for a text field that offers `choices`, and also shows values beyond them."""
    widget = ComboBox(choices=choices, name=name, label=info.title or name, tooltip=rich_tooltip(info))

    def write(value: str) -> None:
        if value not in widget.choices:
            offered = [(widget.native.itemText(index), choice) for index, choice in enumerate(widget.choices)]
            widget.choices = [*offered, (value, value)]
        widget.value = value

    editor = _editor(name, widget, lambda: widget.value, write)
    editor.write(info.get_default(call_default_factory=True))
    return editor


def rich_tooltip(info: FieldInfo) -> str:
    """Return a field's description as rich text, which wraps; plain tooltips run across the screen."""
    return f"<p>{info.description}</p>" if info.description else ""


def _limits(info: FieldInfo) -> tuple[Any, Any]:
    bounds = {
        name: getattr(item, name) for item in info.metadata for name in ("ge", "gt", "le", "lt") if hasattr(item, name)
    }
    return bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))


def _none_text(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra.get("empty") or "none") if isinstance(extra, dict) else "none"


def _closed(info: FieldInfo) -> bool:
    return any(hasattr(item, "le") for item in info.metadata)


def _editor(name: str, widget: ValueWidget[Any], read: Callable[[], Any], write: Callable[[Any], None]) -> Editor:
    # magicgui gives the tooltip of some widgets to a part of them only.
    widget.native.setToolTip(widget.tooltip)
    boxes = widget.native.findChildren(QAbstractSpinBox)
    for box in [widget.native, *boxes] if isinstance(widget.native, QAbstractSpinBox) else boxes:
        accept_decimal_comma(box)
    return Editor(name, widget.label, widget.native, widget.changed, read, write, widget)


def _value_editor(name: str, widget: ValueWidget[Any]) -> Editor:
    return _editor(name, widget, lambda: widget.value, lambda value: setattr(widget, "value", value))


def _lossless(editor: Editor) -> Editor:
    """Give back what was written, to the last bit, until the user moves the widget off it."""
    written: list[Any] = [None, None]

    def write(value: Any) -> None:
        editor.write(value)
        written[:] = [value, editor.read()]

    def read() -> Any:
        shown = editor.read()
        return written[0] if shown == written[1] else shown

    return replace(editor, read=read, write=write)


def _unlabelled(box: CheckBox) -> CheckBox:
    """Take the words off a check box: its title stands beside it, as with all others."""
    box.text = ""
    return box


def _bounded_float(look: dict[str, Any], low: float, high: float) -> ValueWidget[Any]:
    if high - low <= 2:
        return FloatSlider(min=low, max=high, step=0.01, **look)
    return FloatSpinBox(min=low, max=high, step=0.1, **look)


def _choice(name: str, kind: type[StrEnum], look: dict[str, Any]) -> Editor:
    return _value_editor(name, ComboBox(choices=[(str(item), item) for item in kind], **look))


def _integer(name: str, look: dict[str, Any], low: int | None, high: int | None, empty: str | None) -> Editor:
    least = low if low is not None else -_SPINBOX_MAX
    most = high if high is not None else _SPINBOX_MAX
    if most > _SPINBOX_MAX:
        return _text(name, LineEdit(**look), _parse_integer, str, empty)
    # Of Qt rather than of magicgui, whose box for integers knows no words for "none" and no separators.
    box = QSpinBox()
    none = least - 1
    box.setRange(least if empty is None else none, most)
    box.setSpecialValueText(empty or "")
    box.setToolTip(look["tooltip"])
    accept_decimal_comma(box)
    # Sizes in pixels go up by their smallest value, counts by one.
    box.setSingleStep(least if least >= 16 else 1)
    return Editor(
        name,
        look["label"],
        box,
        box.valueChanged,
        lambda: None if box.value() == none else box.value(),
        lambda value: box.setValue(none if value is None else value),
    )


def _text(
    name: str, widget: ValueWidget[Any], parse: Callable[[str], Any], show: Callable[[Any], str], empty: str | None
) -> Editor:
    """Edit as text what a spin box is too short for, or would round away."""
    widget.native.setPlaceholderText(empty or "")

    def read() -> Any:
        text = widget.value.strip()
        if empty is not None and text in ("", empty):
            return None
        try:
            return parse(text)
        except ConfigError as error:
            raise ConfigError(f"{widget.label}: {error}") from error

    return _lossless(
        _editor(name, widget, read, lambda value: setattr(widget, "value", "" if value is None else show(value)))
    )


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is not a whole number.") from error


def _parse_number(text: str) -> float:
    try:
        return parse_decimal(text)
    except ValueError as error:
        raise ConfigError(
            f"'{text}' is not a number. Write it such as 0.5 or 1000, without separators of thousands."
        ) from error


def _number_to_text(value: float) -> str:
    return f"{value:.15g}" if float(f"{value:.15g}") == value else repr(value)


def _path(name: str, widget: FileEdit, empty: str | None) -> Editor:
    widget.line_edit.native.setPlaceholderText(empty or "")
    return _editor(
        name,
        widget,
        lambda: Path(widget.line_edit.value) if widget.line_edit.value.strip() else None,
        lambda value: setattr(widget.line_edit, "value", "" if value is None else str(value)),
    )
