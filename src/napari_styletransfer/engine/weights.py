"""Where the weights of a network come from: the package itself, torchvision's download, or a file of the user's.

The networks call `fetch` before a run; the form and the command line call `status`, which is cheap and loads
no torch. Downloads go to torch's own cache under torchvision's file names, so files that are there already
serve, and files put there by hand do too. Beside them a copy of the convolution layers alone is kept, so that
the classifier (six sevenths of VGG-19) is read only once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_styletransfer.config import Network
from napari_styletransfer.engine.download import DownloadError, download, replacing
from napari_styletransfer.engine.events import Fetching
from napari_styletransfer.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

EMBEDDED = files("napari_styletransfer") / "data" / "compact.safetensors"
EMBEDDED_SHA256 = "914ac838af974a603cf9bfa20d206ccc04a4689a303386e6f43fee2e64f97f0b"


@dataclass(frozen=True)
class Download:
    """A file of torchvision's: its address and its size in bytes."""

    url: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name, which is the same in torch's cache."""
        return self.url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The first digits of the checksum, which torchvision puts into the name."""
        return self.name.rpartition("-")[2].partition(".")[0]


DOWNLOADS = {
    Network.SQUEEZENET: Download("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth", 4_958_839),
    Network.VGG16: Download("https://download.pytorch.org/models/vgg16-397923af.pth", 553_433_881),
    Network.VGG16_BN: Download("https://download.pytorch.org/models/vgg16_bn-6c64b313.pth", 553_507_836),
    Network.VGG19: Download("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", 574_673_361),
}
"""The `IMAGENET1K_V1` weights of torchvision's enums; written down so that `status` need not load torchvision."""


@dataclass(frozen=True)
class WeightsStatus:
    """Where a network's weights are, or would be.

    Attributes
    ----------
    network
        Which network.
    source
        "embedded" in the package, or "torchvision".
    url
        Address of the download; None for embedded weights.
    path
        The file, or where it will be after the download.
    cached
        Whether a run needs no download.
    size_bytes
        Size of the file at `path`, or of the download where there is none yet; None if unknown.
    """

    network: Network
    source: Literal["embedded", "torchvision"]
    url: str | None
    path: Path
    cached: bool
    size_bytes: int | None


def status(network: Network) -> WeightsStatus:
    """Tell where the weights of `network` are, without reading them or using the net.

    Raises
    ------
    ConfigError
        For `Network.AUTO`, which stands for none in particular.
    """
    if network is Network.COMPACT:
        path = Path(str(EMBEDDED))
        return WeightsStatus(network, "embedded", None, path, path.is_file(), _size(path))
    source = _download(network)
    for path in (_slim(network, source), checkpoints() / source.name):
        size = _size(path)
        if size is not None:
            return WeightsStatus(network, "torchvision", source.url, path, True, size)
    return WeightsStatus(network, "torchvision", source.url, path, False, source.size_bytes)


def checkpoints() -> Path:
    """Return the folder where torch keeps downloaded weights."""
    hub = sys.modules.get("torch.hub")
    if hub is not None:
        return Path(hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def fetch(
    network: Network, expected: Mapping[str, tuple[int, ...]], file: Path | None = None
) -> Generator[Fetching, None, dict[str, torch.Tensor]]:
    """Get the weights a network needs, from the nearest place that has them.

    Parameters
    ----------
    network
        Which network; not `Network.AUTO`.
    expected
        Names and shapes of the tensors needed, named as in torchvision ("features.0.weight"; in the compact
        network "conv1_1.weight").
    file
        The user's own file in place of the usual source: safetensors, or a torch state dict; of the whole
        model or of its `features` alone.

    Yields
    ------
    Fetching
        While a download goes on; nothing otherwise. Closing the generator ends the download.

    Returns
    -------
    dict
        Exactly the expected tensors: float32, contiguous, on the CPU, not shared with any file.

    Raises
    ------
    WeightsError
        If the weights are missing, damaged, those of another network, or cannot be downloaded.
    ConfigError
        For `Network.AUTO`.
    """
    # Here, because `status` shall not load torch.
    from napari_styletransfer.engine import checkpoint

    if file is not None:
        path = file.expanduser()
        source = DOWNLOADS.get(network)
        if source is not None and path.name == source.name and path.is_file():
            _verify(path, source.sha256, "Copy or download it again.")
        return checkpoint.select(checkpoint.read(path), expected, network=network, origin=str(path))
    if network is Network.COMPACT:
        with as_file(EMBEDDED) as path:
            _verify(path, EMBEDDED_SHA256, "Install napari-styletransfer again.")
            return checkpoint.select(checkpoint.read(path), expected, network=network, origin=str(path))

    source = _download(network)
    features = _from_slim(_slim(network, source))
    if features is None:
        features = yield from _from_whole(network, source)
    return checkpoint.select(features, expected, network=network, origin=source.name)


def _from_slim(slim: Path) -> dict[str, torch.Tensor] | None:
    """Read the copy of the features alone; None if there is no sound one."""
    from napari_styletransfer.engine import checkpoint

    if not slim.is_file():
        return None
    try:
        return checkpoint.unpack(slim)
    except WeightsError as error:
        logger.warning("%s The copy is made again from the whole file.", error)
        return None


def _from_whole(network: Network, source: Download) -> Generator[Fetching, None, dict[str, torch.Tensor]]:
    """Read torchvision's file, after the download where there is none, and keep the copy for the next time."""
    from napari_styletransfer.engine import checkpoint

    whole = checkpoints() / source.name
    if whole.is_file():
        _verify(whole, source.sha256, "Delete it, so that it is downloaded again.")
    else:
        yield from _downloaded(network, source, whole)
    features = checkpoint.features_only(checkpoint.read(whole), str(whole))
    slim = _slim(network, source)
    try:
        with replacing(slim) as copy:
            copy.write(checkpoint.pack(features))
    except OSError as error:
        logger.warning("The quick copy %s cannot be kept (%s); each run reads all of %s.", slim, error, whole)
    return features


def _downloaded(network: Network, source: Download, target: Path) -> Generator[Fetching, None, None]:
    try:
        yield from download(source.url, target, name=network, sha256=source.sha256)
    except DownloadError as error:
        raise WeightsError(
            f"The weights of '{network}' cannot be downloaded from {source.url}: {error}. "
            f"Either download the file by other means and put it at {target}, "
            f"or use network='{Network.COMPACT}', which needs no download."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"The weights of '{network}' cannot be kept in {target.parent}: {error.strerror or error}. "
            f"Either set the variable TORCH_HOME to a folder that can be written to, or download {source.url} "
            f"and put it at {target}, or use network='{Network.COMPACT}', which needs no download."
        ) from error


def _download(network: Network) -> Download:
    if network not in DOWNLOADS:
        known = ", ".join([Network.COMPACT, *DOWNLOADS])
        raise ConfigError(f"The network '{network}' has no weights of its own. Choose one of: {known}.")
    return DOWNLOADS[network]


def _slim(network: Network, source: Download) -> Path:
    return checkpoints() / "napari-styletransfer" / f"{network}-features-{source.sha256}.safetensors"


def _verify(path: Path, sha256: str, remedy: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}. {remedy}") from error
    if not found.startswith(sha256):
        expected = sha256 if len(sha256) == len(found) else f"{sha256}…"
        raise WeightsError(
            f"The weights file {path} is damaged or not the one it is named after: "
            f"SHA-256 found {found}, expected {expected}. {remedy}"
        )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
