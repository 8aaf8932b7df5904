"""Files, folders and patterns become contents with names for their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_styletransfer.batch.sources import collect
from napari_styletransfer.errors import ConfigError


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Return a folder of empty files: what is in them is not looked at."""
    for name in ("b.tif", "a.PNG", "notes.txt", ".hidden.png", "day 1/c.jpg", "day 1/d.tiff", "day 2/c.png"):
        file = tmp_path / "scans" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "scans"


def results(folder: Path, *sources: str, **options: object) -> dict[str, str]:
    items = collect(sources, folder, **options)  # type: ignore[arg-type]
    return {item.content.name: item.output.relative_to(folder).as_posix() for item in items}


def test_a_folder_gives_its_pictures_with_the_folders_below_it(scans: Path, tmp_path: Path) -> None:
    items = collect([str(scans)], tmp_path / "out")
    assert [item.output.relative_to(tmp_path / "out").as_posix() for item in items] == [
        "a.PNG",
        "b.tif",
        "day 1/c.png",
        "day 1/d.tiff",
        "day 2/c.png",
    ]


def test_a_pattern_gives_the_folders_behind_its_first_wildcard(scans: Path, tmp_path: Path) -> None:
    assert results(tmp_path / "out", f"{scans}/day*/*.[jt]*") == {"c.jpg": "day 1/c.png", "d.tiff": "day 1/d.tiff"}
    assert results(tmp_path / "out", f"{scans}/**/c.png") == {"c.png": "day 2/c.png"}


def test_a_file_is_taken_whatever_its_suffix(scans: Path, tmp_path: Path) -> None:
    assert results(tmp_path / "out", str(scans / "notes.txt")) == {"notes.txt": "notes.png"}


def test_the_suffix_can_be_chosen_for_all(scans: Path, tmp_path: Path) -> None:
    assert set(results(tmp_path / "out", str(scans), suffix=".tif").values()) == {
        *("a.tif", "b.tif"),
        *("day 1/c.tif", "day 1/d.tif", "day 2/c.tif"),
    }


def test_what_two_sources_give_is_there_once(scans: Path, tmp_path: Path) -> None:
    items = collect([str(scans / "b.tif"), str(scans)], tmp_path)
    assert [item.content.name for item in items].count("b.tif") == 1
    assert items[0].content.name == "b.tif"


def test_results_and_styles_in_a_folder_are_no_contents(scans: Path) -> None:
    (scans / "out").mkdir()
    (scans / "out" / "b.tif").touch()
    found = [item.content for item in collect([str(scans)], scans / "out", leave_out=[scans / "a.PNG"])]
    assert scans / "out" / "b.tif" not in found
    assert scans / "a.PNG" not in found
    named = collect([str(scans / "a.PNG")], scans / "out", leave_out=[scans / "a.PNG"])
    assert [item.content for item in named] == [scans / "a.PNG"]


def test_results_of_one_name_are_refused(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"day 1.c\.jpg and .*day 2.c\.png would both become .*c\.png"):
        collect([str(scans / "day 1" / "c.jpg"), str(scans / "day 2" / "c.png")], tmp_path / "out")
    (scans / "B.TIF").touch()
    if sum(file.name.casefold() == "b.tif" for file in scans.iterdir()) == 2:
        with pytest.raises(ConfigError, match="would both become"):
            collect([str(scans)], tmp_path)


def test_results_may_lie_around_their_contents_but_replace_none(scans: Path, tmp_path: Path) -> None:
    assert results(tmp_path, str(scans / "day 2")) == {"c.png": "c.png"}
    with pytest.raises(ConfigError, match=r"The result .*a\.PNG would replace a content"):
        collect([str(scans)], scans)


@pytest.mark.parametrize("source", ["missing", "missing/*.png", "scans/*.txt", "empty"])
def test_a_source_without_pictures_is_refused(
    source: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"There is no (picture to stylise in|file or folder) "):
        collect([source], tmp_path / "out")
