"""The demo: two sample pairs, stylised with VGG-19 and with the compact network, and both results side by side.

Needs no network connection. Called by `cli.app`; `make demo` runs it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from napari_styletransfer import samples
from napari_styletransfer.cli.checks import make_folder
from napari_styletransfer.cli.interrupt import Interrupt
from napari_styletransfer.cli.run import describe, run
from napari_styletransfer.cli.sheet import side_by_side
from napari_styletransfer.cli.tables import INSTALL
from napari_styletransfer.config import Network, StyleConfig
from napari_styletransfer.events import Reason
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.io import check_writable, write_image
from napari_styletransfer.networks import weights
from napari_styletransfer.progress import duration, rough_duration

PAIRS = (("histology", "stained-glass", 0.5), ("fluorescence", "brush-swirls", 0.4))
"""Names of a content and a style in `samples`, and their balance: sparse cells need more weight to remain."""

_SIZE, _SMALLER = 512, 384
"""Longest side of the results, and of those of VGG-19 where it would take long."""

_MAX_SECONDS = 80.0
"""Seconds that VGG-19 may take for all pairs at the usual size, by its plan."""


def write_demo(folder: Path, *, size: int | None = None, iterations: int | None = None, quiet: bool = False) -> bool:
    """Stylise the pairs and write the results, and for each pair all its pictures side by side, as PNGs of 8 bits.

    Without the weights of VGG-19 there are the results of the compact network alone.

    Parameters
    ----------
    folder
        Made if missing.
    size
        Longest side in pixels; if None, one that does not take long.
    iterations
        Those of the settings; the default if None.
    quiet
        Say nothing.

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
    networks = [Network.COMPACT, *([Network.VGG19] if weights.status(Network.VGG19).cached else [])]
    usual = StyleConfig(size=_SIZE if size is None else size, **fields)
    make_folder(folder)
    names = (*networks, "side-by-side")
    paths = [{name: folder / f"{content}-{style}-{name}.png" for name in names} for content, style, _ in PAIRS]
    for path in (path for pair in paths for path in pair.values()):
        check_writable(path, np.uint8)
    sizes, note = _sizes(networks, usual, chosen=size is None)
    if note and not quiet:
        typer.echo(note)
    start = time.perf_counter()
    for (content_name, style_name, balance), files in zip(PAIRS, paths, strict=True):
        content, style = _to_uint8(samples.content(content_name)), samples.style(style_name)
        results = {}
        for network in networks:
            config = usual.changed(network=network, size=sizes[network], balance=balance)
            result, failure = run(content, [style], config, quiet=quiet)
            with Interrupt():
                write_image(files[network], result.image)
            if not quiet:
                typer.echo(describe(result, files[network]))
            if failure is not None:
                raise failure
            if result.reason is Reason.STOPPED:
                return True
            results[str(network)] = result.image
        write_image(files["side-by-side"], side_by_side({"content": content, "style": style}, results))
    if not quiet:
        count = sum(len(pair) for pair in paths)
        typer.echo(f"{count} pictures in {folder.resolve()}, made in {duration(time.perf_counter() - start)}.")
    return False


def _sizes(networks: list[Network], usual: StyleConfig, *, chosen: bool) -> tuple[dict[Network, int | None], str]:
    """Return the size for each network, smaller for VGG-19 if it may be chosen, and what there is to say of it."""
    sizes: dict[Network, int | None] = dict.fromkeys(networks, usual.size)
    if Network.VGG19 not in sizes:
        return sizes, f"{Network.COMPACT} alone: the weights of {Network.VGG19} are not installed ({INSTALL})."
    if not chosen:
        return sizes, ""
    # Only now, because it loads torch.
    from napari_styletransfer.engine.run import plan

    stand_in = np.zeros((_SIZE, _SIZE), np.uint8)
    seconds = len(PAIRS) * plan(stand_in, [stand_in], usual.changed(network=Network.VGG19)).seconds
    if seconds <= _MAX_SECONDS:
        return sizes, ""
    return {**sizes, Network.VGG19: _SMALLER}, (
        f"{Network.VGG19} at {_SMALLER} pixels: at {_SIZE} both pictures would take up to about "
        f"{rough_duration(seconds)} (--size {_SIZE} makes them all the same)."
    )


def _to_uint8(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring a picture to 8 bits as a viewer shows it: deep ones without their few brightest pixels."""
    if picture.dtype == np.uint8:
        return picture
    low, high = np.percentile(picture, (1, 99.8))
    rgb, _ = decode(picture, low=float(low), high=float(high))
    return np.rint(rgb * 255).astype(np.uint8)
