"""The work of `stylize`: from picture files to a picture file, everything checked before anything long.

Called by `cli.app`, and by the demo for its own pictures. The run itself is `api.run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import typer

from napari_styletransfer import api
from napari_styletransfer.api import StyleResult
from napari_styletransfer.cli import stack as stacks
from napari_styletransfer.cli.checks import check_settings, check_stack, resolve_level, split_pictures
from napari_styletransfer.cli.interrupt import Interrupt
from napari_styletransfer.cli.progress import Monitor, create_monitor
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
    read_stack,
    recover_stacks,
    write_image,
)
from napari_styletransfer.networks.download import DownloadError
from napari_styletransfer.progress import describe_structure, duration

if TYPE_CHECKING:
    from napari_styletransfer.engine.shared import Shared


@dataclass(frozen=True)
class FileOutcome:
    """The end of a run, or of that of a stack's last plane, whether the user stopped it, and the planes finished."""

    end: StyleResult | Finished
    stopped: bool
    planes: int = 1


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
    keep_partial: bool = True,
    shared: Shared | None = None,
) -> FileOutcome:
    """Read, check, run and write.

    Parameters
    ----------
    pictures
        The content, where the mode has one, and the styles.
    output
        The file to write.
    keep_partial
        Whether a run that is stopped, or fails under way, leaves the best picture so far, or of a stack the planes that
        are finished.
    shared
        As `api.run` takes it.

    Raises
    ------
    ConfigError, ImageError
        If settings, pictures or output files cannot work; nothing is written then.
    StyleTransferError
        If the run fails, or the result cannot be written.
    """
    content, styles = split_pictures(pictures, config)
    check_settings(config, len(styles), init, labels)
    level = resolve_level(content, config)
    stack = read_stack(content, level=level) if content else None
    indices = stacks.parse_planes(planes, len(stack)) if stack else []
    if planes is not None and stack is None:
        raise ConfigError("--planes chooses from a TIFF stack, but the content is one picture. Leave it out.")
    if len(indices) > 1:
        check_stack(output, init)
    arrays = [_read(path) for path in styles]
    init_array = _read(init) if init else None
    picture = None
    if content and not stack:
        picture = _read(content, level)
    elif stack and len(indices) == 1:
        picture = stack.plane(indices[0])
    like = stack or (config.first_style(arrays) if picture is None else picture)
    inputs = [path for path in (*pictures, init, labels) if path]
    check_writable(output, like.dtype, channels=4 if content and like.shape[2:] == (4,) else 3, keep=inputs)
    if save_recipe is not None:
        check_folder(save_recipe)
        if os.path.realpath(save_recipe) in map(os.path.realpath, (*inputs, output)):
            raise ConfigError(f"The recipe {save_recipe} would replace a picture. Choose another name.")
    for path, count in recover_stacks(output).items():
        if not quiet:
            typer.echo(f"{path} holds {count} planes of an earlier run that was ended from outside.", err=True)
    density = _density(content, level, like.shape)
    save = partial(_save, save_recipe, [path.name for path in styles])
    if stack and picture is None:
        return _stylize_stack(
            *(stack, indices, arrays, output, config, labels, density, save, quiet),
            keep_partial=keep_partial,
            shared=shared,
        )

    result, failure = run(
        picture,
        arrays,
        # The picture that was read is that level.
        config.changed(level=None),
        init=init_array,
        labels=stacks.label_readers(labels, like.shape, stack, indices or (0,))[0]() if labels else None,
        quiet=quiet,
        shared=shared,
    )
    outcome = FileOutcome(result, result.reason is Reason.STOPPED)
    if not keep_partial and failure is not None:
        raise failure
    if not keep_partial and outcome.stopped:
        return outcome
    used = result.config.changed(level=config.level)
    # No signal ends the process while the result is written.
    with Interrupt():
        try:
            scaled = None if density is None else stacks.scale_density(density, like.shape, result.image.shape)
            write_image(output, result.image, density=scaled)
        except StyleTransferError:
            with suppress(StyleTransferError):
                save(used)
            raise
        save(used)
    if not quiet:
        typer.echo(describe(result, output))
    if failure is not None:
        raise failure
    return outcome


