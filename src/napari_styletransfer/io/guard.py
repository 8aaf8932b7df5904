"""The boundary to the libraries that read files: what they make of a damaged one is an `ImageError`, in one line.

Called by `io` alone.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from napari_styletransfer.config.recipe import shorten
from napari_styletransfer.errors import ImageError
from napari_styletransfer.units import format_bytes

_MAX_LENGTH = 160
"""Characters of the text of others that a message quotes."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever is raised while a file is read into an `ImageError`."""
    try:
        with silenced():
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} does not fit into memory. Save a smaller picture, or a part of it.") from error
    # Readers of damaged files fail in every way there is: no list of errors is ever complete.
    except Exception as error:
        message = error_text(error)
        if "imagecodecs" in message:
            raise ImageError(
                f"{path} cannot be read without a further package: {message}. Install it (pip install imagecodecs), or "
                "save the file without compression and with 8 or 16 bits."
            ) from error
        raise ImageError(f"{path} is damaged or cut off: {message}. Save or copy it again.") from error


@contextmanager
def silenced() -> Iterator[None]:
    """Keep to themselves what the libraries think of a file that they can read, or that is refused anyway."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "PIL")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def error_text(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    return one_line(str(error).rstrip(".") or type(error).__name__)


def one_line(text: str) -> str:
    """Return text, such as the name of a file, as one line that is not too long for a message."""
    return shorten(" ".join(text.split()), _MAX_LENGTH)


def check_memory(path: Path, shape: Sequence[int], itemsize: int) -> None:
    """Refuse a picture that does not fit into the memory that is free, before it is asked for.

    Parameters
    ----------
    path
        Of the file that announces it.
    shape
        As announced, (H, W) and more.
    itemsize
        Bytes of a value.

    Raises
    ------
    ImageError
        If it is too large.
    """
    needed, free = math.prod(shape) * itemsize, psutil.virtual_memory().available
    if needed > free:
        size = " × ".join(map(str, shape))
        raise ImageError(
            f"{path} says that it holds {size} values, {format_bytes(needed)}, but {format_bytes(free)} of memory are "
            "free. Save a smaller picture or a part of it or, if it is not that large, save or copy it again."
        )


def incomplete(path: Path) -> ImageError:
    """Return the error of a file that cannot hold what it announces."""
    return ImageError(f"{path} is damaged or cut off: it holds less than it says. Save or copy it again.")
