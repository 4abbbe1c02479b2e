"""Dedup keys: the stream recognises a key for a while, a bucket remembers for the whole window whose it is.

The bucket is written after the task is stored. A submitter that dies in between shortens the key's window to what
the stream remembers; it never leaves a key that is taken by a task nobody has.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

import orjson

from tranship.envelope import Envelope, Receipt
from tranship.errors import TranshipError
from tranship.protocol import Message
from tranship_nats._asks import Answer
from tranship_nats._context import Context
from tranship_nats._frames import block
from tranship_nats._message import id_in, raw_of

__all__ = ["Keys"]

log = logging.getLogger("tranship.nats")


class Keys:
    """The dedup keys of a namespace."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def msg_id(self, envelope: Envelope) -> bytes:
        """Return what the stream recognises a message with a dedup key by."""
        # No task's id is written with "%:", so that none is mistaken for a key.
        return f"%:key:{_digest(envelope)}".encode()

    async def before(self, messages: Sequence[Message], left: Sequence[int]) -> dict[int, str]:
        """Return the ids of the tasks that have the keys of some of ``messages`` already, by index."""
        keyed = [index for index in left if messages[index].envelope.dedup_key is not None]
        if not keyed:
            return {}
        api, stream = self._ctx.api, await self._ctx.streams.need("keys")
        asks = [api.getting(stream, {"last_by_subj": self._subject(messages[index].envelope)}) for index in keyed]
        found = [api.read(answer, stream) for answer in await api.make_all(asks)]
        return {index: one.data.decode(errors="replace") for index, one in zip(keyed, found, strict=True) if one}

    async def after(
        self,
        messages: Sequence[Message],
        left: Sequence[int],
        answers: Sequence[Answer],
        outcomes: list[Receipt | TranshipError],
    ) -> None:
        """Remember the keys of tasks that were stored; find out whose the others' keys are."""
        fresh: list[Envelope] = []
        for index, answer in zip(left, answers, strict=True):
            message, outcome = messages[index], outcomes[index]
            if message.envelope.dedup_key is None or not isinstance(outcome, Receipt):
                continue
            if outcome.duplicate_of is None:
                fresh.append(message.envelope)
            elif not isinstance(answer, TranshipError):
                owner = await self._owner(message, answer[1])
                outcomes[index] = Receipt(message.envelope.id, duplicate_of=owner)
        if fresh:
            await self._remember(fresh)

    async def _remember(self, envelopes: Sequence[Envelope]) -> None:
        headers = block([(b"Nats-Expected-Last-Subject-Sequence", b"0")])
        asks = [(self._subject(one).encode(), headers, one.id.encode()) for one in envelopes]
        try:
            failed = [one for one in await self._ctx.api.make_all(asks) if isinstance(one, TranshipError)]
        except TranshipError as error:
            failed = [error]
        if failed:
            # The tasks are stored all the same; only their keys are free earlier.
            log.warning("dedup keys are remembered for %g s only: %s", self._ctx.options.recognised, failed[0])

    async def _owner(self, message: Message, acknowledgement: bytes) -> str:
        """Return the id of the task that was there first, as well as it can be known."""
        known = await self._read_owner(message.envelope, acknowledgement)
        # Recognised, stored nowhere any more: submitted again, it is most likely its own earlier self.
        return known or (message.envelope.id if message.check_id else "unknown")

    async def _read_owner(self, envelope: Envelope, acknowledgement: bytes) -> str:
        ctx = self._ctx
        try:
            found: Mapping[str, object] = orjson.loads(acknowledgement)
            kind = "work" if envelope.not_before is None else "delay"
            first = await ctx.api.get(ctx.streams.name(kind), seq=found["seq"])
            if first is not None:
                return id_in(raw_of(first.block, first.data).headers)
            known = await ctx.api.get(ctx.streams.name("keys"), last_by_subj=self._subject(envelope))
        except (TranshipError, orjson.JSONDecodeError, KeyError):
            return ""
        return known.data.decode(errors="replace") if known is not None else ""

    def _subject(self, envelope: Envelope) -> str:
        return self._ctx.names.key("keys", _digest(envelope))


def _digest(envelope: Envelope) -> str:
    text = f"{envelope.queue}\0{envelope.dedup_key}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
