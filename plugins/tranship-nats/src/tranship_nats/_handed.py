"""What has been handed out by a consumer: renewed, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from tranship.errors import TranshipError
from tranship_nats._asks import Answer
from tranship_nats._errors import Lost, again, no_responders
from tranship_nats._held import NAK, PROGRESS, Held, Taken, mark_of
from tranship_nats._link import Link
from tranship_nats._tidy import tidy

__all__ = ["Handed"]


class Handed:
    """The deliveries of one consumer that have not been settled.

    Args:
        link: the backend's.
        api: what JetStream's requests begin with.
    """

    def __init__(self, link: Link, api: str) -> None:
        self._link = link
        self._api = api
        self._held: dict[bytes, Held] = {}

    def add(self, held: Iterable[Held]) -> None:
        """These are in somebody's hands."""
        self._held.update((one.mark, one) for one in held)

    def forget(self, held: Iterable[Held]) -> None:
        """These may have been settled."""
        for one in held:
            if one.done and self._held.get(one.mark) is one:
                del self._held[one.mark]

    def takes_over(self, taken: Taken, lease: float) -> bool:
        """Whether a message is in somebody's hands here: a server that was killed may not know, and send it again.

        The new delivery then stands for the old one.
        """
        held = self._held.get(mark_of(taken.ack))
        if held is None or held.done or held.until <= taken.at:
            return False
        held.ack, held.until = taken.ack, taken.at + lease
        return True

    def clear(self) -> list[Held]:
        """Return all of them, and know none any more."""
        held = list(self._held.values())
        self._held.clear()
        return held

    async def renew(self, held: Sequence[Held], lease: float) -> list[bool]:
        """Renew leases; whether each is still held. One that has ended by our clock stays lost.

        Raises:
            BrokerUnreachable.
        """
        now = asyncio.get_running_loop().time()
        ours = [one for one in held if not one.done and one.until > now and not one.early]
        answers = await self._link.ask_all([(one.ack, b"", PROGRESS) for one in ours])
        renewed = {one for one, answer in zip(ours, answers, strict=True) if _is_done(answer)}
        for one in renewed:
            one.until = now + lease
        return [one in renewed or (one.early and not one.done) for one in held]

    async def give_back(self, held: Sequence[Held]) -> None:
        """Let others have them, now.

        Raises:
            BrokerUnreachable: some come back when their lease ends.
        """
        now = asyncio.get_running_loop().time()
        # What was taken early has never left the schedule.
        ours = [one for one in held if not one.done and (one.until > now or not one.until) and not one.early]
        # Before the server knows: given back twice, it would be taken from its next owner.
        for one in held:
            one.done = True
        self.forget(held)
        await tidy(self._link, self._api, [one.ack for one in ours])
        answers = await self._link.ask_all([(one.ack, b"", NAK) for one in ours])
        if lost := [answer for answer in answers if isinstance(answer, Lost)]:
            raise again(lost[0])


def _is_done(answer: Answer) -> bool:
    """Whether a renewal was confirmed.

    Raises:
        BrokerUnreachable: the answer was lost.
    """
    if isinstance(answer, TranshipError):
        raise again(answer)
    return not no_responders(answer[0])
