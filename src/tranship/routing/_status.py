"""What a router tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tranship.ports import Backend
from tranship.routing._breaker import Circuit

__all__ = ["BrokerStatus", "Counts", "RoutingStatus"]


@dataclass(slots=True)
class Counts:
    """Counted since the backend was made."""

    republished: int = 0
    """Tasks given to another broker although the first one may have them: as many may run twice."""
    duplicates: int = 0
    """Of those, the ones that turned out to be at both brokers."""
    ran_twice: int = 0
    """Tasks with a result at two brokers; who waits sees one of them only."""
    switches: int = 0
    """How often another broker became the one in use (``failover``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """One broker of a router."""

    url: str
    """Without secrets."""
    weight: float
    circuit: Circuit
    active: bool
    """Whether new tasks go there: with ``failover`` to one only."""
    accepted: int
    """Tasks it has taken from us."""
    failures: int
    """Calls that have failed."""
    problem: str | None
    """Why it is not used."""
    backend: Backend
    """The broker's own; its ``native`` is the driver's object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingStatus:
    """``backend.native`` of a router: a snapshot."""

    brokers: Sequence[BrokerStatus]
    republished: int
    duplicates: int
    ran_twice: int
    switches: int
