"""What is told to PyPI, to napari and to the hub is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, metadata, requires, version
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.version import Version

from napari_styletransfer.networks.weights import ORIGINAL_VGG19
from napari_styletransfer.samples import STYLES

NAME = "napari-styletransfer"
ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QT = {"qt", "pyqt5", "pyqt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(NAME)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with ZipFile(built) as archive:
        return set(archive.namelist())


def base_requirements() -> list[Requirement]:
    parsed = [Requirement(line) for line in requires(NAME) or []]
    return [item for item in parsed if item.marker is None or item.marker.evaluate({"extra": ""})]


def test_the_hub_finds_the_package() -> None:
    about = metadata(NAME)
    assert "Framework :: napari" in about.get_all("Classifier")
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"


def test_the_version_is_one_that_pip_understands() -> None:
    assert str(Version(version(NAME))) == version(NAME)


def test_an_environment_keeps_its_own_qt_and_napari() -> None:
    names = {item.name.lower() for item in base_requirements()}
    assert not names & (QT | {"napari"})


def test_what_the_package_imports_it_also_requires() -> None:
    """Both ways, but for napari, which only its own process imports, for what is data, and for what is the reference.

    Of torchvision's networks and weights the package has its own tables; the tests and benchmarks hold them against it.
    """
    imported = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    distributions = {"PIL": "pillow", "skimage": "scikit-image"}
    foreign = imported - sys.stdlib_module_names - {"napari", "napari_styletransfer"}
    required = {item.name.lower() for item in base_requirements()}
    assert {distributions.get(name, name) for name in foreign} == required - {ORIGINAL_VGG19.package, "torchvision"}


def test_no_requirement_but_for_a_file_with_a_checksum_has_an_upper_bound() -> None:
    bounded = {item.name for item in base_requirements() for spec in item.specifier if spec.operator != ">="}
    assert bounded == {ORIGINAL_VGG19.package}


def test_what_is_told_to_install_for_vgg19_is_what_the_package_requires() -> None:
    (required,) = (item for item in base_requirements() if item.name == ORIGINAL_VGG19.package)
    assert Requirement(ORIGINAL_VGG19.requirement) == required


def test_the_extra_all_brings_napari_with_qt() -> None:
    extra = [Requirement(line) for line in requires(NAME) or [] if "extra == " in line]
    assert [(item.name, item.extras) for item in extra] == [("napari", {"all"})]


def test_the_manifest_is_found_by_its_entry_point() -> None:
    (entry,) = entry_points(group="napari.manifest", name=NAME)
    assert entry.value == "napari_styletransfer:napari.yaml"


def test_the_manifest_is_valid_and_all_it_names_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    assert manifest.name == NAME
    assert set(manifest.categories) == {"Image Processing", "Visualization"}


def test_npe2_accepts_the_plugin() -> None:
    command = [sys.executable, "-m", "npe2", "validate", NAME, "--imports"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_command_ids_start_with_the_distribution_name(manifest: PluginManifest) -> None:
    commands = manifest.contributions.commands
    assert commands
    assert all(command.id.startswith(f"{NAME}.") for command in commands)


def test_the_manifest_offers_a_widget_a_menu_entry_and_samples(manifest: PluginManifest) -> None:
    offered = manifest.contributions
    known = {command.id for command in offered.commands}
    assert offered.widgets
    assert "napari/layers/filter" in offered.menus
    assert len(offered.sample_data) >= 2
    assert {widget.command for widget in offered.widgets} <= known


def test_the_wheel_holds_manifest_weights_samples_and_licence(wheel: set[str]) -> None:
    assert "napari_styletransfer/napari.yaml" in wheel
    assert "napari_styletransfer/data/compact.safetensors" in wheel
    assert {f"napari_styletransfer/data/samples/{name}.webp" for name in (*STYLES, "cells", "cell-labels")} <= wheel
    assert "napari_styletransfer/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_holds_the_package_alone(wheel: set[str]) -> None:
    assert {name.partition("/")[0].split("-")[0] for name in wheel} == {"napari_styletransfer"}
    assert not [name for name in wheel if "__pycache__" in name]


def test_a_source_tree_without_git_has_a_version_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    fallback = project["tool"]["hatch"]["version"]["fallback-version"]
    assert Version(fallback).is_prerelease


def test_pictures_and_links_of_the_readme_work_on_pypi() -> None:
    targets = re.findall(r"\]\(([^)\s]+)", README) + re.findall(r"(?:src|href)=\"([^\"]+)\"", README)
    assert any("docs/images/" in target for target in targets)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_every_picture_that_a_page_shows_is_there_and_every_picture_is_shown() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"images/([\w.-]+)", page.read_text(encoding="utf-8"))}
    assert shown == {path.name for path in (ROOT / "docs" / "images").iterdir()}


def test_the_workflow_installs_groups_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    bindings = set(re.findall(r"\bqt: \[?(\w+)", workflow)) - {"true"}
    named = set(re.findall(r"--group ([\w-]+)", workflow))
    assert bindings == {"pyqt6", "pyside6"}
    assert bindings | named <= set(project["dependency-groups"])
