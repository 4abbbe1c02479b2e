"""Numbers that somebody else stored: read within bounds, by one reader, and none of them raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship_redis._browsing import _age
from tranship_redis._celery_entries import _step

NUMBERS = st.binary(max_size=30) | st.sampled_from([b"inf", b"nan", b"1e999", b"9" * 5000, b"-1", b"7", b"1.5"])


@pytest.mark.parametrize(
    ("priority", "step"),
    [(0, 0), (4, 3), (9, 9), (99, 9), (-5, 0), ("6", 6), (None, 0), (float("inf"), 0), (float("nan"), 0), ([], 0)],
)
def test_a_priority_of_celerys_has_a_list(priority: Any, step: int) -> None:
    """An infinity, which JSON can carry, ended the sweep of everything that Celery had left."""
    assert _step({"properties": {"priority": priority}}) == step


@given(NUMBERS, NUMBERS)
def test_nothing_that_is_stored_raises(one: bytes, other: bytes) -> None:
    assert (_age(100.0, [one, other]) or 0.0) >= 0
