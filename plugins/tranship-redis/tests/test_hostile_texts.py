"""What a stranger writes into our keys: no script takes longer than in proportion to it, and nothing of it is lost.

The server does nothing else while a script runs, so what a script spends on one text is spent by everybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis_kit import Raw, list_of, ours
from test_foreign_elements import assert_nothing_held

from tranship.ports import Settled, Settlement, Verdict
from tranship.testing.context import CaseContext

pytestmark = pytest.mark.timeout(120)

Text = Callable[[int], bytes]
"""Makes a text of about so many bytes."""

SMALL, LARGER, LARGEST = 1 << 14, 1 << 16, 1 << 20
GENEROUS = 3
"""How many times longer than in proportion to its text a script may take; with the square it would be 4 and 16 times."""


def number_tag(size: int) -> bytes:
    """A tag that has to be looked for in the text, and is not found."""
    return b'{"properties":{"delivery_tag":1.5,"delivery_info":{"exchange":"","routing_key":"q"}},"x":"%b"}' % (
        b"a" * size
    )


def number_tags(size: int) -> bytes:
    """The same with the word that is looked for again and again."""
    words = b",".join([b'"delivery_tag"     '] * (size // 20))
    return b'{"properties":{"delivery_tag":1.5},"x":[%b]}' % words


ELEMENTS: dict[str, Text] = {
    "number-tag": number_tag,
    "number-tags": number_tags,
    "spaces": lambda size: b'{"properties":{"delivery_tag":%b7' % (b" " * size),
    "digits": lambda size: b'{"properties":{"delivery_tag":%b}}' % (b"7" * size),
    "keys": lambda size: b'{"properties":{%b}}' % b",".join(b'"%08d":1' % number for number in range(size // 11)),
    "maps": lambda size: b'{"properties":[%b{}]}' % (b"{}," * (size // 3)),
    "properties": lambda size: b'"properties":' * (size // 13),
    "zeros": lambda size: b'{"body":"' + b"\0" * size,
    "body-without-end": lambda size: b'{"body":"' + b'",' * (size // 2),
    "ours-nearly": lambda size: (
        b'{"body":"' + b',"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"' * (size // 64)
    ),
}
"""Elements that are no messages, each with much of what a script looks for."""

HELD: dict[str, Text] = {
    "marks": lambda size: b"[" + b', "' * (size // 3) + b'"]',
    "more-marks": lambda size: b"[{}" + b'", "' * (size // 4) + b'"]',
    "quotes": lambda size: b"[" + b'"' * size + b'"]',
}
"""Values of Celery's ``unacked``."""

