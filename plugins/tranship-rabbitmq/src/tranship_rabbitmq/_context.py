"""What outlives the connections of one backend."""

from __future__ import annotations

import uuid

from tranship_rabbitmq._log import QueueNames
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._tables import Tables

__all__ = ["Context"]


class Context:
    """Handed to whatever a backend is made of.

    Args:
        options: of the URL.

    Attributes:
        names: on the server.
        tables: converts headers.
        address: the queue of results for this process.
        is_answered: whether that queue has been declared once.
        worked: queues that were there once: what is refused later may pass.
        tops: ``x-max-priority`` of queues that were declared with one by somebody else.
        told: queues nobody reads, of which that has been said.
        odd: queues whose operator has given them arguments of his own, with the server's words for it.
        streams_kept: whether a killed server would find its streams again.
        queue_names: of everybody.
    """

    def __init__(self, options: RabbitOptions) -> None:
        self.options, self.names, self.tables = options, Names(options), Tables()
        self.address, self.is_answered = str(uuid.uuid4()), False
        self.worked: set[str] = set()
        self.odd: dict[str, str] = {}
        self.tops: dict[str, int] = {}
        self.told: set[str] = set()
        self.streams_kept = False
        self.queue_names = QueueNames()
