"""What the cases about a driver's queue have in common: messages, and single verbs that must succeed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tranship.driver import Connection, End, Ending, Outgoing, QueueTraits, Slot, Taken
from tranship.envelope import Priority
from tranship.ports import Settled
from tranship.testing.context import CaseContext

__all__ = [
    "DONE",
    "LEASE",
    "end_all",
    "hears",
    "id_of",
    "need",
    "new_messages",
    "send_all",
    "slots_of",
    "take_some",
    "traits",
]

LEASE = 0.6
DONE = (Settled.CONFIRMED, Settled.SENT)


def traits(connection: Connection) -> QueueTraits:
    """Return what a queue says of itself."""
    return getattr(connection.queue, "traits", QueueTraits())


def need(context: CaseContext, there: object, trait: str) -> None:
    if not there:
        context.skip(f"the queue does not have the trait {trait}")


def slots_of(queue: str = "q") -> list[Slot]:
    return [(queue, Priority.NORMAL)]


def new_messages(context: CaseContext, count: int, *, body: bytes | None = None, **envelope: Any) -> list[Outgoing]:
    made = [Outgoing.of(context.message(**envelope)) for _ in range(count)]
    for one in made:
        one.message.body = one.message.body if body is None else body
    return made


async def send_all(connection: Connection, messages: list[Outgoing]) -> list[Outgoing]:
    answers = await connection.queue.send(messages)
    assert list(answers) == [None] * len(messages), answers
    return messages


async def take_some(
    connection: Connection, limit: int, queue: str = "q", *, slots: Sequence[Slot] | None = None
) -> Sequence[Taken]:
    return (await connection.queue.take(slots or slots_of(queue), limit, 0.0)).items


async def end_all(connection: Connection, end: End, *taken: Taken) -> None:
    answers = await connection.queue.end([Ending(one.token, end) for one in taken])
    assert [answer in DONE for answer in answers] == [True] * len(taken), answers


def id_of(taken: Taken) -> str:
    return taken.opened()[0].id


async def hears(context: CaseContext, heard: asyncio.Event, what: str) -> None:
    try:
        async with asyncio.timeout(context.patience):
            await heard.wait()
    except TimeoutError:
        raise AssertionError(f"nobody was told of {what} within {context.patience} s") from None
