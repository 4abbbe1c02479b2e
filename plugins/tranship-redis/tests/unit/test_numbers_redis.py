"""Numbers that somebody else stored: read within bounds, by one reader, and none of them raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship_redis._celery_entries import _step
from tranship_redis._entry import entry_of
from tranship_redis._inspector import _age

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
    entry = entry_of([b"1-1", [b"step", one, b"deliveries", other, b"omitted", one, b"died", other]])
    assert entry.deliveries >= 0
    assert (_age(100.0, [one, other]) or 0.0) >= 0
