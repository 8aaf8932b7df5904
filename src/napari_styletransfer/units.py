"""Quantities in words, for messages. Called by everything that tells of memory and files."""

from __future__ import annotations


def format_bytes(count: float) -> str:
    """Return a size in memory or on disk with three digits: ``548 MiB``, ``1.53 GiB``."""
    units = ["TiB", "GiB", "MiB"]
    value, unit = count / 2**20, units.pop()
    while value >= 999.5 and units:
        value, unit = value / 1024, units.pop()
    return f"{round(value, 2):.3g} {unit}"
