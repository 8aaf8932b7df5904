"""What holds a form to its viewer and its session; outlives the form by a moment, to undo it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_styletransfer.session.run_session import Session


class Ties:
    """Connections of a form, to be cut when it goes.

    Parameters
    ----------
    session
        Of the form.
    cuts
        What undoes each connection.
    """

    def __init__(self, session: Session, cuts: Sequence[Callable[[], object]]) -> None:
        self._session = session
        self._cuts = list(cuts)

    def cut(self) -> bool:
        """Undo every connection, once; return whether there were any."""
        there_were = bool(self._cuts)
        while self._cuts:
            self._cuts.pop()()
        return there_were

    def on_destroyed(self) -> None:
        """End the run of a form that went down with its window, without being closed before."""
        if self.cut():
            self._session.abandon()
