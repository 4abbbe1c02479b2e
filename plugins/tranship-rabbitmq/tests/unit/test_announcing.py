"""Names of queues get into the journal, sooner or later, and keep nobody waiting for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship_rabbitmq._announcing import Announcements
from tranship_rabbitmq._streams import Entry


class Book:
    """Keeps what is written, once it has raised what it is to raise."""

    def __init__(self, *errors: TranshipError) -> None:
        self.names: list[str] = []
        self.attempts = 0
        self._errors = list(errors)
        self._changed = asyncio.Event()

    async def write(self, entries: Sequence[Entry]) -> None:
        self.attempts += 1
        if self._errors:
            raise self._errors.pop(0)
        self.names += [entry["queue"] for entry in entries]
        self._changed.set()

    async def has(self, *names: str) -> None:
        async with asyncio.timeout(5):
            while sorted(self.names) != sorted(names):
                self._changed.clear()
                await self._changed.wait()


async def test_a_name_is_entered_once() -> None:
    book = Book()
    announcements = Announcements(book.write)
    for queue in ("q", "p", "q"):
        announcements.add(queue)
        await announcements.answered()
    announcements.add("p")
    await announcements.aclose()
    assert book.names == ["q", "p"]


async def test_what_fails_is_repeated_and_waited_for_once() -> None:
    book = Book(*[BrokerUnreachable("the coordinator is away")] * 3)
    announcements = Announcements(book.write)
    announcements.add("q")
    await announcements.answered()
    assert book.attempts == 1
    announcements.add("p")
    await announcements.answered()
    assert book.attempts == 1, "the second waited for the second attempt"
    await book.has("p", "q")
    await announcements.aclose()


async def test_what_is_refused_is_tried_again_with_the_next_name() -> None:
    book = Book(BrokerRefused("no rights"))
    announcements = Announcements(book.write)
    announcements.add("q")
    await announcements.answered()
    announcements.add("p")
    await book.has("p", "q")
    await announcements.aclose()


async def test_names_of_a_deleted_journal_are_entered_again() -> None:
    book = Book()
    announcements = Announcements(book.write)
    announcements.add("q")
    await book.has("q")
    announcements.repeat()
    await book.has("q", "q")
    await announcements.aclose()


async def test_closing_says_what_was_not_entered(caplog: pytest.LogCaptureFixture) -> None:
    announcements = Announcements(Book(*[BrokerUnreachable("away")] * 99).write)
    announcements.add("forgotten")
    with caplog.at_level(logging.WARNING):
        await announcements.aclose()
    assert "closed before these queues were listed: forgotten" in caplog.text
