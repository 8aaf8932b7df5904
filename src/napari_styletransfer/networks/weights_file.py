"""Read a file of weights and say clearly what is wrong with it.

`weights.fetch` is the caller: `read` turns any accepted file into a flat dictionary with torchvision's names,
`select` takes from it what a network needs. Files may come from anywhere, so nothing in them is ever run.
"""

from __future__ import annotations

import json
import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from napari_styletransfer.config.recipe import shorten
from napari_styletransfer.errors import WeightsError

Tensors = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model")
_EXPECTED = "Expected a state dict: save it with torch.save(model.state_dict(), file)."
_MAX_NAMES, _MAX_NAME, _MAX_REASON = 3, 60, 160
"""How many tensors a message names before it only counts them, and characters of a name and of a library's words."""


def read(path: Path) -> Tensors:
    """Read all tensors of a file, on the CPU, under torchvision's names.

    Parameters
    ----------
    path
        A safetensors file, or a torch file with a state dict, by itself or under "state_dict" or "model".

    Raises
    ------
    WeightsError
        If there is no such file, or it is cut off, damaged, or not a file of weights.
    """
    try:
        state = path.stat()
        size = state.st_size
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise WeightsError(f"{path} is a pipe or a device, not a file. Save the weights to a file.")
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}. Check the path.") from error
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    if start[8:9] == b"{":
        found = _read_safetensors(path, size, int.from_bytes(start[:8], "little"))
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        found = _read_torch(path, zipped=start.startswith(b"PK"))
    else:
        raise WeightsError(
            f"{path} is not a weights file: it has {size:,} bytes and starts with {start!r}. "
            "Expected a safetensors file or a torch file (.pth, .pt) with a state dict."
        )
    return _torchvision_names(found)


def select(found: Tensors, expected: Mapping[str, Sequence[int]], *, network: str, origin: str) -> Tensors:
    """Take the tensors a network needs, as float32 copies.

    Parameters
    ----------
    found
        What `read` returned.
    expected
        Names and shapes the network needs.
    network, origin
        What messages call the network and the place the tensors come from.

    Raises
    ------
    WeightsError
        If a tensor is missing, has another shape or type, or holds a value that is not finite.
    """
    problems = []
    for key, shape in expected.items():
        if key not in found:
            problems.append(f"'{key}' is missing")
        elif not _is_dense(found[key]):
            problems.append(f"'{key}' is sparse, nested, quantised or without values, expected a dense tensor")
        elif tuple(found[key].shape) != tuple(shape):
            problems.append(f"'{key}' has shape {tuple(found[key].shape)}, expected {tuple(shape)}")
        elif not found[key].is_floating_point():
            problems.append(f"'{key}' holds {found[key].dtype}, expected floating-point numbers")
    if problems:
        raise WeightsError(
            f"The weights in {origin} do not fit the network '{network}': {_join_first(problems, '; ')}. "
            f"The file holds {_join_first([_quoted(key) for key in found], ', ')}. "
            "Choose the network these weights were made for, or other weights."
        )
    return {key: _finite_copy(found[key], key, origin) for key in expected}


def _read_safetensors(path: Path, size: int, header_size: int) -> Tensors:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        announced = _announced_size(path, size, header_size)
        if announced > size:
            raise WeightsError(
                f"The weights file {path} is cut off: {size:,} bytes found, at least {announced:,} expected. "
                "Copy or download it again."
            ) from error
        reason = shorten(error, _MAX_REASON)
        raise WeightsError(f"The safetensors file {path} is damaged ({reason}). Copy or download it again.") from error


def _announced_size(path: Path, size: int, header_size: int) -> int:
    """Return how long the file should be by its own header, or 0 if the header makes no sense."""
    if header_size > 100_000_000:
        return 0
    if 8 + header_size > size:
        return 8 + header_size
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(header_size))
        ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
    # Anything may be written there.
    except Exception:
        return 0
    return 8 + header_size + max(ends, default=0)


def _read_torch(path: Path, zipped: bool) -> Tensors:
    if zipped:
        _check_archive(path)
    # Mapped, a file of 550 MB takes no memory. Torch's older format cannot be mapped, and newer versions of
    # torch go by the name where they are given one.
    mapped = zipped and path.suffix != ".safetensors"
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Of what is old, or strange, in a file that is read or refused anyway.
            warnings.simplefilter("ignore")
            loaded = torch.load(str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if foreign is None:
            raise WeightsError(_unreadable(path, "its pickle makes no sense")) from error
        raise WeightsError(
            f"{path} holds more than weights (a pickled {foreign[1]}), and opening it could run any code. {_EXPECTED}"
        ) from error
    # A damaged pickle can raise anything.
    except Exception as error:
        reason = str(error).partition(". ")[0].partition("\n")[0].rstrip(".")
        raise WeightsError(_unreadable(path, reason or "it ends too early")) from error
    return _tensors(loaded, path)


def _check_archive(path: Path) -> None:
    """Refuse what torch would only describe in its own terms."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    # As above: not only `BadZipFile` comes out of a damaged table.
    except Exception as error:
        size = path.stat().st_size
        raise WeightsError(_unreadable(path, f"no table of contents in its {size:,} bytes")) from error
    if any(member.endswith("/constants.pkl") for member in members):
        raise WeightsError(f"{path} holds a TorchScript program, not just weights. {_EXPECTED}")


def _unreadable(path: Path, reason: str) -> str:
    return f"The weights file {path} is cut off, damaged, or not a torch file ({reason}). Copy or download it again."


def _tensors(loaded: Any, path: Path) -> Tensors:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}. {_EXPECTED}")
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        keys = _join_first([_quoted(key) for key in loaded], ", ")
        raise WeightsError(f"{path} holds no tensors, but {keys or 'nothing'}. {_EXPECTED}")
    return tensors


def _torchvision_names(found: Tensors) -> Tensors:
    """Undo the wrapping of `DataParallel` ("module.") and the saving of `model.features` by itself ("0.weight")."""
    found = {key.removeprefix("module."): tensor for key, tensor in found.items()}
    if any(key.startswith("features.") for key in found):
        return found
    return {f"features.{key}" if re.match(r"\d+\.", key) else key: tensor for key, tensor in found.items()}


def _is_dense(tensor: torch.Tensor) -> bool:
    plain = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
    return plain and tensor.device.type == "cpu"


def _finite_copy(tensor: torch.Tensor, key: str, origin: str) -> torch.Tensor:
    # A copy, because the tensors of a file may be a view of the file itself.
    copy = tensor.detach().to(dtype=torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(copy).all():
        count = int((~torch.isfinite(copy)).sum())
        raise WeightsError(
            f"The weights in {origin} are damaged: '{key}' holds {count} values that are not finite numbers. "
            "Use other weights."
        )
    return copy


def _quoted(key: object) -> str:
    return shorten(repr(key), _MAX_NAME)


def _join_first(items: Sequence[str], separator: str) -> str:
    shown = separator.join(items[:_MAX_NAMES])
    return f"{shown} and {len(items) - _MAX_NAMES} more" if len(items) > _MAX_NAMES else shown
