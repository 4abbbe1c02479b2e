"""What is known of a broker beyond a connection."""

from __future__ import annotations

from tranship.clocks import Clock
from tranship_redis._batch import Writer
from tranship_redis._claims import Claims
from tranship_redis._element import Elements
from tranship_redis._journal import SubmitJournal
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._options import RedisOptions
from tranship_redis._settlements import SettlementMemory

__all__ = ["Broker"]


class Broker:
    """Shared by all connections of one backend.

    Args:
        options: of the URL.
        keys: of the namespace.

    Attributes:
        clock: the server's; set once the backend is made.
        elements: builds the elements of lists.
        writer: turns messages into batches.
        claims: makes the claims.
        works: whether there are consumers, or have been.
        lost_claims: ends of the tokens of claims whose answer was lost, and when, by the loop's clock.
        unreturned: tokens of deliveries that were to be given back, by a command whose answer was lost.
        settlements: what is known of endings whose answer was lost.
        lost: the journals of connections that have gone, by the identity of the batches whose answers went with them.
    """

    def __init__(self, options: RedisOptions, keys: Keys) -> None:
        self.options, self.keys, self.clock = options, keys, Clock()
        self.levels = Levels(keys, options.normal_step)
        self.elements = Elements(keys, self.levels)
        self.writer = Writer(self.elements, keys, options, self.now)
        self.lost: dict[int, SubmitJournal] = {}
        self.claims = Claims(options, keys, self.levels)
        self.works = False
        self.lost_claims: dict[bytes, float] = {}
        self.unreturned: set[bytes] = set()
        self.settlements = SettlementMemory(self.claims.id)

    def now(self) -> float:
        """Return what time it is at the server."""
        return self.clock.now()
