"""What comes over the control channel, for a link, which is no worker. Loaded by the first who wants to hear it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tranship.ports import ONLOOKER, ControlChannel, Signal, SignalSink

__all__ = ["Onlooking"]


class Onlooking:
    """One feed for all that a link wants to hear, on its loop.

    Args:
        control: the channel.
    """

    def __init__(self, control: ControlChannel) -> None:
        self._control = control
        self._hearers: list[SignalSink] = []
        self._opening = asyncio.Lock()
        self._listens = False

    async def listen(self, heard: SignalSink) -> None:
        """From now on call ``heard`` with what comes, once for each hearer.

        What comes first, every live cancel, is for those alone who listen before anybody else does.

        Raises:
            BrokerUnreachable: nobody listens now who has not listened before.
        """
        if heard in self._hearers:
            return
        self._hearers.append(heard)
        try:
            async with self._opening:
                if not self._listens:
                    await self._control.listen(self._heard, worker=ONLOOKER)
                    self._listens = True
        except BaseException:
            self._hearers.remove(heard)
            raise

    def _heard(self, signals: Sequence[Signal]) -> None:
        for one in list(self._hearers):
            one(signals)
