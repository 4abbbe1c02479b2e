"""What a backend knows beyond one connection: names, the server's clock, what is in our hands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tranship.clocks import Clock
from tranship_nats._delivery import Token, Told
from tranship_nats._naming import Names
from tranship_nats._options import NatsOptions

__all__ = ["Broker"]

_MOST: Final = 20_000


class Broker:
    """The state of one backend.

    Args:
        options: of the URL.
        place: the servers, for messages.
    """

    def __init__(self, options: NatsOptions, place: str) -> None:
        self.options, self.place = options, place
        self.names = Names(options.namespace, options.domain)
        self.clock = Clock()
        self.streams: set[str] = set()
        """Streams that have been there."""
        self.leases: dict[str, float] = {}
        """Of each queue, in seconds, as far as they are known."""
        self._held: dict[bytes, Token] = {}
        self._most_held = _MOST
        self._settled: dict[bytes, None] = {}

    def held(self, token: Token, now: float) -> None:
        """Note what is in our hands, until its lease is over."""
        self._held[token.told.mark] = token
        if len(self._held) > self._most_held:
            self._held = {mark: one for mark, one in self._held.items() if one.is_ours(now)}
            self._most_held = max(_MOST, 2 * len(self._held))

    def holds(self, told: Told, now: float) -> Token | None:
        """Return the token of a message that is in our hands: a server that was killed may send it again."""
        token = self._held.get(told.mark)
        return token if token is not None and token.is_ours(now) else None

    def settled(self, tokens: Iterable[Token]) -> None:
        """Note what is done with.

        The server writes down what it has removed some time after it has said so. Killed in between it has everything
        again, and would let hundreds of tasks run twice that have ended well.
        """
        for token in tokens:
            self._settled[token.told.mark] = None
            self._held.pop(token.told.mark, None)
        while len(self._settled) > _MOST:
            del self._settled[next(iter(self._settled))]

    def was_settled(self, told: Told) -> bool:
        """Whether a message is one of the latest that were settled here."""
        return told.mark in self._settled
