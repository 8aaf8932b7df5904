"""Where a run happens: devices, their memory, and the number format they are good at.

Called by `planner`, and by the form and the command line to list what there is.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass

import torch

from napari_styletransfer.config import Precision
from napari_styletransfer.devices import system_memory
from napari_styletransfer.devices.compute_context import compute_threads
from napari_styletransfer.errors import DeviceError


@dataclass(frozen=True)
class DeviceInfo:
    """A device that a run can use; memory in bytes."""

    name: str
    label: str
    free_bytes: int
    total_bytes: int


def devices() -> list[DeviceInfo]:
    """Return the devices of this machine, the one that `auto` takes first."""
    return [_info(name) for name in _names()]


def _names() -> list[str]:
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return [*(f"cuda:{index}" for index in range(cards)), *apple, "cpu"]


def _info(name: str) -> DeviceInfo:
    """Look at one device; that alone takes memory on a graphics card, so that no other is looked at."""
    if name.startswith("cuda"):
        index = int(name.removeprefix("cuda:"))
        free, total = torch.cuda.mem_get_info(index)
        # What torch keeps for later from runs that are over is as good as free.
        free = min(free + torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index), total)
        return DeviceInfo(name, torch.cuda.get_device_name(index), free, total)
    free, total = system_memory.memory()
    if name == "mps":
        return DeviceInfo(name, "Apple GPU", free, total)
    threads = compute_threads()
    processor = platform.processor() or platform.machine() or "CPU"
    label = f"{processor}, {threads} thread{'' if threads == 1 else 's'}"
    return DeviceInfo(name, label, free, total)


def choose(name: str) -> DeviceInfo:
    """Return the device of that name, or the best one for `auto`.

    Raises
    ------
    DeviceError
        If the machine has no such device; the message lists those it has.
    """
    found = _names()
    wanted = {"auto": found[0], "cuda": "cuda:0"}.get(name, name)
    if wanted in found:
        return _info(wanted)
    hint = ""
    if wanted.startswith("cuda") and torch.version.cuda is None and torch.version.hip is None:
        hint = " This torch was installed without GPU support; see https://pytorch.org/get-started for one with it."
    raise DeviceError(f"There is no device '{name}' here. Devices: {', '.join(found)}, or 'auto'.{hint}")


def choose_dtype(device: str, precision: Precision) -> torch.dtype:
    """Return the number format of the convolutions: bfloat16 where asked, or where the hardware has it."""
    if precision is Precision.AUTO:
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision is Precision.BFLOAT16 else torch.float32


def _has_fast_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip is not None
    if device == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def empty_cache(device: str) -> None:
    """Give cached memory of a device back, so that a smaller attempt finds it free."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def malloc_trim(device: torch.device) -> None:
    """Give back what the host's C library keeps of freed memory: of another size, what comes would not fit in it."""
    if device.type == "cpu" and sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not every C library has it
        if give_back is not None:
            give_back(0)
