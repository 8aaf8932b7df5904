"""The only thread: a run's events, carried from a napari worker to the main thread.

The form calls `start_run` with a function that makes the event generator (`engine_run` in real life). Events
wait in a mailbox, which the main thread empties a few times a second at most, so that a busy window is never
flooded and nothing waits for the engine's next event to be seen. Whatever goes wrong in the thread arrives as
a `StyleTransferError`, because napari's worker swallows a `RuntimeError` and would leave the form waiting.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from napari.qt.threading import create_worker
from qtpy.QtCore import QElapsedTimer, QTimer

from napari_styletransfer.engine.events import Event, Fetching, Finished, Plan, Preview, Reason, Started
from napari_styletransfer.errors import DeviceError, OutOfMemoryError, StyleTransferError

if TYPE_CHECKING:
    from napari_styletransfer.config import StyleConfig

REPORT_INTERVAL = 125
"""Milliseconds between reports: eight a second look like motion and leave the window free."""

ShouldStop = Callable[[], bool]
Prepare = Callable[[npt.NDArray[np.float32], Plan], npt.NDArray[Any]]


class Readable(Protocol):
    """A picture that is read when it is needed, in the thread: `layers.read.Snapshot` is one."""

    def read(self) -> npt.NDArray[Any]:
        """Return the pixels as `pixels.decode` takes them."""
        ...


@dataclass(frozen=True)
class PlaneBegun:
    """The events that follow are those of plane number `plane` of `planes`, counted from 0."""

    plane: int
    planes: int


News = Event | PlaneBegun
Run = Callable[[ShouldStop], Generator[News, None, None]]


@dataclass(frozen=True)
class Report:
    """What happened since the last report: of `Fetching` and `Preview` only the newest, every `Step`."""

    events: tuple[News, ...]


@dataclass(frozen=True)
class _Failure:
    """The end of a run that raised."""

    error: StyleTransferError


def engine_run(
    content: Readable | None,
    styles: Sequence[Readable],
    config: StyleConfig,
    *,
    init: Readable | None = None,
    resume: Any = None,
    labels: Sequence[Readable] | None = None,
    planes: Sequence[Readable] | None = None,
    finished: Mapping[int, npt.NDArray[Any]] | None = None,
    variations: Sequence[StyleConfig] = (),
) -> Run:
    """Return the real run of these pictures, to be started by `start_run`.

    Pictures are read, and torch is imported, only when the run begins, which is in the thread.

    Parameters
    ----------
    content, styles, config, init, resume
        As `engine.transfer.iter_stylize` takes them.
    labels
        Of the content, or of each of the planes.
    planes
        To be run one after another in place of `content`.
    finished
        Results of planes that are not to be run again.
    variations
        Settings to be run one after another in place of `config`, all with the same network.
    """

    def run_planes(should_stop: ShouldStop) -> Generator[News, None, None]:
        assert planes is not None
        iter_stylize_stack = _load_engine("stack").iter_stylize_stack
        number: int | None = None
        for told in iter_stylize_stack(
            [partial(_read, planes, index) for index in range(len(planes))],
            [style.read() for style in styles],
            config,
            finished=finished,
            labels=None if labels is None else [partial(_read, labels, index) for index in range(len(labels))],
            should_stop=should_stop,
        ):
            if told.plane != number:
                number = told.plane
                yield PlaneBegun(told.plane, told.planes)
            # A plane's optimiser is of no use once the plane is done, and far larger than the plane.
            yield replace(told.event, state=None) if isinstance(told.event, Finished) else told.event

    def run_variations(should_stop: ShouldStop) -> Generator[News, None, None]:
        engine = _load_engine("transfer")
        pixels = None if content is None else content.read()
        pictures = [style.read() for style in styles]
        marks = None if labels is None else labels[0].read()
        shared = engine.Shared()
        for number, variation in enumerate(variations):
            yield PlaneBegun(number, len(variations))
            # The network is the same, but not what was measured of the styles: they are fitted differently.
            shared = engine.Shared(network=shared.network)
            for event in engine.iter_stylize(
                pixels, pictures, variation, should_stop=should_stop, labels=marks, shared=shared
            ):
                yield replace(event, state=None) if isinstance(event, Finished) else event
                if isinstance(event, Finished) and event.reason is Reason.STOPPED:
                    return

    def run(should_stop: ShouldStop) -> Generator[News, None, None]:
        iter_stylize = _load_engine("transfer").iter_stylize
        yield from iter_stylize(
            None if content is None else content.read(),
            [style.read() for style in styles],
            config,
            should_stop=should_stop,
            init=None if init is None else init.read(),
            resume=resume,
            labels=None if labels is None else labels[0].read(),
        )

    if variations:
        return run_variations
    return run if planes is None else run_planes


def _read(pictures: Sequence[Readable], index: int) -> npt.NDArray[Any]:
    return pictures[index].read()


def start_run(
    run: Run,
    *,
    on_report: Callable[[Report], None],
    on_error: Callable[[StyleTransferError], None],
    on_done: Callable[[], None],
    prepare: Prepare | None = None,
) -> RunHandle:
    """Start a run in a thread of napari's; call this, and be called back, on the main thread.

    Parameters
    ----------
    run
        Called in the thread with a function that says whether to stop, to be polled at every evaluation.
    on_report
        Gets each `Report`; the last one of a run that was not cut off ends with `Finished`.
    on_error
        Gets what ended the run, instead of a report with `Finished`.
    on_done
        Called once, after all other calls, also when napari shut the run down.
    prepare
        Applied, in the thread, to each preview image, with the run's plan.

    Returns
    -------
    RunHandle
        To stop the run.
    """
    return RunHandle(run, on_report, on_error, on_done, prepare)


_UNDER_WAY: set[RunHandle] = set()
"""Handles of runs that are not over: Qt's connections alone would not keep one that nobody else holds."""


