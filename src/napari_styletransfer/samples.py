"""Sample pictures that need no network: contents to stylise and styles to do it with.

napari calls the functions named in the manifest (`content_and_style`, `fluorescence_and_style`,
`fluorescence_channels`, `paintings_gallery`); the command line and the docs take single pictures through
`content` and `style`.

The micrographs of histology, retina and the phase image come inside scikit-image's own wheel; the
fluorescence pictures and all styles lie in `data/samples`, where `tools/make_samples.py` wrote them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from napari_styletransfer.errors import ImageError

LayerTuple = tuple[NDArray[Any], dict[str, Any], str]

STYLE_SIZE = 512
"""Side in pixels of the style pictures."""

_SMALLEST = 16  # side in pixels of what still shows a style
_FILES = files("napari_styletransfer") / "data" / "samples"
_OURS = "Computed by napari-styletransfer."
_GAP = 24  # pixels between pictures laid side by side
_COLUMNS = 3


@dataclass(frozen=True)
class Sample:
    """One picture to stylise, or one to do it with.

    Attributes
    ----------
    title : str
        Name to show.
    description : str
        What it shows, in one sentence.
    source : str
        Where it comes from, and on which terms.
    function : callable
        ``() -> array``, ``(H, W, 3)`` or ``(H, W)``; a fresh one at every call.
    """

    title: str
    description: str
    source: str
    function: Callable[[], NDArray[Any]]


def _from_skimage(name: str) -> NDArray[Any]:
    from skimage import data

    return getattr(data, name)()


def _read(name: str) -> NDArray[np.uint8]:
    with (_FILES / f"{name}.webp").open("rb") as file:
        return np.array(Image.open(file).convert("RGB"))


def _frame(channel: int) -> NDArray[np.uint16]:
    """Return a camera frame of the cells: 0 all of them, 1 the nuclei, 2 the cytoplasm.

    The file holds the square root of twice the counts above the camera's dark offset of 110.
    """
    root = _read("cells")[..., channel].astype(np.uint16)
    return root * root // 2 + 110


CONTENTS: dict[str, Sample] = {
    "histology": Sample(
        "Histology",
        "Colonic glands, FHL2 protein in brown (DAB), nuclei in blue (hematoxylin); 512 x 512, RGB, 8 bit.",
        "scikit-image, `immunohistochemistry`: Center for Microscopy and Molecular Imaging; "
        "no known copyright restrictions.",
        partial(_from_skimage, "immunohistochemistry"),
    ),
    "fluorescence": Sample(
        "Fluorescence",
        "Nuclei and filaments of adherent cells as a camera would see them; 512 x 512, one channel, 16 bit.",
        _OURS,
        partial(_frame, 0),
    ),
    "retina": Sample(
        "Retina",
        "Fundus photograph of a healthy eye; 1411 x 1411, RGB, 8 bit.",
        "scikit-image, `retina`: M. Häggström, 2014; CC0.",
        partial(_from_skimage, "retina"),
    ),
    "phase": Sample(
        "Phase",
        "One cell in saline, quantitative phase; 660 x 550, one channel, 8 bit.",
        "scikit-image, `cell`: P. Müller et al., 2018; CC0.",
        partial(_from_skimage, "cell"),
    ),
}
"""The contents by name, in the order they are shown."""

STYLES: dict[str, Sample] = {
    name: Sample(title, description, _OURS, partial(_read, name))
    for name, title, description in (
        ("brush-swirls", "Brush swirls", "Thick oil strokes whirling through a blue night with warm lights."),
        ("stained-glass", "Stained glass", "Leaded panes lit from behind: red and amber flowers on deep water."),
        ("ink-hatching", "Ink hatching", "Pen and red chalk, heightened with white, on toned paper."),
        ("mosaic", "Mosaic", "Stone and gold tesserae in waves and roundels."),
        ("marbling", "Marbling", "Combed and curled marbled paper: indigo, red, teal, ochre."),
        ("riso-dots", "Risograph dots", "Leaves and fruit in three spot inks, out of register."),
    )
}
"""The styles by name, in the order they are shown."""

_CHANNELS = {
    "bop blue": Sample("Nuclei", "Nuclei of adherent cells; one of two channels, 16 bit.", _OURS, partial(_frame, 1)),
    "bop orange": Sample(
        "Cytoplasm", "Cytoplasm of adherent cells; one of two channels, 16 bit.", _OURS, partial(_frame, 2)
    ),
}
"""Two channels of the fluorescence picture's cells by the colormap they are shown in."""


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
    return _find(name, CONTENTS, "content").function()


