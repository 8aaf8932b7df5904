"""The demo: two sample pairs, stylised with the embedded network and the default settings, without a network.

Called by `cli.app`; `make demo` runs it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from napari_styletransfer import samples
from napari_styletransfer.cli.run import run
from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.errors import ConfigError
from napari_styletransfer.files import check_writable, write_image
from napari_styletransfer.pixels import decode
from napari_styletransfer.progress import duration

PAIRS = (("histology", "stained-glass", 0.5), ("fluorescence", "brush-swirls", 0.4))
"""Names of a content and a style in `samples`, and their balance: sparse cells need more weight to remain."""


def write_demo(folder: Path, *, size: int = 512, iterations: int | None = None, quiet: bool = False) -> bool:
    """Stylise the pairs and write each result as a PNG of 8 bits.

    Returns
    -------
    stopped
        Whether the user stopped it; the picture then under way is written, the next ones are not.

    Raises
    ------
    ConfigError
        If the size or the folder cannot work.
    StyleTransferError
        If a run fails.
    """
    fields: dict[str, Any] = {} if iterations is None else {"iterations": iterations}
    configs = [
        StyleConfig.make(network=Network.COMPACT, size=size, balance=balance, **fields) for _, _, balance in PAIRS
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    paths = [folder / f"{content}-{style}.png" for content, style, _ in PAIRS]
    for path in paths:
        check_writable(path, np.uint8)
    start = time.perf_counter()
    for (content, style, _), config, path in zip(PAIRS, configs, paths, strict=True):
        outcome = run(_viewed(samples.content(content)), [samples.style(style)], config, quiet=quiet)
        write_image(path, outcome.image)
        if not quiet:
            typer.echo(outcome.told(path))
        if outcome.error is not None:
            raise outcome.error
        if outcome.stopped:
            return True
    if not quiet:
        typer.echo(f"{len(paths)} pictures in {folder.resolve()}, made in {duration(time.perf_counter() - start)}.")
    return False


def _viewed(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring a picture to 8 bits as a viewer shows it: deep ones without their few brightest pixels."""
    if picture.dtype == np.uint8:
        return picture
    low, high = np.percentile(picture, (1, 99.8))
    rgb, _ = decode(picture, low=float(low), high=float(high))
    return np.rint(rgb * 255).astype(np.uint8)
