"""Messages into batches: what each one needs of the server beside a place in its list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tranship.clocks import Clock
from tranship.errors import InvalidOptionError, MessageTooLarge, TranshipError
from tranship.protocol import Message
from tranship_redis._batches import Batch, Call
from tranship_redis._element import Elements, Slot, Tags, end_of
from tranship_redis._keys import Keys
from tranship_redis._options import RedisOptions

__all__ = ["Writer", "millis"]

COUNT: Final = 250
"""Messages per batch: about half a millisecond of either side's time."""
BYTES: Final = 1 << 20
"""A batch is full with so many; the last message may exceed it."""
_LONGEST: Final = 100 * 365 * 86400.0


class Writer:
    """Turns messages into batches.

    Args:
        elements: builds the elements.
        keys: names what a message needs beside its list.
        options: limits and defaults.
        clock: the server's.
    """

    def __init__(self, elements: Elements, keys: Keys, options: RedisOptions, clock: Clock) -> None:
        self._elements = elements
        self._clock = clock
        self._keys = keys
        self._options = options
        self._celery = options.celery_queues
        self._limit = options.max_message_size
        self._tags = Tags()

    def fill(self, call: Call, start: int) -> tuple[Batch, int]:
        """Return a batch of the call's messages from ``start`` on, and where the next one starts.

        A message that cannot be sent is answered at once.
        """
        batch, now = Batch(call), self._clock.now()
        end = end_of(b"%.3f" % now)
        messages, index, stop = call.messages, start, min(len(call.messages), start + COUNT)
        while index < stop and batch.size < BYTES:
            message = messages[index]
            slot = self._elements.known(message)
            if slot is not None and (count := self._alike(batch, slot, messages[index:stop], index, end)):
                index += count
                continue
            size = len(message.headers) + len(message.body)
            if size > self._limit:
                call.answers[index] = _too_large(message, size, self._limit)
            else:
                try:
                    self._add(batch, index, message, now, end)
                except UnicodeEncodeError as error:
                    call.answers[index] = _unwritable(message, error)
                except InvalidOptionError as error:
                    error.task_id = message.envelope.id
                    call.answers[index] = error
            index += 1
        return batch, index

    def _alike(self, batch: Batch, slot: Slot, messages: Sequence[Message], index: int, end: bytes) -> int:
        """Add those that are like the first one and need nothing but a place in its list; return how many.

        Nearly all messages come this way, ten thousands a second.
        """
        like, limit, room = messages[0].like, self._limit, BYTES - batch.size
        framed, tag, frames = self._elements.framed, self._tags.next, []
        for message in messages:
            size = len(message.headers) + len(message.body)
            if message.like is not like or message.check_id or size > limit or room <= 0:
                break
            frame = framed(slot, message, tag(), end)
            room -= len(frame)
            frames.append(frame)
        if frames:
            batch.push(index, slot, frames)
        return len(frames)

    def _add(self, batch: Batch, index: int, message: Message, now: float, end: bytes) -> None:
        slot = self._elements.slot(message)
        framed = self._elements.framed(slot, message, self._tags.next(), end)
        envelope = message.envelope
        if message.check_id or envelope.not_before is not None or envelope.dedup_key is not None:
            needs = self._needs(message, slot, now)
            if needs[0]:
                return batch.add(index, slot, framed, needs)
        batch.push(index, slot, [framed])
        return None

    def _needs(self, message: Message, slot: Slot, now: float) -> list[bytes]:
        """Return letters for what the script has to do, the task's id, and what goes with each letter."""
        parts = {
            b"c": self._check(message, now),
            b"d": self._dedup(message),
            b"l": self._later(message, slot, now),
        }
        what = b"".join(letter for letter, part in parts.items() if part)
        return [what, message.envelope.id.encode(), *(value for part in parts.values() for value in part)]

    def _check(self, message: Message, now: float) -> list[bytes]:
        if not message.check_id:
            return []
        keys, envelope = self._keys, message.envelope
        ttl = self._options.result_ttl + max(0.0, (envelope.not_before or now) - now)
        return [keys.known(envelope.id), keys.result(envelope.id), keys.delayed_queues, millis(ttl)]

    def _dedup(self, message: Message) -> list[bytes]:
        key, window = message.envelope.dedup_key, message.envelope.dedup_window
        if key is None or window == 0:
            return []
        return [self._keys.dedup(key), millis(self._options.dedup_window if window is None else window)]

    def _later(self, message: Message, slot: Slot, now: float) -> list[bytes]:
        due, peers = message.envelope.not_before, self._celery.of(slot.queue)
        if due is None or due <= now or peers is True:
            return []
        keys, queue = self._keys, slot.queue
        binding = b"" if peers is False else keys.binding(queue)
        places = [keys.delayed(queue), keys.delayed_messages(queue), keys.delayed_queues]
        return [binding, repr(float(due)).encode(), *places, b"%d" % slot.step, queue.encode()]


def millis(seconds: float) -> bytes:
    """Return a TTL for PX: whole milliseconds, at least one, and no more than Redis takes."""
    return b"%d" % max(1, round(min(seconds, _LONGEST) * 1000))


def _too_large(message: Message, size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"task {message.envelope.task!r} is {size:,} bytes with its headers, the limit is {limit:,}",
        size=size,
        limit=limit,
        task_id=message.envelope.id,
    )


def _unwritable(message: Message, cause: UnicodeEncodeError) -> TranshipError:
    envelope = message.envelope
    names = f"queue {envelope.queue!r}, dedup key {envelope.dedup_key!r}"
    error = InvalidOptionError(f"{names}: one of them holds half a character", task_id=envelope.id)
    error.__cause__ = cause
    return error