class RunHandle:
    """One run under way, seen from the main thread."""

    def __init__(
        self,
        run: Run,
        on_report: Callable[[Report], None],
        on_error: Callable[[StyleTransferError], None],
        on_done: Callable[[], None],
        prepare: Prepare | None = None,
    ) -> None:
        self._on_report = on_report
        self._on_error = on_error
        self._on_done = on_done
        self._stop = threading.Event()
        self._abandoned = False
        self._mailbox = _Mailbox()
        self._since = QElapsedTimer()
        self._later = QTimer()
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._deliver)
        self._worker = create_worker(
            _post,
            run,
            prepare,
            self._should_stop,
            self._quitting,
            self._mailbox,
            _start_thread=False,
            _ignore_errors=True,
            _connect={"yielded": self._on_mail, "errored": self._on_raised, "finished": self._on_finished},
        )
        _UNDER_WAY.add(self)
        self._worker.start()

    def stop(self) -> None:
        """Ask the run to end with its best image, within one evaluation."""
        self._stop.set()

    def abandon(self) -> None:
        """Ask the run to end and call nobody back: the window is gone."""
        self._abandoned = True
        self._later.stop()
        self._stop.set()

    def _should_stop(self) -> bool:
        return self._stop.is_set() or self._quitting()

    def _quitting(self) -> bool:
        # napari asks its workers to quit when a viewer or the application closes, and then waits for them.
        return bool(self._worker.abort_requested)

    @property
    def _silent(self) -> bool:
        return self._abandoned or self._quitting()

    def _on_mail(self) -> None:
        """Deliver now, or as soon as the last delivery is long enough ago."""
        wait = REPORT_INTERVAL - self._since.elapsed() if self._since.isValid() else 0
        if wait <= 0:
            self._deliver()
        elif not self._later.isActive():
            self._later.start(int(wait))

    def _deliver(self) -> None:
        messages = self._mailbox.empty()
        if not messages or self._silent:
            return
        self._since.start()
        events = tuple(message for message in messages if not isinstance(message, _Failure))
        if events:
            self._on_report(Report(events))
        for message in messages:
            if isinstance(message, _Failure):
                self._on_error(message.error)

    def _on_raised(self, error: Exception) -> None:
        if not self._silent:
            self._on_error(translated(error))

    def _on_finished(self) -> None:
        _UNDER_WAY.discard(self)
        self._later.stop()
        self._deliver()
        if not self._abandoned:
            self._on_done()


def translated(error: BaseException) -> StyleTransferError:
    """Turn any error into one of ours that says what to do; the original stays as its cause."""
    if isinstance(error, StyleTransferError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        ours: StyleTransferError = OutOfMemoryError(
            "The run did not fit into memory. Choose a smaller size, another device, or the compact network. "
            f"({text.splitlines()[0]})"
        )
    else:
        ours = StyleTransferError(f"The run broke off with an unexpected error. {text}")
    ours.__cause__ = error
    return ours


def _load_engine(module: str) -> Any:
    """Import a module of the engine, and torch with it, telling apart what can be wrong with the installation."""
    try:
        return importlib.import_module(f"napari_styletransfer.engine.{module}")
    except ImportError as error:
        raise DeviceError(
            f"PyTorch, which does the computing, cannot be imported: {error}. Install it into napari's "
            "environment with: python -m pip install torch torchvision"
        ) from error
    except OSError as error:
        raise DeviceError(
            f"PyTorch is installed but its libraries do not load: {error}. On Windows this happens when Qt was "
            "loaded first and brought other runtime libraries; update the Microsoft Visual C++ Redistributable, "
            'or start napari with: python -c "import torch, napari; napari.Viewer(); napari.run()"'
        ) from error


class _Mailbox:
    """What the thread has written and the main thread not yet read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[News | _Failure] = []

    def put(self, message: News | _Failure) -> bool:
        """Add a message, drop the one it makes out of date, and say whether the box was empty."""
        with self._lock:
            was_empty = not self._waiting
            if isinstance(message, Preview | Fetching):
                self._waiting = [other for other in self._waiting if type(other) is not type(message)]
            self._waiting.append(message)
            return was_empty

    def empty(self) -> list[News | _Failure]:
        """Take everything out."""
        with self._lock:
            messages, self._waiting = self._waiting, []
            return messages


def _post(
    run: Run,
    prepare: Prepare | None,
    should_stop: ShouldStop,
    quitting: ShouldStop,
    mailbox: _Mailbox,
) -> Iterator[None]:
    """Drive the run in the thread; yield whenever there is mail where there was none."""
    plan: Plan | None = None
    try:
        with closing(run(should_stop)) as events:
            for event in events:
                if isinstance(event, Started):
                    plan = event.plan
                if isinstance(event, Preview) and prepare is not None and plan is not None:
                    event = replace(event, image=prepare(event.image, plan))
                # Once told to quit, the worker would leave the run hanging at a yield instead of closing it.
                if mailbox.put(event) and not quitting():
                    yield
    except Exception as error:
        # Not raised: napari's worker would swallow a RuntimeError. GeneratorExit is no Exception and passes.
        if mailbox.put(_Failure(translated(error))) and not quitting():
            yield
