"""A run computes under settings of its own, and whoever consumes it under theirs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_styletransfer.api import stylize
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.devices.compute_context import compute_context, compute_threads
from napari_styletransfer.engine.run import iter_stylize, plan
from napari_styletransfer.engine.stack import iter_stylize_stack
from napari_styletransfer.events import Finished, Step

CONFIG = StyleConfig(network="compact", device="cpu", precision="float32", size=32, iterations=3, scales=1, tolerance=0)

Image = npt.NDArray[np.float32]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Return a function that sets how many threads torch has, which are as many as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# The number of threads


@pytest.mark.parametrize(("cores", "inside"), [(8, 7), (3, 2), (2, 2), (1, 1)])
def test_a_core_is_left_to_others_where_there_are_more_than_two(
    cores: int, inside: int, threads: Callable[[int], None]
) -> None:
    threads(cores)

    with compute_context():
        assert torch.get_num_threads() == compute_threads() == inside
        with compute_context():
            assert torch.get_num_threads() == inside
    assert compute_threads() == inside
    assert torch.get_num_threads() == cores


def test_overlapping_runs_leave_the_number_of_threads_as_it_was_in_whatever_order_they_end(
    content_image: Image, style_image: Image, threads: Callable[[int], None]
) -> None:
    threads(4)
    first, second = (iter_stylize(content_image, [style_image], CONFIG, preview_interval=0) for _ in range(2))

    for run in (first, second):
        while not isinstance(next(run), Step):
            assert torch.get_num_threads() == 4
    first.close()
    assert torch.get_num_threads() == 4
    assert isinstance(list(second)[-1], Finished)
    assert torch.get_num_threads() == 4


def test_a_thread_that_begins_while_another_computes_computes_on_as_many(
    content_image: Image, style_image: Image, threads: Callable[[int], None]
) -> None:
    threads(4)
    seen: dict[str, int] = {}

    def computed(name: str) -> None:
        with compute_context():
            seen[name] = torch.get_num_threads()
        seen[f"after {name}"] = torch.get_num_threads()

    def should_stop() -> bool:
        seen["run"] = torch.get_num_threads()
        for name in ("new", "newer"):
            other = threading.Thread(target=computed, args=(name,))
            other.start()
            other.join()
        return True

    list(iter_stylize(content_image, [style_image], CONFIG, should_stop=should_stop))

    computed("own")
    assert seen == {"run": 3, "new": 3, "after new": 4, "newer": 3, "after newer": 4, "own": 3, "after own": 4}


def test_a_thread_with_fewer_threads_keeps_them(threads: Callable[[int], None]) -> None:
    threads(4)
    seen: list[int] = []

    def computed() -> None:
        torch.set_num_threads(2)
        for _ in range(2):
            with compute_context():
                seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    other = threading.Thread(target=computed)
    other.start()
    other.join()

    assert seen == [2, 2, 2]
    assert torch.get_num_threads() == 4


# Settings of others


@contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")


@contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


OTHERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": _default_device,
    "default dtype": _default_dtype,
    "deterministic": _deterministic,
    "numpy raises": lambda: np.errstate(all="raise"),
}


def _seen() -> tuple[Any, ...]:
    """Return what a consumer can see of the settings."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_device(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        np.geterr(),
    )


FIELDS: list[dict[str, Any]] = [
    {"color": "content", "optimizer": "adam", "coarse_weight": 0.0},
    {"color": "match", "scales": 2, "history_precision": "bfloat16", "feather": 2.0, "tv_weight": 1e-3},
    {"start": "white-noise", "spectral_exponent": 0.5, "normalization": "gatys", "pooling": "max"},
    {"mode": "colors"},
]


@contextmanager
def _all_of_them() -> Iterator[None]:
    with ExitStack() as stack:
        for others in OTHERS.values():
            stack.enter_context(others())
        yield


