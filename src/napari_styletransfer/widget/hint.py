"""The line that tells a viewer without two pictures what to do, with a link to an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel

from napari_styletransfer.widget.qt_utils import text_color

if TYPE_CHECKING:
    from napari.viewer import Viewer

_WORDS = (
    "Open two pictures, a content and a style, or "
    '<a href="sample" style="color: {link}">load an example</a>. '
    "File ▸ Open Sample ▸ Style Transfer has more."
)


class Hint(QLabel):
    """Words for beginners; their link opens the example in the viewer."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.setWordWrap(True)
        self.linkActivated.connect(self._open_sample)

    def set_theme(self, theme: Any) -> None:
        """Take over the colours of a theme."""
        self.setText(_WORDS.format(link=text_color(theme, "current").name()))

    def _open_sample(self) -> None:
        self._viewer.open_sample("napari-styletransfer", "content_and_style")
