"""A large array some rows, columns or values at a time, so that nothing as large as it is made on the way."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(stop: int, length: int, values: int, start: int = 0) -> Iterator[slice]:
    """Cut the rows from `start` to `stop`, of a length, into slices of at most so many values; of one row at least."""
    step = max(1, values // length)
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))
