"""Ids and receipts that are made by the thousand."""

from __future__ import annotations

import dataclasses
import time
from uuid import UUID

import pytest

from tranship.envelope import Receipt, new_ids, receipts


@pytest.mark.parametrize("count", [0, 1, 2, 4095, 4096, 4097, 20_000])
def test_ids_of_a_batch_are_in_order_and_unique(count: int) -> None:
    """Batches of every length cross the end of their millisecond's 4096 ids, wherever they begin."""
    ids = new_ids(count)
    assert len(set(ids)) == count
    assert ids == sorted(ids)
    assert all(UUID(one).version == 7 and str(UUID(one)) == one for one in ids)


def test_ids_begin_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    (made,) = new_ids(1)
    millis = int(made.replace("-", "")[:12], 16)
    assert before <= millis <= time.time_ns() // 1_000_000


def test_receipts_are_like_any_other() -> None:
    made = receipts(["a", "b"])
    assert made == [Receipt("a"), Receipt("b")]
    assert [type(one) for one in made] == [Receipt, Receipt]
    assert hash(made[0]) == hash(Receipt("a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made[0].id = "c"  # type: ignore[misc]
