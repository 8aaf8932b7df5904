"""A stand-in for the engine, at the pace the test sets, and forms in a viewer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QColor
from superqt.utils import WorkerBase

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.events import (
    Event,
    Fetching,
    Finished,
    Plan,
    PlaneStarted,
    Preview,
    Reason,
    Scale,
    Started,
    Step,
)
from napari_styletransfer.widget.dock_widget import StyleTransferWidget
from napari_styletransfer.widget.settings import user_presets
from napari_styletransfer.worker import Run, ShouldStop

DEADLINE = 20.0
"""Seconds after which a fake that nobody lets go gives up, so that no test hangs."""


def make_plan(config: StyleConfig, shape: tuple[int, int] = (48, 64)) -> Plan:
    """Return a plan of two scales."""
    height, width = shape
    return Plan(
        config=config,
        device="cpu",
        device_name="fake device",
        precision="float32",
        scales=(Scale(height // 2, width // 2, config.iterations), Scale(height, width, config.iterations)),
        block=None,
        blocks=1,
        memory_bytes=1,
        memory_available=2,
    )


@dataclass
class FakeEngine:
    """Makes runs that wait in the middle until `go` is set or they are told to stop.

    Attributes
    ----------
    shape
        Of the result.
    error
        Raised when the run is let go, if there is one.
    go
        Lets the run go on to its end.
    halfway, ended
        Set by the run when it waits, and when it is over.
    pause_after
        Plane of a stack after which the run waits again.
    seen
        Numbers and pixels of planes that a run was told are finished.
    calls
        Arguments of each run made.
    """

    shape: tuple[int, int] = (48, 64)
    error: BaseException | None = None
    go: threading.Event = field(default_factory=threading.Event)
    halfway: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    pause_after: int | None = None
    seen: list[Any] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, content: Any, styles: Any, config: StyleConfig, **options: Any) -> Run:
        self.calls.append({"content": content, "styles": styles, "config": config, **options})

        def run(should_stop: ShouldStop) -> Generator[Event, None, None]:
            try:
                if options.get("variations"):
                    yield from self._planes(config, should_stop, planes=[content] * 9, finished={})
                elif options.get("planes") is None:
                    yield from self._events(content, config, should_stop, options.get("resume"))
                else:
                    yield from self._planes(config, should_stop, **options)
            finally:
                self.ended.set()

        return run

    def _planes(
        self, config: StyleConfig, should_stop: ShouldStop, *, planes: Any, finished: Any, **options: Any
    ) -> Generator[Event, None, None]:
        """Run each plane to a grey that tells its number; what was done before is read, as the engine does."""
        for number in range(len(planes)):
            if number in finished:
                self.seen.append((number, finished[number].copy()))
                continue
            yield PlaneStarted(number, len(planes))
            for event in self._events(planes[number], config, should_stop, None):
                if isinstance(event, Finished):
                    event = replace(event, image=np.full_like(event.image, (number + 1) / 10), state=None)
                yield event
                if isinstance(event, Finished) and event.reason is Reason.STOPPED:
                    return
            if number == self.pause_after:
                self.go.clear()
                self.halfway.clear()

    def _events(
        self, content: Any, config: StyleConfig, should_stop: ShouldStop, resume: Any
    ) -> Generator[Event, None, None]:
        if content is not None:
            content.read()
        plan = make_plan(config, self.shape)
        yield Fetching("fake weights", 1, 2)
        yield Started(plan)
        coarse, fine = plan.scales
        yield Preview(np.full((coarse.height, coarse.width, 3), 0.25, np.float32), 0, 0)
        yield self._step(1, plan, 0)
        self.halfway.set()
        patience = threading.Event()
        waited = 0.0
        while not (self.go.is_set() or should_stop() or waited > DEADLINE):
            patience.wait(0.005)
            waited += 0.005
        if self.error is not None:
            raise self.error
        stopped = should_stop()
        if not stopped:
            yield self._step(2, plan, 1)
            yield Preview(np.full((fine.height, fine.width, 3), 0.5, np.float32), 2, 1)
        yield Finished(
            image=np.full((fine.height, fine.width, 3), 0.4 if stopped else 0.8, np.float32),
            config=config,
            reason=Reason.STOPPED if stopped else Reason.ITERATIONS,
            iterations=1 if stopped else 2,
            evaluations=3,
            seconds=0.5,
            losses={"content": 0.1, "style": 0.2, "total": 0.3},
            history=(0.9,) if stopped else (0.9, 0.3),
            state=("state after", resume),
        )

    @staticmethod
    def _step(iteration: int, plan: Plan, scale: int) -> Step:
        losses = {"content": 0.3, "style": 0.6, "total": 0.9 / iteration}
        return Step(iteration, plan.total_iterations, iteration, scale, losses, {}, 0.1 * iteration)


@pytest.fixture(autouse=True)
def presets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own presets out of the tests, and theirs out of the user's."""
    folder = tmp_path / "presets"
    monkeypatch.setattr(user_presets, "presets_folder", lambda: folder)
    return folder


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def window() -> None:
    """Ask for a whole napari window where a viewer without one would do."""


@pytest.fixture
def napari_window(make_napari_viewer_proxy: Callable[..., Any], content_image: Any, style_image: Any) -> Any:
    """Return a viewer with its window, a content and a style, as plugins see it."""
    return with_pictures(make_napari_viewer_proxy(), content_image, style_image)


@pytest.fixture
def model(content_image: Any, style_image: Any) -> ViewerModel:
    """Return a viewer without a window, much quicker, with a content and a style."""
    return with_pictures(ViewerModel(), content_image, style_image)


@pytest.fixture
def viewer(napari_window: Any) -> Any:
    """Return the viewer of `form`; a test module may give another."""
    return napari_window


def with_pictures(viewer: Any, content_image: Any, style_image: Any) -> Any:
    """Add a content and a style, as 8-bit pictures."""
    viewer.add_image((content_image * 255).astype(np.uint8), name="cells", rgb=True, scale=(0.5, 2), translate=(3, 4))
    viewer.add_image((style_image * 255).astype(np.uint8), name="waves", rgb=True)
    return viewer


@pytest.fixture
def real_form(napari_window: Any) -> Iterator[StyleTransferWidget]:
    """Return a form with the real engine in the dock of a viewer, set to a quick run."""
    form = StyleTransferWidget(napari_window)
    napari_window.window.add_dock_widget(form, name="Style Transfer")
    form.show_config(StyleConfig(network="compact", size=48, iterations=2, scales=1, device="cpu"))
    yield form
    form.release()
    WorkerBase.await_workers()


@pytest.fixture
def form(viewer: Any, engine: FakeEngine, qtbot: Any) -> Iterator[StyleTransferWidget]:
    """Return a form, run by the fake engine, in a dock of the viewer if that has a window."""
    form = StyleTransferWidget(viewer, engine)
    if isinstance(viewer, ViewerModel) and not hasattr(viewer, "window"):
        qtbot.addWidget(form)
    else:
        viewer.window.add_dock_widget(form, name="Style Transfer")
    yield form
    form.release()
    # A run that a failing test left behind must not outlive its viewer.
    engine.go.set()
    WorkerBase.await_workers()


def contrast(*colors: QColor) -> float:
    """Return the contrast of two colours as WCAG has it."""

    def luminance(found: QColor) -> float:
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in found.getRgbF()[:3]]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    darker, lighter = sorted(luminance(found) for found in colors)
    return (lighter + 0.05) / (darker + 0.05)
