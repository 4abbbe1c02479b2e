"""Several brokers in code: the URL that stands for them, for whoever takes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tranship.checks import mapping, positive
from tranship.errors import InvalidOptionError
from tranship.routing._options import RoutingOptions, brokers_of
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
        InvalidURLError: one that cannot be read, or is there twice, or none at all.
        InvalidOptionError: an option of the router outside what is allowed.
    """
    if "weights" in options:
        raise InvalidOptionError("weights mean nothing to failover, which uses one broker at a time; use round_robin")
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
        InvalidURLError: one that cannot be read, or is there twice, or none at all.
        InvalidOptionError: a weight that is not above 0, an option of the router outside what is allowed.
    """
    further = mapping("weights", weights or {})
    shares = [1.0] * len(brokers) + [positive("weights", one) for one in further.values()]
    return _url("round-robin", (*brokers, *further), {"weights": ",".join(f"{one:g}" for one in shares), **options})


def _url(scheme: str, brokers: Sequence[str], options: Mapping[str, Any]) -> str:
    members = {str(number): BrokerURL.parse(one).reveal() for number, one in enumerate(brokers, 1)}
    given = {name: "none" if value is None else str(value) for name, value in options.items()}
    url = BrokerURL(scheme=scheme, options={**given, **members})
    # Said where the mistake is, not where the URL is used.
    brokers_of(url, RoutingOptions.read(url))
    return url.reveal()
