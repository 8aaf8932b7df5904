"""How much memory this process may use of its computer: less than there is, where it runs in a container or a job.

Containers, and schedulers of clusters, set limits by control groups of Linux, of which the system's totals know
nothing; a process that goes beyond one is killed, without an error to recover from. Called by `device` and the form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")

_VERSION_2 = ("memory.max", "memory.current", "")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
"""Of control groups of version 2 and 1: files with limit and use, and how statistics of the whole group begin."""

_RECLAIMABLE = ("active_file", "inactive_file")
"""Statistics of what counts as used and is given up for others: copies of files."""


def memory() -> tuple[int, int]:
    """Return the bytes that are free for this process, and those that there are for it in all."""
    system = psutil.virtual_memory()
    free, total = int(system.available), int(system.total)
    for limit, used in limits():
        free, total = min(free, max(limit - used, 0)), min(total, limit)
    return free, total


def limits(groups: Path = _GROUPS, own: Path = _OWN) -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of every control group around this process that has a limit.

    Parameters
    ----------
    groups
        Where the control groups are.
    own
        File that tells which are this process's: a line each of number, controllers and path.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (groups / "memory", _VERSION_1) if controllers else (groups, _VERSION_2)
        inner = root / path.lstrip("/")
        # Inside a container the path may be the one outside it, and only the root be there.
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(root):
                break
            found = _read(folder, *names)
            if found is not None:
                yield found


def _read(folder: Path, limit: str, used: str, begin: str) -> tuple[int, int] | None:
    """Return limit and use of a control group; None where it has no limit, or is not there."""
    try:
        most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return most, taken - sum(int(statistics.get(begin + name, 0)) for name in _RECLAIMABLE)
