"""A short round of every target; `make fuzz` has the long one."""

from __future__ import annotations

import pytest

from .outcomes import failures
from .targets import TARGETS

CASES = {"api": 150, "config": 300, "files": 200, "weights": 150, "metadata": 100}


@pytest.mark.parametrize("name", TARGETS)
def test_odd_input_gives_a_result_or_one_of_our_errors(name):
    found = [str(failure) for failure in failures(TARGETS[name], range(CASES[name]))]
    assert not found, "\n".join([f"python -m tests.fuzz {name} --cases 1 --first SEED makes one again:", *found])
