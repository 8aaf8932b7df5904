"""A result as the arguments of a new image layer that lies on its content, pixel by pixel.

Called by the preview for the evolving layer and at the end of a run; everything returned goes to
`viewer.add_image(**kwargs)`. The recipe of the run travels in the layer's metadata, from which
`read_recipe` has it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

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


class Source(Protocol):
    """What a result can lie on: a `Snapshot` or a `Composite`."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def grid(self) -> Grid:
        """Where the pixels lie."""
        ...


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
    source: Source,
    *,
    name: str | None = None,
    alpha: npt.NDArray[Any] | None = None,
    styles: Sequence[str] = (),
    **made: Any,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for an RGB result.

    Parameters
    ----------
    result
        (h, w, 3), float in [0, 1] or uint8, oriented as displayed; any size, the plane's extent is kept. A
        float32 result is not copied: the layer shows what is written to it after a refresh.
    source
        The content. A plane of a stack gives a layer with the stack's axes, of length 1 where it was cut, that
        shows where the plane was.
    name
        Of the layer; None: from content and styles.
    alpha
        (H, W) in [0, 1], such as `Picture.alpha` of an RGBA content; makes the layer RGBA.
    styles
        Names of the styles, for the name and the metadata.
    **made
        As `run_metadata` takes them: `recipe`, `history`, `losses` and more.

    Raises
    ------
    ImageError
        If `result` is not an RGB image.
    """
    _check(result)
    if result.dtype.kind == "f":
        result = result.astype(np.float32, copy=False)
    image = result if alpha is None else _with_alpha(result, alpha)
    grid = source.grid.resized((image.shape[0], image.shape[1]))
    return {
        "data": to_layer_axes(image, grid),
        **_rgb_display(image.dtype),
        **_name_and_metadata(source, name, styles, made),
        **grid.placed.arguments(),
    }


def channel_kwargs(
    values: npt.NDArray[Any],
    source: Snapshot,
    *,
    name: str | None = None,
    styles: Sequence[str] = (),
    **made: Any,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for a result that stays one channel and looks like its content.

    Parameters
    ----------
    values
        (h, w), from a `Rendering` of a channel; not copied. Shown with the content's contrast limits, gamma,
        colormap, blending and opacity.
    source
        The content: a single-channel layer.
    name, styles, **made
        As in `image_kwargs`.

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
        **_name_and_metadata(source, name, styles, made),
        **grid.placed.arguments(),
    }


def stack_kwargs(
    output: npt.NDArray[Any],
    stack: Stack,
    *,
    name: str | None = None,
    styles: Sequence[str] = (),
    **made: Any,
) -> dict[str, Any]:
    """Return the arguments of `add_image` for the output of a whole stack.

    Parameters
    ----------
    output
        From `Stack.empty`; not copied, so that the layer fills in as planes are put. With a colour axis it is
        shown as RGB, without as a channel like the content.
    stack
        The planes it holds.
    name, styles, **made
        As in `image_kwargs`.
    """
    base = stack.base
    rows, columns = base.grid.displayed
    rgb = output.ndim > base.grid.geometry.ndim
    return {
        "data": output,
        **(_rgb_display(output.dtype) if rgb else _channel_display(stack.bottom)),
        **_name_and_metadata(base, name, styles, made),
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


def _name_and_metadata(
    source: Source, name: str | None, styles: Sequence[str], made: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": name or result_name(source.name, styles),
        "metadata": run_metadata(content=source.name, styles=styles, **made),
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
