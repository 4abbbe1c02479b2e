"""Names of queues get into their log, sooner or later, and keep nobody waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship_rabbitmq._log import QueueNames


class Book:
    """Keeps what is written, once it has raised what it is to raise."""

    def __init__(self, *errors: TranshipError) -> None:
        self.names: list[str] = []
        self.attempts = 0
        self.read: list[Any] = []
        self._errors = list(errors)
        self._changed = asyncio.Event()

    async def append(self, _name: str, entries: Sequence[bytes]) -> None:
        self.attempts += 1
        if self._errors:
            raise self._errors.pop(0)
        self.names += [entry.decode() for entry in entries]
        self._changed.set()

    async def read_from(self, _name: str, offset: Any) -> tuple[list[bytes], int]:
        self.read.append(offset)
        first = 0 if offset == "first" else offset
        self.names.append("")  # the reader's mark
        return [name.encode() for name in self.names[first:] if name], len(self.names)

    async def has(self, *names: str) -> None:
        async with asyncio.timeout(5):
            while sorted(self.names) != sorted(names):
                self._changed.clear()
                await self._changed.wait()


def names_in(book: Book) -> QueueNames:
    names = QueueNames()
    names.use(book)  # type: ignore[arg-type]
    return names


async def test_a_name_is_entered_once() -> None:
    book = Book()
    names = names_in(book)
    await names.enter(["q", "p", "q"])
    await names.enter(["p"])
    assert sorted(book.names) == ["p", "q"]


async def test_what_fails_is_repeated_and_waited_for_once() -> None:
    book = Book(*[BrokerUnreachable("the coordinator is away")] * 3)
    names = names_in(book)
    await names.enter(["q"])
    assert book.attempts == 1
    await names.enter(["p"])
    assert book.attempts == 1, "the second waited for the second attempt"
    await book.has("p", "q")


async def test_what_is_refused_is_tried_again_with_the_next_name() -> None:
    book = Book(BrokerRefused("no rights"))
    names = names_in(book)
    await names.enter(["q"])
    await names.enter(["p"])
    await book.has("p", "q")


async def test_what_is_left_is_entered_over_the_next_connection() -> None:
    lost, book = Book(*[BrokerUnreachable("the connection was lost")] * 99), Book()
    names = names_in(lost)
    await names.enter(["q"])
    names.leave(lost)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    names.use(book)  # type: ignore[arg-type]
    await book.has("q")
    assert not lost.names


async def test_only_what_is_new_is_read_unless_the_log_is_another_one() -> None:
    book = Book()
    names = names_in(book)
    for queue in ("q", "p"):
        await names.enter([queue])
        assert queue in await names.known()
    book.names[:] = ["r"]
    assert await names.known() == ["p", "q", "r"]
    assert book.read == ["first", 2, 4, "first"]
