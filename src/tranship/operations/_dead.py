"""Dead letters: show, replay, purge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tranship.client._link import ClientLink
from tranship.envelope import DeadLetter, Envelope, TaskResult
from tranship.errors import InvalidArgumentsError, MalformedMessage, TaskNotFound, TranshipError
from tranship.ports import Inspector
from tranship.protocol import RawMessage, decode, whole_of

__all__ = ["DeadLetterReport", "attempt_of", "count", "purge", "replay", "show"]

PAGE = 500
"""Dead letters per round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterReport:
    """Everything that is known of one dead letter."""

    letter: DeadLetter
    envelope: Envelope | None
    """The task as it would be run again; None when the message cannot be read."""
    problem: str | None
    """Why the message cannot be read."""
    result: TaskResult | None
    """The task's stored result, with the error and its traceback; None when there is none."""


def attempt_of(letter: DeadLetter) -> int | None:
    """Return how many attempts came before the one in which ``letter`` died; None: its headers do not say."""
    return whole_of(letter.headers.get("retries"))


async def show(link: ClientLink, letter_id: str) -> DeadLetterReport:
    """Look at one dead letter, by its own id or its task's.

    Raises:
        TaskNotFound: there is none.
    """
    letters = await link.backend.inspector().dead_get([letter_id])
    if not letters:
        raise TaskNotFound(f"there is no dead letter {letter_id!r}; see `tranship dead list`")
    # A task that was replayed may have died again: the latest death is of interest.
    letter = letters[-1]
    envelope, problem = _decoded(letter)
    return DeadLetterReport(letter=letter, envelope=envelope, problem=problem, result=await _result(link, letter))


async def replay(link: ClientLink, ids: Sequence[str] | None, queue: str | None) -> list[str]:
    """Queue dead letters again, by id, of a queue, or all; return the ids that were found.

    Raises:
        MalformedMessage: a letter that cannot be queued again; every other one has been.
    """
    check_selection(ids, queue)
    inspector = link.backend.inspector()
    # Listed before the first is replayed: one that dies again at once must not be replayed for ever.
    chosen = [letter.id async for letter in _pages(inspector, queue)] if ids is None else list(ids)
    found: list[str] = []
    refused: MalformedMessage | None = None
    for batch in _batches(chosen):
        try:
            found.extend(await link.replay(batch))
        except MalformedMessage as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return found


async def purge(link: ClientLink, ids: Sequence[str] | None, queue: str | None) -> int:
    """Delete dead letters, by id, of a queue, or all; return how many."""
    check_selection(ids, queue)
    return await link.backend.inspector().dead_purge(ids, queue=queue)


async def count(link: ClientLink, queue: str | None) -> int:
    """How many dead letters there are, in a queue or in all."""
    return sum([1 async for _ in _pages(link.backend.inspector(), queue)])


def check_selection(ids: Sequence[str] | None, queue: str | None) -> None:
    """Refuse ids together with a queue, and a text where a list of ids is expected.

    Raises:
        InvalidArgumentsError: so it is.
    """
    if isinstance(ids, str):
        raise InvalidArgumentsError(f"ids is the text {ids!r}; expected a list of ids")
    if ids is not None and queue is not None:
        raise InvalidArgumentsError("give ids or a queue, not both")


async def _pages(inspector: Inspector, queue: str | None) -> AsyncIterator[DeadLetter]:
    after = ""
    while letters := await inspector.dead(queue, limit=PAGE, after=after):
        for letter in letters:
            yield letter
        after = letters[-1].id


def _batches(ids: Sequence[str]) -> list[list[str]]:
    remaining = iter(ids)
    return list(iter(lambda: list(islice(remaining, PAGE)), []))


def _decoded(letter: DeadLetter) -> tuple[Envelope | None, str | None]:
    raw = RawMessage(letter.headers, letter.body, letter.content_type)
    try:
        return decode(raw, queue=letter.queue, priority=letter.priority), None
    except MalformedMessage as error:
        return None, str(error)


async def _result(link: ClientLink, letter: DeadLetter) -> TaskResult | None:
    if letter.task_id is None:
        return None
    try:
        (result,) = await link.waiting.states([letter.task_id])
    except TranshipError:
        return None  # a bonus: a store that is away does not hide the letter
    return result if result.error is not None else None
