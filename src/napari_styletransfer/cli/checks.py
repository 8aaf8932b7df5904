"""What is refused before any work: settings that do not go with the pictures, and folders that cannot be.

Called by `cli.run`, `cli.batch` and `cli.demo`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from napari_styletransfer.cli import stack as stacks
from napari_styletransfer.config import Start, StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError
from napari_styletransfer.io import level_shapes


def split_pictures(pictures: Sequence[Path], config: StyleConfig) -> tuple[Path | None, list[Path]]:
    """Tell content and styles apart, by the mode.

    Raises
    ------
    ConfigError
        If there are too many or too few pictures.
    """
    if not config.mode.uses_content:
        return None, list(pictures)
    if not config.mode.uses_styles and len(pictures) > 1:
        raise ConfigError(
            f"Mode {config.mode} takes one picture, the content, but {len(pictures)} were given. Leave out the styles."
        )
    if config.mode.uses_styles and len(pictures) < 2:
        raise ConfigError(
            f"There is a content picture, {pictures[0]}, but no style picture. Give one or more after it."
        )
    return pictures[0], list(pictures[1:])


def check_settings(config: StyleConfig, styles: int, init: Path | None, labels: Path | None) -> None:
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
    if config.weights is not None and not os.path.isfile(config.weights):
        raise ConfigError(f"--weights: there is no file {config.weights}. Check its name and folder.")
    if init is not None and config.start is not Start.IMAGE:
        raise ConfigError(f"--init gives a picture to start from, but --start is {config.start}. Leave out one.")
    if init is None and config.start is Start.IMAGE:
        raise ConfigError("--start image needs a picture to start from. Give one with --init FILE.")
    if config.regions is not None and labels is None:
        raise ConfigError("--regions gives styles to labels. Say where those are with --labels FILE.")
    if labels is not None and not config.mode.uses_content:
        raise ConfigError(f"--labels are regions of a content picture, which mode {config.mode} has none of.")


def resolve_level(content: Path | None, config: StyleConfig) -> int:
    """Return the resolution at which the content is read.

    Raises
    ------
    ConfigError
        If it has no such resolution.
    """
    if not config.level:
        return 0
    if content is None:
        raise ConfigError(f"--level is of a content picture, which mode {config.mode} has none of. Leave it out.")
    count = max(len(level_shapes(content)), 1)
    if config.level >= count:
        levels = f"{count} resolutions, levels 0 to {count - 1}" if count > 1 else "one resolution"
        raise ConfigError(f"--level {config.level}: {content} has {levels}. Choose one it has, or leave it out.")
    return config.level


def check_stack(output: Path, init: Path | None) -> None:
    """Refuse what does not go with a content of several planes.

    Raises
    ------
    ConfigError, ImageError
        Saying what to change.
    """
    if output.suffix.lower() not in stacks.SUFFIXES:
        raise ImageError(
            f"The content is a stack, which {output.name} cannot hold. Write {output.with_suffix('.tif').name}, or "
            "choose one plane with --planes."
        )
    if init is not None:
        raise ConfigError("--init gives one picture to start from, but the content is a stack. Leave it out.")


def make_folder(folder: Path) -> None:
    """Make a folder for results, with those above it, unless it is there.

    Raises
    ------
    ConfigError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
