"""The engine, and torch with it, loaded in a thread without the window standing still.

Called by the runs and by the list of devices. An import keeps Python's global lock while it maps hundreds of
megabytes of libraries and while it collects garbage among a million new objects; both are avoided here.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_styletransfer.errors import DeviceError
from napari_styletransfer.worker.sharing import short_switch_interval

_LIBRARIES = ("libtorch_global_deps.so", "libtorch.so")
"""Of torch on Linux, in the order in which torch loads them; they bring the CUDA libraries along."""

_lock = threading.RLock()


def load_engine(module: str) -> Any:
    """Import a module that needs torch, telling apart what can be wrong with the installation.

    Raises
    ------
    DeviceError
        If torch is missing or its libraries do not load.
    """
    try:
        with _lock, _low_latency_import():
            return importlib.import_module(f"napari_styletransfer.{module}")
    except ImportError as error:
        raise DeviceError(
            f"PyTorch, which does the computing, cannot be imported: {error}. Install it into napari's "
            "environment with: python -m pip install torch"
        ) from error
    except OSError as error:
        raise DeviceError(
            f"PyTorch is installed but its libraries do not load: {error}. On Windows this happens when Qt was "
            "loaded first and brought other runtime libraries; update the Microsoft Visual C++ Redistributable, "
            'or start napari with: python -c "import torch, napari; napari.Viewer(); napari.run()"'
        ) from error


@contextmanager
def _low_latency_import() -> Iterator[None]:
    """Let other threads run while torch is imported inside, if it is not loaded yet."""
    if "torch" in sys.modules:
        yield
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        with short_switch_interval():
            _map_libraries()
            yield
    finally:
        if collecting:
            # There and back moves all objects to the oldest generation at once: the three collections that would
            # carry them there one after another each take longer than a window may stand still.
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _map_libraries() -> None:
    """Open torch's libraries by the system's own function, which ctypes calls without Python's lock.

    The import then finds them open. Where this is not possible, it opens them itself, and tells what is wrong.
    """
    found = importlib.util.find_spec("torch") if sys.platform == "linux" else None
    if found is None or found.origin is None:
        return
    system = ctypes.CDLL(None).dlopen
    system.restype, system.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name, scope in zip(_LIBRARIES, (ctypes.RTLD_GLOBAL, ctypes.RTLD_LOCAL), strict=True):
        system(os.fsencode(Path(found.origin).with_name("lib") / name), os.RTLD_NOW | scope)
