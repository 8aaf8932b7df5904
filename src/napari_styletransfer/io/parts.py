"""Files under way: hidden beside the one they will be, and found again where a process was killed meanwhile.

A part is locked while somebody writes it, so that a later run tells one that is left over from one that grows.
Called by `io.writing` alone.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from napari_styletransfer.errors import StyleTransferError

_STEM = 40
"""Characters of the name that a part has too: with 4 bytes each they leave room for the rest of a file's name."""


def beside(path: Path) -> Path:
    """Return a fresh hidden name in the same folder."""
    return path.with_name(f".{path.stem[:_STEM]}-part-{secrets.token_hex(4)}{path.suffix.lower()}")


def free_name(path: Path, what: str) -> Path:
    """Return a name beside `path` that says what the file is, and that no file has yet."""
    free, number = path.with_name(f"{path.stem[:_STEM]}-{what}{path.suffix}"), 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem[:_STEM]}-{what}-{number}{path.suffix}")
    return free


@contextmanager
def part_of(path: Path) -> Iterator[BufferedRandom]:
    """Give a new file that takes the place of `path` when the block is left without an error.

    Raises
    ------
    OSError
        If it cannot be created.
    StyleTransferError
        If it is whole but cannot take that place; the error says where it is instead.
    """
    part = beside(path)
    try:
        with part.open("x+b") as file:
            _locked(file)
            try:
                yield file
            except BaseException:
                file.raw.close()  # what is left in the buffer may be what cannot be written
                raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    try:
        part.replace(path)
    except OSError as error:
        other = free_name(path, "result")
        try:
            part.rename(other)
        except OSError:
            other = part
        raise StyleTransferError(
            f"{path} cannot be replaced: {error.strerror or error}. The result is in {other} instead."
        ) from error


def left_over(path: Path) -> list[Path]:
    """Return the parts of `path` that nobody writes any more."""
    name = re.compile(rf"\.{re.escape(path.stem[:_STEM])}-part-[0-9a-f]{{8}}{re.escape(path.suffix.lower())}")
    with suppress(OSError):  # of a folder that may be written to, but not looked into
        return [part for part in sorted(path.parent.iterdir()) if name.fullmatch(part.name) and _unused(part)]
    return []


def _unused(part: Path) -> bool:
    """Tell whether nobody writes a part, as far as one may know."""
    try:
        with part.open("r+b") as file:
            if not _locked(file):
                return False
        if sys.platform == "win32":
            part.rename(part)  # which fails while it is open
    except OSError:
        return False
    return True


def _locked(file: BufferedRandom) -> bool:
    """Lock a file until it is closed; return whether nobody else has. Windows needs no lock, see `_unused`."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, or not to be locked on such a file system
            return False
    return True


def reserve(file: BufferedRandom, start: int, end: int) -> None:
    """Take the space of a file from a disk before it is written, all of it or with an error.

    Parameters
    ----------
    file
        Open for writing.
    start, end
        Bytes, from and to; they read as zeros.

    Raises
    ------
    OSError
        If there is not so much.
    """
    file.flush()
    if allocate := getattr(os, "posix_fallocate", None):
        try:
            allocate(file.fileno(), start, end - start)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # such a file system has to be written to
                raise
    zeros = bytes(1 << 20)
    file.seek(start)
    while (left := end - file.tell()) > 0:
        file.write(zeros[:left])
    file.flush()
