"""Batches: messages of one submit that travel together, as one script call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from redis.exceptions import ResponseError

from tranship.envelope import Receipt, receipts
from tranship.errors import SubmitUnknown, TranshipError
from tranship.protocol import Message
from tranship_redis._element import Slot
from tranship_redis._errors import again, error_of
from tranship_redis._pack import bulk

__all__ = ["Answer", "Batch", "Call", "Exceptions", "exceptions_of"]

Answer = Receipt | TranshipError

Exceptions = Sequence[Sequence[Any]]
"""What was not stored, as the script says it: step, ``"d"`` or ``"e"``, id of the first or text of the error."""

_PUSH: Final = bulk(b"push")


class Call:
    """One call of submit: its messages, their answers, and how many of its batches are under way."""

    __slots__ = ("_bound", "_under_way", "_waiter", "answered", "answers", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.answers: list[Any] = [None] * len(messages)
        self.answered: Callable[[list[Any]], object] | None = None
        """Called with the answers once nothing is under way any more."""
        self._under_way = 0
        self._bound = 0
        self._waiter: asyncio.Future[None] | None = None

    def left(self) -> None:
        """One batch more is under way."""
        self._under_way += 1

    def landed(self) -> None:
        """One batch has been answered."""
        self._under_way -= 1
        if self._waiter is not None and self._under_way <= self._bound and not self._waiter.done():
            self._waiter.set_result(None)
        if self.answered is not None and not self._under_way:
            self.answered(self.answers)

    def then(self, answered: Callable[[list[Any]], object]) -> None:
        """Call ``answered`` with the answers, later, once nothing is under way."""
        if self._under_way:
            self.answered = answered
        else:
            asyncio.get_running_loop().call_soon(answered, self.answers)

    async def at_most(self, bound: int) -> None:
        """Wait until no more than ``bound`` batches are under way."""
        if self._under_way > bound:
            self._bound, self._waiter = bound, asyncio.get_running_loop().create_future()
            await self._waiter


class _Step:
    """What the script does at once: pushes to one list, or one message that needs more."""

    __slots__ = ("indices", "list", "parts")

    def __init__(self, key: bytes | None) -> None:
        self.list = key
        """What is pushed to; None: the parts say everything."""
        self.parts: list[bytes] = []
        self.indices: list[int] = []


class Batch:
    """Some messages of a call.

    Messages that need nothing but a place in their list are pushed list by list; the others are steps of their
    own between them, so that what goes into one list keeps its order.
    """

    __slots__ = ("_call", "_lists", "_steps", "posted", "queues", "size")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._steps: list[_Step] = []
        self._lists: dict[bytes, _Step] = {}
        self.queues: set[str] = set()
        """The names of the queues its messages go to."""
        self.size = 0
        """Bytes of all elements."""
        self.posted = 0.0
        """When it was sent, in epoch seconds."""

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self._steps)

    def push(self, index: int, slot: Slot, framed: Sequence[bytes]) -> None:
        """Add the messages from this index on, which go to their list as they are."""
        step = self._lists.get(slot.list)
        if step is None:
            step = self._lists[slot.list] = self._step(slot.list, slot)
        step.indices.extend(range(index, index + len(framed)))
        step.parts.extend(framed)
        self.size += sum(map(len, framed))

    def add(self, index: int, slot: Slot, framed: bytes, needs: Sequence[bytes]) -> None:
        """Add a message that needs more: what (letters), its task id, and what goes with the letters."""
        what, task_id, *more = needs
        step = self._step(None, slot)
        step.indices.append(index)
        step.parts += (*map(bulk, (what, slot.list, task_id)), framed, *map(bulk, more))
        self.size += len(framed)
        self._lists.clear()

    def arguments(self) -> list[bytes]:
        """Take out its arguments for the script, each framed."""
        out: list[bytes] = []
        for step in self._steps:
            if step.list is not None:
                out += (_PUSH, bulk(step.list), bulk(b"%d" % len(step.parts)))
            out += step.parts
            step.parts = []
        return out

    def stored(self, exceptions: Exceptions = ()) -> None:
        """Answer: done, but for ``exceptions``."""
        answers, messages = self._call.answers, self._call.messages
        for step in self._steps:
            ids = [messages[index].envelope.id for index in step.indices]
            for index, receipt in zip(step.indices, receipts(ids), strict=True):
                answers[index] = receipt
        for place, what, text in exceptions:
            for index in self._steps[place].indices:
                answers[index] = _exception(messages[index], what, text)
        self._call.landed()

    def failed(self, error: TranshipError) -> None:
        """Answer: nothing was stored, because of ``error``."""
        for index in self._indices():
            copy = again(error)
            copy.task_id = self._call.messages[index].envelope.id
            self._call.answers[index] = copy
        self._call.landed()

    def unknown(self, cause: TranshipError) -> None:
        """Answer: nobody will ever know."""
        for index in self._indices():
            task_id = self._call.messages[index].envelope.id
            text = f"the broker's answer for task {task_id} was lost: it may have been submitted, or not"
            error = self._call.answers[index] = SubmitUnknown(text, task_id=task_id)
            error.__cause__ = cause
        self._call.landed()

    def _step(self, key: bytes | None, slot: Slot) -> _Step:
        step = _Step(key)
        self._steps.append(step)
        self.queues.add(slot.queue)
        return step

    def _indices(self) -> list[int]:
        return [index for step in self._steps for index in step.indices]


def exceptions_of(text: bytes) -> Any:
    """Return what the script wrote about exceptions; names that are no UTF-8 are shown as well as can be."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text.decode(errors="replace"))


def _exception(message: Message, what: str, text: str) -> Answer:
    envelope = message.envelope
    if what == "d":
        return Receipt(envelope.id, duplicate_of=text)
    error = error_of(ResponseError(text.lstrip("-")), doing=f"submitting to queue {envelope.queue!r}")
    error.task_id = envelope.id
    return error
