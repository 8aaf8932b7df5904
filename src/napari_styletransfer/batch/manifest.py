"""What became of each file of a batch: JSON lines beside the results, one for every file that came to an end.

A line is written whole, once the result is in its place; a line that was cut off by the end of the process is passed
over. So a batch that is started again goes on where it was. Called by `cli.batch`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_styletransfer.config import StyleConfig
from napari_styletransfer.errors import StyleTransferError

NAME = "batch.jsonl"
"""Of the manifest, in the folder of the results."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes
    ----------
    content, output
        The files; the result below the folder of the batch.
    status
        Whether the result is there; "stopped" is never written down.
    settings
        Fingerprint of settings and styles (`fingerprint`).
    error
        What went wrong, in one line.
    result
        Of a run that was done: its width, height, steps, seconds, loss, and how far structure was kept.
    """

    content: str
    output: str
    status: Literal["done", "failed", "stopped"]
    settings: str
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)


class Manifest:
    """The manifest of a folder of results."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> dict[str, Outcome]:
        """Return the last outcome of each result that is noted, by its path below the folder."""
        try:
            lines = self._path.read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise StyleTransferError(f"{self._path} cannot be read: {error.strerror or error}.") from error
        found: dict[str, Outcome] = {}
        for line in lines:
            try:
                outcome = Outcome(**json.loads(line))
            except (ValueError, TypeError):  # cut off, or somebody else's
                continue
            found[outcome.output] = outcome
        return found

    def add(self, outcome: Outcome) -> None:
        """Write an outcome down, so that it stays whatever happens to this process."""
        line = json.dumps(asdict(outcome), ensure_ascii=False) + "\n"
        try:
            with self._path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    # An earlier process was ended in the middle of a line.
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StyleTransferError(f"{self._path} cannot be written: {error.strerror or error}.") from error


def fingerprint(config: StyleConfig, styles: Sequence[Path]) -> str:
    """Return a checksum of settings and style pictures: results with the same one are made alike."""
    digest = hashlib.sha256(json.dumps(config.recipe(), sort_keys=True, default=str).encode())
    for style in styles:
        with style.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def sort_outputs(
    outputs: Iterable[Path], folder: Path, known: dict[str, Outcome], settings: str
) -> tuple[list[Path], list[Path], list[Path]]:
    """Sort results into those to make, those that are there, and those that are there but were made in another way.

    A file that is there is whole, since it takes its place only then.

    Parameters
    ----------
    outputs
        Files of the results, in `folder`.
    known
        What `Manifest.read` says.
    settings
        Fingerprint of the batch.
    """
    missing, same, other = [], [], []
    for output in outputs:
        outcome = known.get(output.relative_to(folder).as_posix())
        if not output.is_file():
            missing.append(output)
        elif outcome is not None and outcome.settings == settings:
            same.append(output)
        else:
            other.append(output)
    return missing, same, other
