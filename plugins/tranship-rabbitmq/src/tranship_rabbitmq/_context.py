"""What the ports of one backend share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tranship.guards import Gate
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq._tables import Tables

if TYPE_CHECKING:
    from tranship_rabbitmq._log import RabbitLog
    from tranship_rabbitmq._publisher import Publisher
    from tranship_rabbitmq._queue_names import QueueNames
    from tranship_rabbitmq._topology import Topology

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Handed to each port of a backend when it is made."""

    options: RabbitOptions
    names: Names
    tables: Tables
    publishing: Supervisor
    """Submits, results, declarations: everything that is published. A server in trouble blocks it."""
    consuming: Supervisor
    """Everything that is consumed and settled, which a server in trouble never blocks."""
    publisher: Publisher
    """Tasks, results, and what has to outlive a crash."""
    side_publisher: Publisher
    """What may fail through others, such as answers to exchanges that are gone: it must not take tasks along."""
    topology: Topology
    log: RabbitLog
    """What everybody has to know, and who comes later, too."""
    queue_names: QueueNames
    name: str
    """The plugin's name, for errors."""
    url: str
    """Where it is connected, without secrets."""
    address: str
    """The queue of results for this process."""
    gate: Gate = field(repr=False)

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has.
        """
        self.gate.check()
