"""Measures how long napari's window stands still while the plugin works, and says what kept it.

Run it on a quiet machine, from the root of the repository; Linux alone tells what a thread waits for:

    tools/with-display.sh .venv/bin/python tools/responsiveness.py

It opens a viewer with the sample pictures and the form, presses Run, and lets a timer beat every 5 ms in the main
thread. The time between two beats is a gap; of each the main thread's share is told: computing (on a core), queueing
(for a core), and blocked (by Python's global lock or any other). Long gaps are printed with what the threads were at.
`--without-engine` shows the same number of previews with nothing computing, which is what napari and the drawing cost
by themselves: with Xvfb all drawing is done in software, on the same cores.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QDeadlineTimer, QEventLoop, Qt, QTimer

from napari_styletransfer import samples
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.events import Event, Finished, Plan, Preview, Reason, Scale, Started, Step

BEAT = 5
"""Milliseconds between beats."""

MINUTES = 5
DEPTH = 5
"""Frames shown of a thread."""


@dataclass
class Gap:
    """One standstill; times in milliseconds, `at` in seconds since the first beat."""

    at: float
    phase: str
    length: float
    computing: float
    queueing: float
    seen: Counter[str]

    @property
    def blocked(self) -> float:
        """The time neither on a core nor ready for one."""
        return max(self.length - self.computing - self.queueing, 0.0)


@dataclass
class Pulse:
    """The beating timer, and a thread that looks at all stacks while a beat is late."""

    threshold: float
    phase: str = "idle"
    gaps: list[Gap] = field(default_factory=list)
    beats: int = 0

    def __post_init__(self) -> None:
        self._main = threading.get_ident()
        self._times = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._over = threading.Event()
        self._seen: Counter[str] = Counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT)
        self._timer.timeout.connect(self._beat)
        self._began = self._last = time.perf_counter()
        self._before = self._now()
        threading.Thread(target=self._watch, daemon=True).start()
        self._timer.start()

    def stop(self) -> None:
        """Beat no more."""
        self._timer.stop()
        self._over.set()

    def _now(self) -> tuple[float, float]:
        """Return the main thread's milliseconds on a core and in the queue for one, where the system tells."""
        if not self._times.exists():
            return 0.0, 0.0
        computing, queueing, _ = self._times.read_text().split()
        return int(computing) / 1e6, int(queueing) / 1e6

    def _beat(self) -> None:
        length = (time.perf_counter() - self._last) * 1000
        self.beats += 1
        times = self._now()
        if length >= self.threshold:
            spent = (now - before for now, before in zip(times, self._before, strict=True))
            self.gaps.append(Gap(self._last - self._began, self.phase, length, *spent, self._seen))
        self._seen = Counter()
        self._before, self._last = times, time.perf_counter()

    def _watch(self) -> None:
        while not self._over.wait(BEAT / 1000):
            if (time.perf_counter() - self._last) * 1000 < self.threshold / 2:
                continue
            for thread, frame in sys._current_frames().items():
                if thread != threading.get_ident():
                    self._seen[("main: " if thread == self._main else "other: ") + words(frame)] += 1


