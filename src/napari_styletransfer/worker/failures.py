"""Any error as one of ours, so that it is told in words that say what to do."""

from __future__ import annotations

from napari_styletransfer.errors import OutOfMemoryError, StyleTransferError, is_out_of_memory


def to_styletransfer_error(error: BaseException) -> StyleTransferError:
    """Turn any error into one of ours that says what to do; the original stays as its cause."""
    if isinstance(error, StyleTransferError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        ours: StyleTransferError = OutOfMemoryError(
            "The run did not fit into memory. Choose a smaller size, another device, or the compact network. "
            f"({text.splitlines()[0]})"
        )
    else:
        ours = StyleTransferError(f"The run broke off with an unexpected error. {text}")
    ours.__cause__ = error
    return ours
