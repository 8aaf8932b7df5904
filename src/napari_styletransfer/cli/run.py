"""The work of `stylize`: from picture files to a picture file, everything checked before anything long.

Called by `cli.app`, and by the demo for its own pictures. The run itself is `api.stylize`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy.typing as npt
import typer

from napari_styletransfer import api
from napari_styletransfer.cli.progress import Silent, clock, reporter
from napari_styletransfer.config import Mode, Start, StyleConfig
from napari_styletransfer.engine.events import Event, Fetching, Finished, Reason
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError
from napari_styletransfer.files import check_folder, check_writable, pixel_density, read_image, write_image
from napari_styletransfer.pixels import decode


@dataclass(frozen=True)
class Outcome:
    """A result and the last event of its run."""

    image: npt.NDArray[Any]
    finished: Finished
    stopped: bool

    def told(self, path: Path) -> str:
        """Tell in one line what was made and where it is."""
        height, width = self.image.shape[:2]
        end = "stopped after" if self.stopped else "after"
        # A run that was stopped before its first step has no loss.
        loss = f", loss {self.finished.losses['total']:.4g}" if self.finished.losses else ""
        return (
            f"{path}: {width}×{height}, {self.image.dtype}, {end} {self.finished.iterations} steps "
            f"in {clock(self.finished.seconds)}{loss}"
        )


def stylize_files(
    pictures: Sequence[Path],
    output: Path,
    config: StyleConfig,
    *,
    init: Path | None = None,
    save_recipe: Path | None = None,
    quiet: bool = False,
) -> bool:
    """Read, check, run and write.

    Returns
    -------
    stopped
        Whether the user stopped the run; the best picture so far is written all the same.

    Raises
    ------
    ConfigError, ImageError
        If settings, pictures or output files cannot work; nothing is written then.
    StyleTransferError
        If the run fails, or the result cannot be written.
    """
    content, styles = assign(pictures, config)
    check_settings(config, len(styles), init)
    inputs = [*pictures, *([init] if init else [])]
    arrays = {path: _read(path) for path in inputs}
    first = arrays[content or styles[0]]
    channels = 4 if content and first.ndim == 3 and first.shape[2] == 4 else 3
    check_writable(output, first.dtype, channels, keep=inputs)
    if save_recipe is not None:
        check_folder(save_recipe)
        if save_recipe.resolve() in [path.resolve() for path in (*inputs, output)]:
            raise ConfigError(f"The recipe {save_recipe} would replace a picture. Choose another name.")

    outcome = run(
        arrays[content] if content else None,
        [arrays[path] for path in styles],
        config,
        init=arrays[init] if init else None,
        quiet=quiet,
    )
    # Not the user's input is at fault from here on, so not an error of that kind.
    try:
        write_image(output, outcome.image, _density(content, first, outcome.image))
    except ImageError as error:
        raise StyleTransferError(f"The result is lost: {error}") from error
    if save_recipe is not None:
        try:
            outcome.finished.config.save(save_recipe)
        except OSError as error:
            raise StyleTransferError(
                f"The picture is in {output}, but the recipe {save_recipe} cannot be written: {error.strerror}."
            ) from error
    if not quiet:
        typer.echo(outcome.told(output))
    return outcome.stopped


def run(
    content: npt.NDArray[Any] | None,
    styles: Sequence[npt.NDArray[Any]],
    config: StyleConfig,
    *,
    init: npt.NDArray[Any] | None = None,
    quiet: bool = False,
) -> Outcome:
    """Run with progress shown, and with Ctrl-C as the way to stop."""
    with Interrupt() as interrupt, reporter(quiet) as progress:

        def should_stop() -> bool:
            interrupt.tell(progress)
            return interrupt.asked

        def on_event(event: Event) -> None:
            if interrupt.asked and isinstance(event, Fetching):
                # There is no picture yet that would be worth keeping.
                raise KeyboardInterrupt
            progress(event)

        image = api.stylize(content, styles, config, on_event=on_event, should_stop=should_stop, init=init)
    assert progress.finished is not None
    stopped = interrupt.asked and progress.finished.reason is Reason.STOPPED
    return Outcome(image, progress.finished, stopped)


def assign(pictures: Sequence[Path], config: StyleConfig) -> tuple[Path | None, list[Path]]:
    """Tell content and styles apart, by the mode.

    Raises
    ------
    ConfigError
        If there are too many or too few pictures.
    """
    if config.mode is Mode.STYLE:
        return None, list(pictures)
    if config.mode is Mode.CONTENT and len(pictures) > 1:
        raise ConfigError(
            f"Mode {config.mode} takes one picture, the content, but {len(pictures)} were given. Leave out the styles."
        )
    if config.mode is Mode.TRANSFER and len(pictures) < 2:
        raise ConfigError(
            f"There is a content picture, {pictures[0]}, but no style picture. Give one or more after it."
        )
    return pictures[0], list(pictures[1:])


def check_settings(config: StyleConfig, styles: int, init: Path | None) -> None:
    """Refuse settings that do not go with the pictures.

    Raises
    ------
    ConfigError
        Saying which flag to change.
    """
    if config.style_weights is not None and len(config.style_weights) != styles:
        raise ConfigError(
            f"--style-weights has {len(config.style_weights)} weights for {styles} style "
            f"picture{'s' if styles != 1 else ''}. Give one for each."
        )
    if config.weights is not None and not config.weights.is_file():
        raise ConfigError(f"--weights: there is no file {config.weights}. Check its name and folder.")
    if init is not None and config.start is not Start.IMAGE:
        raise ConfigError(f"--init gives a picture to start from, but --start is {config.start}. Leave out one.")
    if init is None and config.start is Start.IMAGE:
        raise ConfigError("--start image needs a picture to start from. Give one with --init FILE.")


class Interrupt:
    """Ctrl-C as a question: the first asks the run to stop, the second breaks it off."""

    def __init__(self) -> None:
        self.asked = False
        self._told = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def tell(self, progress: Silent) -> None:
        """Show, once, that the question was heard; not done in the handler, where printing is unsafe."""
        if self.asked and not self._told:
            self._told = True
            progress.stopping()

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _read(path: Path) -> npt.NDArray[Any]:
    """Read a picture and make sure that its pixels can be used."""
    array = read_image(path)
    try:
        decode(array)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return array


def _density(content: Path | None, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the result's pixels per centimetre: the content's, changed as its size was."""
    known = pixel_density(content) if content else None
    if known is None:
        return None
    return known[0] * after.shape[1] / before.shape[1], known[1] * after.shape[0] / before.shape[0]
