"""The choice of a resolution level, in words that tell how large each is.

The settings form makes the editor, and the picture panel shows it below a content that has levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_styletransfer.layers.read import levels_in
from napari_styletransfer.session.layer_group import Picture, layers_of
from napari_styletransfer.widget.qt_utils import ValueCombo
from napari_styletransfer.widget.settings.field_editors import Editor

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from pydantic.fields import FieldInfo

AUTOMATIC = "Automatic (finest that fits)"

_TOOLTIP = (
    "<p>Resolution level at which the content is read, 0 the finest. Automatic: the finest that suits the size of "
    "the result.</p>"
)


class LevelCombo(ValueCombo):
    """Levels by number; None stands for the choice by size."""

    def __init__(self) -> None:
        super().__init__(_TOOLTIP)
        self._shapes: list[tuple[int, int]] = []
        self.set_shapes(())

    def read(self) -> int | None:
        """Return the chosen level."""
        level = self.currentData()
        return None if level is None else int(level)

    def write(self, level: int | None) -> None:
        """Choose a level, also one that the content does not have."""
        if level not in self.values:
            self.addItem(self._words(level), level)
        self.setCurrentIndex(self.index_of(level))

    def set_shapes(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Offer levels of these (H, W), the finest first; what is chosen stays."""
        if list(shapes) == self._shapes and self.count():
            return
        chosen, self._shapes = self.read(), list(shapes)
        levels = (None, *range(len(shapes)), *(() if chosen is None or chosen < len(shapes) else (chosen,)))
        self.set_items([(self._words(level), level) for level in levels], chosen)

    def _words(self, level: int | None) -> str:
        if level is None:
            return AUTOMATIC
        if level >= len(self._shapes):
            return f"Level {level} · not in this picture"
        height, width = self._shapes[level]
        return f"Level {level} · {width} × {height} px"


def shared_levels(viewer: ViewerModel, picture: Picture) -> list[tuple[int, int]]:
    """Return (H, W) of the levels of a picture; none for layers that have different ones.

    Such layers, taken together, are read at full resolution.
    """
    first, *others = [levels_in(viewer, layer) for layer in layers_of(picture)]
    return first if all(other == first for other in others) else []


def level_editor(name: str, info: FieldInfo) -> Editor:
    """Return the editor of a level; its `native` is a `LevelCombo`."""
    combo = LevelCombo()
    combo.write(info.get_default(call_default_factory=True))
    return Editor(name, info.title or name, combo, combo.currentIndexChanged, combo.read, combo.write)
