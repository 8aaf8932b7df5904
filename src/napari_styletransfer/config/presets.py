"""Presets: settings that belong together, by name. Called by `settings`."""

from __future__ import annotations

from typing import Any

from napari_styletransfer.config.choices import Mode, Network, Normalization, Padding, Pooling, Start

_GATYS = {
    "network": Network.VGG19,
    "normalization": Normalization.GATYS,
    "content_layers": {"relu4_2": 1.0},
    "style_layers": dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 1.0),
    "tv_weight": 0.0,
    "coarse_weight": 0.0,
    "scales": 1,
    "iterations": 500,
}
_LESSON = {
    "network": Network.VGG16_BN,
    "normalization": Normalization.NOTEBOOK,
    "pooling": Pooling.NATIVE,
    "padding": Padding.ZERO,
    "content_layers": {"relu4_3": 1.0},
    "style_layers": dict.fromkeys(("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"), 1.0),
    "start": Start.MEDIAN_NOISE,
    "size": 288,
    "scales": 1,
    "tv_weight": 0.0,
    "coarse_weight": 0.0,
    "spectral_exponent": 0.0,
    "value_scaling": False,
    "tolerance": 0.0,
}

# Pooling stays as the networks were trained: the average of the papers needs weights rescaled for it, and prints a
# grid without.
PRESETS: dict[str, dict[str, Any]] = {
    "microscopy": {"balance": 0.35},
    "compact-fast": {"network": Network.COMPACT, "size": 512, "iterations": 10},
    "gatys-2015": {**_GATYS, "start": Start.WHITE_NOISE},
    "gatys-2016": {**_GATYS, "start": Start.CONTENT},
    "notebook-content": {**_LESSON, "mode": Mode.CONTENT, "content_weight": 1e-3, "iterations": 1000},
    "notebook-style": {**_LESSON, "mode": Mode.STYLE, "iterations": 1000},
    "notebook-transfer": {**_LESSON, "iterations": 2000},
}
"""Named sets of fields; everything not named keeps its default."""
