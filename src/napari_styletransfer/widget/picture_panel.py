"""The picture part of the form: which layer is the content, which are the styles and how much each counts.

Follows the viewer's image layers as they come, go, move and are renamed. A layer the user has chosen stays
chosen; until they choose, the first image is the content and the last other one the style, which is what opening
two pictures means. Visible layers of one pixel grid are offered together as well, as content and as style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_styletransfer.config import Mode, Start
from napari_styletransfer.layers.compose import groups_in
from napari_styletransfer.layers.write import METADATA_KEY, is_sheet
from napari_styletransfer.session.layer_group import LayerGroup, Picture, regrouped
from napari_styletransfer.session.remembered import Names
from napari_styletransfer.widget.levels import LevelCombo, shared_levels
from napari_styletransfer.widget.next_turn import NextTurn
from napari_styletransfer.widget.picture_combo import PictureCombo
from napari_styletransfer.widget.qt_utils import FormRows, WheelFilter
from napari_styletransfer.widget.style_list import StyleList, StyleRow

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.widget.field_editors import Editor


class PicturePanel(QWidget):
    """Content, styles, and where they matter the content's resolution level and the start image."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, level: Editor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed: list[Image] = []
        self._rows: list[StyleRow] = []
        self._mode, self._start = Mode.TRANSFER, Start.AUTO
        self._content_chosen = self._style_chosen = self._filling = False
        self._unused = ""
        self._calm = WheelFilter(self)
        self._late = NextTurn(self._catch_up, self)
        self.content = self._combo("<p>The picture to be painted anew, as it is shown now.</p>")
        self.init = self._combo("<p>The picture the run starts from.</p>")
        self._groups: list[LayerGroup] = []
        self._content_away: LayerGroup | None = None
        self._styles_away: list[LayerGroup] = []
        self.styles = StyleList()
        self._level = level.native
        self._form = FormRows()
        self._form.add("Content", self.content)
        self._form.add(level.title, self._level)
        self._form.add("Style", self.styles)
        self._form.add("Start image", self.init)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        self.content.activated.connect(self._choose_content)
        self.content.currentIndexChanged.connect(self._refill_styles)
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            signal.connect(self._late.ask)
        viewer.dims.events.order.connect(self._show_levels)
        for turned in (viewer.dims.events.order, viewer.dims.events.ndisplay):
            # What can be read, and what is seen together, depends on the axes that are displayed.
            turned.connect(self._late.ask)
        self._refill(*self._now())
        self.follow_settings(self._mode, self._start)

    @property
    def behind(self) -> bool:
        """Whether layers have come, gone or changed that are not followed yet; `changed` will tell."""
        return self._late.pending

    @property
    def content_layer(self) -> Picture | None:
        """The chosen layer or layers, or None where there is none or the mode needs none."""
        self._late.settle()
        return self._content()

    @property
    def style_layers(self) -> list[Picture]:
        """The chosen styles, from the top of the list; none where the mode needs none."""
        self._late.settle()
        return [] if self._mode is Mode.CONTENT else [row.picture for row in self._chosen()]

    @property
    def groups(self) -> list[LayerGroup]:
        """The visible layers that make one picture: one entry for each such picture."""
        self._late.settle()
        return list(self._groups)

    @property
    def style_weights(self) -> tuple[float, ...] | None:
        """One weight for each of `style_layers`, or None if they all count alike, or weights do not count."""
        if self._unused:
            return None
        weights = tuple(row.weight.value() for row in self._chosen()) if self.style_layers else ()
        return None if len(set(weights)) < 2 and 0.0 not in weights else weights

    @property
    def init_layer(self) -> Image | None:
        """The start image, or None where the run makes its own."""
        self._late.settle()
        return self.init.picture if self._start is Start.IMAGE else None

    def choose(self, content: Picture | None = None, styles: Sequence[Picture] = ()) -> None:
        """Choose layers as if the user had."""
        self._late.settle()
        if content is not None:
            self.content.choose(content)
            self._choose_content()
        if styles:
            self._choose_style()
            for row in self._rows:
                row.check.setChecked(row.picture in styles)
            self.styles.show_chosen(self._rows)

    @property
    def chosen_names(self) -> tuple[Names | None, tuple[Names, ...] | None]:
        """Names of the layers of content and styles as far as the user has chosen them; for `choose_names`."""
        self._late.settle()
        content = self.content.picture if self._content_chosen else None
        styles = tuple(_names(row.picture) for row in self._chosen()) if self._style_chosen else None
        return None if content is None else _names(content), styles

    def choose_names(self, content: Names | None, styles: tuple[Names, ...] | None) -> None:
        """Choose the pictures whose layers have these names, as far as there are such."""
        known = {_names(picture): picture for picture in (*self.groups, *self.image_layers)}
        self.choose(
            None if content is None else known.get(content),
            [known[style] for style in styles or () if style in known],
        )

    def set_style_weights(self, weights: Sequence[float] | None) -> None:
        """Show blend weights, as far as there are chosen styles for them."""
        self._late.settle()
        chosen = self._chosen()
        for row, weight in zip(chosen, weights or [1.0] * len(chosen), strict=False):
            row.weight.setValue(weight)

    def explain_weights(self, unused: str) -> None:
        """Say why blend weights do not count; an empty text says that they do."""
        self._unused = unused
        for row in self._rows:
            row.explain_weight(unused)

    def look_again(self) -> None:
        """Find out soon what is seen where the viewer stands now; `changed` tells."""
        self._late.ask()

    def follow_settings(self, mode: Mode, start: Start) -> None:
        """Show what this mode and start need."""
        self._mode, self._start = mode, start
        self._form.show_row(self.content, mode is not Mode.STYLE)
        self._form.show_row(self.styles, mode is not Mode.CONTENT)
        self._form.show_row(self.init, start is Start.IMAGE)
        self._show_levels()

    def missing(self) -> str:
        """Return what the user must still choose, or an empty string."""
        images = self.image_layers
        if not images:
            return "The viewer has no image yet."
        if self._mode is not Mode.STYLE and self.content_layer is None:
            return "Choose a content layer."
        if self._mode is not Mode.CONTENT and not self.style_layers:
            alone = self._mode is Mode.TRANSFER and len(images) == 1
            return "Add a second picture as the style." if alone else "Tick at least one style."
        if self._start is Start.IMAGE and self.init_layer is None:
            return "Choose the start image."
        return ""

    def release(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._late.ask)
        self._late.cancel()
        self._viewer.dims.events.order.disconnect(self._show_levels)
        for turned in (self._viewer.dims.events.order, self._viewer.dims.events.ndisplay):
            turned.disconnect(self._late.ask)
        self._follow([])

    @property
    def image_layers(self) -> list[Image]:
        """The viewer's image layers, from the bottom up, but for sheets of variations, which are no pictures."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image) and not is_sheet(layer)]

    def _content(self) -> Picture | None:
        return None if self._mode is Mode.STYLE else self.content.picture

    def _chosen(self) -> list[StyleRow]:
        return [row for row in self._rows if row.check.isChecked()]

    def _combo(self, tooltip: str) -> PictureCombo:
        combo = PictureCombo(tooltip)
        combo.currentIndexChanged.connect(self._tell)
        self._calm.guard(combo)
        return combo

    def _choose_content(self) -> None:
        self._content_chosen, self._content_away = True, None

    def _now(self) -> tuple[list[Image], list[tuple[Image, ...]]]:
        """Return the viewer's images, and those of them that are seen together."""
        images = self.image_layers
        return images, groups_in(self._viewer, _pictures(images))

    def _catch_up(self) -> None:
        """Offer what there is and what is seen now."""
        images, together = self._now()
        if images != self._followed or together != [tuple(group.layers) for group in self._groups]:
            self._refill(images, together)
        else:
            self._tell()

    def _refill(self, images: list[Image], together: list[tuple[Image, ...]]) -> None:
        """Bring all lists up to date with the viewer's images and with what is seen of them together."""
        self._follow(images)
        self._filling = True
        content = self.content.picture
        away = [] if self._content_away is None else [self._content_away]
        self._groups = regrouped([*self._groups, *away, *self._styles_away], together)
        # Deleted layers are let go of.
        self._styles_away = [group for group in self._styles_away if group.within(images)]
        if self._content_away is not None and not self._content_away.within(images):
            self._content_away = None
        if self._content_away in self._groups:
            self._content_chosen, content, self._content_away = True, self._content_away, None
        if content not in (*images, *self._groups):
            # What is hidden for a while is chosen again when it is shown, unless the user has chosen since.
            self._content_away = content if isinstance(content, LayerGroup) else None
            self._content_chosen, content = False, None
        if not self._content_chosen and not self._style_chosen:
            content = next(iter(_pictures(images)), content)
        first = images[0] if images else None
        self.content.offer([*self._groups, *images], first if content is None else content)
        start = self.init.picture
        self.init.offer(images, start if start in images else first)
        self._filling = False
        self._refill_styles()

    def _refill_styles(self) -> None:
        if self._filling:
            return
        content = self.content.picture
        taken = content.layers if isinstance(content, LayerGroup) else [content]
        others = [layer for layer in reversed(self.image_layers) if layer not in taken]
        pictures = _pictures(others)
        layers = [*pictures, *(layer for layer in others if layer not in pictures)]
        groups = [group for group in self._groups if not any(layer in taken for layer in group.layers)]
        known = {row.picture: row for row in self._rows}
        hidden = [row.picture for row in self._chosen() if row.picture not in (*self._groups, *self.image_layers)]
        self._styles_away += [picture for picture in hidden if isinstance(picture, LayerGroup)]
        back = [group for group in self._styles_away if group in groups]
        self._styles_away = [group for group in self._styles_away if group not in back]
        if not any(row.check.isChecked() and row.picture in (*groups, *layers) for row in self._rows):
            self._style_chosen = False
        rows = []
        for picture in (*groups, *layers):
            row = known.pop(picture, None)
            if row is None:
                row = StyleRow(picture, self._calm)
                row.explain_weight(self._unused)
                row.check.clicked.connect(self._choose_style)
                row.changed.connect(self._tell)
            rows.append(row)
        self._rows = rows
        self._filling = True
        if not self._style_chosen:
            guess = back or layers[:1]
            for row in rows:
                row.check.setChecked(row.picture in guess)
            self._style_chosen = bool(back)
        self._filling = False
        self.styles.show_rows(rows, list(known.values()))
        self._tell()

    def _choose_style(self) -> None:
        self._style_chosen, self._styles_away = True, []

    def _tell(self) -> None:
        if self._filling:
            return
        several = len(self._chosen()) > 1
        for row in self._rows:
            row.weight.setVisible(several and row.check.isChecked())
            row.describe()
        self._show_levels()
        self.changed.emit()

    def _show_levels(self, event: Any = None) -> None:
        """Offer the resolution levels of the content, if it has several."""
        content = self._content()
        shapes = [] if content is None else shared_levels(self._viewer, content)
        assert isinstance(self._level, LevelCombo)
        if len(shapes) > 1:
            self._level.offer(shapes)
        self._form.show_row(self._level, len(shapes) > 1)

    def _follow(self, images: list[Image]) -> None:
        """Listen to names and thumbnails of exactly these layers."""
        for layer in self._followed:
            if layer not in images:
                layer.events.name.disconnect(self._describe)
                layer.events.thumbnail.disconnect(self._describe)
                for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
                    event.disconnect(self._late.ask)
        for layer in images:
            if layer not in self._followed:
                layer.events.name.connect(self._describe)
                layer.events.thumbnail.connect(self._describe)
                for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
                    event.connect(self._late.ask)
        self._followed = list(images)

    def _describe(self, event: Any = None) -> None:
        """Show names and thumbnails as they are now."""
        for part in (self.content, self.init, *self._rows):
            part.describe()


def _names(picture: Picture) -> Names:
    return tuple(layer.name for layer in (picture.layers if isinstance(picture, LayerGroup) else [picture]))


def _pictures(images: Sequence[Image]) -> list[Image]:
    """Return the layers that are not results of ours: a result is the first guess for nothing."""
    return [layer for layer in images if METADATA_KEY not in layer.metadata]
