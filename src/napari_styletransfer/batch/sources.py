"""Which files a batch works on, and what each result is called. Called by `cli.batch`."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_styletransfer.errors import ConfigError

READABLE = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Suffixes of the files that are taken out of a folder; a file named by itself may have any."""

_KEPT = (".png", ".tif", ".tiff")
"""Suffixes that a result takes over from its content: formats that lose nothing."""


@dataclass(frozen=True)
class Item:
    """A content file and the file of its result."""

    content: Path
    output: Path


def collect(
    sources: Sequence[str], folder: Path, *, suffix: str | None = None, leave_out: Iterable[Path] = ()
) -> list[Item]:
    """Find the contents and name their results.

    Parameters
    ----------
    sources
        Files, folders (with all folders in them) and patterns such as ``plates/*/*.tif`` or ``scans/**/*.png``.
    folder
        Where the results go, in the folders that a source has below itself. Inside a source, it is no part of that.
    suffix
        Of all results; of each its content's if None, and ``.png`` for a format that loses something.
    leave_out
        Files that are contents only where they are named by themselves: the styles.

    Returns
    -------
    list of Item
        In the order of the sources, within each by name; a file that two sources give is there once.

    Raises
    ------
    ConfigError
        If a source has no picture, two results would have one name, or one would replace a content.
    """
    apart = {path.resolve() for path in leave_out}
    items: dict[Path, Item] = {}
    for source in sources:
        found = [
            (path, below)
            for path, below in _files(source, folder.resolve())
            if path.resolve() not in apart or path == Path(source)
        ]
        if not found:
            raise ConfigError(
                f"There is no picture to stylise in {source}. Name files, folders or patterns with files that end in "
                f"{', '.join(READABLE)}."
            )
        for path, below in found:
            kept = path.suffix if path.suffix.lower() in _KEPT else ".png"
            items.setdefault(path.resolve(), Item(path, folder / below.with_suffix(suffix or kept)))
    found_items = list(items.values())
    _check_names(found_items)
    return found_items


def _files(source: str, results: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a source, each with its path below the source."""
    path = Path(source).expanduser()
    if path.is_dir():
        root, files = path, sorted(path.rglob("*"))
    elif not path.exists() and glob.has_magic(source):
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        files = sorted(map(Path, glob.glob(str(path), recursive=True)))
    elif path.is_file():
        yield path, Path(path.name)
        return
    else:
        raise ConfigError(f"There is no file or folder {source}. Check its name.")
    within = results != root.resolve()
    for file in files:
        below = file.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts)
        if hidden or file.suffix.lower() not in READABLE or not file.is_file():
            continue
        if not (within and file.resolve().is_relative_to(results) and results.is_relative_to(root.resolve())):
            yield file, below


def _check_names(items: Sequence[Item]) -> None:
    """Refuse results that would replace one another, also where names differ in capitals alone, or a content."""
    names: dict[str, Item] = {}
    for item in items:
        other = names.setdefault(str(item.output).casefold(), item)
        if other is not item:
            raise ConfigError(
                f"{other.content} and {item.content} would both become {item.output}. Rename one, or stylise them into "
                "folders of their own."
            )
    contents = {item.content.resolve() for item in items}
    for item in items:
        if item.output.resolve() in contents:
            raise ConfigError(f"The result {item.output} would replace a content. Choose another folder.")
