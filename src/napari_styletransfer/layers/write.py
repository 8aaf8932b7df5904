"""A result as the arguments of a new image layer that lies on its content, pixel by pixel.

The outputs pass it to `viewer.add_image(**kwargs, name=..., metadata=...)`. The recipe of the run travels in the
layer's metadata, from which `read_recipe` has it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import napari_styletransfer
from napari_styletransfer.errors import ImageError
from napari_styletransfer.images.pixels import Encoding, encode
from napari_styletransfer.layers.geometry import Grid, to_layer_axes

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_styletransfer.layers.snapshot import Snapshot
    from napari_styletransfer.layers.stack import Stack

METADATA_KEY = "napari-styletransfer"

NOTICE = "stylised image, not measurement data"
"""What every result says of itself, so that nobody measures it by mistake."""


def result_name(content: str | None, styles: Sequence[str] = ()) -> str:
    """Name a result after its content and styles; a missing one is a reconstruction of the other."""
    style = " + ".join(styles)
    if content is None:
        return f"{style} (style alone)"
    return f"{content} × {style}" if style else f"{content} (content alone)"


def run_metadata(
    *,
    recipe: Mapping[str, Any] | None = None,
    content: str | None = None,
    styles: Sequence[str] = (),
    history: Sequence[float] = (),
    losses: Mapping[str, float] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return layer metadata that tells how a result was made; further plain values may be added by name."""
    made = {
        "notice": NOTICE,
        "version": napari_styletransfer.__version__,
        "recipe": None if recipe is None else dict(recipe),
        "content": content,
        "styles": list(styles),
        "history": [float(loss) for loss in history],
        "losses": {name: float(loss) for name, loss in (losses or {}).items()},
    }
    return {METADATA_KEY: {**made, **more}}


def read_recipe(layer: Layer) -> dict[str, Any] | None:
    """Return the recipe that a result layer carries, for `StyleConfig.from_recipe`; None for any other layer."""
    made = layer.metadata.get(METADATA_KEY)
    recipe = made.get("recipe") if isinstance(made, Mapping) else None
    return dict(recipe) if isinstance(recipe, Mapping) else None


def is_sheet(layer: Layer) -> bool:
    """Tell whether a layer is a sheet of variations, which is neither a picture nor a result."""
    made = layer.metadata.get(METADATA_KEY)
    return isinstance(made, Mapping) and "tiles" in made


def image_kwargs(
    result: npt.NDArray[Any],
    grid: Grid,
    *,
    alpha: npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for an RGB result.

    Parameters
    ----------
    result
        (h, w, 3), float in [0, 1] or uint8, oriented as displayed; any size, the plane's extent is kept. A
        float32 result is not copied: the layer shows what is written to it after a refresh.
    grid
        Of the content. A plane of a stack gives a layer with the stack's axes, of length 1 where it was cut, that
        shows where the plane was.
    alpha
        (H, W) in [0, 1], such as `Picture.alpha` of an RGBA content; makes the layer RGBA.

    Raises
    ------
    ImageError
        If `result` is not an RGB image.
    """
    _check(result)
    if result.dtype.kind == "f":
        result = result.astype(np.float32, copy=False)
    image = result if alpha is None else _with_alpha(result, alpha)
    grid = grid.resized((image.shape[0], image.shape[1]))
    return {
        "data": to_layer_axes(image, grid),
        **_rgb_display(image.dtype),
        **grid.placed.arguments(),
    }


def channel_kwargs(
    values: npt.NDArray[Any],
    source: Snapshot,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for a result that stays one channel and looks like its content.

    Parameters
    ----------
    values
        (h, w), from a `Rendering` of a channel; not copied. Shown with the content's contrast limits, gamma,
        colormap, blending and opacity.
    source
        The content: a single-channel layer.

    Raises
    ------
    ImageError
        If the content is a colour layer.
    """
    if source.kind != "grey":
        raise ImageError(
            f"Layer '{source.name}' is a colour layer, so its result cannot be kept as a channel. "
            "Choose an RGB result, or a single-channel layer as content."
        )
    grid = source.grid.resized((values.shape[0], values.shape[1]))
    return {
        "data": to_layer_axes(values, grid),
        **_channel_display(source),
        **grid.placed.arguments(),
    }


def stack_kwargs(
    output: npt.NDArray[Any],
    stack: Stack,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for the output of a whole stack.

    Parameters
    ----------
    output
        From `Stack.empty`; not copied, so that the layer fills in as planes are put. With a colour axis it is
        shown as RGB, without as a channel like the content.
    stack
        The planes it holds.
    """
    base = stack.base
    rows, columns = base.grid.displayed
    rgb = output.ndim > base.grid.geometry.ndim
    return {
        "data": output,
        **(_rgb_display(output.dtype) if rgb else _channel_display(stack.bottom)),
        **stack.geometry((output.shape[rows], output.shape[columns])).arguments(),
    }


def _rgb_display(dtype: np.dtype[Any]) -> dict[str, Any]:
    return {"rgb": True, "contrast_limits": (0, 255) if dtype == np.uint8 else (0, 1)}


def _channel_display(source: Snapshot) -> dict[str, Any]:
    return {
        "rgb": False,
        "contrast_limits": _limits(source),
        "gamma": source.gamma,
        "colormap": source.colormap,
        "blending": source.blending,
        "opacity": source.opacity,
    }


def _limits(source: Snapshot) -> tuple[float, float]:
    """Return contrast limits that napari accepts."""
    low, high = source.contrast_limits or (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1)


def _check(result: npt.NDArray[Any]) -> None:
    if result.ndim != 3 or result.shape[2] != 3 or (result.dtype.kind != "f" and result.dtype != np.uint8):
        raise ImageError(
            f"Expected a result of shape (h, w, 3) and dtype float or uint8, but got {result.shape} and "
            f"{result.dtype}. Pass the image of a finished run."
        )


def _with_alpha(result: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    full = 255 if result.dtype == np.uint8 else 1
    channel = alpha.astype(np.float64) * full
    if full == 255:
        channel = np.rint(channel)
    encoding = Encoding(result.dtype, 0.0, float(full), 4, np.clip(channel, 0, full).astype(result.dtype))
    return encode(result if full == 1 else result / np.float32(255), encoding)
