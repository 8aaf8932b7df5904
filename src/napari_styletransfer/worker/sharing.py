"""Python's global lock, handed over sooner while a run is under way.

A thread that computes in Python keeps the lock for 5 ms when another asks for it. The main thread gives it up and
asks again at every call into Qt and OpenGL, many times for one picture, so that these times add up to a standstill.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL = 0.001
"""Seconds that a thread may keep the lock while another wants it."""

_lock = threading.Lock()
_users = 0
_usual = 0.0


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Hand the lock over sooner while inside, in any number of threads at a time."""
    global _users, _usual
    with _lock:
        if _users == 0:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, SWITCH_INTERVAL))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                sys.setswitchinterval(_usual)
