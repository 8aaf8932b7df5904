"""Runs that are over but can go on, with the optimiser's memory as long as that is affordable.

The session puts a run in when it ends; when the user selects the layer of an earlier one, it is found here. What
has been dropped goes on from its layer and metadata, see `resume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_styletransfer.events import Finished
    from napari_styletransfer.outputs.base import Output
    from napari_styletransfer.session.job import Job

MAX_RUNS = 3
MAX_BYTES = 256 << 20
"""Memory of all states together, on what may be a small graphics card: three runs of 512 × 512 pixels."""


@dataclass(frozen=True, eq=False)
class EndedRun:
    """A run, its layer, and how far it came.

    Attributes
    ----------
    job
        Pictures and settings.
    output
        What shows it.
    finished
        How it ended last; None if it never did. Its state is what the optimiser remembers.
    keeps_settings
        Whether it goes on with its own settings in place of the form's: it was taken up after another run.
    """

    job: Job
    output: Output
    finished: Finished | None = None
    keeps_settings: bool = False

    @property
    def blocking_reason(self) -> str:
        """Why it cannot go on, or an empty string."""
        return self.output.blocking_reason(self.finished)


class RunCache:
    """The last few runs, the oldest dropped first.

    Parameters
    ----------
    most_runs, most_bytes
        Limits; the newest run is kept, however large it is, until another begins.
    """

    def __init__(self, most_runs: int = MAX_RUNS, most_bytes: int = MAX_BYTES) -> None:
        self._runs: list[EndedRun] = []
        self._most_runs = most_runs
        self._most_bytes = most_bytes

    def put(self, run: EndedRun) -> None:
        """Keep a run, in place of what is known of it."""
        self.prune()
        self._runs = [other for other in self._runs if other.output is not run.output]
        self._runs.append(run)
        while len(self._runs) > self._most_runs or (len(self._runs) > 1 and self._bytes > self._most_bytes):
            del self._runs[0]

    def make_room(self, run: EndedRun) -> None:
        """Drop what should not lie about while a run is at work, which may be one of those kept."""
        self.prune()
        self._runs = [other for other in self._runs if other.output is not run.output]
        while self._runs and self._bytes > self._most_bytes:
            del self._runs[0]

    def prune(self) -> None:
        """Drop runs whose layer is not in the viewer any more: nobody can select it."""
        self._runs = [run for run in self._runs if run.output.present]

    def get(self, layer: Layer) -> EndedRun | None:
        """Return the run that a layer shows, if it is kept."""
        # Compared by value: napari gives plugins proxies of its layers, a new one each time.
        return next((run for run in self._runs if run.output.layer == layer), None)

    @property
    def _bytes(self) -> int:
        return sum(state_bytes(run.finished.state) for run in self._runs if run.finished is not None)


def state_bytes(state: Any) -> int:
    """Return how much memory the tensors in a state of the engine take, on whatever device."""
    storages: dict[int, int] = {}
    seen, left = set(), [state]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if hasattr(each, "untyped_storage"):
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(each, Mapping):
            left.extend(each.values())
        elif isinstance(each, list | tuple):
            left.extend(each)
        elif type(each).__module__.startswith("napari_styletransfer"):
            left.extend(getattr(each, "__dict__", {}).values())
    return sum(storages.values())
