"""Several brokers in code: the URL that stands for them, for whoever takes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tranship.settings import BrokerURL

__all__ = ["failover", "round_robin"]


def failover(*brokers: str, **options: Any) -> str:
    """Return the URL of ``brokers`` used in this order: the first that works.

    ::

        Client(failover("redis://a/0", "redis://b/0", fail_back=60))

    Args:
        brokers: their URLs, the preferred one first.
        options: of :class:`RoutingOptions`; others go to every broker, such as ``lease=10``.

    Raises:
        InvalidURLError: one that cannot be read.
    """
    return _url("failover", brokers, options)


def round_robin(*brokers: str, weights: Mapping[str, float] | None = None, **options: Any) -> str:
    """Return the URL of ``brokers`` used in turn, by weight.

    ::

        Client(round_robin("redis://a/0", "redis://b/0"))
        Client(round_robin(weights={"redis://a/0": 3, "redis://b/0": 1}))

    Args:
        brokers: their URLs, with a weight of 1 each.
        weights: further brokers with theirs.
        options: as for :func:`failover`.

    Raises:
        InvalidURLError: one that cannot be read.
    """
    shares = {**dict.fromkeys(brokers, 1.0), **(weights or {})}
    return _url("round-robin", tuple(shares), {"weights": ",".join(f"{one:g}" for one in shares.values()), **options})


def _url(scheme: str, brokers: tuple[str, ...], options: Mapping[str, Any]) -> str:
    members = {str(number): BrokerURL.parse(one).reveal() for number, one in enumerate(brokers, 1)}
    given = {name: "none" if value is None else str(value) for name, value in options.items()}
    return BrokerURL(scheme=scheme, options={**given, **members}).reveal()
