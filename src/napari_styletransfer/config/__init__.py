"""The one description of a run.

`StyleConfig` holds everything a run needs besides the pictures. The form, the command-line flags, the
recipe file and the metadata of a result are all made from its fields, so a new setting is added to `settings` and
nowhere else. These modules import neither torch nor Qt: they are read at start-up by every window.
"""

from __future__ import annotations

from napari_styletransfer.config.choices import (
    Color,
    ColorMatch,
    LineSearch,
    Mode,
    Movie,
    Network,
    Normalization,
    Optimizer,
    Padding,
    Pooling,
    Precision,
    Start,
    StyleFit,
)
from napari_styletransfer.config.presets import PRESETS
from napari_styletransfer.config.recipe import RECIPE_FORMAT
from napari_styletransfer.config.settings import ALL_STYLES, CHANNEL_STRUCTURE, LayerWeights, StyleConfig

__all__ = [
    "ALL_STYLES",
    "CHANNEL_STRUCTURE",
    "PRESETS",
    "RECIPE_FORMAT",
    "Color",
    "ColorMatch",
    "LayerWeights",
    "LineSearch",
    "Mode",
    "Movie",
    "Network",
    "Normalization",
    "Optimizer",
    "Padding",
    "Pooling",
    "Precision",
    "Start",
    "StyleConfig",
    "StyleFit",
]
