"""The server's clock: delayed tasks become due by it, whoever moves them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import orjson

from tranship.clocks import Clock
from tranship.errors import TranshipError
from tranship_nats._api import Api
from tranship_nats._errors import STREAM_MISSING, error_in, no_responders
from tranship_nats._names import Names
from tranship_nats._streams import Streams

__all__ = ["ServerClock"]


class ServerClock:
    """Reads the server's clock.

    nats-server says what time it is with every stream that it describes, from 2.10 on. Before, it is seen in the time
    of a message that is stored for the purpose, among the heartbeats: only where workers have made room for those.

    Args:
        api: of the link.
        names: of the namespace.
        streams: of the namespace.
        clock: what is read is noted there.
    """

    def __init__(self, api: Api, names: Names, streams: Streams, clock: Clock) -> None:
        self.clock = clock
        self._api = api
        self._names = names
        self._streams = streams

    def now(self) -> float:
        """Return what time it is there, in epoch seconds."""
        return self.clock.now()

    async def read(self) -> None:
        """Ask the server what time it is; where it does not say, nothing changes.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        asked = time.time()
        info = await self._api.find(f"STREAM.INFO.{self._names.work}", STREAM_MISSING)
        there = None if info is None else _moment(info.get("ts"))
        if there is not None:
            self.clock.read(asked, there)
        elif info is not None and "workers" in self._streams.found:
            await self._probe()

    async def _probe(self) -> None:
        asked = time.time()
        stream, subject = self._names.bucket("workers"), self._names.key("workers", "=clock")
        (answer,) = await self._api.make_all([(subject.encode(), b"", b"{}")])
        if isinstance(answer, TranshipError):
            raise answer
        if no_responders(answer[0]) or error_in(answer[1]) is not None:
            return
        stored = await self._api.get(stream, seq=orjson.loads(answer[1])["seq"])
        if stored is not None:
            self.clock.read(asked, stored.time)


def _moment(found: Any) -> float | None:
    try:
        return datetime.fromisoformat(found).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
