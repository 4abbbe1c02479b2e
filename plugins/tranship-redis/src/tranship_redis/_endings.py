"""Settlements as the script takes them: five arguments for each, and what makes one more than an ACK."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tranship import codec
from tranship.driver import Outgoing, Taken
from tranship.driver._dead import DeadLetters
from tranship.envelope import Envelope
from tranship.ports import Settlement, Verdict
from tranship.protocol import Message
from tranship_redis._context import Context
from tranship_redis._element import Elements, Tags
from tranship_redis._held import Held
from tranship_redis._pack import Part, millis

__all__ = ["Endings", "weight"]

_OWN: Final = 200
"""About what a settlement weighs without document and element, in bytes."""


def weight(settlement: Settlement) -> int:
    """Return about how many bytes a settlement takes."""
    result, replacement = settlement.result, settlement.replacement
    if settlement.verdict is Verdict.REJECT:
        return _OWN + len(settlement.delivery.message.body) + (len(result.document) if result else 0)
    return _OWN + (len(result.document) if result else 0) + (replacement.size if replacement else 0)


class Endings:
    """Writes settlements down; one per consumer."""

    def __init__(self, ctx: Context) -> None:
        self._keys = ctx.keys
        self._clock = ctx.clock
        self._levels = ctx.levels
        self._celery = ctx.options.celery_queues
        self._ttl = millis(ctx.options.result_ttl)
        self._packed = ctx.options.result_serializer == "msgpack"
        self._elements = Elements(ctx.keys, ctx.levels)
        self._tags = Tags()

    def arguments(self, settlements: Sequence[Settlement]) -> list[Part]:
        """Return what the script is told of ``settlements``."""
        parts: list[Part] = []
        more: list[Part] = []
        for number, settlement in enumerate(settlements, 1):
            held: Held = settlement.delivery.token
            result = settlement.result
            if result is None:
                parts += (held.token, held.tag, b"", b"", b"")
            else:
                ttl = self._ttl if result.ttl is None else millis(result.ttl)
                parts += (held.token, held.tag, self._key(result.id), ttl, result.document)
            if held.letter:
                more += ("quarantined", number)
            elif settlement.delivery.delivery_count > 1 and settlement.verdict is not Verdict.NACK:
                more += ("counted", number)
            if settlement.verdict is not Verdict.ACK or settlement.replacement is not None:
                more += self._verdict(number, settlement)
        return [len(settlements), *parts, *more]

    def _verdict(self, number: int, settlement: Settlement) -> list[Part]:
        message = settlement.replacement
        if message is not None:
            return self._replacement(number, message)
        if settlement.verdict is Verdict.NACK:
            return ["nack", number]
        return ["reject", number, *self._letter(settlement)]

    @staticmethod
    def _letter(settlement: Settlement) -> tuple[bytes, bytes]:
        """Return the dead letter that a delivery becomes: the name of its row, and what is stored."""
        one = settlement.delivery
        taken = Taken(one.token, one.queue, one.priority, one.message, one.delivery_count)
        row = DeadLetters.row(taken, settlement)
        return row.key.encode(), b"1\n" + row.value

    def _replacement(self, number: int, message: Message) -> list[Part]:
        envelope, now = message.envelope, self._clock.now()
        element = self._elements.build(Outgoing.of(message), tag=self._tags.next(), timestamp=b"%.3f" % now)
        queue, due = envelope.queue, envelope.not_before
        if due is None or due <= now:
            parts: list[Part] = ["replace", number, self._levels.key(queue, envelope.priority), element]
        else:
            name = envelope.id.encode(errors="surrogatepass")
            where = (self._keys.delayed(queue), self._keys.delayed_messages(queue), name, queue)
            step = b"%d" % self._levels.step(envelope.priority)
            parts = ["delay", number, *where, repr(float(due)), step + element]
        return parts + self._retrying(number, envelope)

    def _retrying(self, number: int, envelope: Envelope) -> list[Part]:
        peers, key = self._celery.of(envelope.queue), self._key(envelope.id)
        if peers is False or not envelope.keeps_result or not key:
            return []
        binding = b"" if peers else self._keys.binding(envelope.queue)
        ttl = self._ttl if envelope.result_ttl is None else millis(envelope.result_ttl)
        return ["retrying", number, binding, key, ttl, self._retry(envelope.id)]

    def _key(self, task_id: str) -> bytes:
        """The key of a result; none for an id that is no text: nobody can ask for it, and the task must end."""
        try:
            return self._keys.result(task_id)
        except UnicodeEncodeError:
            return b""

    def _retry(self, task_id: str) -> bytes:
        """What tells Celery's clients that another attempt follows."""
        document: Mapping[str, Any] = {
            "status": "RETRY",
            "result": None,
            "traceback": None,
            "children": [],
            "date_done": None,
            "task_id": task_id,
        }
        return codec.dumps(document, codec.MSGPACK) if self._packed else json.dumps(document).encode()
