"""What a run is given, checked and turned into what the engine works on: before any long work.

Called by `engine.run`; `planner` and `objective_factory` work with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
from torch import Tensor

from napari_styletransfer.config import CHANNEL_STRUCTURE, Color, Mode, Start, StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError
from napari_styletransfer.images import color
from napari_styletransfer.images.chunks import chunks
from napari_styletransfer.images.laplacian import StyleStatistics, finest_octave, match_finest_octave, match_statistics
from napari_styletransfer.images.pixels import decode
from napari_styletransfer.images.resize import fit_style, resize, working_size
from napari_styletransfer.losses.regions import RegionMap
from napari_styletransfer.losses.structure import coarse_luminance, match_tones

_CHUNK = 1 << 20
"""Pixels of an image turned into what is shown at once."""

_CONTENT_STARTS = (Start.RETEXTURED, Start.RECOLORED, Start.CONTENT)
"""Starts that are made from the content."""


@dataclass(frozen=True)
class RunInputs:
    """The pictures of a run as (1, 3, H, W) float32 sRGB in [0, 1] on the host, at their own sizes."""

    content: Tensor | None
    styles: tuple[Tensor, ...]
    weights: tuple[float, ...]
    init: Tensor | None
    size: tuple[int, int]
    regions: RegionMap | None = None
    grey: bool = False
    """Whether the content is a single channel, or as grey as one."""
    achromatic: bool = False
    """Whether nothing that gives the result its colours has any: then it has none either."""
    source_size: tuple[int, int] | None = None
    """Size (H, W) of the picture that `size` was made of; None: the same."""

    @classmethod
    def from_arrays(
        cls,
        content: npt.ArrayLike | None,
        styles: Sequence[npt.ArrayLike],
        config: StyleConfig,
        init: npt.ArrayLike | None,
        labels: npt.ArrayLike | None = None,
    ) -> RunInputs:
        """Read and check what the user handed in.

        Raises
        ------
        ImageError
            If an array cannot be worked on.
        ConfigError
            If pictures and settings do not fit together.
        """
        if not isinstance(styles, (list, tuple)):
            raise ConfigError("The styles must be a list of pictures; put the one picture into a list.")
        if config.mode.uses_content and content is None:
            raise ConfigError(f"Mode '{config.mode}' needs a content picture.")
        if config.mode.uses_styles and not styles:
            raise ConfigError(f"Mode '{config.mode}' needs at least one style picture.")
        if config.color is not Color.STYLE and content is None:
            raise ConfigError(f"Colours '{config.color}' need a content picture to take them from.")
        if config.resolved_start in _CONTENT_STARTS and content is None:
            raise ConfigError(f"Start '{config.resolved_start}' needs a content picture.")
        if config.resolved_start is Start.IMAGE and init is None:
            raise ConfigError("Start 'image' needs the image to start from (`init`).")
        used = styles if config.mode.uses_styles else ()
        shares = config.style_shares(len(used)) if used else ()
        content_image, grey = (None, True) if content is None else _decode(content, "content")
        read = [
            (*_decode(style, f"style {number}"), share)
            for number, (style, share) in enumerate(zip(used, shares, strict=True), 1)
            if share or labels is not None
        ]
        start, achromatic = (None, grey) if init is None else _decode(init, "start")
        shape = None if content_image is None else (content_image.shape[2], content_image.shape[3])
        region_map = RegionMap.from_arrays(labels, shape, len(used), config)
        if config.color is Color.STYLE:
            blended = [number for number, (*_, share) in enumerate(read) if share]
            groups = [None] if region_map is None else region_map.labels_by_style()
            counting = {number for style in groups for number in (blended if style is None else [style])}
            achromatic = achromatic and all(read[number][1] for number in counting)
        first = content_image if content_image is not None else read[0][0]
        return cls(
            content_image,
            tuple(style for style, _, _ in read),
            tuple(share for _, _, share in read),
            start,
            working_size(first.shape[2], first.shape[3], config.size),
            region_map,
            grey and content is not None,
            grey and achromatic,
            (first.shape[2], first.shape[3]),
        )

    def structure_weight(self, config: StyleConfig) -> float:
        """Return how firmly the content's brightness is held: more for a single channel, unless settings say."""
        if self.content is None or config.mode is not Mode.TRANSFER:
            return 0.0
        if config.structure_weight is not None:
            return config.structure_weight
        return CHANNEL_STRUCTURE if self.grey else 0.0

    def target_luminance(self, grid: tuple[int, int], config: StyleConfig) -> Tensor:
        """Return the averaged luminance (h, w) that a result is to have: the content's, in the tones of its styles."""
        if self.content is None:
            raise AssertionError("the brightness is that of a content")
        own = coarse_luminance(self.content, grid)

        def toned(_: Tensor, style: int | None) -> Tensor:
            pictures, weights = self.select_styles(style)
            fitted = replace(self, styles=pictures).styles_at(*grid, config, smallest=1)
            tones = [
                match_tones(own, coarse_luminance(picture, (picture.shape[2], picture.shape[3]))) for picture in fitted
            ]
            blend = torch.stack([tone * weight for tone, weight in zip(tones, weights, strict=True)]).sum(0)
            return blend[None, None]

        return self._per_region(own[None, None], toned)[0, 0]

    @property
    def bytes(self) -> int:
        """What the pictures take in memory."""
        each = (*self.styles, *(picture for picture in (self.content, self.init) if picture is not None))
        return sum(picture.numel() * picture.itemsize for picture in each)

    def colored(self, config: StyleConfig) -> RunInputs:
        """Return the pictures as the colour setting wants them to enter the losses."""
        if self.content is None or config.color is Color.STYLE or not self.styles:
            return self
        if config.color is Color.MATCH:
            styles = tuple(
                color.match_colors(style, [self.content], [1.0], config.color_match) for style in self.styles
            )
            return replace(self, styles=styles)
        grey = color.lightness(self.content)
        styles = tuple(color.match_lightness(color.lightness(style), grey) for style in self.styles)
        init = None if self.init is None else color.lightness(self.init)
        return replace(self, content=grey, styles=styles, init=init)

    def content_at(self, height: int, width: int) -> Tensor | None:
        """Return the content at a size, clamped to [0, 1]."""
        if self.content is None or self.content.shape[2:] == (height, width):
            return self.content
        return resize(self.content, height, width).clamp_(0, 1)

    def styles_at(self, height: int, width: int, config: StyleConfig, smallest: int) -> list[Tensor]:
        """Return the styles fitted to content of a size."""
        return [
            fit_style(style, height, width, config.style_fit, config.style_scale, smallest) for style in self.styles
        ]

    def _per_region(
        self, content: Tensor, match: Callable[[Tensor, int | None], Tensor], *, outside: float = 1.0
    ) -> Tensor:
        """Return the content brought to the styles, each region to its own; where there is none, so much of itself.

        `match` is given the number of the style, or None for all of them together.
        """
        if self.regions is None:
            return match(content, None)
        result = content * outside
        for style, labels in self.regions.labels_by_style().items():
            mask = torch.from_numpy(self.regions.mask(labels, *content.shape[2:]))
            result = torch.where(mask > 0, match(content, style), result)
        return result

    def _style_statistics(
        self, style: int | None, size: tuple[int, int], config: StyleConfig, **octaves: int
    ) -> StyleStatistics:
        """Measure a style, or all that count, as the losses at a size see them; one at a time, for they are large."""
        weights = {number: weight for number, weight in enumerate(self.weights) if weight}
        statistics = []
        for number in weights if style is None else (style,):
            alone = replace(self, styles=(self.styles[number],))
            (picture,) = alone.styles_at(*size, config, smallest=1)
            statistics.append(StyleStatistics.from_image(picture, **octaves))
            del picture
        return statistics[0] if style is not None else StyleStatistics.blended(statistics, tuple(weights.values()))

    def render(self, image: Tensor, config: StyleConfig) -> npt.NDArray[np.float32]:
        """Return what people see of an image: (H, W, 3) in [0, 1].

        With the content's colours where they are asked for, and the content itself where regions leave it.
        """
        height, width = size = (image.shape[2], image.shape[3])
        content = alpha = None
        if config.color is Color.CONTENT or self.regions is not None:
            content = self.content_at(*size)
        if content is not None and self.regions is not None:
            alpha = self.regions.alpha(*size)
        rendered = np.empty((height, width, 3), np.float32)
        # Some rows at a time: nothing else of the size of the image is made on the way.
        for rows in chunks(height, width, _CHUNK):
            strip = image[:, :, rows].detach().clamp(0, 1).cpu()
            if content is not None and config.color is Color.CONTENT:
                strip = color.with_lightness(content[:, :, rows], strip)
            if content is not None and alpha is not None:
                below, weight = content[:, :, rows], alpha[:, :, rows]
                strip = torch.where(weight > 0, torch.lerp(below, strip, weight), below)
            if self.achromatic:
                strip = strip.mean(1, keepdim=True).expand(-1, 3, -1, -1)
            rendered[rows] = strip[0].permute(1, 2, 0).numpy()
        return rendered

    def select_styles(self, style: int | None) -> tuple[tuple[Tensor, ...], tuple[float, ...]]:
        """Return the style of that number, or all of them for None, with their weights."""
        return (self.styles, self.weights) if style is None else ((self.styles[style],), (1.0,))

    def start_at(self, height: int, width: int, config: StyleConfig) -> Tensor:
        """Return the image to start from at a size, in [0, 1]."""
        start = config.resolved_start
        if start is Start.IMAGE and self.init is not None:
            return resize(self.init, height, width).clamp(0, 1)
        content = self.content_at(height, width) if start in _CONTENT_STARTS else None
        if content is not None:
            method, size = config.color_match, (height, width)
            if start is Start.RETEXTURED and self.styles:
                return self._per_region(
                    content, lambda x, style: match_statistics(x, self._style_statistics(style, size, config), method)
                )
            if start is Start.CONTENT or config.color is Color.CONTENT or not self.styles:
                return content.clone()
            return self._per_region(content, lambda x, style: color.match_colors(x, *self.select_styles(style), method))
        noise = np.random.default_rng(config.seed).random((height, width, 3), dtype=np.float32)
        if start is Start.MEDIAN_NOISE:
            noise = scipy.ndimage.median_filter(noise, (8, 8, 1)) / 2
        image = torch.from_numpy(noise).permute(2, 0, 1)[None].contiguous()
        if start is Start.STYLE_STATISTICS and self.styles:
            return color.match_colors(image, self.styles, self.weights)
        return image

    def detail_at(self, height: int, width: int, config: StyleConfig) -> Tensor | None:
        """Return the finest octave of the start at a size, which images from half that size lack; None for noise."""
        start = config.resolved_start
        if start is not Start.IMAGE and start not in _CONTENT_STARTS:
            return None
        if start is Start.RETEXTURED and self.styles and (content := self.content_at(height, width)) is not None:
            size = (height, width)
            return self._per_region(
                content,
                lambda x, style: match_finest_octave(
                    x, self._style_statistics(style, size, config, count=1), config.color_match
                ),
                outside=0.0,
            )
        return finest_octave(self.start_at(height, width, config))


def check_size(pictures: RunInputs, smallest: int, network: str) -> None:
    """Raise `ImageError` if a run's image is too small for the network's deepest layer; says what would help."""
    size, own = pictures.size, pictures.source_size or pictures.size
    if min(size) >= smallest:
        return
    needs = f"{network} with these layers needs at least {smallest} on the shorter side"
    if min(own) < smallest:
        raise ImageError(
            f"The picture itself is {_format_size(own)} pixels; {needs}. Enlarge the picture first, or choose "
            "shallower layers."
        )
    longest = min(own) * max(size) // smallest
    enough = -(-smallest * max(own) // min(own))
    raise ImageError(
        f"The picture of {_format_size(own)} pixels is {_format_size(size)} at a size of {max(size)}; {needs}. Crop "
        f"it to a length of at most {longest}, or choose a size of at least {enough}."
    )


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _decode(array: npt.ArrayLike, role: str) -> tuple[Tensor, bool]:
    """Return a picture, and whether it is grey all over."""
    try:
        rgb, _ = decode(array, planar=True)
    except ImageError as error:
        raise ImageError(f"The {role} picture: {error}") from error
    grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous(), grey
