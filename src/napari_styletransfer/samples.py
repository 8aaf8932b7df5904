"""Sample pictures that need no network: contents to stylise and styles to do it with.

napari calls the functions named in the manifest (`content_and_style`, `fluorescence_and_style`,
`fluorescence_channels`, `paintings_gallery`); the command line and the docs take single pictures through
`content` and `style`.

The micrographs of histology, retina and the phase image come inside scikit-image's own wheel; the
fluorescence pictures and all styles are computed by this package.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_styletransfer.errors import ImageError
from napari_styletransfer.paintings import PAINTINGS
from napari_styletransfer.paintings.cells import channels, fluorescence

LayerTuple = tuple[NDArray[Any], dict[str, Any], str]

STYLE_SIZE = 512
"""Side in pixels of a style picture unless told otherwise."""

_GAP = 24  # pixels between pictures laid side by side
_COLUMNS = 3


@dataclass(frozen=True)
class Content:
    """One picture to stylise.

    Attributes
    ----------
    title : str
        Name to show.
    description : str
        What it shows, in one sentence.
    source : str
        Where it comes from, and on which terms.
    function : callable
        ``() -> array``, ``(H, W, 3)`` or ``(H, W)``.
    """

    title: str
    description: str
    source: str
    function: Callable[[], NDArray[Any]]


def _from_skimage(name: str) -> Callable[[], NDArray[Any]]:
    def load() -> NDArray[Any]:
        from skimage import data

        return getattr(data, name)()

    return load


CONTENTS: dict[str, Content] = {
    "histology": Content(
        "Histology",
        "Colonic glands, FHL2 protein in brown (DAB), nuclei in blue (hematoxylin); 512 x 512, RGB, 8 bit.",
        "scikit-image, `immunohistochemistry`: Center for Microscopy and Molecular Imaging; "
        "no known copyright restrictions.",
        _from_skimage("immunohistochemistry"),
    ),
    "fluorescence": Content(
        "Fluorescence",
        "Nuclei and filaments of adherent cells as a camera would see them; 512 x 512, one channel, 16 bit.",
        "Computed by napari-styletransfer.",
        fluorescence,
    ),
    "retina": Content(
        "Retina",
        "Fundus photograph of a healthy eye; 1411 x 1411, RGB, 8 bit.",
        "scikit-image, `retina`: M. Häggström, 2014; CC0.",
        _from_skimage("retina"),
    ),
    "phase": Content(
        "Phase",
        "One cell in saline, quantitative phase; 660 x 550, one channel, 8 bit.",
        "scikit-image, `cell`: P. Müller et al., 2018; CC0.",
        _from_skimage("cell"),
    ),
}
"""The contents by name, in the order they are shown."""


def content(name: str) -> NDArray[Any]:
    """Load one content picture.

    Parameters
    ----------
    name : str
        A key of `CONTENTS`.

    Returns
    -------
    ndarray
        A fresh array in the picture's own type: uint8 ``(H, W, 3)`` for ``"histology"`` and ``"retina"``,
        uint8 ``(H, W)`` for ``"phase"``, uint16 ``(H, W)`` for ``"fluorescence"``.

    Raises
    ------
    ImageError
        If there is no content of that name.
    """
    _check(name, CONTENTS, "content")
    return _load(name).copy()


def style(name: str, size: int | tuple[int, int] = STYLE_SIZE, seed: int = 0) -> NDArray[np.uint8]:
    """Paint one style picture, or take it from this process's memory.

    Parameters
    ----------
    name : str
        A key of `napari_styletransfer.paintings.PAINTINGS`.
    size : int or tuple of int
        Side of a square picture, or ``(height, width)``, in pixels; at least 16.
    seed : int
        Another seed gives another picture of the same kind; not negative.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        A fresh array.

    Raises
    ------
    ImageError
        If there is no style of that name, the size cannot be painted, or the seed is negative.
    """
    _check(name, PAINTINGS, "style")
    if seed < 0:
        raise ImageError(f"The seed of a painting is {seed}: give a whole number that is not negative.")
    shape = (size, size) if isinstance(size, int | float) else tuple(size)
    return _paint(name, shape, seed).copy()


def content_and_style() -> list[LayerTuple]:
    """Give histology and brush swirls, side by side.

    The micrograph is scikit-image's `immunohistochemistry`, taken at the Center for Microscopy and Molecular
    Imaging (CMMI); no known copyright restrictions.

    Returns
    -------
    list of tuple
        Two napari layer tuples, content first.
    """
    return _pair("histology", "brush-swirls")


def fluorescence_and_style() -> list[LayerTuple]:
    """Give a single-channel 16-bit fluorescence picture and stained glass, side by side.

    Returns
    -------
    list of tuple
        Two napari layer tuples, content first.
    """
    return _pair("fluorescence", "stained-glass")


def fluorescence_channels() -> list[LayerTuple]:
    """Give two channels of the same cells as layers that add up, labels of what is where, and a style beside.

    Returns
    -------
    list of tuple
        Four napari layer tuples: nuclei, cytoplasm, labels (1 nuclei, 2 cytoplasm; hidden), style.
    """
    nuclei, cytoplasm, labels = _channels()
    made = {"source": "Computed by napari-styletransfer."}
    layers: list[LayerTuple] = []
    for name, picture, colormap in (("Nuclei", nuclei, "bop blue"), ("Cytoplasm", cytoplasm, "bop orange")):
        settings = {
            "name": name,
            "rgb": False,
            "colormap": colormap,
            "blending": "additive",
            "contrast_limits": _contrast(picture),
            "metadata": {"description": f"{name} of adherent cells; one of two channels, 16 bit.", **made},
        }
        layers.append((picture.copy(), settings, "image"))
    about = {
        "name": "Nuclei and cytoplasm",
        "visible": False,
        "metadata": {"description": "1: nuclei, 2: cytoplasm, 0: outside the cells.", **made},
    }
    layers.append((labels.copy(), about, "labels"))
    beside = (0, nuclei.shape[1] + _GAP)
    return [*layers, _style_layer("marbling", style("marbling", STYLE_SIZE), beside)]


def paintings_gallery() -> list[LayerTuple]:
    """Give all procedural paintings, each as its own layer, laid out in rows of three.

    Returns
    -------
    list of tuple
        One napari layer tuple for each painting.
    """
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda name: style(name, STYLE_SIZE), PAINTINGS))
    step = STYLE_SIZE + _GAP
    return [
        _style_layer(name, picture, (i // _COLUMNS * step, i % _COLUMNS * step))
        for i, (name, picture) in enumerate(zip(PAINTINGS, pictures, strict=True))
    ]


def _check(name: str, known: dict[str, Any], kind: str) -> None:
    if name not in known:
        raise ImageError(f"There is no sample {kind} {name!r}; choose one of: {', '.join(known)}.")


@lru_cache(maxsize=8)
def _load(name: str) -> NDArray[Any]:
    return CONTENTS[name].function()


@lru_cache(maxsize=1)
def _channels() -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
    return channels()


@lru_cache(maxsize=16)
def _paint(name: str, shape: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    return PAINTINGS[name].function(shape, seed)


def _pair(content_name: str, style_name: str) -> list[LayerTuple]:
    picture = content(content_name)
    about = CONTENTS[content_name]
    settings: dict[str, Any] = {
        "name": about.title,
        "rgb": picture.ndim == 3,
        "metadata": {"description": about.description, "source": about.source},
    }
    if picture.ndim == 2:
        settings["contrast_limits"] = _contrast(picture)
    beside = (0, picture.shape[1] + _GAP)
    return [(picture, settings, "image"), _style_layer(style_name, style(style_name, STYLE_SIZE), beside)]


def _contrast(picture: NDArray[Any]) -> tuple[float, float]:
    """Return contrast limits that leave out the darkest and the brightest few."""
    low, high = np.percentile(picture, (1, 99.8))
    return float(low), float(high)


def _style_layer(name: str, picture: NDArray[np.uint8], translate: tuple[int, int]) -> LayerTuple:
    about = PAINTINGS[name]
    settings = {
        "name": about.title,
        "rgb": True,
        "translate": translate,
        "metadata": {"description": about.description, "source": "Computed by napari-styletransfer."},
    }
    return picture, settings, "image"
