"""Warnings about keys that hold something else."""

from __future__ import annotations

import pytest

from tranship.errors import BrokerRefused
from tranship_redis._key_warnings import KeyWarnings

WRONG = b"WRONGTYPE Operation against a key holding the wrong kind of value (LRANGE a)"


def test_each_trouble_is_an_error_that_names_its_key() -> None:
    (key, error), (other, _) = KeyWarnings("taking from").errors([b"a", WRONG, b"b\xff", WRONG])
    assert (key, other) == (b"a", b"b\xff")
    assert isinstance(error, BrokerRefused)
    assert str(error).startswith("taking from a: ")


@pytest.mark.parametrize(("pause", "said"), [(60.0, 2), (0.0, 4)])
def test_a_key_is_named_again_only_after_the_pause(caplog: pytest.LogCaptureFixture, pause: float, said: int) -> None:
    warnings = KeyWarnings("taking from", pause=pause)
    for key, error in warnings.errors([b"a", WRONG, b"b", WRONG] * 2):
        warnings.warn(key, error)
    assert len(caplog.records) == said
