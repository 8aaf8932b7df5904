"""A run in napari's thread: what arrives, where, and how it ends."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qtpy
from napari.qt.threading import create_worker
from qtpy.QtCore import QThreadPool
from superqt.utils import WorkerBase

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import DeviceError, OutOfMemoryError, StyleTransferError, WeightsError
from napari_styletransfer.events import Event, Finished, Plan, Preview, Reason, Scale, Started, Step
from napari_styletransfer.worker import RunHandle, ShouldStop, engine_run, loading, to_styletransfer_error
from napari_styletransfer.worker.sharing import short_switch_interval

PLAN = Plan(StyleConfig(), "cpu", "fake", "float32", (Scale(8, 6, 5),), None, 1, 1, 2)
PATIENCE = 20


def step(number: int) -> Step:
    return Step(number, 5, number, 0, {"total": 1 / number}, {}, number / 10)


def preview(value: float) -> Preview:
    return Preview(np.full((4, 3, 3), value, np.float32), 1, 0)


def finished(reason: Reason = Reason.ITERATIONS) -> Finished:
    return Finished(np.ones((8, 6, 3), np.float32), StyleConfig(), reason, 2, 2, 0.1, {"total": 1}, (1.0,))


class Listener:
    """Collects what a run tells, and on which thread."""

    def __init__(self) -> None:
        self.deliveries: list[Sequence[Event]] = []
        self.errors: list[StyleTransferError] = []
        self.done = 0
        self.threads: set[int] = set()

    @property
    def events(self) -> list[Event]:
        return [event for delivery in self.deliveries for event in delivery]

    def start(self, run: Callable[[ShouldStop], Iterator[Event]], **options: Any) -> RunHandle:
        return RunHandle(run, on_events=self._events, on_error=self._error, on_done=self._done, **options)

    def _events(self, events: Sequence[Event]) -> None:
        self.threads.add(threading.get_ident())
        self.deliveries.append(events)

    def _error(self, error: StyleTransferError) -> None:
        self.threads.add(threading.get_ident())
        self.errors.append(error)

    def _done(self) -> None:
        self.threads.add(threading.get_ident())
        self.done += 1


@pytest.fixture
def listener(qapp: Any) -> Listener:
    return Listener()


def test_events_arrive_in_order_on_the_main_thread(listener, qtbot):
    def run(should_stop):
        threads.add(threading.get_ident())
        yield from (Started(PLAN), preview(0.5), step(1), step(2), finished())

    threads: set[int] = set()
    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    assert [type(event).__name__ for event in listener.events] == ["Started", "Preview", "Step", "Step", "Finished"]
    assert listener.threads == {threading.get_ident()}
    assert threads.isdisjoint(listener.threads)
    assert listener.errors == []


def test_runs_do_not_wait_for_each_other_on_a_machine_with_one_core(listener, qtbot):
    def run(should_stop):
        begun.append(len(begun))
        yield Started(PLAN)
        go.wait(PATIENCE)
        yield finished()

    go, begun = threading.Event(), []
    pool = QThreadPool.globalInstance()
    usual = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        for _ in range(6):
            listener.start(run)
        qtbot.waitUntil(lambda: len(begun) == 6)
    finally:
        go.set()
        qtbot.waitUntil(lambda: listener.done == 6)
        pool.setMaxThreadCount(usual)


def test_every_step_arrives_but_of_previews_only_the_newest(listener, qtbot):
    def run(should_stop):
        yield Started(PLAN)
        for number in range(1, 501):
            yield preview(number)
            yield step(number)
        yield finished()

    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    steps = [event.iteration for event in listener.events if isinstance(event, Step)]
    shown = [event.image[0, 0, 0] for event in listener.events if isinstance(event, Preview)]
    assert steps == list(range(1, 501))
    assert shown[-1] == 500
    assert shown == sorted(shown)
    assert all(sum(isinstance(event, Preview) for event in delivery) <= 1 for delivery in listener.deliveries)


def test_what_was_told_is_seen_while_the_engine_is_busy(listener, qtbot):
    """A slow evaluation must not keep back the preview before it."""
    go = threading.Event()

    def run(should_stop):
        yield from (Started(PLAN), step(1), preview(0.25))
        go.wait(PATIENCE)
        yield finished()

    listener.start(run)
    qtbot.waitUntil(lambda: any(isinstance(event, Preview) for event in listener.events))
    assert not go.is_set()
    go.set()
    qtbot.waitUntil(lambda: listener.done == 1)


def test_previews_are_prepared_in_the_thread_with_the_plan(listener, qtbot):
    prepared = []

    def prepare(image, plan):
        prepared.append((threading.get_ident(), plan))
        return image * 2

    listener.start(lambda should_stop: iter_of(Started(PLAN), preview(0.25), finished()), prepare=prepare)
    qtbot.waitUntil(lambda: listener.done == 1)
    (thread, plan) = prepared[0]
    assert thread != threading.get_ident()
    assert plan is PLAN
    assert [event.image.max() for event in listener.events if isinstance(event, Preview)] == [0.5]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("boom"), StyleTransferError, "RuntimeError: boom"),
        (RuntimeError("MPS backend out of memory"), OutOfMemoryError, "Choose a smaller size"),
        (MemoryError(), OutOfMemoryError, "Choose a smaller size"),
        (StopIteration(), StyleTransferError, "StopIteration"),
        (ZeroDivisionError("float division by zero"), StyleTransferError, "ZeroDivisionError"),
        (WeightsError("Half a file. Delete it."), WeightsError, "Half a file. Delete it."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_any_error_in_the_thread_arrives_as_one_of_ours(listener, qtbot, error, kind, words):
    def run(should_stop):
        yield Started(PLAN)
        raise error

    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    (told,) = listener.errors
    assert type(told) is kind
    assert words in str(told)
    assert not isinstance(told, RuntimeError)
    assert [type(event) for event in listener.events] == [Started]


def test_an_error_before_the_first_event_arrives_too(listener, qtbot):
    def run(should_stop):
        raise RuntimeError("no generator at all")

    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    assert "no generator at all" in str(listener.errors[0])


def test_a_translated_error_keeps_its_cause():
    cause = RuntimeError("deep inside")
    assert to_styletransfer_error(cause).__cause__ is cause


def test_stop_is_seen_by_the_engine_and_its_result_arrives(listener, qtbot):
    handle = listener.start(until_told)
    qtbot.waitUntil(lambda: len(listener.events) > 0)
    handle.stop()
    qtbot.waitUntil(lambda: listener.done == 1)
    assert listener.events[-1].reason is Reason.STOPPED


def test_an_abandoned_run_ends_and_calls_nobody(listener, qtbot):
    ended = threading.Event()
    handle = listener.start(lambda should_stop: telling(until_told(should_stop), ended))
    qtbot.waitUntil(lambda: len(listener.events) > 0)
    before = len(listener.deliveries)
    handle.abandon()
    qtbot.waitUntil(ended.is_set)
    WorkerBase.await_workers(PATIENCE * 1000)
    qtbot.wait(1)
    assert (len(listener.deliveries), listener.done) == (before, 0)


def test_napari_quitting_ends_the_run_and_closes_its_generator(listener, qtbot):
    ended = threading.Event()
    listener.start(lambda should_stop: telling(until_told(should_stop), ended))
    qtbot.waitUntil(lambda: len(listener.events) > 0)
    before = len(listener.deliveries)
    WorkerBase.await_workers(PATIENCE * 1000)
    assert ended.is_set()
    qtbot.waitUntil(lambda: listener.done == 1)
    assert len(listener.deliveries) == before


def test_pictures_are_read_and_torch_is_loaded_in_the_thread_only(listener, qtbot, monkeypatch):
    def fake_engine(content, styles, config, *, should_stop, init, resume, labels):
        calls.append((content, styles, config, init, resume, labels))
        return iter_of(finished())

    class Picture:
        def __init__(self, name):
            self.name = name

        def read(self):
            threads.add(threading.get_ident())
            return self.name

    calls, threads = [], set()
    monkeypatch.setattr(loading, "load_engine", lambda module: SimpleNamespace(iter_stylize=fake_engine))
    config = StyleConfig()
    more = {"init": Picture("init"), "resume": "state", "labels": [Picture("labels")]}
    run = engine_run(Picture("content"), [Picture("style")], config, **more)
    assert threads == set()
    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    assert calls == [("content", ["style"], config, "init", "state", "labels")]
    assert threading.get_ident() not in threads


def test_planes_are_told_what_to_start_from(monkeypatch):
    asked = []
    monkeypatch.setattr(
        loading,
        "load_engine",
        lambda module: SimpleNamespace(iter_stylize_stack=lambda *given, **options: asked.append(options) or iter(())),
    )
    init = SimpleNamespace(read=lambda: "init")
    assert list(engine_run(None, [], StyleConfig(), init=init, planes=[init])(bool)) == []
    assert asked[0]["init"] == "init"


def test_variations_have_the_network_of_the_run_they_are_for_and_its_checksum(monkeypatch, content_image, style_image):
    from napari_styletransfer.networks import weights
    from napari_styletransfer.planning import planner

    # VGG-19 would do for one picture, but not for the three that are to be made.
    monkeypatch.setattr(planner, "estimate_seconds", lambda *args, **options: planner.MAX_AUTO_SECONDS / 2)
    fetched = []
    fetch = weights.fetch
    monkeypatch.setattr(weights, "fetch", lambda *args: fetched.append(args) or fetch(*args))
    content, style = (SimpleNamespace(read=lambda image=image: image) for image in (content_image, style_image))
    config = StyleConfig(size=48, iterations=1, scales=1, device="cpu")
    tiles = [config.changed(size=32, balance=balance) for balance in (0.25, 0.75)]
    events = engine_run(content, [style], config, variations=tiles, images=3)(bool)
    ends = [event.config for event in events if isinstance(event, Finished)]
    assert [(end.network, end.balance) for end in ends] == [("compact", 0.25), ("compact", 0.75)]
    assert {end.weights_sha256 for end in ends} == {weights.EMBEDDED_SHA256}
    assert len(fetched) == 1


def test_the_run_waits_while_the_window_makes_the_layer_of_the_first_preview(listener, qtbot):
    """Both at once would keep the window still for longer."""

    def run(should_stop):
        yield Started(PLAN)
        yield preview(0.25)
        shown.append(any(isinstance(event, Preview) for event in listener.events))
        yield finished()

    shown: list[bool] = []
    listener.start(run)
    qtbot.waitUntil(lambda: listener.done == 1)
    assert shown == [True]


def test_a_first_preview_that_cannot_be_shown_does_not_hold_up_the_run(listener, qtbot):
    def run(should_stop):
        yield Started(PLAN)
        yield preview(0.25)
        ended.set()

    def failing(events):
        raise ValueError("no layer")

    ended = threading.Event()
    RunHandle(run, on_events=failing, on_error=listener._error, on_done=listener._done)
    with qtbot.capture_exceptions() as raised:
        qtbot.waitUntil(ended.is_set)
        qtbot.waitUntil(lambda: listener.done == 1)
    assert "no layer" in str(raised[0][1])


def test_a_stop_is_heeded_while_nobody_looks_at_the_first_preview(qapp):
    """The event loop does not turn here, as when the application is being closed."""

    def run(should_stop):
        yield Started(PLAN)
        yield preview(0.25)
        ended.set()

    ended = threading.Event()
    handle = RunHandle(run, on_events=print, on_error=print, on_done=lambda: None)
    handle.abandon()
    assert ended.wait(PATIENCE)
    WorkerBase.await_workers(PATIENCE * 1000)


def test_threads_hand_the_lock_over_sooner_while_runs_are_under_way(listener, qtbot):
    usual = sys.getswitchinterval()
    with short_switch_interval():
        first = sys.getswitchinterval()
        with short_switch_interval():
            pass
        assert sys.getswitchinterval() == first < usual
    assert sys.getswitchinterval() == usual
    listener.start(lambda should_stop: iter_of(Started(PLAN), finished()))
    qtbot.waitUntil(lambda: listener.done == 1)
    WorkerBase.await_workers(PATIENCE * 1000)
    assert sys.getswitchinterval() == usual


def test_torch_is_imported_without_collecting_garbage_meanwhile(monkeypatch):
    def importing(name):
        collecting.append(gc.isenabled())
        shares.append(sys.getswitchinterval())

    collecting: list[bool] = []
    shares: list[float] = []
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(loading, "_map_libraries", lambda: None)
    monkeypatch.setattr(importlib, "import_module", importing)
    usual = sys.getswitchinterval()
    loading.load_engine("engine.run")
    assert (collecting, gc.isenabled()) == ([False], True)
    assert shares[0] < usual == sys.getswitchinterval()
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="torch's libraries are mapped beforehand on Linux alone")
def test_torchs_libraries_are_open_before_the_import_and_the_import_works_with_them(told_by_fresh_interpreter):
    code = (
        "import sys; from napari_styletransfer.worker import loading; loading._map_libraries()\n"
        "assert 'torch' not in sys.modules; assert 'libtorch_cpu' in open('/proc/self/maps').read()\n"
        "print(loading.load_engine('devices.device').devices()[-1].name)"
    )
    assert told_by_fresh_interpreter(code) == "cpu"


@pytest.mark.parametrize(
    ("error", "words"),
    [(ImportError("No module named 'torch'"), "pip install torch$"), (OSError("WinError 1114"), "Visual C++")],
    ids=["missing", "libraries do not load"],
)
def test_a_broken_torch_is_explained(monkeypatch, error, words):
    def failing(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(DeviceError, match=words):
        loading.load_engine("engine.run")


def test_napari_really_swallows_a_runtime_error(qtbot):
    """The reason for all this; when napari changes, the translation may become simpler."""
    heard = []

    def run():
        yield
        raise RuntimeError("swallowed")

    signals = {name: heard.append for name in ("errored", "returned")}
    with pytest.warns(RuntimeWarning, match="swallowed"):
        create_worker(run, _start_thread=False, _ignore_errors=True, _connect=signals).run()
    assert heard == []


def iter_of(*events: Event) -> Iterator[Event]:
    yield from events


def until_told(should_stop: ShouldStop) -> Iterator[Event]:
    yield Started(PLAN)
    patience = threading.Event()
    for _ in range(PATIENCE * 200):
        if should_stop():
            break
        patience.wait(0.005)
    yield preview(0.5)
    yield finished(Reason.STOPPED)


def telling(events: Iterator[Event], ended: threading.Event) -> Iterator[Event]:
    try:
        yield from events
    finally:
        ended.set()


def test_there_is_one_qt_binding_in_memory_and_it_is_the_one_asked_for(qapp):
    loaded = {name for name in ("PyQt6", "PySide6") if f"{name}.QtCore" in sys.modules}
    assert loaded == {qtpy.API_NAME}
    assert os.environ.get("QT_API", qtpy.API_NAME).lower() == qtpy.API_NAME.lower()
