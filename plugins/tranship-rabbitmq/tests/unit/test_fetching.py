"""Strict order of levels, turns inside a level, and what may be fetched without taking it from others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from tranship.driver import Taken
from tranship.envelope import Priority
from tranship.protocol import RawMessage
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._taking import Arrivals, Fetcher
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.ends import ChannelEnded, Ended
from tranship_rabbitmq.amqp.methods import Method


class Queues:
    """A channel's ``basic.get``, answered from lists at once."""

    def __init__(self, **ready: int) -> None:
        self.ready = {name.replace("_", "~", 1): deque(range(count)) for name, count in ready.items()}
        self.asked: list[str] = []

    def post(self, then, name, _ticket, queue, _no_ack) -> None:
        assert name == "basic.get"
        self.asked.append(queue)
        left = self.ready.get(queue)
        if not left:
            then(Method("basic.get-empty", [""]))
        else:
            left.popleft()
            then(Arrived(left=len(left)))


class Bench:
    """What one consumer takes with, of some queues in turns as the kit has them."""

    def __init__(self, *queues: str, enough: Callable[[], bool] = lambda: False) -> None:
        self.queues = list(queues)
        self.arrivals = Arrivals()
        self.fetcher = Fetcher(self.arrivals, lambda physical, _: self.put(physical.name, physical.priority), enough)

    def put(self, name: str, priority: Priority = Priority.NORMAL, count: int = 1) -> None:
        self.arrivals.put(name, Taken(None, name, priority, RawMessage({}, b""), count))

    async def take(self, channel: Queues, limit: int, skip: str = "") -> list[str]:
        slots = [(queue, level) for level in Priority for queue in self.queues if queue != skip]
        levels = Names(RabbitOptions()).levels(slots)
        await self.fetcher.fetch(channel, levels, limit)
        taken = [one.queue for one in self.arrivals.take(levels, limit)]
        self.queues.sort(key=lambda queue: queue in taken)
        return taken


async def test_nothing_is_fetched_from_below_while_there_is_enough_above():
    bench, channel = Bench("q"), Queues(q_high=1, q=5, q_low=5)
    assert await bench.take(channel, 3) == ["q~high", "q", "q"]
    assert await bench.take(channel, 2) == ["q", "q"]
    assert "q~low" not in channel.asked
    assert len(bench.arrivals) == 0


async def test_what_is_urgent_and_new_comes_first_and_little_is_held():
    bench, channel = Bench("q"), Queues(q=10)
    await bench.take(channel, 2)
    channel.ready["q~high"] = deque([1])
    assert await bench.take(channel, 4) == ["q~high", "q", "q", "q"]
    assert len(bench.arrivals) == 1
    channel.ready["q~high"] = deque([1])
    assert await bench.take(channel, 1) == ["q~high"], "what is held is not urgent for being here"


async def test_queues_take_turns():
    bench, channel = Bench("busy", "quiet"), Queues(busy=20, quiet=3)
    got = [name for _ in range(8) for name in await bench.take(channel, 1)]
    assert got.count("quiet") == 3


async def test_a_backlog_costs_one_question_for_each_message_and_one_for_each_level_above():
    bench, channel = Bench("q"), Queues(q=200)
    await bench.take(channel, 10)
    channel.asked.clear()
    assert len(await bench.take(channel, 50)) == 50
    assert channel.asked == ["q~high", *["q"] * 50]


async def test_skipped_queues_are_not_asked():
    bench, channel = Bench("gpu", "cpu"), Queues(gpu=2, cpu=2)
    assert await bench.take(channel, 5, skip="gpu") == ["cpu", "cpu"]
    assert not [name for name in channel.asked if name.startswith("gpu")]


async def test_what_is_held_beside_what_may_kill_comes_with_it_and_the_kit_gives_it_back():
    bench, channel = Bench("q"), Queues()
    for count in (3, 1, 1):
        bench.put("q", count=count)
    assert await bench.take(channel, 1) == ["q"] * 3
    assert len(bench.arrivals) == 0


async def test_no_more_is_fetched_than_asked_for_while_some_has_to_be_counted():
    """After a restart of the server that is the whole queue: it does not fit into a worker."""
    channel, uncounted = Queues(q=1000), list[str]()
    fetcher = Fetcher(Arrivals(), lambda physical, _: uncounted.append(physical.name), lambda: bool(uncounted))
    levels = Names(RabbitOptions()).levels([("q", level) for level in Priority])
    await fetcher.fetch(channel, levels, 20)
    assert len(uncounted) == 1, "how many there are is not known yet"
    uncounted.clear()
    await fetcher.fetch(channel, levels, 20)
    assert len(uncounted) == 20


async def test_a_channel_that_ends_ends_the_fetching():
    class Gone(Queues):
        def post(self, then, *_) -> None:
            then(ChannelEnded("NOT_FOUND", 404))

    with pytest.raises(Ended, match="NOT_FOUND"):
        await Bench("q").take(Gone(), 3)