def run(
    content: npt.NDArray[Any] | None,
    styles: Sequence[npt.NDArray[Any]],
    config: StyleConfig,
    *,
    init: npt.NDArray[Any] | None = None,
    labels: npt.NDArray[Any] | None = None,
    quiet: bool = False,
    shared: Shared | None = None,
) -> tuple[StyleResult, StyleTransferError | None]:
    """Run with progress shown, and with Ctrl-C as the way to stop; return the result and what broke it off.

    Raises
    ------
    StyleTransferError
        If the run fails before its first step.
    """
    try:
        with _monitored(quiet) as monitor:
            result = api.run(
                content,
                styles,
                config,
                on_event=monitor,
                should_stop=monitor.should_stop,
                init=init,
                labels=labels,
                shared=shared,
            )
            return result, None
    except StyleTransferError as error:
        if error.result is None or not error.result.iterations:
            raise
        return error.result, error


def describe(result: StyleResult, path: Path) -> str:
    """Tell in one line what was made and where it is."""
    height, width = result.image.shape[:2]
    end = {Reason.FAILED: "broken off after", Reason.STOPPED: "stopped after"}.get(result.reason, "after")
    # A run that was stopped before its first step has no loss.
    loss = f"loss {result.losses['total']:.4g}" if result.losses else ""
    how = f"{end} {result.iterations} steps in {duration(result.seconds)}"
    parts = (f"{path}: {width}×{height}", str(result.image.dtype), how, loss, describe_structure(result.structure))
    return ", ".join(filter(None, parts))


def _stylize_stack(
    stack: Stack,
    indices: Sequence[int],
    styles: Sequence[npt.NDArray[Any]],
    output: Path,
    config: StyleConfig,
    labels: Path | None,
    density: tuple[float, float] | None,
    save: Callable[[StyleConfig], None],
    quiet: bool,
    *,
    keep_partial: bool,
    shared: Shared | None,
) -> FileOutcome:
    """Run plane by plane, and write."""
    planes = stacks.PlaneSelection.from_stack(stack, indices)
    readers = stacks.label_readers(labels, stack.shape, stack, indices) if labels else None
    with _monitored(quiet) as monitor:
        done, failure = stacks.run_stack(
            planes, styles, config, output, readers, density, monitor, keep_partial, shared
        )
    assert monitor.finished is not None
    assert monitor.plan is not None
    stopped = monitor.stop_requested and (monitor.finished.reason is Reason.STOPPED or done < len(indices))
    # A plane that follows another starts from it; the recipe is that of the whole stack.
    save(monitor.plan.config.changed(start=config.start, scales=config.scales))
    if failure is not None:
        raise failure
    if not quiet:
        height, width = monitor.finished.image.shape[:2]
        end = f"stopped at plane {done} of {len(indices)}" if stopped else f"all of {len(indices)} planes"
        typer.echo(f"{output}: {width}×{height}, {stack.dtype.name}, {end}")
    return FileOutcome(monitor.finished, stopped, planes=done)


@contextmanager
def _monitored(quiet: bool) -> Iterator[Monitor]:
    """Show a run; what fails before it begins, such as a device that is not there, is a setting that cannot work."""
    with create_monitor(quiet) as monitor:
        try:
            yield monitor
        except (ConfigError, ImageError):
            raise
        except StyleTransferError as error:
            # A server that does not answer is no fault of the settings.
            if monitor.begun or isinstance(error.__cause__, DownloadError):
                raise
            raise ConfigError(str(error)) from error


def _read(path: Path, level: int = 0) -> npt.NDArray[Any]:
    """Read a picture and make sure that its pixels can be used."""
    array = read_image(path, level=level)
    try:
        encoding_of(array)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return array


def _save(recipe: Path | None, styles: Sequence[str], config: StyleConfig) -> None:
    if recipe is None:
        return
    try:
        config.save(recipe, styles)
    except OSError as error:
        raise StyleTransferError(f"The recipe {recipe} cannot be written: {error.strerror or error}.") from error


def _density(content: Path | None, level: int, shape: tuple[int, ...]) -> tuple[float, float] | None:
    """Return the content's pixels per centimetre at the level that is read, which has this shape."""
    known = pixel_density(content) if content else None
    if known is None or content is None or not level:
        return known
    # What the file says is of its finest level.
    return stacks.scale_density(known, level_shapes(content)[0], shape)
