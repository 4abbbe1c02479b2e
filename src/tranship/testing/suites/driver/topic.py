"""What the topic of a driver promises: who has subscribed hears it, soon."""

from __future__ import annotations

import asyncio

from tranship.driver import Topic
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["TopicSuite"]

_BOUND = 2.0


class TopicSuite:
    """Everything about the topic of a driver."""

    @case("topic_reaches_subscribers", level="core", rationale="a result that nobody is told of is waited for in vain")
    async def test_topic_reaches_subscribers(self, context: CaseContext) -> None:
        """Each hears the names that he wants, with any value, over another connection, and no others."""
        topic, other = await _topic(context), await _topic(context)
        one, two = Heard(), Heard()
        topic.subscribe(["a", "b"], one.hear)
        topic.subscribe(["b"], two.hear)
        await topic.active()
        value = bytes(range(256))
        await other.publish([("a", value), ("c", b"nobody"), ("b", b"")])
        await one.until({("a", value), ("b", b"")})
        await two.until({("b", b"")})
        assert {name for name, _ in one.items} == {"a", "b"}

    @case("topic_same_name_twice", level="core", rationale="two who wait for one task both have to hear of it")
    async def test_topic_same_name_twice(self, context: CaseContext) -> None:
        """Both hear; when one goes, the other still does."""
        topic = await _topic(context)
        one, two = Heard(), Heard()
        topic.subscribe(["a"], one.hear)
        topic.subscribe(["a"], two.hear)
        await topic.active()
        await topic.publish([("a", b"1")])
        await one.until({("a", b"1")})
        for _ in range(2):
            topic.unsubscribe(["a"], one.hear)
        await topic.publish([("a", b"2")])
        await two.until({("a", b"1"), ("a", b"2")})
        assert ("a", b"2") not in one.items

    @case(
        "topic_unsubscribed_hears_nothing",
        level="core",
        rationale="a thousand callers that have gone are a thousand that are told",
    )
    async def test_topic_unsubscribed_hears_nothing(self, context: CaseContext) -> None:
        """Nothing comes any more, the other names do, and the name can be subscribed again."""
        topic = await _topic(context)
        gone, there = Heard(), Heard()
        for _ in range(20):
            topic.subscribe(["a", "b"], gone.hear)
            topic.unsubscribe(["a", "never"], gone.hear)
        topic.subscribe(["a"], there.hear)
        await topic.active()
        await topic.publish([("a", b"1"), ("b", b"1")])
        await there.until({("a", b"1")})
        await gone.until({("b", b"1")})
        assert gone.items == {("b", b"1")}

    @case(
        "topic_active_hears_all", level="core", rationale="what is published between subscribing and reading is missed"
    )
    async def test_topic_active_hears_all(self, context: CaseContext) -> None:
        """Whatever is published after ``active`` has returned is heard, however soon."""
        topic, other = await _topic(context), await _topic(context)
        for number in range(20):
            heard = Heard()
            topic.subscribe([f"n-{number}"], heard.hear)
            await topic.active()
            await other.publish([(f"n-{number}", b"")])
            await heard.until({(f"n-{number}", b"")})


class Heard:
    """What came."""

    def __init__(self) -> None:
        self.items: set[tuple[str, bytes]] = set()
        self._news = asyncio.Event()

    def hear(self, name: str, value: bytes) -> None:
        """Remember it."""
        self.items.add((name, value))
        self._news.set()

    async def until(self, items: set[tuple[str, bytes]]) -> None:
        """Return once all of them have come, or fail after a bound."""
        try:
            async with asyncio.timeout(_BOUND):
                while not items <= self.items:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{sorted(items - self.items)} did not come within {_BOUND} s") from None


async def _topic(context: CaseContext) -> Topic:
    connection = await context.connect()
    if connection.topic is None:
        context.skip("the driver has no topic: the kit makes one of its table")
    return connection.topic
