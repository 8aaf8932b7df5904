"""The only thread: a run's events, carried from a napari worker to the main thread.

A `RunHandle` is given a function that makes the event generator (`engine_run` in real life). Whatever goes wrong in
the thread arrives as a `StyleTransferError`, because napari's worker swallows a `RuntimeError` and would leave the
form waiting.
"""

from napari_styletransfer.worker.failures import to_styletransfer_error
from napari_styletransfer.worker.handle import RunHandle
from napari_styletransfer.worker.loading import load_engine
from napari_styletransfer.worker.runs import Readable, Run, ShouldStop, engine_run

__all__ = ["Readable", "Run", "RunHandle", "ShouldStop", "engine_run", "load_engine", "to_styletransfer_error"]
