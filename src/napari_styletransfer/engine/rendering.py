"""Images of a run as people see them: previews and the result. Called by `coarse_to_fine`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_styletransfer.config import Color, StyleConfig
from napari_styletransfer.images.resize import MAX_PREVIEW_PIXELS, resize
from napari_styletransfer.losses.structure import coarse_luminance, coarse_size, correlation
from napari_styletransfer.planning.inputs import RunInputs


class Renderer:
    """Renders images (1, 3, H, W) of any scale; holds of the pictures only what is seen in the result.

    Parameters
    ----------
    inputs
        The pictures as they were handed in.
    size
        (H, W) of the result, the largest that will be set.
    """

    def __init__(self, inputs: RunInputs, config: StyleConfig, size: tuple[int, int]) -> None:
        shows_content = config.color is Color.CONTENT or inputs.regions is not None
        self._inputs = replace(inputs, content=inputs.content if shows_content else None, styles=(), init=None)
        self._scaled = self._inputs
        self._config = config
        self._size = size
        self._luminance: Tensor | None = None
        if inputs.content is not None:
            self._luminance = coarse_luminance(inputs.content, coarse_size(size))

    def set_size(self, size: tuple[int, int]) -> None:
        """Bring the content to the size (H, W) of the images to come; after the result's there is no other."""
        self._scaled = replace(self._inputs, content=self._inputs.content_at(*size))
        if size == self._size:
            self._inputs = self._scaled

    def preview(self, image: Tensor) -> npt.NDArray[np.float32]:
        """Return what is seen of an image of the size that is set, (H, W, 3), no larger than screens are."""
        height, width = image.shape[2:]
        factor = math.ceil(math.sqrt(height * width / MAX_PREVIEW_PIXELS))
        return self._scaled.render(resize(image, max(1, height // factor), max(1, width // factor)), self._config)

    def result(self, image: Tensor) -> npt.NDArray[np.float32]:
        """Return what is seen of an image of any scale, at the size of the result, (H, W, 3)."""
        self.set_size(self._size)
        return self._scaled.render(resize(image, *self._size), self._config)

    def structure(self, result: npt.NDArray[np.float32]) -> float | None:
        """Return how far a result, (H, W, 3), keeps the content's structure: a correlation, None if there is none."""
        if self._luminance is None:
            return None
        grid = (self._luminance.shape[0], self._luminance.shape[1])
        return correlation(self._luminance, coarse_luminance(torch.from_numpy(result).permute(2, 0, 1)[None], grid))
