"""A run's thread and the main thread's hold on it; started by the session."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.qt.threading import create_worker
from qtpy.QtCore import QElapsedTimer, QThreadPool, QTimer
from superqt.utils import WorkerBase

from napari_styletransfer.errors import StyleTransferError
from napari_styletransfer.events import Event, Fetching, Plan, Preview, Started
from napari_styletransfer.worker.failures import to_styletransfer_error
from napari_styletransfer.worker.mailbox import Mailbox
from napari_styletransfer.worker.runs import Run, ShouldStop
from napari_styletransfer.worker.sharing import short_switch_interval

_THROTTLE_MS = 125
"""Milliseconds between deliveries: eight a second look like motion and leave the window free."""

_POLL_SECONDS = 0.02
"""Between two checks of whether to stop, while waiting."""

_MIN_THREADS = 4
"""How many threads napari's workers may have at least."""

Prepare = Callable[[npt.NDArray[np.float32], Plan], npt.NDArray[Any]]

# napari has its workers quit and waits for them when the event loop ends. Where there is none, as in a script or an
# interactive session, the interpreter would end under them.
atexit.register(WorkerBase.await_workers)

_active: set[RunHandle] = set()
"""Handles of runs that are not over: Qt's connections alone would not keep one that nobody else holds."""


class RunHandle:
    """One run in a thread of napari's, started at once; make it, and be called back, on the main thread.

    Parameters
    ----------
    run
        Called in the thread with a function that says whether to stop, to be polled at every evaluation.
    on_events
        Gets what happened since the last call: of `Fetching` and `Preview` only the newest, every `Step`. The last
        event of a run that was not cut off, nor stopped while weights were downloaded, is `Finished`.
    on_error
        Gets what ended the run, in place of a `Finished`.
    on_done
        Called once, after all other calls, also when napari shut the run down.
    prepare
        Applied, in the thread, to each preview image, with the run's plan.
    """

    def __init__(
        self,
        run: Run,
        *,
        on_events: Callable[[Sequence[Event]], None],
        on_error: Callable[[StyleTransferError], None],
        on_done: Callable[[], None],
        prepare: Prepare | None = None,
    ) -> None:
        self._on_events = on_events
        self._on_error = on_error
        self._on_done = on_done
        self._stop = threading.Event()
        self._abandoned = False
        self._mailbox = Mailbox()
        self._last_delivery = QElapsedTimer()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._deliver)
        self._worker = create_worker(
            _forward_events,
            run,
            prepare,
            self._should_stop,
            self._quitting,
            self._mailbox,
            _start_thread=False,
            _ignore_errors=True,
            _connect={"yielded": self._schedule, "errored": self._on_raised, "finished": self._on_finished},
        )
        _active.add(self)
        _raise_thread_limit()
        self._worker.start()

    def stop(self) -> None:
        """Ask the run to end with its best image, within one evaluation."""
        self._stop.set()

    def abandon(self) -> None:
        """Ask the run to end and call nobody back: the window is gone, and perhaps all of Qt."""
        self._abandoned = True
        self._stop.set()

    def _should_stop(self) -> bool:
        return self._stop.is_set() or self._quitting()

    def _quitting(self) -> bool:
        # napari asks its workers to quit when a viewer or the application closes, and then waits for them.
        return bool(self._worker.abort_requested)

    @property
    def _silent(self) -> bool:
        return self._abandoned or self._quitting()

    def _schedule(self) -> None:
        """Deliver soon, or as soon as the last delivery is long enough ago."""
        wait = _THROTTLE_MS - self._last_delivery.elapsed() if self._last_delivery.isValid() else 0
        if not self._timer.isActive():
            # Even if at once, then by a timer: what a delivery changes is drawn in a turn of its own.
            self._timer.start(max(int(wait), 0))

    def _deliver(self) -> None:
        messages = self._mailbox.empty()
        if not messages or self._silent:
            return
        self._last_delivery.start()
        events = [message for message in messages if not isinstance(message, StyleTransferError)]
        try:
            if events:
                self._on_events(events)
        finally:
            if any(isinstance(event, Preview) for event in events):
                self._mailbox.preview_shown.set()
        for message in messages:
            if isinstance(message, StyleTransferError):
                self._on_error(message)

    def _on_raised(self, error: Exception) -> None:
        if not self._silent:
            self._on_error(to_styletransfer_error(error))

    def _on_finished(self) -> None:
        _active.discard(self)
        self._timer.stop()
        self._deliver()
        if not self._abandoned:
            self._on_done()


def _raise_thread_limit() -> None:
    """See to it that a run, which holds a thread for minutes, is not the only worker of all napari.

    There are as many threads as cores. With one or two, whatever else is done in threads would wait for the run.
    """
    pool = QThreadPool.globalInstance()
    assert pool is not None
    pool.setMaxThreadCount(max(pool.maxThreadCount(), len(_active) + 1, _MIN_THREADS))


def _forward_events(
    run: Run,
    prepare: Prepare | None,
    should_stop: ShouldStop,
    quitting: ShouldStop,
    mailbox: Mailbox,
) -> Iterator[None]:
    """Drive the run in the thread; yield whenever there is mail where there was none."""
    plan: Plan | None = None
    try:
        with short_switch_interval(), closing(run(should_stop)) as events:
            for event in events:
                if isinstance(event, Fetching) and should_stop():
                    # There is no picture yet that would be worth keeping; leaving ends the download.
                    break
                if isinstance(event, Started):
                    plan = event.plan
                if isinstance(event, Preview) and prepare is not None and plan is not None:
                    event = replace(event, image=prepare(event.image, plan))
                # Once told to quit, the worker would leave the run hanging at a yield instead of closing it.
                if mailbox.put(event) and not quitting():
                    yield
                if isinstance(event, Preview):
                    _wait_for_first_preview(mailbox, should_stop)
    except Exception as error:
        # Not raised: napari's worker would swallow a RuntimeError. GeneratorExit is no Exception and passes.
        if mailbox.put(to_styletransfer_error(error)) and not quitting():
            yield


def _wait_for_first_preview(mailbox: Mailbox, should_stop: ShouldStop) -> None:
    """Wait until the first preview was shown.

    That makes a layer, which is the most the main thread ever has to do at once: in competition with the run it
    would take longer than a window may stand still.
    """
    while not mailbox.preview_shown.is_set() and not should_stop():
        mailbox.preview_shown.wait(_POLL_SECONDS)
