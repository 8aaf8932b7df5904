"""Labels of a picture turned into what guides a run: where each style counts, and what stays as it is.

A feature near a boundary sees both sides of it. How far it counts for a region is the share of the region
in the middle half of what it sees, where most of its response comes from (Luo et al. 2016, arXiv
1701.04128). Called by `inputs` and `objective_factory`; labels are (H, W) integers in the content's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
from torch import Tensor

from napari_styletransfer.config import ALL_STYLES, StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError, NothingToDoError
from napari_styletransfer.images.pixels import as_array
from napari_styletransfer.losses.terms import Region
from napari_styletransfer.networks.architectures import RGB, ReceptiveField

_MAX_LABELS = 5
"""How many labels an error names."""


@dataclass(frozen=True)
class RegionMap:
    """Labels with the number of the style each is given; labels that are not named are left alone.

    `styles` maps a label to the index of its style, or to None for all styles blended.
    """

    labels: npt.NDArray[np.integer | np.bool_]
    styles: Mapping[int, int | None]
    feather: float
    _alphas: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_arrays(
        cls, labels: npt.ArrayLike | None, shape: tuple[int, int] | None, styles: int, config: StyleConfig
    ) -> RegionMap | None:
        """Read and check what the user handed in; None where there are no labels.

        Raises
        ------
        ImageError
            If the labels are not integers, of another shape than the content, or mark nothing.
        ConfigError
            If a label is given a style that is not there, or settings name regions and there are no labels.
        """
        if labels is None:
            if config.regions is not None:
                raise ConfigError("The settings give styles to regions; hand in the labels that say where those are.")
            return None
        array = as_array(labels, hidden=0)
        if array.dtype.kind not in "bui":
            raise ImageError(f"Labels are whole numbers; these have dtype {array.dtype}.")
        if shape is None:
            raise ImageError("Labels are regions of a content picture; without content there are none.")
        if array.shape != shape:
            found, expected = (" x ".join(map(str, size)) for size in (array.shape, shape))
            raise ImageError(f"The labels are {found} pixels; they should be the content's {expected}.")
        present = {int(label) for label in np.unique(array)}
        # The background takes part only when it is named.
        chosen: dict[int, int | None] = dict.fromkeys(present - {0})
        if config.regions is not None:
            named = {label: style for label, style in config.regions.items() if style is not None and label in present}
            chosen = {label: None if style == ALL_STYLES else style for label, style in named.items()}
            for label, style in chosen.items():
                if style is not None and not 0 <= style < styles:
                    raise ConfigError(f"Label {label} is given style {style}; there are only styles 0 to {styles - 1}.")
        if not chosen:
            raise NothingToDoError(_nothing_to_do(present - {0}))
        return cls(array.copy(), chosen, config.feather)

    def alpha(self, height: int, width: int) -> Tensor:
        """Return (1, 1, H, W) in [0, 1] at a size: how much of the result shows; exactly 0 outside. Made once."""
        if (height, width) not in self._alphas:
            self._alphas[height, width] = self._compute_alpha(height, width)
        return self._alphas[height, width]

    def _compute_alpha(self, height: int, width: int) -> Tensor:
        inside = self._inside(list(self.styles), height, width)
        # Where nothing is outside, there is no distance to it.
        if not self.feather or inside.all():
            return torch.from_numpy(inside.astype(np.float32))[None, None]
        scaled = self.feather * height / self.labels.shape[0]
        # One pixel inside counts as depth 0.5: its centre is half a pixel from the boundary.
        depth = scipy.ndimage.distance_transform_edt(inside) - 0.5
        ramp = np.clip(depth / max(scaled, 1e-6), 0, 1) * inside
        return torch.from_numpy(ramp.astype(np.float32))[None, None]

    def labels_by_style(self) -> dict[int | None, list[int]]:
        """Return the labels of each style, None for the labels that take all styles."""
        found: dict[int | None, list[int]] = {}
        for label, style in self.styles.items():
            found.setdefault(style, []).append(label)
        return found

    def mask(self, labels: list[int], height: int, width: int) -> npt.NDArray[np.float32]:
        """Return where any of `labels` is at a size, (H, W) of 0 and 1."""
        return self._inside(labels, height, width).astype(np.float32)

    def _inside(self, labels: list[int], height: int, width: int) -> npt.NDArray[np.bool_]:
        # Of the same dtype: compared with another, the largest labels would be rounded.
        return np.isin(self._resized_labels(height, width), np.array(labels, self.labels.dtype))

    def _resized_labels(self, height: int, width: int) -> npt.NDArray[np.integer | np.bool_]:
        rows = ((np.arange(height) + 0.5) * self.labels.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * self.labels.shape[1] / width).astype(int)
        return self.labels[rows[:, None], columns]


def _nothing_to_do(labels: set[int]) -> str:
    if not labels:
        return (
            "No region lies on the picture: there would be nothing to do. Paint a label or draw a shape on it (of a "
            "stack, on this plane), or stylise the whole picture."
        )
    some = ", ".join(map(str, sorted(labels)[:_MAX_LABELS])) + (" …" if len(labels) > _MAX_LABELS else "")
    return f"No label is given a style: there would be nothing to do. Give one to at least one of the labels: {some}."


def region_masks(
    mask: npt.NDArray[np.float32],
    receptive_fields: Mapping[str, ReceptiveField],
    sizes: Mapping[str, tuple[int, int]],
    device: str,
) -> Region:
    """Return the masks of a region at every layer.

    Parameters
    ----------
    mask
        (H, W) of 0 and 1 at the working size.
    receptive_fields, sizes
        Reach and size (h, w) of the layers.
    device
        Where the masks are wanted.
    """
    masks = {RGB: torch.from_numpy(mask).to(device)}
    for name, receptive_field in receptive_fields.items():
        window = max(receptive_field.stride, (receptive_field.before + receptive_field.after + 1) // 2)
        blurred = scipy.ndimage.uniform_filter(mask, window, mode="nearest")
        middle = (receptive_field.after - receptive_field.before) / 2
        positions = [
            np.clip(np.arange(count) * receptive_field.stride + middle, 0, side - 1).round().astype(int)
            for count, side in zip(sizes[name], mask.shape, strict=True)
        ]
        masks[name] = torch.from_numpy(np.clip(blurred[np.ix_(*positions)], 0, 1)).to(device)
    return Region(masks)