@pytest.mark.parametrize(
    ("others", "fields"),
    [*((others, {}) for others in OTHERS.values()), *((_all_of_them, fields) for fields in FIELDS)],
    ids=[*OTHERS, *("all, adam", "all, match", "all, noise", "all, colors")],
)
def test_a_run_gives_the_same_picture_whatever_others_have_set(
    others: Callable[[], AbstractContextManager[Any]],
    fields: dict[str, Any],
    content_image: Image,
    style_image: Image,
) -> None:
    content = content_image[..., 0] if "tv_weight" in fields else content_image * np.float32(1e3)
    content[0, :3] = 1e-42, np.nan, np.inf  # what numpy can be told to raise for
    labels = np.repeat(np.arange(48)[:, None] // 16, 64, axis=1) if "feather" in fields else None
    expected = stylize(content, style_image, CONFIG, labels=labels, **fields)

    with others():
        result = stylize(content, style_image, CONFIG, labels=labels, **fields)

    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS)
def test_the_consumer_of_a_run_keeps_its_settings(
    others: Callable[[], AbstractContextManager[Any]],
    content_image: Image,
    style_image: Image,
) -> None:
    config = CONFIG.changed(network="auto", iterations=1)
    kinds = set()
    with others():
        own = _seen()
        plan(content_image, [style_image], config)
        assert _seen() == own
        for event in iter_stylize_stack([lambda: content_image], [style_image], config, preview_interval=0):
            kinds.add(type(event).__name__)
            assert _seen() == own
        abandoned = iter_stylize(content_image, [style_image], config)
        next(abandoned)
        abandoned.close()
        assert _seen() == own
    assert kinds == {"PlaneStarted", "Started", "Preview", "Step", "Finished"}


def test_a_run_that_is_resumed_under_other_settings_goes_on_as_it_began(
    content_image: Image, style_image: Image
) -> None:
    *_, expected = iter_stylize(content_image, [style_image], CONFIG)
    run = iter_stylize(content_image, [style_image], CONFIG, preview_interval=float("inf"))
    with torch.inference_mode():
        while not isinstance(next(run), Step):
            pass
    with torch.autocast("cpu", dtype=torch.bfloat16), np.errstate(all="raise"):
        assert isinstance(next(run), Step)

    *_, last = run

    np.testing.assert_array_equal(last.image, expected.image)


def test_the_engine_computes_without_gradients_in_normal_tensors() -> None:
    with torch.inference_mode(), compute_context():
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


# Forked processes


FORKED = """
import multiprocessing, os, sys
import numpy as np, torch
from napari_styletransfer import StyleConfig, iter_stylize, plan, stylize
from napari_styletransfer.errors import DeviceError

config = StyleConfig(network="compact", device="cpu", precision="float32", size=32, iterations=2, scales=1)
picture = np.random.default_rng(0).random((128, 128, 3), np.float32)

def told(work):
    try:
        return work()
    except DeviceError as error:
        return str(error)

def run():
    return stylize(picture, picture[::-1], config)

def single():
    torch.set_num_threads(1)
    return run()

def resumed():
    return next(suspended)

def planned():
    return plan(picture, [picture], config)

def child(work, answers):
    answers.put(told(work))

torch.set_num_threads(2)
context = multiprocessing.get_context("fork")

def forked(work):
    answers = context.SimpleQueue()
    process = context.Process(target=child, args=(work, answers))
    process.start()
    answer = answers.get()
    process.join()
    return answer

# Before any run, a fork does no harm; nor does asking for the devices.
from napari_styletransfer.devices.device import devices
devices()
assert isinstance(forked(run), np.ndarray)

torch.set_num_threads(1)
alone = run()
torch.set_num_threads(2)
assert isinstance(run(), np.ndarray)
suspended = iter_stylize(picture, [picture[::-1]], config)
next(suspended)
for work in (run, resumed, planned):
    answer = forked(work)
    assert isinstance(answer, str) and "get_context(\\"spawn\\")" in answer, answer
np.testing.assert_array_equal(forked(single), alone)

child_id = os.fork()
if child_id == 0:
    os._exit(0 if "would hang" in str(told(run)) else 1)
assert os.waitpid(child_id, 0)[1] == 0
assert isinstance(run(), np.ndarray)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs to fork")
def test_a_run_in_a_process_forked_after_one_is_refused_where_it_would_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
