"""What is known of a broker beyond a connection."""

from __future__ import annotations

from tranship.clocks import Clock
from tranship_redis._batch import Writer
from tranship_redis._element import Elements
from tranship_redis._journal import SubmitJournal
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._options import RedisOptions

__all__ = ["Broker"]


class Broker:
    """Shared by all connections of one backend.

    Args:
        options: of the URL.
        keys: of the namespace.
        clock: the server's.

    Attributes:
        elements: builds the elements of lists.
        writer: turns messages into batches.
        lost: the journals of connections that have gone, by the identity of the batches whose answers went with them.
    """

    def __init__(self, options: RedisOptions, keys: Keys, clock: Clock) -> None:
        self.options, self.keys, self.clock = options, keys, clock
        self.levels = Levels(keys, options.normal_step)
        self.elements = Elements(keys, self.levels)
        self.writer = Writer(self.elements, keys, options, clock)
        self.lost: dict[int, SubmitJournal] = {}
