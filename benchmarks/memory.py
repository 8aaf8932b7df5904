"""Peak memory of a piece of work, beyond what the process or the device held before it. Called by `jobs`."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Peak:
    """Begins to watch when it is made; on Linux for the CPU, and on CUDA."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        gc.collect()
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            self._base = torch.cuda.memory_allocated()
        elif self._known:
            # Freed memory that the C library still holds would hide as much of what comes.
            ctypes.CDLL(None).malloc_trim(0)
            self._base = _kilobytes("VmRSS") * 1024
        self.restart()

    def restart(self) -> None:
        """Forget the peak so far, but not the base."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        elif self._known:
            _CLEAR.write_text("5")

    def bytes(self) -> int | None:
        """Return the peak beyond the base, None where it cannot be told."""
        if self._cuda:
            return torch.cuda.max_memory_allocated() - self._base
        return _kilobytes("VmHWM") * 1024 - self._base if self._known else None

    @property
    def _known(self) -> bool:
        return sys.platform == "linux"


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)
