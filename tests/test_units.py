"""Sizes in words."""

from __future__ import annotations

import pytest

from napari_styletransfer.units import format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 MiB"),
        (70_000, "0.07 MiB"),
        (548 * 2**20, "548 MiB"),
        (1000 * 2**20, "0.98 GiB"),
        (3 * 2**29, "1.5 GiB"),
        (12.34 * 2**30, "12.3 GiB"),
    ],
)
def test_sizes_have_three_digits(count, text):
    assert format_bytes(count) == text
