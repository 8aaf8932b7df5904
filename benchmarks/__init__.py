"""What the project's claims about speed and memory rest on; `python -m benchmarks` from the root of the checkout."""

# Before torch, so that its threads wait here as they do in a run.
import napari_styletransfer.engine  # noqa: F401
