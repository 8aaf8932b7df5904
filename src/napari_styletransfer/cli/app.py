"""The commands, their help and their exit statuses; the work is done next door.

Exit status 0: done. 1: the run failed. 2: the input cannot work, and nothing was begun. 130: stopped, by Ctrl-C or
another signal. Every error made on purpose is one line on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO, cast

import typer

from napari_styletransfer import __version__
from napari_styletransfer.cli.options import resolve_settings, with_config_flags
from napari_styletransfer.cli.streams import BestEffortStream
from napari_styletransfer.config import PRESETS
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError, one_line

app = typer.Typer(
    name="napari-styletransfer",
    help="Neural style transfer by optimisation.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

PresetOption = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"Begin with named settings: {', '.join(PRESETS)}.")
]
RecipeOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read settings from a recipe; they win over the preset.")
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def main() -> None:
    """Run the command line; the console script."""
    sys.stdout, sys.stderr = (cast(TextIO, BestEffortStream(stream)) for stream in (sys.stdout, sys.stderr))
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-styletransfer {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Neural style transfer by optimisation: pictures in the manner of other pictures."""


@app.command()
@with_config_flags
def stylize(
    content: Annotated[
        Path,
        typer.Argument(
            metavar="CONTENT",
            help="The picture to stylise: PNG, JPEG or TIFF, or a TIFF stack, plane by plane. "
            "--mode style-reconstruction has none: there the first picture is a style too.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The picture to write: .png (8 or 16 bits), .jpg (8 bits) or .tif (any). It has the content's "
            "dtype. A file of that name is replaced, unless it is one of the pictures read.",
        ),
    ],
    styles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="STYLE",
            help="One or more pictures in whose manner. None with --mode content-reconstruction.",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = None,
    recipe: RecipeOption = None,
    save_recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the settings used as a recipe, with every auto decided.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start from this picture; implies --start image.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labels of the content's pixels, TIFF or PNG: only where they are not 0 is anything stylised. "
            "--regions gives each label its own style.",
        ),
    ] = None,
    planes: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|FIRST:END",
            help="Planes of a TIFF stack, counted from 0: one, such as 4, or some, such as 0:10. All if not given.",
        ),
    ] = None,
    quiet: QuietFlag = False,
    **flags: str,
) -> None:
    """Stylise CONTENT in the manner of STYLE.

    Settings: what is given here wins over the recipe, the recipe over the preset, the preset over the defaults.
    Write 'none' for an empty setting. Ctrl-C stops and writes the best picture so far; a second one gives it up. The
    signals SIGTERM and SIGHUP do the same.
    """
    from napari_styletransfer.cli.run import stylize_files

    with _exit_on_error():
        if init is not None:
            flags.setdefault("start", "image")
        settings = resolve_settings(preset, recipe, flags)
        outcome = stylize_files(
            [content, *(styles or [])],
            output,
            settings,
            init=init,
            labels=labels,
            planes=planes,
            save_recipe=save_recipe,
            quiet=quiet,
        )
    if outcome.stopped:
        raise typer.Exit(130)


@app.command()
@with_config_flags
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="What to stylise: files, folders with all folders in them, or patterns such as 'scans/*/*.tif'.",
            show_default=False,
        ),
    ],
    styles: Annotated[
        list[Path] | None,
        typer.Option("--style", "-s", metavar="FILE", help="A picture in whose manner; may be given several times."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the results go, with the names and folders of the contents; made if missing. A file that has a "
            "result there is passed over.",
        ),
    ] = Path("stylised"),
    preset: PresetOption = None,
    recipe: RecipeOption = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            metavar=".tif|.png|.jpg",
            help="Of the results; if not given that of the content, and .png for one that loses something.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of this machine to work side by side, each on its share of the cores."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A running Dask scheduler, such as tcp://host:8786, to work for this."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make results anew that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell what became of each file as a line of JSON.")] = False,
    quiet: QuietFlag = False,
    **flags: str,
) -> None:
    """Stylise many files in the manner of the same styles.

    A file that fails is told and passed over. The folder of the results has a list of what is done (batch.jsonl): the
    same command started again goes on where the batch was ended, in whatever way.
    """
    from napari_styletransfer.cli.batch import run_batch

    if workers is not None and scheduler is not None:
        _exit("--workers starts a cluster and --scheduler uses one that runs. Leave out one.", 2)
    with _exit_on_error():
        counts = run_batch(
            sources,
            styles or [],
            output,
            resolve_settings(preset, recipe, flags),
            suffix=suffix,
            overwrite=overwrite,
            dry_run=dry_run,
            workers=workers,
            scheduler=scheduler,
            as_json=as_json,
            quiet=quiet,
        )
    if counts["failed"]:
        raise typer.Exit(1)
    if counts["left"] and not dry_run:
        raise typer.Exit(130)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write; made if missing.")],
    size: Annotated[
        int | None,
        typer.Option(
            min=32, help="Longest side in pixels; if not given 512, and 384 for VGG-19 where 512 would take long."
        ),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps; the default settings' if not given.")] = None,
    quiet: QuietFlag = False,
) -> None:
    """Stylise two pairs of sample pictures with VGG-19 and with the compact network; needs no downloads."""
    from napari_styletransfer.cli.demo import write_demo

    with _exit_on_error():
        stopped = write_demo(output, size=size, iterations=iterations, quiet=quiet)
    if stopped:
        raise typer.Exit(130)


@app.command()
def networks() -> None:
    """List the networks, where their weights are, and which need no download."""
    from napari_styletransfer.cli.tables import print_networks

    with _exit_on_error():
        print_networks()


@app.command()
def devices() -> None:
    """List the devices a run can use; 'auto' takes the first."""
    from napari_styletransfer.cli.tables import print_devices

    with _exit_on_error():
        print_devices()


@app.command()
def presets() -> None:
    """List the presets and the settings each of them makes."""
    from napari_styletransfer.cli.tables import print_presets

    print_presets()


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Turn expected errors into one line and an exit status."""
    try:
        yield
    except (ConfigError, ImageError) as error:
        _exit(error, 2)
    except StyleTransferError as error:
        _exit(error, 1)
    except KeyboardInterrupt:
        _exit("Interrupted.", 130)


def _exit(error: object, status: int) -> None:
    typer.echo(f"Error: {one_line(error)}", err=True)
    raise typer.Exit(status)
