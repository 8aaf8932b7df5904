"""The only thread: a run's events, carried from a napari worker to the main thread.

The form calls `start_run` with a function that makes the event generator (`engine_run` in real life). Whatever
goes wrong in the thread arrives as a `StyleTransferError`, because napari's worker swallows a `RuntimeError` and
would leave the form waiting.
"""

from napari_styletransfer.worker.failures import to_styletransfer_error
from napari_styletransfer.worker.handle import Prepare, RunHandle, start_run
from napari_styletransfer.worker.loading import load_engine
from napari_styletransfer.worker.mailbox import REPORT_INTERVAL, Report
from napari_styletransfer.worker.runs import PlaneStarted, Readable, Run, RunEvent, ShouldStop, engine_run

__all__ = [
    "REPORT_INTERVAL",
    "PlaneStarted",
    "Prepare",
    "Readable",
    "Report",
    "Run",
    "RunEvent",
    "RunHandle",
    "ShouldStop",
    "engine_run",
    "load_engine",
    "start_run",
    "to_styletransfer_error",
]
