"""What earlier sessions have found out about the speed of this machine, in a small file beside the weights torch keeps.

Kept apart by machine, device with its threads, and number format, so that nothing is taken for what another one did. A
file that is damaged, or cannot be read or written, counts as none. Called by `runtime_estimate`.
"""

from __future__ import annotations

import logging
import platform
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from napari_styletransfer.atomic import replacing
from napari_styletransfer.networks.weights import checkpoints

logger = logging.getLogger(__name__)

MAX_RUNS = 5
"""Runs remembered of a network."""

_MAX_DEVICES = 32

RATES = "rates"
"""Key of what `runtime_estimate.rates` returns; the others are networks."""

Measurements = dict[str, list[Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]]]
"""What is known of a device: its rates, and for each network how long its last runs took, the newest last, as shares of
what `runtime_estimate.estimate_seconds` tells."""

_FILE = TypeAdapter(dict[str, Measurements])


def path() -> Path:
    """Return where the file is."""
    return checkpoints().parent / "napari-styletransfer" / "pace.json"


def read(label: str, precision: str) -> Measurements:
    """Return what is known of a device, by its `DeviceInfo.label`, with a number format such as "float32"."""
    return _read_all().get(_key(label, precision), {})


def write(label: str, precision: str, known: Measurements) -> None:
    """Remember what is known of a device, whole or not at all, and leave out what was written longest ago."""
    key, entries = _key(label, precision), _read_all()
    entries.pop(key, None)
    newest = dict([*entries.items(), (key, known)][-_MAX_DEVICES:])
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with replacing(path()) as file:
            file.write(_FILE.dump_json(newest, indent=1))
    except OSError as error:
        logger.debug("The speed of runs is not remembered: %s", error)


def _key(label: str, precision: str) -> str:
    return f"{platform.node()}: {label}, {precision}"


def _read_all() -> dict[str, Measurements]:
    """Return what the file holds by device; nothing if it is not one of ours."""
    try:
        return _FILE.validate_json(path().read_bytes())
    except (OSError, ValueError) as error:
        logger.debug("The speed of earlier runs is not known: %s", error)
        return {}
