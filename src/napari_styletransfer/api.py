"""The one-call Python interface: arrays in, an array out; also what the command line runs.

For those who want to watch or control a run closely there is `engine.run.iter_stylize`, of which this
is a consumer like any other. Importing this module loads neither torch nor Qt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_styletransfer.config import Mode, StyleConfig
from napari_styletransfer.errors import ConfigError, NothingToDoError, StyleTransferError
from napari_styletransfer.events import Event, Finished, Plan, Reason, Started
from napari_styletransfer.images.pixels import Encoding, as_array, decode, encode, encoding_of

if TYPE_CHECKING:
    from napari_styletransfer.engine.shared import Shared

_PREVIEW_INTERVAL = 0.15
"""Seconds between previews, at least, where someone looks at them."""

_LARGEST_SHOWN = 1024
"""Longest side in pixels of what a notebook shows."""


@dataclass(frozen=True, eq=False)
class StyleResult:
    """What a run has made, and how; shown as a picture in notebooks.

    Attributes
    ----------
    image
        (H, W, 3) in the dtype and value range of the content, or (H, W, 4) if the content has an alpha channel.
    config
        The settings with every `auto` decided and the checksum of the weights: the recipe of this image.
    plan
        What the run was to do: device, number format, scales, blocks, memory.
    reason
        Why it ended.
    iterations, evaluations
        Steps, and evaluations of the loss, over all scales.
    seconds
        How long it took.
    losses
        The weighted terms at the last step, as in `events.Step.losses`; empty if there was none.
    history
        Total loss after each step, over all scales.
    structure
        How far bright and dark are where the content has them, as `events.Finished.structure`.
    """

    image: npt.NDArray[Any]
    config: StyleConfig
    plan: Plan
    reason: Reason
    iterations: int
    evaluations: int
    seconds: float
    losses: dict[str, float]
    history: tuple[float, ...]
    structure: float | None

    @classmethod
    def from_finished(cls, finished: Finished, plan: Plan, image: npt.NDArray[Any]) -> Self:
        """Return the result of a run that ended so, with its image as it is to be handed out."""
        same = {each.name: getattr(finished, each.name) for each in fields(cls) if hasattr(finished, each.name)}
        return cls(**{**same, "image": image, "plan": plan})

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        loss = f", loss {self.history[-1]:.4g}" if self.history else ""
        return (
            f"<StyleResult: {width}×{height} {self.image.dtype}, {self.config.network} on {self.plan.device}, "
            f"{self.iterations} steps in {self.seconds:.1f} s ({self.reason}){loss}>"
        )

    def _repr_png_(self) -> bytes:
        """Show the image in a notebook, a large one smaller."""
        rgb, _ = decode(self.image)
        picture = Image.fromarray(np.rint(rgb * 255).astype(np.uint8))
        picture.thumbnail((_LARGEST_SHOWN, _LARGEST_SHOWN))
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()


def stylize(
    content: npt.ArrayLike | None,
    styles: npt.NDArray[Any] | Sequence[npt.ArrayLike] = (),
    config: StyleConfig | None = None,
    *,
    on_event: Callable[[Event], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    init: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    **settings: Any,
) -> npt.NDArray[Any]:
    """Return the content in the manner of the styles; `run` also returns how it was made.

    Parameters
    ----------
    content
        The picture to stylise: (H, W), (H, W, 3) or (H, W, 4), of any real dtype, as an array or anything that
        `pixels.as_array` makes one of. None in the mode "style-reconstruction", which has no content.
    styles
        One style picture, or a sequence of them, each as `content`. Their sizes and dtypes may differ. None is
        needed in the mode "content-reconstruction".
    config
        The settings; those of `StyleConfig()` if None.
    on_event
        Called with each event of the run (see `events`), in this thread. What it raises ends the run.
    should_stop
        Asked before every block of every evaluation of the loss; once it returns True the run ends and the best image
        so far is returned. None: never.
    init
        The image to start from, as `content`, with ``start="image"``.
    labels
        (H, W) whole numbers in the content's pixels, or a boolean mask: only where they are not 0 is anything
        stylised. `StyleConfig.regions` gives each label a style of its own, or none.
    **settings
        Fields of `StyleConfig` that replace those of `config`, such as ``size=256``.

    Returns
    -------
    array
        (H, W, 3) in the dtype and value range of the content, or (H, W, 4) if the content has an alpha channel.
        The longest side has at most `StyleConfig.size` pixels. Outside the labels, at the content's own size, it
        holds the content's own values, bit for bit. Without content: in the dtype and value range of the first
        style whose weight is not 0, without alpha.

    Raises
    ------
    ConfigError
        If a setting is wrong, or does not go with the pictures.
    ImageError
        If an array is not a picture, or the labels are not whole numbers in the content's pixels.
    StyleTransferError
        If the run fails: weights missing, device out of memory, loss not finite. Where it was under way, the error's
        `result` is the `StyleResult` of the best image so far.

    Examples
    --------
    >>> from napari_styletransfer import samples, stylize
    >>> picture = stylize(photo, painting, network="compact", size=256)  # doctest: +SKIP
    >>> picture.dtype == photo.dtype  # doctest: +SKIP
    True
    """
    return run(
        content, styles, config, on_event=on_event, should_stop=should_stop, init=init, labels=labels, **settings
    ).image


def run(
    content: npt.ArrayLike | None,
    styles: npt.NDArray[Any] | Sequence[npt.ArrayLike] = (),
    config: StyleConfig | None = None,
    *,
    on_event: Callable[[Event], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    init: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    shared: Shared | None = None,
    **settings: Any,
) -> StyleResult:
    """Stylise as `stylize` does, and return the image with how it was made.

    Parameters and errors are those of `stylize`. Calls with the same styles and settings that are given the same
    `engine.shared.Shared` as `shared` load the network and measure the styles once.

    Examples
    --------
    >>> result = run(photo, painting, network="compact", size=256)  # doctest: +SKIP
    >>> result.reason, result.history[-1]  # doctest: +SKIP
    (<Reason.CONVERGED: 'converged'>, 0.0213)
    """
    config = (config or StyleConfig()).changed(**settings)
    if config.level:
        raise ConfigError(
            f"Level {config.level} is asked for, but an array has one resolution. Pass the array of that level, and "
            "level=None."
        )
    pictures = _as_list(styles)
    if content is None and config.mode.uses_content:
        raise ConfigError(f"Mode {config.mode} needs a content picture. Give one, or use {Mode.STYLE}.")
    if not pictures and config.mode.uses_styles:
        raise ConfigError(f"Mode {config.mode} needs a style picture. Give at least one, or use {Mode.CONTENT}.")
    # As floats the run makes the content for itself, and drops it when it needs it no more.
    content = None if content is None else as_array(content)
    encoding = _encoding(content, pictures, config)

    # Only now, because it loads torch.
    from napari_styletransfer.engine.run import iter_stylize

    events = iter_stylize(
        content,
        pictures,
        config,
        should_stop=should_stop,
        init=init,
        labels=labels,
        shared=shared,
        preview_interval=float("inf") if on_event is None else _PREVIEW_INTERVAL,
    )
    plan: Plan | None = None

    def result(finished: Finished) -> StyleResult:
        assert plan is not None
        image = encode_result(finished, encoding, content, labels, len(pictures))
        return StyleResult.from_finished(finished, plan, image)

    try:
        with closing(events):
            for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Started):
                    plan = event.plan
                elif isinstance(event, Finished):
                    return result(event)
                del event  # a preview is as large as the picture
    except StyleTransferError as error:
        if plan is not None and error.finished is not None:
            with suppress(MemoryError):
                error.result = result(error.finished)
        raise
    raise StyleTransferError("The run ended without an image. Please report this with the settings used.")


def _as_list(styles: Any) -> list[Any]:
    """Return the styles as a list; what cannot be gone through, and an array, is one picture."""
    if styles is None:
        return []
    several = isinstance(styles, Iterable) and not isinstance(styles, (str, bytes)) and not hasattr(styles, "ndim")
    return list(styles) if several else [styles]


def _encoding(content: npt.NDArray[Any] | None, styles: Sequence[npt.ArrayLike], config: StyleConfig) -> Encoding:
    """Return how a result is encoded: as the content or, where there is none, as the first style without alpha.

    Styles whose weight is 0 do not count.
    """
    if content is None:
        return replace(encoding_of(config.first_style(styles)), channels=3, alpha=None)
    return encoding_of(content)


def encode_result(
    finished: Finished,
    encoding: Encoding,
    content: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    styles: int,
) -> npt.NDArray[Any]:
    """Return a result in the content's dtype, with the content's own values where regions leave it alone.

    Parameters
    ----------
    finished
        The end of a run.
    encoding
        Of the content, as `pixels.encoding_of` returns it.
    content, labels
        As the run was given them.
    styles
        Number of style pictures.
    """
    array = encode(finished.image, encoding)
    if content is None or labels is None:
        return array
    own = np.asarray(content)
    if array.shape[:2] != own.shape[:2]:
        return array
    from napari_styletransfer.losses.regions import RegionMap

    try:
        guide = RegionMap.from_arrays(labels, own.shape[:2], styles, finished.config)
    except NothingToDoError:
        # One plane of several, which was left as it is.
        outside = np.ones(own.shape[:2], np.bool_)
    else:
        assert guide is not None
        outside = guide.alpha(*own.shape[:2])[0, 0].numpy() == 0
    # What was decoded and encoded may be a rounding away from what it was.
    array[outside] = own[outside][:, None] if own.ndim == 2 else own[outside]
    return array
