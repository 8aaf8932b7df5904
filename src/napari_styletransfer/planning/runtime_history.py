"""What earlier sessions have found out about the pace of this machine, in a small file beside the weights torch keeps.

Kept apart by machine, device with its threads, and number format, so that nothing is taken for what another one did. A
file that is damaged, or cannot be read or written, counts as none. Called by `runtime_estimate`.
"""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_styletransfer.atomic import replacing
from napari_styletransfer.networks.weights import checkpoints

logger = logging.getLogger(__name__)

Rates = tuple[float, float, float]

MOST_RUNS = 5
"""Runs remembered of a network."""

_MOST_DEVICES = 32
_LARGEST = 1 << 20
"""Bytes that a file of ours never has."""


@dataclass(frozen=True)
class Known:
    """What is known of a device with a number format.

    Attributes
    ----------
    rates
        As `runtime_estimate.rates` returns them; None if they were never measured.
    runs
        For each network how long its last runs took, the newest last, as shares of the time that
        `runtime_estimate.estimate_seconds` tells.
    """

    rates: Rates | None = None
    runs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def path() -> Path:
    """Return where the file is."""
    return checkpoints().parent / "napari-styletransfer" / "pace.json"


def read(label: str, precision: str) -> Known:
    """Return what is known of a device, by its `DeviceInfo.label`, with a number format such as "float32"."""
    entry = _entries().get(_key(label, precision))
    if not isinstance(entry, dict):
        return Known()
    found = {name: _numbers(values) for name, values in entry.items()}
    rates = found.pop("rates", ())
    runs = {name: values[-MOST_RUNS:] for name, values in found.items() if values}
    return Known((rates[0], rates[1], rates[2]) if len(rates) == 3 else None, runs)


def write(label: str, precision: str, known: Known) -> None:
    """Remember what is known of a device, whole or not at all, and leave out what was written longest ago."""
    entry = {**known.runs} if known.rates is None else {"rates": known.rates, **known.runs}
    key, entries = _key(label, precision), _entries()
    entries.pop(key, None)
    newest = dict([*entries.items(), (key, entry)][-_MOST_DEVICES:])
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with replacing(path()) as file:
            file.write(json.dumps(newest, indent=1).encode())
    except OSError as error:
        logger.debug("The pace of runs is not remembered: %s", error)


def _key(label: str, precision: str) -> str:
    return f"{platform.node()}: {label}, {precision}"


def _entries() -> dict[str, Any]:
    """Return what the file holds by device; nothing if it is not one of ours."""
    source = path()
    try:
        if not source.is_file() or source.stat().st_size > _LARGEST:
            return {}
        found = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        logger.debug("The pace of earlier runs is not known: %s", error)
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(values: Any) -> tuple[float, ...]:
    """Return numbers that can be rates or shares; none if any cannot."""
    if not isinstance(values, list) or not all(isinstance(value, float) for value in values):
        return ()
    return tuple(values) if all(math.isfinite(value) and value > 0 for value in values) else ()
