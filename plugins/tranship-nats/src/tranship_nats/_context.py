"""What the ports of one backend share."""

from __future__ import annotations

from dataclasses import dataclass, field

from tranship.guards import Gate
from tranship_nats._api import Api
from tranship_nats._clock import ServerClock
from tranship_nats._ghosts import Ghosts
from tranship_nats._levels import Consumers
from tranship_nats._link import Link
from tranship_nats._message import RESERVE
from tranship_nats._names import Names
from tranship_nats._options import NatsOptions
from tranship_nats._pushed import Expectations
from tranship_nats._recent import Recent
from tranship_nats._streams import Streams

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Handed to each port of a backend when it is made; everything in it is open."""

    options: NatsOptions
    names: Names
    link: Link
    api: Api
    streams: Streams
    expected: Expectations
    """Whose results are pushed to us."""
    consumers: Consumers
    """What pulls need at the server."""
    ghosts: Ghosts
    """What a killed server gets wrong."""
    recent: Recent
    """What has been settled here lately."""
    max_payload: int
    """The server's limit in bytes."""
    clock: ServerClock
    gate: Gate = field(repr=False)

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has.
        """
        self.gate.check()

    @property
    def max_message_size(self) -> int:
        """Bytes of body and header map together: the option of that name, or what the server leaves."""
        return max(1, min(self.options.max_message_size, self.max_payload - RESERVE))
