"""Messages that travel together: what each needs of the server beside a place in its list, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from redis.exceptions import ResponseError

from tranship.driver import Answer, Outgoing
from tranship.errors import InvalidOptionError, TranshipError
from tranship.protocol import Message
from tranship_redis._element import Elements, Slot, Tags, end_of
from tranship_redis._errors import error_of
from tranship_redis._keys import Keys
from tranship_redis._options import RedisOptions
from tranship_redis._pack import bulk, millis

__all__ = ["Batch", "Exceptions", "Writer", "exceptions_of"]

Exceptions = Sequence[Sequence[Any]]
"""What was not stored, as the script says it: step, ``"d"`` or ``"e"``, id of the first or text of the error."""

_PUSH: Final = bulk(b"push")
_ONE: Final = bulk(b"1")


class _Step:
    """What the script does at once: pushes to one list, or one message that needs more."""

    __slots__ = ("indices", "list", "parts")

    def __init__(self, framed_list: bytes | None) -> None:
        self.list = framed_list
        """What is pushed to, framed; None: the parts say everything."""
        self.parts: list[bytes] = []
        self.indices: list[int] = []


class Batch:
    """Messages on their way.

    Those that need nothing but a place in their list are pushed list by list; the others are steps of their own between
    them, so that what goes into one list keeps its order.

    Args:
        messages: all of them.
    """

    __slots__ = ("_lists", "_steps", "answers", "messages", "queues")

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.answers: list[Answer] = [None] * len(messages)
        """What became of each, as far as it is known; None of those that are stored."""
        self.queues: set[str] = set()
        """The names of the queues they go to."""
        self._steps: list[_Step] = []
        self._lists: dict[bytes, _Step] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to be sent."""
        return bool(self._steps)

    def push(self, index: int, slot: Slot, framed: Sequence[bytes]) -> None:
        """Add the messages from this index on, which go to their list as they are."""
        step = self._lists.get(slot.list)
        if step is None:
            step = self._lists[slot.list] = self._step(slot.framed_list, slot)
        step.indices.extend(range(index, index + len(framed)))
        step.parts.extend(framed)

    def add(self, index: int, slot: Slot, framed: bytes, needs: Sequence[bytes]) -> None:
        """Add a message that needs more: what (letters), its task id, and what goes with the letters."""
        what, task_id, *more = needs
        step = self._step(None, slot)
        step.indices.append(index)
        step.parts += (*map(bulk, (what, slot.list, task_id)), framed, *map(bulk, more))
        self._lists.clear()

    def arguments(self) -> list[bytes]:
        """Take out its arguments for the script, each framed."""
        out: list[bytes] = []
        for step in self._steps:
            if step.list is not None:
                count = len(step.parts)
                out += (_PUSH, step.list, _ONE if count == 1 else bulk(b"%d" % count))
            out += step.parts
            step.parts = []
        return out

    def stored(self, exceptions: Exceptions = ()) -> list[Answer]:
        """Return what became of each: it is stored, but for ``exceptions``."""
        for place, what, text in exceptions:
            for index in self._steps[place].indices:
                self.answers[index] = _exception(self.messages[index], what, text)
        return self.answers

    def failed(self, error: Callable[[Outgoing], TranshipError]) -> list[Answer]:
        """Return what became of each: what was sent is not stored, or nobody knows."""
        for step in self._steps:
            for index in step.indices:
                self.answers[index] = error(self.messages[index])
        return self.answers

    def _step(self, framed_list: bytes | None, slot: Slot) -> _Step:
        step = _Step(framed_list)
        self._steps.append(step)
        self.queues.add(slot.queue)
        return step


