"""Files that are there whole or not at all: written hidden beside the name they will have, then renamed.

A part is locked while somebody writes it, so that a later run tells one that a killed process left from one that grows.
Called by `io.writing` for results, and by `networks.download` and `planning.runtime_history` for what is cached.
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


def part_name(path: Path) -> Path:
    """Return a fresh hidden name in the same folder."""
    return path.with_name(f".{path.stem[:_STEM]}-part-{secrets.token_hex(4)}{path.suffix.lower()}")


def unused_name(path: Path, suffix: str) -> Path:
    """Return `path` with a suffix to its stem, and a number if need be, that no file has yet."""
    found, number = path.with_name(f"{path.stem[:_STEM]}-{suffix}{path.suffix}"), 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem[:_STEM]}-{suffix}-{number}{path.suffix}")
    return found


@contextmanager
def replacing(path: Path, keep_as: str = "") -> Iterator[BufferedRandom]:
    """Open a new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Parameters
    ----------
    path
        Where the file shall be.
    keep_as
        Suffix under which a whole file that cannot take that place is kept; if empty, it is removed.

    Raises
    ------
    OSError
        If it cannot be created, written or, with nothing to keep it as, take its place.
    StyleTransferError
        If it is whole but cannot take its place; the error says where it is instead.
    """
    # Not `tempfile`: its files are private to the user, and a folder may be shared.
    part = part_name(path)
    try:
        with part.open("x+b") as file:
            _locked(file)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                file.raw.close()  # what is left in the buffer may be what cannot be written
                raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    try:
        part.replace(path)
    except OSError as error:
        if not keep_as:
            part.unlink(missing_ok=True)
            raise
        other = unused_name(path, keep_as)
        try:
            part.rename(other)
        except OSError:
            other = part
        raise StyleTransferError(
            f"{path} cannot be replaced: {error.strerror or error}. The result is in {other} instead."
        ) from error


def abandoned_parts(path: Path) -> list[Path]:
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
    while (missing := end - file.tell()) > 0:
        file.write(zeros[:missing])
    file.flush()