def words(frame: FrameType | None) -> str:
    """Return the innermost frames of a stack; nothing is read from files, which would hold up the others."""
    places = []
    while frame is not None and len(places) < DEPTH:
        file = "/".join(Path(frame.f_code.co_filename).parts[-2:])
        places.append(f"{file}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(places)


def main() -> None:
    """Open, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="of the result, in pixels")
    parser.add_argument("--iterations", type=int, default=15, help="steps at each scale")
    parser.add_argument("--runs", type=int, default=1, help="one after another; the first one imports torch")
    parser.add_argument("--threshold", type=float, default=40, help="shortest gap that counts, in milliseconds")
    parser.add_argument("--top", type=int, default=8, help="number of gaps printed")
    parser.add_argument("--without-engine", action="store_true", help="show previews, but compute nothing")
    options = parser.parse_args()
    viewer = napari.Viewer(show=False)
    for data, settings, kind in samples.content_and_style():
        viewer.add_layer(napari.layers.Layer.create(data, settings, kind))
    viewer.window.show()
    viewer.window.resize(1400, 900)
    settle(500)
    form = opened(viewer, {"make_run": previews_alone} if options.without_engine else {})
    form.show_config(StyleConfig(size=options.size, iterations=options.iterations))
    collections = watch_collections()
    pulse = Pulse(options.threshold)
    settle(1000)
    for number in range(options.runs):
        pulse.phase = f"run {number + 1}"
        run(form)
        pulse.phase = "after"
        settle(500)
    pulse.stop()
    tell(pulse, options.top)
    print(
        "garbage collections of 20 ms and more:", ", ".join(f"{ms:.0f} ms" for ms in collections if ms >= 20) or "none"
    )
    form.release()
    viewer.close()


def opened(viewer: Any, how: dict[str, Any]) -> Any:
    """Open the form in the viewer, as the menu does, and tell how long that takes."""
    began = time.perf_counter()
    from napari_styletransfer.widget.dock_widget import StyleTransferWidget

    form = StyleTransferWidget(viewer, **how)
    viewer.window.add_dock_widget(form, name="Style Transfer")
    settle(1)
    loaded = "torch" in sys.modules
    print(f"form opened in {time.perf_counter() - began:.2f} s; torch is {'' if loaded else 'not '}imported")
    settle(500)
    return form


def run(form: Any) -> None:
    """Press Run, wait for the end, and tell when the first preview came."""
    began = time.perf_counter()
    form.run()
    session = form.session
    wait_for(lambda: not session.status.active or session.output.layer is not None)
    first = time.perf_counter() - began
    wait_for(lambda: not session.status.active)
    whole = time.perf_counter() - began
    print(f"first preview after {first:.2f} s, end after {whole:.2f} s: {session.status.message}")


def previews_alone(content: Any, styles: Any, config: StyleConfig, **options: Any) -> Any:
    """Make a run that shows previews at the engine's usual pace and sleeps in between."""

    def events(should_stop: Callable[[], bool]) -> Generator[Event, None, None]:
        image = np.asarray(content.read(), np.float32)
        image = image / max(float(image.max()), 1.0)
        height, width = image.shape[:2]
        yield Started(
            Plan(config, "cpu", "nothing", "float32", (Scale(height, width, config.iterations),), None, 1, 1, 2)
        )
        for number in range(1, config.iterations + 1):
            yield Preview(image * (number % 10 / 10), number, 0)
            losses = {"total": 1 / number, "content": 0.5 / number, "style": 0.5 / number}
            yield Step(number, config.iterations, number, 0, losses, {}, 0.15 * number)
            time.sleep(0.15)
        yield Finished(image, config, Reason.ITERATIONS, number, number, 0.15 * number, losses, (1.0,))

    return events


def watch_collections() -> list[float]:
    """Return a list that fills with the milliseconds of every garbage collection from now on."""
    spans: list[float] = []
    began = [0.0]

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            began[0] = time.perf_counter()
        else:
            spans.append((time.perf_counter() - began[0]) * 1000)

    gc.callbacks.append(note)
    return spans


def tell(pulse: Pulse, top: int) -> None:
    """Print the longest gaps."""
    print(f"{pulse.beats} beats, {len(pulse.gaps)} gaps of {pulse.threshold:g} ms and more; the longest:")
    for gap in sorted(pulse.gaps, key=lambda gap: -gap.length)[:top]:
        print(
            f"{gap.length:5.0f} ms at {gap.at:5.2f} s ({gap.phase}): computing {gap.computing:.0f}, "
            f"queueing {gap.queueing:.0f}, blocked {gap.blocked:.0f}"
        )
        for what, times in gap.seen.most_common(4):
            print(f"        {times} × {what}")


def wait_for(condition: Callable[[], bool]) -> None:
    """Turn the event loop until a condition holds."""
    deadline = QDeadlineTimer(MINUTES * 60_000)
    while not condition():
        if deadline.hasExpired():
            raise SystemExit(f"The run took more than {MINUTES} minutes.")
        settle(20)


def settle(milliseconds: int) -> None:
    """Turn the event loop for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main()
