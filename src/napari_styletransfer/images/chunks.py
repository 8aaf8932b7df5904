"""The rows of a large image some at a time, so that nothing as large as the image is made on the way."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(lines: int, length: int, values: int) -> Iterator[slice]:
    """Cut so many rows or columns of a length into chunks of so many values."""
    step = max(1, values // length)
    return (slice(first, first + step) for first in range(0, lines, step))
