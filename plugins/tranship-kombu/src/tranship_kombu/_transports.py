"""What is known of each of kombu's transports: what it needs, what it promises, and what becomes of a held message."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tranship.errors import UnknownSchemeError
from tranship_kombu._schemes import transport_of

__all__ = ["NAMED", "TRANSPORTS", "Transport", "find"]

Held = Literal["lease", "connection", "timeout", "lost"]
"""Until when a message that was taken is its worker's: ``lease``: while it is renewed; ``connection``: while the worker
lives; ``timeout``: for a fixed time, however long the task runs; ``lost``: for good, also when the worker is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """One of kombu's transports."""

    name: str
    """What it is called here, in reports and errors: with ``kombu+`` the scheme of its URLs, or how it begins."""
    alias: str
    """kombu's name for it."""
    install: str
    """What ``pip install`` is to be told."""
    held: Held
    durable: bool = True
    shared: bool = True
    """Whether several processes have the same queues."""
    levels: bool = False
    order: Literal["keeps-place", "back"] | None = None
    """First in, first out, where that has been tried."""
    polling: float = 1.0
    """Seconds between two looks at an empty queue, unless the URL says otherwise."""
    timeout: tuple[str, float] | None = None
    """Where a held message comes back after a time: the option of the transport that says it, and its default."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the transport that kombu has other defaults for: a take that finds nothing must not wait."""
    amqp: bool = False
    """Whether it speaks AMQP itself, and is none of kombu's virtual ones."""
    opens_by_request: bool = False
    """Whether opening a connection is a request itself, whose answer may take as long as that of any other."""
    own: str | None = None
    """A class of ours, in the place of kombu's, that loses nothing when a worker is killed."""


def _redis(name: str, alias: str) -> Transport:
    return Transport(
        name=name,
        alias=alias,
        install="kombu[redis]",
        held="timeout",
        # As good as the server's append-only file, which the bridge does not look at.
        durable=False,
        levels=True,
        order="back",
        polling=0.05,
        timeout=("visibility_timeout", 3600.0),
    )


def _amqp(name: str) -> Transport:
    return Transport(
        name=name,
        alias=name,
        install="kombu",
        held="connection",
        order="keeps-place",
        polling=0.05,
        amqp=True,
        options={"confirm_publish": True},
    )


TRANSPORTS: Final = (
    Transport(
        name="memory",
        alias="memory",
        install="kombu",
        held="lost",
        durable=False,
        shared=False,
        order="back",
        polling=0.05,
    ),
    Transport(
        name="filesystem",
        alias="filesystem",
        install="kombu",
        # On Windows it is kombu's as it is: there are no such locks.
        held="connection" if os.name == "posix" else "lost",
        polling=0.05,
        own="tranship_kombu._filesystem:Transport" if os.name == "posix" else None,
    ),
    Transport(
        name="sqla",
        alias="sqla",
        install="kombu[sqlalchemy]",
        held="lease",
        order="keeps-place",
        polling=0.05,
        own="tranship_kombu._tables:Transport",
    ),
    _amqp("pyamqp"),
    _amqp("amqp"),
    _amqp("amqps"),
    _redis("redis", "redis"),
    _redis("rediss", "rediss"),
    _redis("redis+socket", "redis"),
    _redis("sentinel", "sentinel"),
    Transport(
        name="sqs",
        alias="sqs",
        install="kombu[sqs]",
        held="timeout",
        timeout=("visibility_timeout", 1800.0),
        options={"wait_time_seconds": 0},
        # It asks which queues there are.
        opens_by_request=True,
    ),
    Transport(
        name="gcpubsub",
        alias="gcpubsub",
        install="kombu[gcpubsub]",
        # kombu extends the deadline of what is held in a thread of its own.
        held="connection",
        options={"wait_time_seconds": 1},
    ),
    Transport(
        name="azureservicebus",
        alias="azureservicebus",
        install="kombu[azureservicebus]",
        held="timeout",
        timeout=("peek_lock_seconds", 60.0),
        options={"wait_time_seconds": 1},
    ),
    Transport(name="azurestoragequeues", alias="azurestoragequeues", install="kombu[azurestoragequeues]", held="lost"),
    Transport(
        name="pgmq",
        alias="pgmq",
        install="kombu[pgmq]",
        held="timeout",
        timeout=("visibility_timeout", 1800.0),
        polling=0.1,
        options={"wait_time_seconds": 0},
    ),
    Transport(name="mongodb", alias="mongodb", install="kombu[mongodb]", held="lost", polling=0.1),
    Transport(name="mongodb+srv", alias="mongodb", install="kombu[mongodb] dnspython", held="lost", polling=0.1),
    Transport(name="zookeeper", alias="zookeeper", install="kombu[zookeeper]", held="lost", polling=0.1),
    Transport(
        name="confluentkafka",
        alias="confluentkafka",
        install="kombu[confluentkafka]",
        held="connection",
        options={"wait_time_seconds": 1},
    ),
    Transport(
        name="kafka",
        alias="kafka",
        install="kombu[confluentkafka]",
        held="connection",
        options={"wait_time_seconds": 1},
    ),
    Transport(name="consul", alias="consul", install="kombu[consul]", held="lost"),
    Transport(name="etcd", alias="etcd", install="python-etcd", held="lost"),
    Transport(name="pyro", alias="pyro", install="kombu[pyro]", durable=False, held="lost"),
)
"""In the order of the docs."""

NAMED: Final = {one.name: one for one in TRANSPORTS}


def find(scheme: str) -> Transport:
    """Return the transport that serves URLs of ``scheme``.

    Raises:
        UnknownSchemeError: there is none.
    """
    name = transport_of(scheme)
    if name.startswith(("sqla+", "sqlalchemy+")):
        name = "sqla"
    if name not in NAMED:
        raise UnknownSchemeError(f"kombu has no transport for {scheme}://; there are: {', '.join(NAMED)}")
    return NAMED[name]
