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
from napari_styletransfer.errors import ConfigError, ImageError, StyleTransferError

app = typer.Typer(
    name="napari-styletransfer",
    help="Neural style transfer by optimisation.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

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
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Begin with named settings: {', '.join(PRESETS)}.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read settings from a recipe; they win over the preset.")
    ] = None,
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
        stopped = stylize_files(
            [content, *(styles or [])],
            output,
            settings,
            init=init,
            labels=labels,
            planes=planes,
            save_recipe=save_recipe,
            quiet=quiet,
        )
    if stopped:
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
    typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
    raise typer.Exit(status)