DOCUMENTS: dict[str, Text] = {
    "status-last": lambda size: b'{"result":"%b","status":"SUCCESS"}' % (b"x" * size),
    "spaces": lambda size: b'{%b"status"' % (b" " * size),
    "maps": lambda size: b'{"a":[%b{}]}' % (b"{}," * (size // 3)),
    "msgpack": lambda size: b"\xdc\xff\xff" + b"\x91" * size,
}
"""Documents under the name of a result."""


class Meter:
    """Reads what the server says that scripts took, whoever else uses it."""

    def __init__(self, context: CaseContext, raw: Raw) -> None:
        self._name = context.namespace.encode()
        self._raw = raw

    async def micros(self, work: Callable[[], Awaitable[object]]) -> int:
        """Return the microseconds of the longest script of ours during ``work``."""
        self._raw("SLOWLOG", "RESET")
        await work()
        entries = self._raw("SLOWLOG", "GET", "-1")
        found = [
            micros for _, _, micros, words, *_ in entries if words[0].upper() == b"EVALSHA" and self._is_ours(words)
        ]
        assert found, "no script of ours has been measured"
        return max(found)

    def _is_ours(self, words: list[bytes]) -> bool:
        return any(self._name in word for word in words)

    async def assert_linear(self, work: Callable[[int], Awaitable[object]]) -> None:
        """Insist that what scripts take grows with the size of the text, and not with its square."""
        small = await self._best(work, SMALL)
        for size in (LARGER, LARGEST):
            took, fair = await self._best(work, size), max(small, 100) * size // SMALL
            assert took <= fair * GENEROUS, f"{size} bytes took {took} µs, and {SMALL} bytes {small} µs"

    async def _best(self, work: Callable[[int], Awaitable[object]], size: int) -> int:
        return min([await self.micros(lambda: work(size)) for _ in range(3)])


@pytest.fixture
def meter(context: CaseContext, raw: Raw) -> Iterator[Meter]:
    """A meter on a server that tells of every command how long it took."""
    (_, before), (_, length) = raw("CONFIG", "GET", "slowlog-log-slower-than"), raw("CONFIG", "GET", "slowlog-max-len")
    raw("CONFIG", "SET", "slowlog-log-slower-than", "0")
    raw("CONFIG", "SET", "slowlog-max-len", "2000")
    yield Meter(context, raw)
    raw("CONFIG", "SET", "slowlog-log-slower-than", before)
    raw("CONFIG", "SET", "slowlog-max-len", length)


@pytest.mark.parametrize("name", ELEMENTS)
async def test_an_element_costs_what_its_size_is(context: CaseContext, raw: Raw, meter: Meter, name: str) -> None:
    """Taken, counted and dead-lettered: each script in proportion to the element."""
    backend = await context.open(lease=60)
    consumer, inspector = backend.consumer(["q"]), backend.inspector()

    async def meet(size: int) -> None:
        raw("LPUSH", list_of(context), ELEMENTS[name](size))
        await inspector.queues()
        held = (await consumer.receive(1, 5)).deliveries
        assert len(held) == 1
        rejected = [Settlement(one, Verdict.REJECT, reason="malformed", detail="a test's") for one in held]
        assert list(await consumer.settle(rejected)) == [Settled.CONFIRMED]

    await meter.assert_linear(meet)
    assert raw("ZCARD", ours(context, "tranship:rows:d")) == 9
    assert raw("LLEN", list_of(context)) == 0
    assert_nothing_held(context, raw)


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("how", ["sweep", "nack"])
async def test_what_is_held_costs_what_its_size_is(
    context: CaseContext, raw: Raw, meter: Meter, name: str, how: str
) -> None:
    """Somebody else has written into ``unacked``: it is put back, or left alone, in proportion to its size."""
    backend, sweeping = await context.open(lease=60), await context.open(lease=0.2)
    consumer = backend.consumer(["q"])
    await sweeping.consumer(["other"]).receive(1, 0)

    async def meet(size: int) -> None:
        await context.submit(backend, context.message())
        (held,) = (await consumer.receive(1, 5)).deliveries
        token, tag = held.token.token, held.token.tag
        raw("HSET", ours(context, "unacked"), tag, HELD[name](size))
        if how == "nack":
            with contextlib.suppress(Exception):
                await consumer.settle([Settlement(held, Verdict.NACK)])
            raw("DEL", list_of(context))
            return
        raw("ZADD", ours(context, "tranship:leases"), "1", token)

        async def swept() -> bool:
            return raw("ZSCORE", ours(context, "tranship:leases"), token) is None

        await context.eventually(swept, "the sweeper has looked at it")
        raw("DEL", list_of(context))

    await meter.assert_linear(meet)


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_result_costs_what_its_size_is(context: CaseContext, raw: Raw, meter: Meter, name: str) -> None:
    """What is no result of ours gives way to one, or stays, in proportion to its size."""
    backend = await context.open()

    async def meet(size: int) -> None:
        raw("SET", ours(context, "celery-task-meta-foreign"), DOCUMENTS[name](size))
        with contextlib.suppress(Exception):
            await backend.results().put([context.result("foreign")])

    await meter.assert_linear(meet)
