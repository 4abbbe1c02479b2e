"""The reader of numbers that strangers write: what peers write is read, nothing raises, nothing takes long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.protocol import epoch_of, number_of, whole_of

YEAR_2030 = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**400)
    | st.floats()
    | st.text()
    | st.binary()
    | st.text("0123456789-+.eE_ ", max_size=60)
    | st.lists(st.integers())
)


@pytest.mark.parametrize(
    ("value", "found"),
    [(0, 0), (7, 7), (3.0, 3), ("12", 12), (b"12", 12), (b"0012", 12), (2**63 - 1, 2**63 - 1), (b"9" * 18, 10**18 - 1)],
)
def test_whole_numbers_of_peers_are_read(value: object, found: int) -> None:
    assert whole_of(value) == found


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, -1, 1.5, 2**63, float("inf"), float("nan"), 10**400, [], {}),
        *("", b"", "1_0", " 1", "+1", "\u0663", "\u00b2", "1.0", b"\xff", "9" * 20, b"9" * 5000, "0" * 5000),
    ],
)
def test_what_is_no_whole_number_is_told_apart(value: object) -> None:
    assert whole_of(value) is None


def test_bounds_are_part_of_the_question() -> None:
    assert whole_of("-5", least=-10) == -5
    assert whole_of(b"11", most=10) is None
    assert whole_of(0, least=1) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), (1.5, 1.5), ("1.5", 1.5), (b"1790000000.123", 1790000000.123), ("-2", -2.0), ("1e3", 1000.0)],
)
def test_numbers_of_peers_are_read(value: object, found: float) -> None:
    assert number_of(value) == found


@pytest.mark.parametrize(
    "value",
    [None, True, float("inf"), float("nan"), "inf", "nan", b"-Infinity", "1e999", 10**400, "9" * 5000, "0x10", "1_0.0"],
)
def test_what_is_no_number_is_told_apart(value: object) -> None:
    assert number_of(value) is None


def test_points_in_time_are_within_what_dates_can_say() -> None:
    assert epoch_of(repr(YEAR_2030)) == YEAR_2030
    assert epoch_of(1e12) is None
    assert epoch_of(b"1e300") is None
    assert epoch_of("soon") is None


@given(ANYTHING)
def test_nothing_raises(value: Any) -> None:
    whole, number, epoch = whole_of(value), number_of(value), epoch_of(value)
    assert whole is None or 0 <= whole < 2**63
    assert number is None or number - number == 0
    assert epoch is None or datetime.fromtimestamp(epoch, UTC)


@pytest.mark.parametrize("read", [whole_of, number_of, epoch_of])
def test_the_length_of_a_text_costs_nothing(read: Any) -> None:
    """``int()`` of as many digits as Python would let it read takes a quarter of an hour: the test's limit ends that."""
    assert read(b"9" * 10_000_000) is None
