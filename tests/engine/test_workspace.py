"""Pieces of a workspace do not overlap, and are taken back together."""

from __future__ import annotations

import pytest
import torch

from napari_styletransfer.nn import workspace as workspaces
from napari_styletransfer.nn.workspace import Workspace

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "_CHUNK", 1000)


def test_pieces_keep_what_is_written_to_them() -> None:
    workspace = Workspace()
    # Some end within a chunk, some are larger than one.
    pieces = [workspace.empty((n,), torch.float32, CPU).fill_(n) for n in (1, 100, 90, 700, 3)]

    assert [piece.unique().tolist() for piece in pieces] == [[1], [100], [90], [700], [3]]
    assert [piece.numel() for piece in pieces] == [1, 100, 90, 700, 3]


def test_the_same_memory_is_handed_out_again() -> None:
    workspace = Workspace()
    first = [workspace.empty((n,), torch.uint8, CPU).data_ptr() for n in (600, 600, 3000)]
    workspace.reset()

    assert [workspace.empty((n,), torch.uint8, CPU).data_ptr() for n in (600, 600, 3000)] == first


def test_what_is_handed_out_is_counted_until_it_is_taken_back() -> None:
    workspace = Workspace()
    workspace.empty((600,), torch.uint8, CPU)
    workspace.empty((30,), torch.float32, torch.device("meta"))

    assert workspace.bytes == 640 + 128
    workspace.reset()
    assert workspace.bytes == 0


def test_what_is_passing_takes_none_of_the_memory() -> None:
    workspace = Workspace()
    workspace.transient.empty((600,), torch.uint8, CPU)

    assert workspace.bytes == 0
    assert workspace.transient.bytes == 640


def test_memory_that_is_given_back_is_not_handed_out_again() -> None:
    workspace = Workspace()
    held = workspace.empty((600,), torch.uint8, CPU)
    workspace.clear()

    assert workspace.bytes == 0
    assert workspace.empty((600,), torch.uint8, CPU).data_ptr() != held.data_ptr()


def test_room_that_larger_pieces_left_is_used() -> None:
    workspace = Workspace()
    first, large = (workspace.empty((n,), torch.uint8, CPU).data_ptr() for n in (600, 3000))
    workspace.reset()
    places = [workspace.empty((n,), torch.uint8, CPU).data_ptr() for n in (700, 2000, 192, 900)]

    assert places == [first, large, first + 704, large + 2048]


def test_a_map_lies_channels_last() -> None:
    like = torch.zeros(1, 4, 6, 5, dtype=torch.bfloat16)

    found = Workspace().empty_map(like, 3)

    assert found.shape == (1, 4, 3, 5)
    assert found.dtype is torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