def style(name: str, size: int | tuple[int, int] = STYLE_SIZE) -> NDArray[np.uint8]:
    """Load one style picture, resized to cover a size and cropped at the centre.

    Parameters
    ----------
    name : str
        A key of `STYLES`.
    size : int or tuple of int
        Side of a square picture, or ``(height, width)``, in pixels; at least 16. More than `STYLE_SIZE` enlarges.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        A fresh array.

    Raises
    ------
    ImageError
        If there is no style of that name, or the size is not one of whole pixels, at least 16.
    """
    picture = _find(name, STYLES, "style").function()
    try:
        height, width = map(operator.index, size if isinstance(size, tuple | list) else (size, size))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < _SMALLEST:
        raise ImageError(
            f"A style cannot be {size!r} in size: give one number or (height, width), in whole pixels, "
            f"each at least {_SMALLEST}."
        )
    return np.array(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))


def content_and_style() -> list[LayerTuple]:
    """Give histology and brush swirls, side by side.

    The micrograph is scikit-image's `immunohistochemistry`, taken at the Center for Microscopy and Molecular
    Imaging (CMMI); no known copyright restrictions.

    Returns
    -------
    list of tuple
        Two napari layer tuples, content first.
    """
    return _beside([_layer(CONTENTS["histology"])], STYLES["brush-swirls"])


def fluorescence_and_style() -> list[LayerTuple]:
    """Give a single-channel 16-bit fluorescence picture and stained glass, side by side.

    Returns
    -------
    list of tuple
        Two napari layer tuples, content first.
    """
    return _beside([_layer(CONTENTS["fluorescence"])], STYLES["stained-glass"])


def fluorescence_channels() -> list[LayerTuple]:
    """Give two channels of the same cells as layers that add up, labels of what is where, and a style beside.

    Returns
    -------
    list of tuple
        Four napari layer tuples: nuclei, cytoplasm, labels (1 nuclei, 2 cytoplasm; hidden), style.
    """
    channels = [_layer(sample, colormap=colormap, blending="additive") for colormap, sample in _CHANNELS.items()]
    about = {
        "name": "Nuclei and cytoplasm",
        "visible": False,
        "metadata": {"description": "1: nuclei, 2: cytoplasm, 0: outside the cells.", "source": _OURS},
    }
    return _beside([*channels, (_read("cell-labels")[..., 0].copy(), about, "labels")], STYLES["marbling"])


def paintings_gallery() -> list[LayerTuple]:
    """Give all procedural paintings, each as its own layer, laid out in rows of three.

    Returns
    -------
    list of tuple
        One napari layer tuple for each painting.
    """
    step = STYLE_SIZE + _GAP
    return [
        _layer(sample, translate=(i // _COLUMNS * step, i % _COLUMNS * step))
        for i, sample in enumerate(STYLES.values())
    ]


def _find(name: str, known: dict[str, Sample], kind: str) -> Sample:
    if name not in known:
        raise ImageError(f"There is no sample {kind} {name!r}; choose one of: {', '.join(known)}.")
    return known[name]


def _layer(sample: Sample, **settings: Any) -> LayerTuple:
    picture = sample.function()
    settings |= {
        "name": sample.title,
        "rgb": picture.ndim == 3,
        "metadata": {"description": sample.description, "source": sample.source},
    }
    if picture.ndim == 2:
        # Without the darkest and the brightest few.
        settings["contrast_limits"] = tuple(np.percentile(picture, (1, 99.8)).tolist())
    return picture, settings, "image"


def _beside(layers: list[LayerTuple], style: Sample) -> list[LayerTuple]:
    """Return layers of one size, and a style to the right of them."""
    return [*layers, _layer(style, translate=(0, layers[0][0].shape[1] + _GAP))]
