"""The broker's clock: what is known of it, and who is told of a difference."""

from __future__ import annotations

import logging
import time

import pytest

from tranship.clocks import Clock, TellsTime, clock_of, look
from tranship.errors import BrokerUnreachable


class Told:
    """A broker that is some seconds ahead, or cannot be asked."""

    def __init__(self, ahead: float, *, away: bool = False) -> None:
        self.clock = Clock()
        self._ahead = ahead
        self._away = away

    async def read_clock(self) -> None:
        if self._away:
            raise BrokerUnreachable("away")
        asked = time.time()
        self.clock.read(asked, asked + self._ahead)


def test_what_the_way_there_may_have_taken_is_no_difference() -> None:
    clock = Clock()
    now = time.time()
    clock.read(now - 2.0, now - 1.5)
    assert clock.ahead == 0.0
    clock.read(now - 2.0, now + 29.0)
    assert clock.ahead == pytest.approx(30.0, abs=0.1)
    assert clock.now() == pytest.approx(time.time() + 30.0, abs=0.2)


@pytest.mark.parametrize(("ahead", "word"), [(30.0, "30.0 s behind that"), (-30.0, "30.0 s ahead of that")])
async def test_a_difference_is_told_once_with_its_figure(
    caplog: pytest.LogCaptureFixture, ahead: float, word: str
) -> None:
    broker = Told(ahead)
    with caplog.at_level(logging.WARNING, "tranship.clocks"):
        for _ in range(3):
            assert (await look(broker, "redis://there")).ahead == pytest.approx(ahead, abs=0.1)
    (record,) = caplog.records
    assert word in record.getMessage()
    assert "redis://there" in record.getMessage()


async def test_nobody_is_told_of_less_than_a_second(caplog: pytest.LogCaptureFixture) -> None:
    await look(Told(0.9), "redis://there")
    assert not caplog.records


async def test_a_broker_that_cannot_be_asked_leaves_what_was_known() -> None:
    broker = Told(5.0, away=True)
    broker.clock.ahead = 3.0
    assert (await look(broker, "redis://there")).ahead == 3.0


async def test_a_backend_without_a_clock_has_its_hosts() -> None:
    assert not isinstance(object(), TellsTime)
    assert (await look(object(), "memory://")).ahead == clock_of(object()).ahead == 0.0
