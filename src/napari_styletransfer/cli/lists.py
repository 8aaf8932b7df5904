"""Tables of what there is: networks, devices, presets. Called by `cli.app`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from rich.console import Console
from rich.table import Table

from napari_styletransfer.config import PRESETS, Network

_ABOUT = {
    Network.COMPACT: "comes with the package; quick, needs no network connection",
    Network.SQUEEZENET: "small and quick",
    Network.VGG16: "rich pictures, slow without a GPU",
    Network.VGG16_BN: "the network of the lesson presets",
    Network.VGG19: "the richest pictures, the network of the papers",
}
_WIDE = 240
"""Width for files and pipes, where a line that breaks is harder to work with than a long one."""


def print_networks() -> None:
    """Print the networks and where their weights are."""
    from napari_styletransfer.engine.weights import status

    table = _table("network", "about", "weights", "size", "file")
    for network in Network:
        if network is Network.AUTO:
            continue
        found = status(network)
        state = "embedded" if found.source == "embedded" else "on disk" if found.cached else "to download"
        table.add_row(network, _ABOUT.get(network, ""), state, _size(found.size_bytes), str(found.path))
        if not found.cached and found.url:
            table.add_row("", "", "", "", f"from {found.url}")
    _print(table)


def print_devices() -> None:
    """Print the devices and their memory."""
    from napari_styletransfer.engine.device import devices

    table = _table("device", "about", "free", "memory")
    for device in devices():
        table.add_row(device.name, device.label, _size(device.free_bytes), _size(device.total_bytes))
    _print(table)


def print_presets() -> None:
    """Print the presets and the fields they set."""
    table = _table("preset", "settings")
    for name, fields in PRESETS.items():
        table.add_row(name, ", ".join(f"{field}={_plain(value)}" for field, value in fields.items()))
    _print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={weight:g}" for key, weight in value.items())
    return str(value.value if isinstance(value, Enum) else value)


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
