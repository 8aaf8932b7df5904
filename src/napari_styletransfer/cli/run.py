"""The work of `stylize`: from picture files to a picture file, everything checked before anything long.

Called by `cli.app`, and by the demo for its own pictures. The run itself is `api.stylize`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from napari_styletransfer import api
from napari_styletransfer.cli import stack as stacks
from napari_styletransfer.cli.checks import assign, check_settings, check_stack, level_of
from napari_styletransfer.cli.interrupt import Interrupt, Watch
from napari_styletransfer.cli.progress import reporter
from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError
from napari_styletransfer.events import Finished, Reason
from napari_styletransfer.images.pixels import encoding_of
from napari_styletransfer.io import (
    Stack,
    check_folder,
    check_writable,
    level_shapes,
    pixel_density,
    read_image,
    read_labels,
    read_stack,
    recovered,
    write_image,
)
from napari_styletransfer.networks.download import DownloadError
from napari_styletransfer.progress import duration, structure_told


@dataclass(frozen=True)
class Outcome:
    """A result and the last event of its run, with the error that broke it off if one did."""

    image: npt.NDArray[Any]
    finished: Finished
    stopped: bool = False
    error: StyleTransferError | None = None

    def told(self, path: Path) -> str:
        """Tell in one line what was made and where it is."""
        height, width = self.image.shape[:2]
        end = "broken off after" if self.error else "stopped after" if self.stopped else "after"
        # A run that was stopped before its first step has no loss.
        loss = f"loss {self.finished.losses['total']:.4g}" if self.finished.losses else ""
        how = f"{end} {self.finished.iterations} steps in {duration(self.finished.seconds)}"
        parts = (f"{path}: {width}×{height}", str(self.image.dtype), how, loss, structure_told(self.finished))
        return ", ".join(filter(None, parts))


def stylize_files(
    pictures: Sequence[Path],
    output: Path,
    config: StyleConfig,
    *,
    init: Path | None = None,
    labels: Path | None = None,
    planes: str | None = None,
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
        If the run fails, or the result cannot be written. Of a run that fails under way the best picture so far is.
    """
    content, styles = assign(pictures, config)
    check_settings(config, len(styles), init, labels)
    inputs = [*pictures, *([init] if init else []), *([labels] if labels else [])]
    level = level_of(content, config)
    stack = read_stack(content, level) if content else None
    numbers = stacks.chosen(planes, len(stack)) if stack else []
    if planes is not None and stack is None:
        raise ConfigError("--planes chooses from a TIFF stack, but the content is one picture. Leave it out.")
    if stack is not None and (len(numbers) > 1 or planes is None):
        check_stack(output, init)
    arrays = {path: _read(path) for path in (*styles, *([init] if init else []))}
    if content and stack is None:
        arrays[content] = _read(content, level)
    elif content and stack and len(numbers) == 1:
        arrays[content] = stack.plane(numbers[0])
    shape, dtype = (stack.shape, stack.dtype) if stack else _kind(arrays[content or config.first_style(styles)])
    channels = 4 if content and len(shape) == 3 and shape[2] == 4 else 3
    check_writable(output, dtype, channels, keep=inputs)
    if save_recipe is not None:
        check_folder(save_recipe)
        if os.path.realpath(save_recipe) in map(os.path.realpath, (*inputs, output)):
            raise ConfigError(f"The recipe {save_recipe} would replace a picture. Choose another name.")
    for path, count in recovered(output).items():
        if not quiet:
            typer.echo(f"{path} holds {count} planes of an earlier run that was ended from outside.", err=True)
    wanted = [arrays[path] for path in styles]
    density = _density(content, level, shape)
    save = partial(_save, styles, save_recipe)
    if stack is not None and content not in arrays:
        return _stylize_stack(stack, numbers, wanted, output, config, labels, density, save, quiet)

    outcome = run(
        arrays[content] if content else None,
        wanted,
        # The picture that was read is that level.
        config.changed(level=None),
        init=arrays[init] if init else None,
        labels=_labels(labels, shape, stack, numbers) if labels else None,
        quiet=quiet,
    )
    scaled = None if density is None else stacks.scaled(density, shape, outcome.image.shape)
    used = outcome.finished.config.changed(level=config.level)
    # No signal ends the process while the result is written.
    with Interrupt():
        try:
            write_image(output, outcome.image, scaled)
        except StyleTransferError:
            with suppress(StyleTransferError):
                save(used)
            raise
        save(used)
    if not quiet:
        typer.echo(outcome.told(output))
    if outcome.error is not None:
        raise outcome.error
    return outcome.stopped


