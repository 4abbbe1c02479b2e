"""Waking whoever waits for messages: the server says when a list that was found empty has changed.

An empty claim has read every list it wants, which makes the server send one ``invalidate`` for the next change of
each, by whoever. Where it does not (RESP2, no permission, switched off) waiting consumers look every few
milliseconds instead.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Collection
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.errors import TranshipError
from tranship.ports import ConnectionEvent
from tranship_redis._link import Link
from tranship_redis._pack import pack
from tranship_redis._wire import Reply

__all__ = ["Bell", "Wake"]

log = logging.getLogger("tranship.redis")

SAFETY: Final = 2.0
"""Seconds after which a waiting consumer looks again even if nothing was heard: a push may get lost."""
FIRST_POLL: Final = 0.005
LONGEST_POLL: Final = 0.05
_TRACK: Final = pack(b"CLIENT", b"TRACKING", b"ON", b"NOLOOP")

Bell = Callable[[Collection[bytes] | None], None]
"""Called with keys that may have changed; None: any."""


class Wake:
    """The bells of the consumers on one link.

    Args:
        link: the one they claim on.
        wanted: whether to ask the server for its pushes at all.
    """

    def __init__(self, link: Link, *, wanted: bool) -> None:
        self.tracking = False
        """Whether the server tells of changes."""
        self._link, self._wanted, self._asked = link, wanted, 0
        self._bells: dict[Bell, Collection[bytes]] = {}
        link.on_event(self._on_event)
        link.on_push(b"invalidate", self._changed)
        link.on_up(self._on_up)

    def hang(self, bell: Bell, keys: Collection[bytes]) -> None:
        """From now on call ``bell`` when one of ``keys`` may have changed, or the connection."""
        self._bells[bell] = keys

    def take_down(self, bell: Bell) -> None:
        """No more."""
        self._bells.pop(bell, None)

    def ring(self, keys: Collection[bytes] | None = None) -> None:
        """Something was put into ``keys`` over this very connection, of which the server does not tell us."""
        for bell in tuple(self._bells):
            bell(keys)

    @property
    def lifetime(self) -> float:
        """Seconds for which it is believed that an empty list has stayed empty unless the server says something."""
        return SAFETY if self.tracking else 0.0

    def patience(self, looks: int) -> float:
        """Seconds to wait after so many looks in a row that found nothing."""
        if self.tracking:
            return SAFETY
        return min(LONGEST_POLL, FIRST_POLL * 1.5 ** min(looks, 10)) * random.uniform(0.8, 1.2)

    def _changed(self, frame: list[Any]) -> None:
        keys = frame[1]
        if keys is None:  # everything: somebody flushed the database
            return self.ring()
        for bell, wanted in tuple(self._bells.items()):
            if any(key in wanted for key in keys):
                bell(keys)
        return None

    async def _on_up(self) -> None:
        self.track()

    def track(self) -> None:
        """Ask the server for its pushes, once over each connection."""
        # With no connection there will be a next one.
        with contextlib.suppress(TranshipError):
            if self._wanted and self._asked != self._link.generation and self._link.server.is_resp3:
                self._link.post(_TRACK, self._answered)
                self._asked = self._link.generation

    def _answered(self, reply: Reply) -> None:
        self.tracking = not isinstance(reply, Exception)
        if isinstance(reply, ResponseError):
            log.warning("the server does not tell of changes, so workers look for themselves: %s", reply)

    def _on_event(self, event: ConnectionEvent, _generation: int) -> None:
        # Whoever waits must learn that the connection is gone.
        if event is ConnectionEvent.LOST:
            self.ring()