def exceptions_of(text: bytes) -> Any:
    """Return what the script wrote about exceptions; names that are no UTF-8 are shown as well as can be."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text.decode(errors="replace"))


def _exception(message: Outgoing, what: str, text: str) -> Answer:
    if what == "d":
        return text
    error = error_of(ResponseError(text.lstrip("-")), doing=f"submitting to queue {message.queue!r}")
    error.task_id = message.id
    return error


class Writer:
    """Turns messages into batches.

    Args:
        elements: builds the elements.
        keys: names what a message needs beside its list.
        options: of the URL.
        now: returns what time it is at the server.
    """

    def __init__(self, elements: Elements, keys: Keys, options: RedisOptions, now: Callable[[], float]) -> None:
        self._elements, self._keys, self._options, self._now = elements, keys, options, now
        self._celery = options.celery_queues
        self._tags = Tags()

    def batch(self, messages: Sequence[Outgoing]) -> Batch:
        """Return a batch of messages; one that cannot be sent is answered in it."""
        batch, now = Batch(messages), self._now()
        end = end_of(b"%.3f" % now)
        index = 0
        while index < len(messages):
            count = self._alike(batch, messages, index, end)
            if not count:
                try:
                    self._add(batch, index, messages[index], now, end)
                except UnicodeEncodeError as error:
                    batch.answers[index] = _unwritable(messages[index], error)
                except TranshipError as error:
                    error.task_id = messages[index].id
                    batch.answers[index] = error
            index += count or 1
        return batch

    def _alike(self, batch: Batch, messages: Sequence[Outgoing], index: int, end: bytes) -> int:
        """Add those that are like the first one and need nothing but a place in its list; return how many.

        Nearly all messages come this way, ten thousands a second.
        """
        slot = self._elements.known(messages[index].source)
        if slot is None:
            return 0
        like = messages[index].source.like  # type: ignore[union-attr]
        framed, tag, frames = self._elements.framed, self._tags.next, []
        for message in messages if index == 0 else messages[index:]:
            source = message.source
            if type(source) is not Message or source.like is not like or source.check_id:
                break
            frames.append(framed(slot, source, source.envelope.id, tag(), end))
        if frames:
            batch.push(index, slot, frames)
        return len(frames)

    def _add(self, batch: Batch, index: int, message: Outgoing, now: float, end: bytes) -> None:
        slot, source, task_id = self._elements.slot(message)
        framed = self._elements.framed(slot, source, task_id, self._tags.next(), end)
        needs = self._needs(message, slot, now)
        if needs[0]:
            batch.add(index, slot, framed, needs)
        else:
            batch.push(index, slot, [framed])

    def _needs(self, message: Outgoing, slot: Slot, now: float) -> list[bytes]:
        """Return letters for what the script has to do, the task's id, and what goes with each letter."""
        parts = {
            b"c": self._check(message, now),
            b"d": self._dedup(message),
            b"l": self._later(message, slot, now),
        }
        what = b"".join(letter for letter, part in parts.items() if part)
        return [what, message.id.encode(), *(value for part in parts.values() for value in part)]

    def _check(self, message: Outgoing, now: float) -> list[bytes]:
        if message.unless is None:
            return []
        keys, ttl = self._keys, self._options.result_ttl + max(0.0, message.ready - now)
        return [keys.known(message.id), keys.row(message.unless), keys.delayed_queues, millis(ttl)]

    def _dedup(self, message: Outgoing) -> list[bytes]:
        row = message.first
        if row is None or row.ttl == 0:
            return []
        return [self._keys.dedup(row.key[2:]), millis(self._options.dedup_window if row.ttl is None else row.ttl)]

    def _later(self, message: Outgoing, slot: Slot, now: float) -> list[bytes]:
        peers = self._celery.of(slot.queue)
        if message.ready <= now or peers is True:
            return []
        keys, queue = self._keys, slot.queue
        binding = b"" if peers is False else keys.binding(queue)
        places = [keys.delayed(queue), keys.delayed_messages(queue), keys.delayed_queues]
        return [binding, repr(float(message.ready)).encode(), *places, b"%d" % slot.step, queue.encode()]


def _unwritable(message: Outgoing, cause: UnicodeEncodeError) -> TranshipError:
    error = InvalidOptionError(f"queue {message.queue!r}: its name holds half a character", task_id=message.id)
    error.__cause__ = cause
    return error
