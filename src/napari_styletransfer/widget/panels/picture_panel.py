"""The picture part of the form: which layer is the content, which are the styles and how much each counts.

Follows the viewer's image layers as they come, go, move and are renamed. A layer the user has chosen stays
chosen; until they choose, the first image is the content and the last other one the style, which is what opening
two pictures means. Visible layers of one pixel grid are offered together as well, as content and as style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from superqt.utils import QSignalDebouncer

from napari_styletransfer.config import Mode, Start
from napari_styletransfer.layers.compose import groups_in
from napari_styletransfer.layers.write import METADATA_KEY, is_sheet
from napari_styletransfer.session.form_state import Names
from napari_styletransfer.session.layer_group import LayerGroup, Picture, layers_of, update_groups
from napari_styletransfer.widget.panels import LIST_EVENTS
from napari_styletransfer.widget.panels.style_list import PictureCombo, StyleList, StyleRow
from napari_styletransfer.widget.qt_utils import FormRows
from napari_styletransfer.widget.settings.levels import LevelCombo, shared_levels

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_styletransfer.session.form_state import FormState
    from napari_styletransfer.widget.settings.field_editors import Editor

_LOOK_EVENTS = frozenset({"visible", "opacity", "blending"})
"""Of an image, after which other layers may be seen together."""

_NAME_EVENTS = frozenset({"name", "thumbnail"})


class PicturePanel(FormRows):
    """Content, styles, and where they matter the content's resolution level and the start image.

    Writes `content`, `styles`, `style_weights` and `init` of the form's state.
    """

    def __init__(self, viewer: ViewerModel, state: FormState, level: Editor) -> None:
        super().__init__()
        self._viewer = viewer
        self._state = state
        self._images: list[Image] = []
        self._rows: list[StyleRow] = []
        self._groups: list[LayerGroup] = []
        self._hidden_content: LayerGroup | None = None
        self._hidden_styles: list[LayerGroup] = []
        self._content_chosen = self._style_chosen = self._filling = False
        # When a layer comes, napari builds its controls and draws it in the same turn of the event loop in which it
        # tells of it. Following in the next turn holds up the window less.
        self._deferred = QSignalDebouncer(parent=self)
        self._deferred.triggered.connect(self._update)
        self.content = PictureCombo("<p>The picture to be painted anew, as it is shown now.</p>")
        self.init = PictureCombo("<p>The picture the run starts from.</p>")
        self.styles = StyleList()
        assert isinstance(level.native, LevelCombo)
        self._level = level.native
        self.add("Content", self.content)
        self.add(level.title, self._level)
        self.add("Style", self.styles)
        self.add("Start image", self.init)
        self.content.activated.connect(self._on_content_chosen)
        self.content.currentIndexChanged.connect(self._fill_styles)
        self.init.currentIndexChanged.connect(self._on_edited)
        viewer.layers.events.connect(self._on_layers)
        for signal in (viewer.dims.events.order, viewer.dims.events.ndisplay):
            # What can be read, and what is seen together, depends on the axes that are displayed.
            signal.connect(self.update_later)
        self._update()
        self.update_settings()

    @property
    def content_layer(self) -> Picture | None:
        """The chosen layer or layers, or None where there is none or the mode needs none."""
        self.flush()
        return self._state.content

    @property
    def style_layers(self) -> list[Picture]:
        """The chosen styles, from the top of the list; none where the mode needs none."""
        self.flush()
        return list(self._state.styles)

    @property
    def groups(self) -> list[LayerGroup]:
        """The visible layers that make one picture: one entry for each such picture."""
        self.flush()
        return list(self._groups)

    @property
    def init_layer(self) -> Image | None:
        """The start image, or None where the run makes its own."""
        self.flush()
        return self._state.init

    @property
    def image_layers(self) -> list[Image]:
        """The viewer's image layers, from the bottom up, but for sheets of variations, which are no pictures."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image) and not is_sheet(layer)]

    @property
    def chosen_names(self) -> tuple[Names | None, tuple[Names, ...] | None]:
        """Names of the layers of content and styles as far as the user has chosen them; for `choose_names`."""
        content = self.content.picture if self._content_chosen else None
        styles = tuple(_names(row.picture) for row in self._checked_rows()) if self._style_chosen else None
        return None if content is None else _names(content), styles

    def choose(self, content: Picture | None = None, styles: Sequence[Picture] = ()) -> None:
        """Choose layers as if the user had."""
        self.flush()
        if content is not None:
            self.content.setCurrentIndex(self.content.index_of(content))
            self._on_content_chosen()
        if styles:
            self._on_style_chosen()
            for row in self._rows:
                row.check.setChecked(row.picture in styles)
            self.styles.show_checked(self._rows)

    def choose_names(self, content: Names | None, styles: tuple[Names, ...] | None) -> None:
        """Choose the pictures whose layers have these names, as far as there are such."""
        known = {_names(picture): picture for picture in (*self.groups, *self.image_layers)}
        self.choose(
            None if content is None else known.get(content),
            [known[style] for style in styles or () if style in known],
        )

    def set_style_weights(self, weights: Sequence[float] | None) -> None:
        """Show blend weights, as far as there are chosen styles for them."""
        self.flush()
        chosen = self._checked_rows()
        for row, weight in zip(chosen, weights or [1.0] * len(chosen), strict=False):
            row.weight.setValue(weight)

    def set_blended(self, blended: bool) -> None:
        """Show whether blend weights count."""
        for row in self._rows:
            row.set_blended(blended)

    def update_settings(self) -> None:
        """Show what the mode and the start of the settings need."""
        mode, start = self._state.settings.mode, self._state.settings.start
        self.show_row(self.content, mode.uses_content)
        self.show_row(self.styles, mode.uses_styles)
        self.show_row(self.init, start is Start.IMAGE)
        self._write()

    def missing(self) -> str:
        """Return what the user must still choose, or an empty string."""
        self.flush()
        mode, images = self._state.settings.mode, self.image_layers
        if not images:
            return "The viewer has no image yet."
        if mode.uses_content and self._state.content is None:
            return "Choose a content layer."
        if mode.uses_styles and not self._state.styles:
            alone = mode is Mode.TRANSFER and len(images) == 1
            return "Add a second picture as the style." if alone else "Tick at least one style."
        if self._state.settings.start is Start.IMAGE and self._state.init is None:
            return "Choose the start image."
        return ""

    def update_later(self, event: Any = None) -> None:
        """Find out in the next turn of the event loop what there is, and what is seen where the viewer stands."""
        self._deferred.throttle()

    def flush(self) -> None:
        """Do now what `update_later` has put off."""
        self._deferred.flush(restart_timer=False)

    def release(self) -> None:
        """Stop following the viewer."""
        self._viewer.layers.events.disconnect(self._on_layers)
        self._deferred.cancel()
        for signal in (self._viewer.dims.events.order, self._viewer.dims.events.ndisplay):
            signal.disconnect(self.update_later)

    def _on_layers(self, event: Any) -> None:
        """Follow an event of the list of layers, or of one of them."""
        if event.type in LIST_EVENTS:
            self.update_later()
        elif isinstance(event.sources[0], Image):
            if event.type in _LOOK_EVENTS:
                self.update_later()
            elif event.type in _NAME_EVENTS:
                for part in (self.content, self.init):
                    part.update_names()
                for row in self._rows:
                    row.update_name()

    def _checked_rows(self) -> list[StyleRow]:
        return [row for row in self._rows if row.check.isChecked()]

    def _on_content_chosen(self) -> None:
        self._content_chosen, self._hidden_content = True, None

    def _on_style_chosen(self) -> None:
        self._style_chosen, self._hidden_styles = True, []

    def _update(self) -> None:
        """Bring all lists up to date with the viewer's images and with what is seen of them together."""
        images = self.image_layers
        together = groups_in(self._viewer, _candidates(images))
        if images == self._images and together == [tuple(group.layers) for group in self._groups]:
            self._on_edited()
            return
        self._images = images
        content = self.content.picture
        hidden = [] if self._hidden_content is None else [self._hidden_content]
        self._groups = update_groups([*self._groups, *hidden, *self._hidden_styles], together)
        # Deleted layers are let go of.
        self._hidden_styles = [group for group in self._hidden_styles if group.issubset(images)]
        if self._hidden_content is not None and not self._hidden_content.issubset(images):
            self._hidden_content = None
        if self._hidden_content in self._groups:
            self._content_chosen, content, self._hidden_content = True, self._hidden_content, None
        if content not in (*images, *self._groups):
            # What is hidden for a while is chosen again when it is shown, unless the user has chosen since.
            self._hidden_content = content if isinstance(content, LayerGroup) else None
            self._content_chosen, content = False, None
        if not self._content_chosen and not self._style_chosen:
            content = next(iter(_candidates(images)), content)
        first = images[0] if images else None
        self.content.set_pictures([*self._groups, *images], first if content is None else content)
        init = self.init.picture
        self.init.set_pictures(images, init if init in images else first)
        self._fill_styles()

    def _fill_styles(self) -> None:
        content = self.content.picture
        taken = [] if content is None else layers_of(content)
        others = [layer for layer in reversed(self.image_layers) if layer not in taken]
        candidates = _candidates(others)
        layers = [*candidates, *(layer for layer in others if layer not in candidates)]
        groups = [group for group in self._groups if not any(layer in taken for layer in group.layers)]
        known = {row.picture: row for row in self._rows}
        hidden = [row.picture for row in self._checked_rows() if row.picture not in (*self._groups, *self.image_layers)]
        self._hidden_styles += [picture for picture in hidden if isinstance(picture, LayerGroup)]
        back = [group for group in self._hidden_styles if group in groups]
        self._hidden_styles = [group for group in self._hidden_styles if group not in back]
        if not any(row.picture in (*groups, *layers) for row in self._checked_rows()):
            self._style_chosen = False
        self._rows = [
            known.pop(picture) if picture in known else self._new_row(picture) for picture in (*groups, *layers)
        ]
        if not self._style_chosen:
            guess = back or layers[:1]
            self._filling = True
            for row in self._rows:
                row.check.setChecked(row.picture in guess)
            self._filling = False
            self._style_chosen = bool(back)
        self.styles.show_rows(self._rows, list(known.values()))
        self._on_edited()

    def _new_row(self, picture: Picture) -> StyleRow:
        row = StyleRow(picture)
        row.set_blended(self._state.blended)
        row.check.clicked.connect(self._on_style_chosen)
        row.changed.connect(self._on_edited)
        return row

    def _on_edited(self) -> None:
        if self._filling:
            return
        several = len(self._checked_rows()) > 1
        for row in self._rows:
            row.weight.setVisible(several and row.check.isChecked())
            row.update_name()
        self._write()
        self._state.changed.emit()

    def _write(self) -> None:
        mode, start, ticked = self._state.settings.mode, self._state.settings.start, self._checked_rows()
        self._state.content = self.content.picture if mode.uses_content else None
        self._state.styles = tuple(row.picture for row in ticked) if mode.uses_styles else ()
        weights = tuple(row.weight.value() for row in ticked) if mode.uses_styles else ()
        self._state.style_weights = None if len(set(weights)) < 2 and 0.0 not in weights else weights
        init = self.init.picture if start is Start.IMAGE else None
        self._state.init = init if isinstance(init, Image) else None
        self._show_levels()

    def _show_levels(self) -> None:
        """Offer the resolution levels of the content, if it has several."""
        content = self._state.content
        shapes = [] if content is None else shared_levels(self._viewer, content)
        if len(shapes) > 1:
            self._level.set_shapes(shapes)
        self.show_row(self._level, len(shapes) > 1)


def _names(picture: Picture) -> Names:
    return tuple(layer.name for layer in layers_of(picture))


def _candidates(images: Sequence[Image]) -> list[Image]:
    """Return the layers that are not results of ours: a result is the first guess for nothing."""
    return [layer for layer in images if METADATA_KEY not in layer.metadata]
