"""Files under way: hidden beside the one they will be, and found again where a process was killed meanwhile.

A part is locked while somebody writes it, so that a later run tells one that is left over from one that grows.
Called by `files.writing` alone.
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
    return path.with_name(f".{path.stem[:_STEM]}-{secrets.token_hex(4)}{path.suffix.lower()}")


def free_name(folder: Path, stem: str, suffix: str) -> Path:
    """Return a name of a file that is not there yet."""
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


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
            yield file
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    try:
        part.replace(path)
    except OSError as error:
        other = free_name(path.parent, f"{path.stem[:_STEM]}-result", path.suffix)
        try:
            part.rename(other)
        except OSError:
            other = part
        raise StyleTransferError(
            f"{path} cannot be replaced: {error.strerror or error}. The result is in {other} instead."
        ) from error


def left_over(path: Path) -> list[Path]:
    """Give the parts of `path` that nobody writes any more fresh names that are not hidden, and return those."""
    found = []
    name = re.compile(rf"\.{re.escape(path.stem[:_STEM])}-[0-9a-f]{{8}}{re.escape(path.suffix.lower())}")
    for part in sorted(path.parent.iterdir()):
        if not name.fullmatch(part.name):
            continue
        other = free_name(path.parent, f"{path.stem[:_STEM]}-unfinished", path.suffix)
        # Not one's own, or still open: then it is no business of this run.
        with suppress(OSError):
            with part.open("r+b") as file:
                unused = _locked(file)
            if unused:
                part.rename(other)
                found.append(other)
    return found


def _locked(file: BufferedRandom) -> bool:
    """Lock a file until it is closed; return whether nobody else has."""
    # Windows renames no open file, which serves as well.
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
