"""Sending back what a suspect would take along.

The server counts what it has sent, not what was tried. A task that may have killed its workers runs alone. Others that
were fetched with it, and would die here untried, would be counted up to the limit without ever having run: they go
back before, at the end of the queue, as copies that say how often each was really tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tranship.errors import TranshipError
from tranship_nats._asks import Answer, Ask
from tranship_nats._errors import error_in, no_responders
from tranship_nats._held import ACK, NAK, Taken
from tranship_nats._link import Link
from tranship_nats._message import TRIED, copied
from tranship_nats._recent import Recent

__all__ = ["SUSPECT", "Sparing"]

SUSPECT: Final = 3
"""Delivered this often, a message travels alone."""


class Sparing:
    """Sends messages back that were not tried.

    Args:
        link: the backend's.
        recent: what has been settled, and is not to come again.
    """

    def __init__(self, link: Link, recent: Recent) -> None:
        self._link = link
        self._recent = recent
        self._running: set[asyncio.Task[None]] = set()

    async def spare(self, taken: Sequence[Taken]) -> None:
        """Send messages back as if they had not come; those that cannot be copied are given back, and count.

        Cancelled, it goes on all the same: a copy without its original's end would be there twice.
        """
        await asyncio.shield(self.start(taken))

    def start(self, taken: Sequence[Taken]) -> asyncio.Task[None]:
        """The same, without waiting for it."""
        task = asyncio.get_running_loop().create_task(self._spare(taken))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def aclose(self) -> None:
        """Wait for what is under way."""
        if self._running:
            await asyncio.wait(self._running)

    async def _spare(self, taken: Sequence[Taken]) -> None:
        try:
            copies = await self._link.ask_all([_copy(one) for one in taken])
            ends = [ACK if _is_stored(answer) else NAK for answer in copies]
            # Before the server knows: killed now, it sends those again that have a copy.
            for one, end in zip(taken, ends, strict=True):
                if end is ACK:
                    self._recent.add(one.mark)
            await self._link.ask_all([(one.ack, b"", end) for one, end in zip(taken, ends, strict=True)])
        except TranshipError:
            # The connection was lost: they come again when their leases end.
            return


def _copy(one: Taken) -> Ask:
    headers = copied(one.block, msg_id=b"%%:spared:%d" % one.seq, more=[(TRIED, b"%d" % (one.count - 1))])
    return one.pair.subject, headers, one.data


def _is_stored(answer: Answer) -> bool:
    return not (isinstance(answer, TranshipError) or no_responders(answer[0]) or error_in(answer[1]) is not None)
