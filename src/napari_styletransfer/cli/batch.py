"""The work of `batch`: many contents, the same styles and settings, the results together in one folder.

Called by `cli.app`. `cli.run` stylises each file, in this process or in workers of a Dask cluster. What became of it
is written into the folder's manifest, so that a batch can be started again.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import typer

from napari_styletransfer.batch import schedule
from napari_styletransfer.batch.manifest import Manifest, Outcome, fingerprint, sort_outputs
from napari_styletransfer.batch.sources import Item, collect
from napari_styletransfer.cli.checks import check_settings, make_folder
from napari_styletransfer.cli.interrupt import Interrupt
from napari_styletransfer.cli.progress import plan_summary
from napari_styletransfer.cli.run import stylize_files
from napari_styletransfer.config import Network, Start, StyleConfig
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError, one_line
from napari_styletransfer.io import read_image, read_stack
from napari_styletransfer.progress import duration, rough_duration

if TYPE_CHECKING:
    from napari_styletransfer.engine.shared import Shared


@dataclass(frozen=True)
class Task:
    """A file to stylise, for any process that sees the files.

    Attributes
    ----------
    item
        Content and result.
    name
        Of the result, below the folder of the batch.
    styles, config
        What all files of the batch have in common.
    settings
        Their fingerprint.
    """

    item: Item
    name: str
    styles: tuple[Path, ...]
    config: StyleConfig
    settings: str


def run_batch(
    sources: Sequence[str],
    styles: Sequence[Path],
    folder: Path,
    config: StyleConfig,
    *,
    suffix: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> Counter[str]:
    """Stylise all files of the sources that have no result yet.

    Returns
    -------
    counts
        How many files were "done", "failed", "skipped" (there is a result) or are "left", after a stop.

    Raises
    ------
    ConfigError, ImageError
        If sources, styles, settings, folder or scheduler cannot work; nothing was begun then.
    """
    if not config.mode.uses_content:
        raise ConfigError(f"Mode {config.mode} has no content, so there is nothing to do for each of many files.")
    if not styles and config.mode.uses_styles:
        raise ConfigError("There is no style picture. Give at least one with --style FILE.")
    if config.start is Start.IMAGE:
        raise ConfigError("--start image needs a picture to start from, which many files have none of. Leave it out.")
    check_settings(config, len(styles), None, None)
    items = collect(sources, folder, suffix=suffix, leave_out=styles)
    pictures = [read_image(style) for style in styles]
    log = _Log(as_json=as_json, quiet=quiet)
    settings, manifest = fingerprint(config, styles), Manifest(folder)
    missing, same, other = [item.output for item in items], list[Path](), list[Path]()
    if not overwrite:
        missing, same, other = sort_outputs(missing, folder, manifest.read(), settings)
    wanted = set(missing)
    left = [item for item in items if item.output in wanted]
    counts = Counter(skipped=len(items) - len(left), left=len(left))
    log.line(_told(len(left), same, other))
    if left:
        config, told = _plan(config, left, pictures)
        log.line(told)
    if dry_run:
        for item in left:
            log.line(f"{item.content} → {item.output}")
        return counts
    for each in sorted({folder, *(item.output.parent for item in left)}):
        make_folder(each)
    names = [item.output.relative_to(folder).as_posix() for item in left]
    tasks = [Task(item, name, tuple(styles), config, settings) for item, name in zip(left, names, strict=True)]
    with Interrupt() as interrupt:
        for outcome in _outcomes(tasks, workers, scheduler, lambda: interrupt.requested):
            if outcome.status == "stopped":
                break
            manifest.add(outcome)
            counts[outcome.status] += 1
            counts["left"] -= 1
            log.outcome(outcome, len(tasks) - counts["left"], len(tasks))
    log.counts(counts, folder)
    return counts


def _told(left: int, same: Sequence[Path], other: Sequence[Path]) -> str:
    """Tell how many files there are to do, and which results are there already."""
    parts = [f"{left} file{'' if left == 1 else 's'} to stylise"]
    if same:
        parts.append(f"{len(same)} done before")
    if other:
        parts.append(f"{len(other)} with a result made in another way, such as {other[0]} (--overwrite makes it anew)")
    return ", ".join(parts)


def stylize_task(task: Task) -> Outcome:
    """Stylise one file, in whatever process; a failure is an outcome too."""
    content = str(task.item.content)
    try:
        found = stylize_files(
            [task.item.content, *task.styles],
            task.item.output,
            _on_own_gpu(task.config),
            quiet=True,
            keep_partial=False,
            shared=_shared(task.settings),
        )
    except StyleTransferError as error:
        return Outcome(content, task.name, "failed", task.settings, error=one_line(error))
    if found.stopped:
        return Outcome(content, task.name, "stopped", task.settings)
    height, width = found.end.image.shape[:2]
    figures = {
        "width": width,
        "height": height,
        "planes": found.planes,
        "steps": found.end.iterations,
        "seconds": round(found.end.seconds, 2),
        "loss": found.end.losses.get("total"),
        "structure": found.end.structure,
    }
    return Outcome(content, task.name, "done", task.settings, result=figures)


def _on_own_gpu(config: StyleConfig) -> StyleConfig:
    """Have the workers of this machine take its GPUs in turn, where the settings leave the device open."""
    number = schedule.worker_number()
    if number is None or config.device != "auto":
        return config
    from napari_styletransfer.devices.device import devices

    gpus = [device.name for device in devices() if device.name.startswith("cuda")]
    return config.changed(device=gpus[number % len(gpus)]) if gpus else config


@cache
def _shared(settings: str) -> Shared:
    """Return what the files of a batch share in this process: the network, and what was measured of the styles."""
    from napari_styletransfer.engine.shared import Shared

    return Shared()


def _outcomes(
    tasks: Sequence[Task], workers: int | None, scheduler: str | None, should_stop: Callable[[], bool]
) -> Iterator[Outcome]:
    """Do the tasks, here or on a cluster, and yield what came of each."""
    if workers is None and scheduler is None:
        yield from (stylize_task(task) for task in itertools.takewhile(lambda _: not should_stop(), tasks))
        return
    with schedule.cluster(workers, scheduler) as client:
        for task, found in schedule.run_on_cluster(client, stylize_task, tasks, should_stop):
            if isinstance(found, StyleTransferError):
                found = Outcome(str(task.item.content), task.name, "failed", task.settings, error=one_line(found))
            yield found


def _plan(config: StyleConfig, items: Sequence[Item], styles: Sequence[npt.NDArray[Any]]) -> tuple[StyleConfig, str]:
    """Decide what `auto` is for all files, by the first that can be read, and tell what its run will do.

    Raises
    ------
    ConfigError
        If settings or device cannot work, whatever the picture.
    """
    from napari_styletransfer.engine.run import plan
    from napari_styletransfer.engine.stack import with_network

    for item in items:
        try:
            stack = read_stack(item.content)
            content = read_image(item.content) if stack is None else stack.plane(0)
            count = len(items) * (1 if stack is None else len(stack))
            if config.network is Network.AUTO:
                config, _ = with_network(content, styles, config, images=count)
            return config, f"Each as {item.content}: {plan_summary(plan(content, styles, config))}"
        except ImageError:
            continue  # told when its turn comes
        except ConfigError:
            raise
        except StyleTransferError as error:
            raise ConfigError(str(error)) from error
    return config, "None of the files can be read."


class _Log:
    """What a batch tells: lines to read, or JSON lines for programs.

    Parameters
    ----------
    as_json
        Write each outcome, and last the counts, as a JSON object of a line on standard output.
    quiet
        Write nothing but errors.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._json, self._quiet = as_json, quiet
        self._began = time.monotonic()

    def line(self, text: str) -> None:
        """Tell something in words."""
        if not self._quiet and not self._json:
            typer.echo(text)

    def outcome(self, outcome: Outcome, ended: int, count: int) -> None:
        """Tell what became of the file that ended as the so-manieth of `count`."""
        if self._json:
            typer.echo(json.dumps(asdict(outcome)))
        elif outcome.status == "failed":
            typer.echo(f"{ended}/{count} {outcome.content}: failed. {outcome.error}", err=True)
        else:
            left = (count - ended) * (time.monotonic() - self._began) / ended
            to_come = f", about {rough_duration(left)} left" if ended < count else ""
            self.line(f"{ended}/{count} {outcome.output}: {duration(outcome.result['seconds'])}{to_come}")

    def counts(self, counts: Counter[str], folder: Path) -> None:
        """Tell how many files ended how."""
        if self._json:
            typer.echo(json.dumps({name: counts[name] for name in ("done", "failed", "skipped", "left")}))
            return
        words = {"done": "done", "failed": "failed", "skipped": "there before", "left": "left"}
        told = ", ".join(f"{counts[name]} {word}" for name, word in words.items() if counts[name] or name == "done")
        self.line(f"{told}, in {duration(time.monotonic() - self._began)}: {folder}")
