"""`StyleConfig`: the settings of a run, checked, and read from and written to recipes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

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
from napari_styletransfer.config.recipe import Recipe, shorten
from napari_styletransfer.errors import ConfigError

ALL_STYLES = -1
"""What a region is given in place of the number of a style, for all of them blended."""


MOST_ITERATIONS = 100_000

CHANNEL_STRUCTURE = 0.5
"""Structure weight of content that is a single channel, where the settings leave it open."""

LARGEST_WEIGHT = 1e7
"""Weights are below this: losses, and the squares of their gradients, then stay in the range of float32."""

_LONGEST_PATH = 4096

_Weight = Annotated[float, Field(ge=0, lt=LARGEST_WEIGHT, allow_inf_nan=False)]
Label = Annotated[int, Field(ge=-(2**63), lt=2**64)]

_Picture = TypeVar("_Picture")

LayerWeights = dict[Annotated[str, Field(max_length=40)], _Weight]


def _field(default: Any, title: str, group: str, *, advanced: bool = True, empty: str = "", **limits: Any) -> Any:
    """Make a field, described by its docstring, that carries where the form shows it, and what it shows for None."""
    extra: JsonDict = {"group": group, "advanced": advanced, "empty": empty}
    return Field(default, title=title, json_schema_extra=extra, **limits)


class StyleConfig(Recipe):
    """Everything a run needs besides the pictures; immutable, validated, and written to recipes.

    Raises
    ------
    ConfigError
        From every way to make one, naming each wrong field.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    mode: Mode = _field(Mode.TRANSFER, "Mode", "What")
    """transfer: content in the manner of the style. content-reconstruction: only the content's features.
    style-reconstruction: only the style's statistics, which makes a texture. colors: only the style's colours, at once
    and without a network."""
    network: Network = _field(Network.AUTO, "Network", "What", advanced=False)
    """Feature network. auto: VGG-19 on a GPU, and on a processor where that takes at most about two minutes; else the
    small compact network. vgg19: the original weights of the papers; vgg19_torchvision: trained anew by others, another
    look, to download."""
    weights: Path | None = _field(None, "Weights file", "Network", empty="the usual source")
    """A file with the network's weights (safetensors or a torch state dict) in place of the usual source."""
    weights_sha256: str | None = _field(None, "Weights SHA-256", "Network", empty="any", pattern="^[0-9a-f]{64}$")
    """Checksum of the file of weights that a recipe was made with; a run with others is refused. Empty: any."""
    pooling: Pooling = _field(Pooling.NATIVE, "Pooling", "Network")
    """native: as the network was trained. average in networks trained with max prints a fine grid."""
    padding: Padding = _field(Padding.REFLECT, "Padding", "Network")
    """What convolutions see beyond the border; zero prints dark frames."""
    content_layers: LayerWeights | None = _field(None, "Content layers", "Loss", empty="the network's choice")
    """Layers and weights of the content loss; empty: the network's own choice."""
    style_layers: LayerWeights | None = _field(None, "Style layers", "Loss", empty="the network's choice")
    """Layers and weights of the style loss; 'rgb' stands for the statistics of the pixels themselves. Empty: the
    network's own choice."""
    normalization: Normalization = _field(Normalization.RELATIVE, "Normalisation", "Loss")
    """relative: each term in units of its target, so that one balance suits every network and size. gatys: as in the
    paper. notebook: as in the fast.ai lesson."""
    balance: float = _field(0.45, "Content ↔ style", "What", advanced=False, ge=0, le=1)
    """0 keeps the content, 1 follows the style; a step of 0.25 changes the ratio tenfold. Structures of micrographs
    stay where they are up to about 0.35."""
    content_weight: float | None = _field(
        None, "Content weight", "Loss", empty="from content ↔ style", ge=0, lt=LARGEST_WEIGHT
    )
    """Factor of the content loss, in place of the one that 'Content ↔ style' makes; empty: that one."""
    style_weight: float | None = _field(None, "Style weight", "Loss", empty="1", ge=0, lt=LARGEST_WEIGHT)
    """Factor of the style loss; empty: 1."""
    tv_weight: float = _field(1.5, "Smoothness", "Loss", ge=0, lt=LARGEST_WEIGHT)
    """Factor of the total-variation loss, which removes pixel noise."""
    coarse_weight: float = _field(1.0, "Coarse weight", "Loss", ge=0, lt=LARGEST_WEIGHT)
    """How much the picture counts in the loss at a half, a quarter … of its size (down to 192 pixels), against 1 at its
    own: strokes keep their share of the picture at every size. 0: strokes become finer as the size grows."""
    structure_weight: float | None = _field(
        None, "Keep structure", "What", advanced=False, empty="0.5 for a channel, else 0", ge=0, le=1000
    )
    """How firmly what is bright and what is dark, seen coarsely, stays where the content has it; 0: as the losses like,
    0.5: firmly at any balance. Empty: 0.5 for a single channel, grey or coloured, else 0."""
    style_weights: tuple[_Weight, ...] | None = _field(None, "Blend weights", "Style")
    """One weight for each style picture; empty: all alike."""
    style_scale: float = _field(1.0, "Style scale", "Style", advanced=False, gt=0, le=8)
    """Size of the strokes: the style picture is resized by this factor beyond the fit."""
    style_fit: StyleFit = _field(StyleFit.COVER, "Style fit", "Style")
    """cover: resized by the larger ratio to cover the content, then cropped at the centre. whole: all of the picture,
    resized to the content's longest side."""
    regions: dict[Label, Annotated[int, Field(ge=ALL_STYLES, le=9999)] | None] | None = _field(None, "Regions", "Style")
    """Which style each label of the region layer is given, counted from 0, or -1 for all styles; a label given none, or
    not named, stays as it is. Empty: all labels but 0 take all styles."""
    feather: float = _field(0.0, "Feather", "Style", ge=0, le=1000)
    """Width in the content's pixels over which a region's stylisation fades in from its boundary."""
    movie: Movie = _field(Movie.FOLLOW, "Planes of a stack", "Start")
    """follow: each plane starts from the result of the one before, so that a movie does not flicker. apart: each plane
    starts from its own content."""
    color: Color = _field(Color.STYLE, "Colours", "What", advanced=False)
    """style: the style's colours. content: only the lightness changes. match: the style is recoloured to the content
    first."""
    color_match: ColorMatch = _field(ColorMatch.TRANSPORT, "Colour map", "Style")
    """How colours are matched wherever they are: transport moves them least, pca goes along the main axes, cholesky
    channel by channel."""
    size: int | None = _field(512, "Size", "What", advanced=False, empty="own size", ge=32, le=65536)
    """Longest side in pixels at which the run works; larger content is made smaller, smaller content stays as it is.
    Empty (in the form 'own size', below the smallest): the content's own size."""
    level: int | None = _field(None, "Level", "What", ge=0, le=64)
    """Resolution level at which a multiscale content layer is read, 0 the finest. Empty: in napari the finest that
    suits the size, of a file the finest. In napari, pictures with one resolution are read as they are."""
    start: Start = _field(Start.AUTO, "Start from", "Start", advanced=False)
    """auto: the content with the colours and contrasts of the style (transfer), noise (reconstructions)."""
    seed: int = _field(0, "Seed", "Start", advanced=False, ge=0, le=2**63 - 1)
    """Seed of every random number in the run."""
    optimizer: Optimizer = _field(Optimizer.LBFGS, "Optimiser", "Optimiser")
    """L-BFGS, or Adam as the alternative."""
    iterations: int = _field(16, "Iterations", "What", advanced=False, ge=1, le=MOST_ITERATIONS)
    """Steps at the full working size, at most; each coarser scale takes 'Coarse iterations' times those of the next
    finer one, and stops earlier when it no longer gains."""
    coarse_iterations: float = _field(1.5, "Coarse iterations", "Optimiser", ge=1, le=10)
    """Steps of each coarser scale, in those of the next finer one: they cost a quarter each. 1: all scales alike."""
    max_seconds: float | None = _field(None, "Time limit", "Optimiser", empty="no limit", gt=0, le=1e9)
    """Stop after so many seconds with the best image; empty: no limit."""
    tolerance: float = _field(1e-3, "Tolerance", "Optimiser", ge=0, lt=1)
    """Stop when the loss fell by less than this fraction over the last window of steps; 0: never."""
    window: int = _field(15, "Window", "Optimiser", ge=2, le=10_000)
    """Number of steps over which progress is judged."""
    history: int = _field(10, "History", "Optimiser", ge=1, le=100)
    """Number of L-BFGS pairs kept."""
    history_precision: Precision = _field(Precision.AUTO, "History precision", "Optimiser")
    """Number format of the pairs: bfloat16 halves most of a run's memory and costs little. auto: that of the
    convolutions, and bfloat16 above four megapixels."""
    line_search: LineSearch = _field(LineSearch.BACKTRACKING, "Line search", "Optimiser")
    """How a step length is accepted."""
    spectral_exponent: float | None = _field(
        None, "Spectral exponent", "Optimiser", empty="learned from the steps", ge=0, le=1.5
    )
    """Strength of a fixed metric that moves coarse structure first; 0: none. Empty: learned from the steps."""
    value_scaling: bool = _field(True, "Value scaling", "Optimiser")
    """L-BFGS learns a scale for every pixel value, which saves evaluations and takes as much memory as half a pair."""
    learning_rate: float = _field(0.02, "Learning rate", "Optimiser", gt=0, lt=10)
    """Step of Adam, in units of the pixel range."""
    scales: int | None = _field(None, "Scales", "Start", empty="as many as fit", ge=1, le=10)
    """Number of sizes from coarse to fine, each twice the one before; empty: as many as the size allows."""
    device: str = _field("auto", "Device", "Device", advanced=False, pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")
    """auto, cpu, cuda, cuda:1, mps …"""
    precision: Precision = _field(Precision.AUTO, "Precision", "Device")
    """auto: bfloat16 convolutions where the hardware is good at them."""
    memory_limit: float | None = _field(None, "Memory limit", "Device", empty="most of what is free", gt=0, le=1e6)
    """GiB the run may use besides its pictures; empty: most of what is free on the device."""
    block_size: int | None = _field(None, "Block size", "Device", empty="as memory allows", ge=64, le=65536)
    """Side in pixels of the blocks in which a large image is worked through (the result is the same); empty: as the
    memory allows."""

    @field_validator("weights")
    @classmethod
    def _a_file_can_have_the_name(cls, path: Path | None) -> Path | None:
        if path is not None and (len(str(path)) > _LONGEST_PATH or b"\0" in os.fsencode(path)):
            raise ValueError("no file can have this name")
        return path

    @field_validator("content_layers", "style_layers")
    @classmethod
    def _some_layer_counts(cls, layers: dict[str, float] | None) -> dict[str, float] | None:
        if layers is not None and not any(weight > 0 for weight in layers.values()):
            raise ValueError("name at least one layer with a weight above 0, or leave empty for the default")
        return layers

    @field_validator("style_weights")
    @classmethod
    def _some_style_counts(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and not any(weight > 0 for weight in weights):
            raise ValueError("give at least one style a weight above 0, or leave empty for equal weights")
        return weights

    @model_validator(mode="after")
    def _start_fits_mode(self) -> Self:
        if self.mode is Mode.CONTENT and self.start in (Start.RETEXTURED, Start.RECOLORED, Start.STYLE_STATISTICS):
            raise ValueError(f"start '{self.start}' needs a style, which content-reconstruction has none of")
        return self

    @classmethod
    def from_preset(cls, name: str, **fields: Any) -> StyleConfig:
        """Build a config from a preset of `PRESETS`, with `fields` on top."""
        if name not in PRESETS:
            raise ConfigError(f"There is no preset '{shorten(name, 80)}'. Presets: {', '.join(PRESETS)}.")
        return cls(**{**PRESETS[name], **fields})

    def changed(self, **fields: Any) -> Self:
        """Return a copy with `fields` replaced, validated again; a checksum of another network's weights goes."""
        if any(name in fields and fields[name] != getattr(self, name) for name in ("network", "weights")):
            fields.setdefault("weights_sha256", None)
        return super().changed(**fields)

    @property
    def term_weights(self) -> tuple[float, float]:
        """Factors of the content and the style loss."""
        reference = _REFERENCE_CONTENT_WEIGHT[self.normalization]
        content = reference * 10 ** (4 * (0.5 - self.balance)) if self.content_weight is None else self.content_weight
        style = 1.0 if self.style_weight is None else self.style_weight
        return (
            content if self.mode.uses_content else 0.0,
            style if self.mode.uses_styles else 0.0,
        )

    def style_shares(self, styles: int) -> tuple[float, ...]:
        """Return the share of each of so many styles in the blend; together 1.

        Raises
        ------
        ConfigError
            If there are blend weights for another number of styles.
        """
        weights = self.style_weights or (1.0,) * styles
        if len(weights) != styles:
            raise ConfigError(f"There are {styles} style pictures but {len(weights)} blend weights.")
        return tuple(weight / sum(weights) for weight in weights)

    def first_style(self, styles: Sequence[_Picture]) -> _Picture:
        """Return the first style that counts: a result without content has its size, dtype and range.

        Raises
        ------
        ConfigError
            As `style_shares`.
        """
        return next(style for style, share in zip(styles, self.style_shares(len(styles)), strict=True) if share)

    @property
    def resolved_start(self) -> Start:
        """The start with `auto` decided by the mode."""
        if self.start is not Start.AUTO and self.mode is not Mode.COLORS:
            return self.start
        return {
            Mode.TRANSFER: Start.RETEXTURED,
            Mode.CONTENT: Start.MEDIAN_NOISE,
            Mode.STYLE: Start.STYLE_STATISTICS,
            Mode.COLORS: Start.RECOLORED,
        }[self.mode]


_REFERENCE_CONTENT_WEIGHT = {Normalization.RELATIVE: 0.05, Normalization.GATYS: 1e-3, Normalization.NOTEBOOK: 1.0}
"""Content weight at balance 0.5 for a style weight of 1. `gatys`: the ratio of arXiv 1508.06576, figure 2."""
