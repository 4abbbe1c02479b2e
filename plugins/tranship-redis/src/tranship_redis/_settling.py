"""Ending deliveries, once each, whatever becomes of the connection.

A batch whose answer was lost with the connection may have been carried out. Batches are numbered, one is under way
at a time, and the script keeps number and answers of the last one in a key, the marker. The next batch asks for it:
if the marker has the number of the batch without an answer, these are its answers; if not, that batch was not
carried out, and never will be, because the marker shuts out lower numbers from now on. So who settles again gets
the first answer, and LOST means that it really was.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Settled, Settlement
from tranship_redis._context import Context
from tranship_redis._endings import Endings, weight
from tranship_redis._errors import error_of
from tranship_redis._held import MOST, Held, microseconds
from tranship_redis._link import Link
from tranship_redis._pack import Part
from tranship_redis._scripts import Script

__all__ = ["Settling"]

Said = Settled | TranshipError

BYTES: Final = 1 << 20
"""A batch is full with so many; the last settlement may exceed it."""
TTL: Final = 3600
"""Seconds the marker is kept; much longer than anybody tries to settle again."""
_UNSURE: Final = 10_000
"""Settlements without an answer that are remembered; those beyond are the oldest."""
_SETTLE: Final = Script("settle")
_ANSWERS: Final = {ord("1"): Settled.CONFIRMED, ord("0"): Settled.LOST}


class Settling:
    """Carries out the settlements of one consumer.

    Args:
        ctx: the backend's.
        name: of the consumer, in ASCII; in the name of its marker.
        ended: called with the tokens of deliveries that are not held any more.
    """

    def __init__(self, ctx: Context, name: str, ended: Callable[[Collection[Held]], None]) -> None:
        keys = ctx.keys
        marker = keys.prefix + b"tranship:settled:" + name.encode()
        names = [keys.unacked, keys.unacked_index, keys.leases, keys.deliveries, keys.letters, keys.letter_names]
        self._keys = [*names, keys.delayed_queues, marker]
        self._lease = microseconds(ctx.options.lease)
        self._endings = Endings(ctx)
        self._ended = ended
        self._batches = itertools.count(1)
        self._turn = asyncio.Lock()
        self._memory = _Memory()

    async def settle(self, link: Link, settlements: Sequence[Settlement]) -> list[Said]:
        """Carry out ``settlements``, one batch after the other, and say of each what became of it.

        Raises:
            BrokerUnreachable, ...: nothing is known of any of them. Settled again, what was carried out is.
        """
        answers: list[Said] = []
        async with self._turn:
            for part in _parts(settlements):
                try:
                    answers += await self._part(link, part)
                except TranshipError as error:
                    if not answers:
                        raise
                    return answers + [error] * (len(settlements) - len(answers))
        return answers

    async def _part(self, link: Link, settlements: Sequence[Settlement]) -> list[Said]:
        answers = {one: said for one in settlements if (said := self._known(one)) is not None}
        open_ = [one for one in settlements if one not in answers]
        if open_:
            answers |= await self._batch(link, open_)
        self._ended([one.delivery.token for one, said in answers.items() if isinstance(said, Settled)])
        return [answers[one] for one in settlements]

    def _known(self, settlement: Settlement) -> Said | None:
        """Return what is known without asking: that it cannot be carried out, or that it was, in a batch whose answer
        was lost.
        """
        return settlement.problem or self._memory.told.pop(settlement.delivery.token.token, None)

    async def _batch(self, link: Link, settlements: Sequence[Settlement]) -> dict[Settlement, Said]:
        number, memory = next(self._batches), self._memory
        count, *parts = self._endings.arguments(settlements)
        arguments: list[Part] = [number, self._lease, TTL, count, *parts, *memory.asked(settlements)]
        try:
            text, refusal, marker = await link.run(_SETTLE, self._keys, arguments)
        except (BrokerUnreachable, asyncio.CancelledError):
            memory.lost(settlements, number)
            raise
        memory.heard(settlements, marker)
        refused: TranshipError | None = None
        if refusal:
            refused = error_of(ResponseError(refusal.decode(errors="replace")), doing=f"{link.place}: settling")
        return {one: _ANSWERS.get(said) or _sure(refused) for one, said in zip(settlements, text, strict=True)}


def _sure(refused: TranshipError | None) -> TranshipError:
    assert refused is not None, "the script refused a settlement and does not say why"
    return refused


class _Memory:
    """What a consumer knows of settlements whose answer was lost with the connection."""

    def __init__(self) -> None:
        self.told: dict[bytes, Settled] = {}
        """Answers that were found in the marker, and that nobody has heard."""
        self.unsure: dict[bytes, list[tuple[int, int]]] = {}
        """Batches without an answer that a delivery was settled in, and its place in each."""

    def asked(self, settlements: Sequence[Settlement]) -> list[Part]:
        """Return what the script is to look up before it carries them out."""
        parts: list[Part] = []
        if self.unsure:
            for item, one in enumerate(settlements, 1):
                for batch, place in self.unsure.get(one.delivery.token.token, ()):
                    parts += ("asked", item, batch, place)
        return parts

    def lost(self, settlements: Sequence[Settlement], batch: int) -> None:
        """There was no answer to this batch."""
        for place, one in enumerate(settlements, 1):
            self.unsure.setdefault(one.delivery.token.token, []).append((batch, place))
        _bound(self.unsure)

    def heard(self, settlements: Sequence[Settlement], marker: bytes) -> None:
        """There was one, and with it the marker from before: what is not in there will never be carried out."""
        if not self.unsure:
            return
        number, _, text = marker.partition(b":")
        unsure, self.unsure = self.unsure, {}
        for one in settlements:
            unsure.pop(one.delivery.token.token, None)
        for token, attempts in unsure.items():
            for batch, place in attempts:
                if number == b"%d" % batch and text[place - 1] in _ANSWERS:
                    self.told[token] = _ANSWERS[text[place - 1]]
        _bound(self.told)


def _bound(remembered: dict[bytes, Any]) -> None:
    while len(remembered) > _UNSURE:
        del remembered[next(iter(remembered))]


def _parts(settlements: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """Cut settlements into portions that the server carries out at once."""
    start = size = 0
    for number, settlement in enumerate(settlements):
        if number - start >= MOST or size >= BYTES:
            yield settlements[start:number]
            start, size = number, 0
        size += weight(settlement)
    yield settlements[start:]
