"""The settings of torch under which the engine computes: a run enters them, and leaves them when it yields.

Other plugins, and whoever consumes a run, set how torch works in a thread; neither sees what the other has set. The
default device and dtype are not among it, as setting the latter would reach into other threads: the engine makes every
tensor with its own. Called by `engine.run`, `planner`, `stack` and `device`.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import ParamSpec, TypeVar

import torch

from napari_styletransfer.errors import DeviceError

Arguments = ParamSpec("Arguments")
Yielded = TypeVar("Yielded")

_lock = threading.Lock()
_replaced: list[int] = []
"""The number of threads before each computation that goes on now on one less."""
_process: int | None = None
"""The process in which torch has computed on several threads."""


class _Thread(threading.local):
    computing = False
    known = False
    """Whether this thread has computed before, and so has its own number of threads."""


_thread = _Thread()


def in_compute_context(
    function: Callable[Arguments, Generator[Yielded, None, None]],
) -> Callable[Arguments, Generator[Yielded, None, None]]:
    """Make a generator function compute in a `compute_context`, without its consumer being in it."""

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Generator[Yielded, None, None]:
        with closing(function(*args, **kwargs)) as generator:
            while True:
                with compute_context():
                    event = next(generator, None)
                if event is None:
                    return
                yield event
                del event  # a preview is as large as the picture

    return wrapper


@contextmanager
def compute_context() -> Iterator[None]:
    """Compute without gradients and autocast, and with a core to spare; inside itself it changes nothing.

    Raises
    ------
    DeviceError
        In a process that was forked from one that has computed on several threads: it would hang.
    """
    _check_process()
    if _thread.computing:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(_core_left_free())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        _thread.computing = True
        try:
            yield
        finally:
            _thread.computing = False


def compute_threads() -> int:
    """Return on how many threads the engine computes here."""
    threads = torch.get_num_threads()
    return threads if _thread.computing else _leave_core_free(threads)


def _leave_core_free(threads: int) -> int:
    """Return one thread less where there are more than two.

    A window then stays fluid. Two cores are both used: waiting threads sleep, so the window gets its turn.
    Every consumer does this alike, because sums over threads, and so the last bits of a result, depend on it.
    """
    return threads - 1 if threads > 2 else threads


def _check_process() -> None:
    """Raise `DeviceError` where the threads of torch stayed behind in another process."""
    global _process
    if torch.get_num_threads() < 2:
        return
    if _process not in (None, os.getpid()):
        raise DeviceError(
            "This process was forked from one that has computed with torch, whose threads stayed there, so that a run "
            'would hang. Start processes with multiprocessing.get_context("spawn"), or call torch.set_num_threads(1) '
            "in them."
        )
    _process = os.getpid()


@contextmanager
def _core_left_free() -> Iterator[None]:
    with _lock:
        threads = torch.get_num_threads()
        # A thread begins with the number that was last set in any of them, be it by a computation under way.
        if not _thread.known and threads + 1 in _replaced:
            threads += 1
        _thread.known = True
        fewer = _leave_core_free(threads)
        if fewer < threads:
            torch.set_num_threads(fewer)
            _replaced.append(threads)
    try:
        yield
    finally:
        if fewer < threads:
            with _lock:
                torch.set_num_threads(threads)
                _replaced.remove(threads)