def run(
    content: npt.NDArray[Any] | None,
    styles: Sequence[npt.NDArray[Any]],
    config: StyleConfig,
    *,
    init: npt.NDArray[Any] | None = None,
    labels: npt.NDArray[Any] | None = None,
    quiet: bool = False,
) -> Outcome:
    """Run with progress shown, and with Ctrl-C as the way to stop.

    Raises
    ------
    StyleTransferError
        If the run fails before its first step; later, the outcome has the error.
    """
    with Interrupt() as interrupt, reporter(quiet) as progress:
        watch = Watch(interrupt, progress)
        try:
            with _refusing(watch):
                image = api.stylize(
                    content, styles, config, on_event=watch, should_stop=watch.should_stop, init=init, labels=labels
                )
        except StyleTransferError as error:
            reached: Finished | None = error.finished
            if reached is None or not reached.iterations:
                raise
            image = api.encoded(reached, api.result_encoding(content, styles, config), content, labels, len(styles))
            return Outcome(image, reached, error=error)
    assert progress.finished is not None
    stopped = interrupt.asked and progress.finished.reason is Reason.STOPPED
    return Outcome(image, progress.finished, stopped=stopped)


def _stylize_stack(
    stack: Stack,
    numbers: Sequence[int],
    styles: Sequence[npt.NDArray[Any]],
    output: Path,
    config: StyleConfig,
    labels: Path | None,
    density: tuple[float, float] | None,
    save: Callable[[StyleConfig], None],
    quiet: bool,
) -> bool:
    """Run plane by plane, write, and tell whether the user stopped it."""
    planes = stacks.Planes.of(stack, numbers)
    guides = stacks.labels_of(labels, planes)
    with Interrupt() as interrupt, reporter(quiet) as progress:
        watch = Watch(interrupt, progress)
        with _refusing(watch):
            done, failure = stacks.run_stack(
                planes,
                styles,
                config,
                output,
                labels=guides,
                density=density,
                should_stop=watch.should_stop,
                on_event=watch,
            )
    assert progress.finished is not None
    assert progress.plan is not None
    stopped = interrupt.asked and (progress.finished.reason is Reason.STOPPED or done < len(numbers))
    # A plane that follows another starts from it; the recipe is that of the whole stack.
    decided = progress.plan.config.changed(start=config.start, scales=config.scales)
    save(decided)
    if failure is not None:
        raise failure
    if not quiet:
        height, width = progress.finished.image.shape[:2]
        end = "stopped at" if stopped else "all of"
        of = f"plane {done} of {len(numbers)}" if stopped else f"{len(numbers)} planes"
        typer.echo(f"{output}: {width}×{height}, {stack.dtype.name}, {end} {of}")
    return stopped


@contextmanager
def _refusing(watch: Watch) -> Iterator[None]:
    """Turn what fails before anything is begun, such as a device that is not there, into a setting that cannot work."""
    try:
        yield
    except (ConfigError, ImageError):
        raise
    except StyleTransferError as error:
        # A server that does not answer is no fault of the settings.
        if watch.begun or isinstance(error.__cause__, DownloadError):
            raise
        raise ConfigError(str(error)) from error


def _read(path: Path, level: int = 0) -> npt.NDArray[Any]:
    """Read a picture and make sure that its pixels can be used."""
    array = read_image(path, level)
    try:
        encoding_of(array)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return array


def _kind(array: npt.NDArray[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return array.shape, array.dtype


def _labels(path: Path, shape: tuple[int, ...], content: Stack | None, numbers: Sequence[int]) -> npt.NDArray[Any]:
    """Read the labels of one picture, or of one plane that was chosen."""
    stack = read_stack(path) if content else None
    if stack is None or content is None:
        found = read_labels(path)
    else:
        stacks.check_number(path, len(stack), len(content))
        found = stack.plane(numbers[0])
    stacks.check_labels(path, found.shape, shape)
    return found


def _save(styles: Sequence[Path], recipe: Path | None, config: StyleConfig) -> None:
    if recipe is None:
        return
    try:
        config.save(recipe, [path.name for path in styles])
    except OSError as error:
        raise StyleTransferError(f"The recipe {recipe} cannot be written: {error.strerror or error}.") from error


def _density(content: Path | None, level: int, shape: tuple[int, ...]) -> tuple[float, float] | None:
    """Return the content's pixels per centimetre at the level that is read, which has this shape."""
    known = pixel_density(content) if content else None
    if known is None or content is None or not level:
        return known
    # What the file says is of its finest level.
    return stacks.scaled(known, level_shapes(content)[0], shape)
