"""The command line: `napari-styletransfer stylize CONTENT STYLE -o OUT` and its companions.

`app` holds the commands, `options` makes their flags from the settings, `run` does the work of `stylize`,
`progress` shows it, `tables` prints what there is. Starting it loads neither torch, napari nor Qt; torch comes
only with the commands that compute.
"""

from napari_styletransfer.cli.app import app, main

__all__ = ["app", "main"]
