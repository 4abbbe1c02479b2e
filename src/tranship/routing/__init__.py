"""Several brokers as one: the first that works (``failover``), or all in turn (``round-robin``)."""

from tranship.routing._backend import RoutedBackend
from tranship.routing._breaker import Circuit
from tranship.routing._options import RoutingOptions, brokers_of
from tranship.routing._status import BrokerStatus, RoutingStatus
from tranship.routing._urls import failover, round_robin

__all__ = [
    "BrokerStatus",
    "Circuit",
    "RoutedBackend",
    "RoutingOptions",
    "RoutingStatus",
    "brokers_of",
    "failover",
    "round_robin",
]
