"""What outlives the connections of one backend, and what works over the one that is there now."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, cast

from tranship.driver import Kit
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._queue_names import QueueNames
from tranship_rabbitmq._tables import Tables

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._link import Link
    from tranship_rabbitmq._log import RabbitLog
    from tranship_rabbitmq._publisher import Publisher
    from tranship_rabbitmq._replies import Replies
    from tranship_rabbitmq._topology import Topology

__all__ = ["Context"]


class Context:
    """Handed to whatever a backend is made of.

    Args:
        options: of the URL.

    Attributes:
        names: on the server.
        tables: converts headers.
        address: the queue of results for this process.
        worked: queues that were there once: what is refused later may pass.
        odd: queues whose operator has given them arguments of his own, with the server's words for it.
        streams_kept: whether a killed server would find its streams again.
        queue_names: of everybody.
        kit: set when the backend is made.
        replies: likewise.
    """

    kit: Kit
    replies: Replies

    def __init__(self, options: RabbitOptions) -> None:
        self.options, self.names, self.tables = options, Names(options), Tables()
        self.address = str(uuid.uuid4())
        self.worked: set[str] = set()
        self.odd: dict[str, str] = {}
        self.streams_kept = False
        self.queue_names = QueueNames()

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has.
        """
        self.kit.check()

    @property
    def connection(self) -> RabbitConnection:
        """The connection that is there now; it and all below raise BrokerUnreachable while there is none."""
        return cast("RabbitConnection", self.kit.connection)

    @property
    def publishing(self) -> Link:
        """Submits, results, declarations: everything that is published. A server in trouble blocks it."""
        return self.connection.publishing

    @property
    def consuming(self) -> Link:
        """Everything that is consumed and settled, which a server in trouble never blocks."""
        return self.connection.consuming

    @property
    def publisher(self) -> Publisher:
        """Tasks, results, and what has to outlive a crash."""
        return self.connection.publisher

    @property
    def side_publisher(self) -> Publisher:
        """What may fail through others, such as answers to exchanges that are gone: it must not take tasks along."""
        return self.connection.side_publisher

    @property
    def topology(self) -> Topology:
        """Declares."""
        return self.connection.topology

    @property
    def log(self) -> RabbitLog:
        """What everybody has to know, and who comes later, too."""
        return self.connection.log
