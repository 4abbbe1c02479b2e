"""Strict order of levels, turns inside a level, and what may be fetched without taking it from others."""

from __future__ import annotations

from collections import deque

import pytest

from tranship.envelope import Priority
from tranship.ports import Delivery
from tranship.protocol import RawMessage
from tranship_rabbitmq._fetching import Fetcher
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._prefetch import PrefetchBuffer
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
    def __init__(self, *queues: str) -> None:
        self.buffer = PrefetchBuffer(Names(RabbitOptions()).physical(queues))
        self.fetcher = Fetcher(self.buffer, lambda physical, _: self.put(physical.name, physical.priority))

    def put(self, name: str, priority: Priority = Priority.NORMAL, count: int = 1) -> None:
        self.buffer.put(name, Delivery(RawMessage({}, b""), name, priority, None, count))

    async def take(self, channel: Queues, limit: int, skip=()) -> list[str]:
        await self.fetcher.fetch(channel, limit, skip)
        return [delivery.queue for delivery in self.buffer.take(limit, skip)]


async def test_nothing_is_fetched_from_below_while_there_is_enough_above():
    bench, channel = Bench("q"), Queues(q_high=1, q=5, q_low=5)
    assert await bench.take(channel, 3) == ["q~high", "q", "q"]
    assert await bench.take(channel, 2) == ["q", "q"]
    assert "q~low" not in channel.asked
    assert len(bench.buffer) == 0


async def test_what_is_urgent_and_new_comes_first_and_little_is_held():
    bench, channel = Bench("q"), Queues(q=10)
    await bench.take(channel, 2)
    channel.ready["q~high"] = deque([1])
    assert await bench.take(channel, 4) == ["q~high", "q", "q", "q"]
    assert len(bench.buffer) == 1
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
    assert await bench.take(channel, 5, skip={"gpu"}) == ["cpu", "cpu"]
    assert not [name for name in channel.asked if name.startswith("gpu")]


async def test_what_kills_travels_alone():
    bench = Bench("q")
    for count in (1, 3, 1):
        bench.put("q", count=count)
    assert [len(bench.buffer.take(5, ())) for _ in range(3)] == [1, 1, 1]


async def test_no_more_is_fetched_than_asked_for_while_some_has_to_be_counted():
    """After a restart of the server that is the whole queue: it does not fit into a worker."""
    bench, channel = Bench("q"), Queues(q=1000)
    uncounted: list[str] = []
    fetcher = Fetcher(bench.buffer, lambda physical, _: uncounted.append(physical.name), lambda: bool(uncounted))
    await fetcher.fetch(channel, 20, ())
    assert len(uncounted) == 1, "how many there are is not known yet"
    uncounted.clear()
    await fetcher.fetch(channel, 20, ())
    assert len(uncounted) == 20


async def test_a_channel_that_ends_ends_the_fetching():
    class Gone(Queues):
        def post(self, then, *_) -> None:
            then(ChannelEnded("NOT_FOUND", 404))

    with pytest.raises(Ended, match="NOT_FOUND"):
        await Bench("q").take(Gone(), 3)
