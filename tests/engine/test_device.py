"""Devices are found, named, and told apart by what they are good at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from napari_styletransfer.config import Precision
from napari_styletransfer.devices import system_memory
from napari_styletransfer.devices.device import (
    choose,
    choose_dtype,
    devices,
    empty_cache,
    malloc_trim,
)
from napari_styletransfer.errors import DeviceError, OutOfMemoryError, is_out_of_memory


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, no_accelerator: None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10 + index, 20 + index))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 4 + 100 * index)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")


@pytest.mark.usefixtures("no_accelerator")
def test_a_machine_without_accelerator_has_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_memory, "limits", lambda: iter(()))
    (device,) = devices()

    assert device.name == "cpu"
    assert "thread" in device.label
    assert 0 < device.free_bytes <= device.total_bytes == psutil.virtual_memory().total


@pytest.mark.usefixtures("two_gpus")
def test_graphics_cards_come_before_the_processor() -> None:
    found = devices()

    assert [device.name for device in found] == ["cuda:0", "cuda:1", "cpu"]
    # What torch keeps of the cards' memory for later is free, but never more than there is.
    assert [(card.label, card.free_bytes, card.total_bytes) for card in found[:2]] == [
        ("Card 0", 13, 20),
        ("Card 1", 21, 21),
    ]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "chosen"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_a_device_is_chosen_by_its_name(name: str, chosen: str) -> None:
    assert choose(name).name == chosen


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"no device '{name}' here\. Devices: cpu, or 'auto'"):
        choose(name)


@pytest.mark.usefixtures("no_accelerator")
def test_a_torch_without_gpu_support_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)

    with pytest.raises(DeviceError, match="without GPU support"):
        choose("cuda")


@pytest.mark.parametrize(
    ("precision", "dtype"), [(Precision.FLOAT32, torch.float32), (Precision.BFLOAT16, torch.bfloat16)]
)
def test_a_precision_asked_for_is_taken(precision: Precision, dtype: torch.dtype) -> None:
    assert choose_dtype("cpu", precision) is dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_the_processor_gets_bfloat16_where_it_has_instructions_for_it(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert choose_dtype("cpu", Precision.AUTO) is dtype


def test_an_older_torch_that_tells_no_capabilities_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert choose_dtype("cpu", Precision.AUTO) is torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_a_graphics_card_gets_bfloat16_from_the_generation_that_has_it(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)

    assert choose_dtype("cuda:0", Precision.AUTO) is dtype


def test_apple_graphics_stay_with_float32() -> None:
    assert choose_dtype("mps", Precision.AUTO) is torch.float32


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("could not create a primitive"),
        OutOfMemoryError("Choose a smaller size."),
    ],
)
def test_every_way_of_running_out_of_memory_is_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        ValueError("out of memory"),
        KeyError("a"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_a_real_refusal_of_the_allocator_is_known() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)


CONVOLUTION = """
import resource, torch
from pathlib import Path
from napari_styletransfer.errors import is_out_of_memory

sizes = (1, 64, 256, 256), (64, 64, 3, 3)
image, kernel = (torch.zeros(size).to(memory_format=torch.channels_last) for size in sizes)
for spare in range(15 << 20, 17 << 20, 64 << 10):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, -1))
    try:
        torch.nn.functional.conv2d(image, kernel, padding=1)
    except (RuntimeError, MemoryError) as error:
        print(is_out_of_memory(error), error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process can be denied memory")
def test_a_real_shortage_in_a_convolution_is_known(told_by_fresh_interpreter: Callable[[str], str]) -> None:
    # Not enough for the result of 16 MiB at first; then for that, but not for what oneDNN wants beside it.
    told = told_by_fresh_interpreter(CONVOLUTION).splitlines()

    assert told
    assert all(line.startswith("True ") for line in told), told


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_cached_memory_is_given_back_to_the_device_it_belongs_to(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))

    empty_cache(device)
    empty_cache("cpu")

    assert emptied == [device.partition(":")[0]]


class Library:
    """A C library, with or without a way to give memory back."""

    def __init__(self, *, trims: bool) -> None:
        self.asked: list[int] = []
        if trims:
            self.malloc_trim = self.asked.append


@pytest.mark.parametrize(("system", "trims", "device"), [
    ("linux", True, "cpu"), ("linux", False, "cpu"), ("win32", True, "cpu"), ("linux", True, "cuda")
])  # fmt: skip
def test_freed_memory_is_given_back_where_the_library_can(
    system: str, trims: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(trims=trims)
    monkeypatch.setattr("napari_styletransfer.devices.device.sys.platform", system)
    monkeypatch.setattr("napari_styletransfer.devices.device.ctypes.CDLL", lambda name: library)

    malloc_trim(torch.device(device))

    assert library.asked == ([0] if (system, trims, device) == ("linux", True, "cpu") else [])


# How much memory there is

NEW = ("memory.max", "memory.current", "")
OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _group(folder: Path, names: tuple[str, str, str], limit: str, used: int, spare: int) -> None:
    """Write what the system tells of a group; half of the spare memory is of files used more than once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    stat = f"anon 5\n{names[2]}inactive_file {spare // 2}\n{names[2]}active_file {spare - spare // 2}\n"
    (folder / "memory.stat").write_text(stat)


def test_the_limits_of_a_container_and_of_what_is_around_it_are_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/slurm/job\n")
    _group(tmp_path / "groups" / "slurm", NEW, "3000", 1500, 200)
    _group(tmp_path / "groups" / "slurm" / "job", NEW, "max", 900, 0)

    assert list(system_memory.limits(tmp_path / "groups", own)) == [(3000, 1300)]


def test_a_container_that_sees_only_its_own_group_is_limited_by_that(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/docker/12ab\n")
    _group(tmp_path / "groups", NEW, "500", 100, 0)

    assert list(system_memory.limits(tmp_path / "groups", own)) == [(500, 100)]


def test_older_control_groups_are_read_of_their_memory_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("3:cpu:/job\n2:cpuset,memory:/job\n1:name=systemd:/job\n")
    _group(tmp_path / "groups" / "memory" / "job", OLD, "700", 400, 100)
    _group(tmp_path / "groups" / "job", OLD, "1", 1, 0)

    assert list(system_memory.limits(tmp_path / "groups", own)) == [(700, 300)]


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(system_memory.limits(tmp_path, tmp_path / "missing")) == []


@pytest.mark.usefixtures("no_accelerator")
def test_a_limit_below_the_memory_of_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_memory, "limits", lambda: iter([(1 << 60, 0), (1000, 300), (900, 950)]))

    device = choose("cpu")

    assert (device.free_bytes, device.total_bytes) == (0, 900)


@pytest.mark.usefixtures("two_gpus")
def test_only_the_device_asked_for_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: looked.append(index) or (10, 20))

    choose("cpu")
    assert looked == []
    choose("cuda:1")
    assert looked == [1]
