"""What may come of a call: a result, or one of our own errors in a line. All else is a failure."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from napari_styletransfer.errors import StyleTransferError

LONGEST_MESSAGE = 500
"""Characters of an error that someone can be expected to read."""

LIMIT = 60.0
"""Seconds after which a call counts as hanging."""

_LIBTIFF = re.compile(
    r"(?m)^(tempfile\.tif|_?TIFF\w+|\w+Decode\w*|Fax\w+|JPEGLib|EstimateStripByteCounts|MissingRequired): .*\n?"
)
"""What the libtiff in Pillow prints of a damaged file, and cannot be told to keep to itself."""

_SOURCE = str(Path(__file__).resolve().parents[2] / "src")


class Call(NamedTuple):
    """One thing to try, and how to tell it."""

    told: str
    run: Callable[[], object]


Target = Callable[[random.Random, Path], Iterable[Call]]
"""Makes the calls of a case from its source of random numbers, and with an empty folder for its files."""


@dataclass(frozen=True)
class Failure:
    """A call that came to what it must not come to.

    Attributes
    ----------
    seed
        Number that makes the case again.
    call
        What was tried.
    kind
        What is alike in failures of one cause.
    told
        All of it.
    """

    seed: int
    call: str
    kind: str
    told: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.call}\n  {self.told}"


class Hang(BaseException):
    """A call took too long; no `Exception`, so that nothing takes it for a failure of its own."""


def failures(
    target: Target, seeds: Iterable[int], *, limit: float = LIMIT, begun: Callable[[int], object] = lambda seed: None
) -> Iterator[Failure]:
    """Run the cases of some numbers and yield what fails; `begun` is told of each before it begins."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, _Watch(Path(name), limit) as watch:
        for seed in seeds:
            begun(seed)
            yield from watch.case(target, seed)


class _Watch:
    """Sees what cases print, warn of, log, and leave in their folder, which is that for temporary files too."""

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder = folder
        self._limit = limit
        self._open = ExitStack()

    def __enter__(self) -> _Watch:
        with ExitStack() as stack:
            self._printed = stack.enter_context(_printed())
            self._warned = stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
                warnings.simplefilter("ignore", hidden)  # as Python does
            self._logged = stack.enter_context(_logged())
            stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
            tempfile.tempdir = str(self._folder)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def case(self, target: Target, seed: int) -> Iterator[Failure]:
        for call in target(random.Random(seed), self._folder):
            for kind, told in self._wrong_with(call):
                yield Failure(seed, call.told, kind, told)
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _wrong_with(self, call: Call) -> Iterator[tuple[str, str]]:
        before = set(self._folder.rglob("*"))
        self._warned.clear()
        self._logged.clear()
        try:
            with _limited(self._limit):
                call.run()
        except StyleTransferError as error:
            yield from _wrong_with_message(str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield f"{type(error).__name__} at {_place(error)}", _cut("".join(traceback.format_exception(error)), 3000)
        if text := _LIBTIFF.sub("", self._printed()):
            yield f"prints {text[:25]!r}", f"printed: {_cut(text)}"
        for warning in self._warned:
            place = f"{Path(warning.filename).name}:{warning.lineno}"
            yield f"{warning.category.__name__} at {place}", f"warned at {place}: {_cut(str(warning.message))}"
        for record in self._logged:
            yield f"logs as {record.name}", f"logged by {record.name}: {_cut(record.getMessage())}"
        if left := sorted(path.name for path in set(self._folder.rglob("*")) - before):
            yield "leaves files", f"left behind: {', '.join(left)}"


def _wrong_with_message(message: str) -> Iterator[tuple[str, str]]:
    """Yield why nobody could read a message."""
    if len(message) > LONGEST_MESSAGE:
        yield f"long message {message[:25]!r}", f"a message of {len(message)} characters: {_cut(message)}"
    if not message.strip() or "\n" in message:
        yield f"no line {message[:25]!r}", f"a message that is not one line: {_cut(message)!r}"
    try:
        message.encode()
    except UnicodeEncodeError:
        yield f"unprintable {message[:25]!r}", f"a message that cannot be printed: {_cut(message)!r}"


def _place(error: BaseException) -> str:
    """Return where an error came out of our code, or else where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename.startswith(_SOURCE)), frames[-1])
    return f"{Path(frame.filename).name}:{frame.name}"


def _cut(text: str, most: int = 300) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


@contextmanager
def _printed() -> Iterator[Callable[[], str]]:
    """Give a function that returns what was printed since it was last asked, also by libraries in C."""
    with tempfile.TemporaryFile() as file, ExitStack() as stack:
        for descriptor in (1, 2):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(file.fileno(), descriptor)
        raw = stack.enter_context(os.fdopen(os.dup(file.fileno()), "wb", 0))
        text = io.TextIOWrapper(raw, errors="backslashreplace", write_through=True)
        stack.enter_context(redirect_stdout(text))
        stack.enter_context(redirect_stderr(text))
        seen = 0

        def new() -> str:
            nonlocal seen
            size = os.fstat(file.fileno()).st_size
            said = os.pread(file.fileno(), size - seen, seen)
            seen = size
            return said.decode(errors="replace")

        yield new


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """Give a list of the warnings and errors that other libraries log: Python prints them where no one listens."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("napari_styletransfer"):
                records.append(record)

    records: list[logging.LogRecord] = []
    listener, root = Listener(logging.WARNING), logging.getLogger()
    root.addHandler(listener)
    yield records
    root.removeHandler(listener)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Break off what takes too long; where there are no such signals, nothing does."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
