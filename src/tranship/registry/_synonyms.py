"""Schemes as others call them: Celery's transports and result backends, and what people guess."""

from __future__ import annotations

from typing import Final

__all__ = ["advice", "is_bridged"]

_WRITE: Final = {
    **dict.fromkeys(("pyamqp", "py-amqp", "librabbitmq", "rabbitmq", "rabbit"), "amqp://user:password@host/vhost"),
    **dict.fromkeys(("pyamqps", "amqp+ssl", "rabbitmqs"), "amqps://user:password@host/vhost"),
    "redis+socket": "unix:///path/to/redis.sock?db=0",
    **dict.fromkeys(("redis+tls", "redis+ssl", "redis-tls"), "rediss://host/0"),
    **dict.fromkeys(
        ("sqla+sqlite", "db+sqlite", "sqlalchemy+sqlite", "sqlite3", "file"), "sqlite:////absolute/path.db"
    ),
    **dict.fromkeys(("jetstream", "nats+tls"), "tls://host:4222 or nats://host:4222"),
    **dict.fromkeys(("mem", "inmemory", "in-memory"), "memory://name"),
}
"""A scheme that something here serves under another name: what to write."""

_BRIDGED: Final = frozenset(
    {"sqs", "sentinel", "filesystem", "gcpubsub", "azureservicebus", "azurestoragequeues", "pgmq", "mongodb"}
    | {"mongodb+srv", "zookeeper", "confluentkafka", "kafka", "consul", "etcd", "pyro"}
)
"""Celery's transports that the bridge to kombu serves by the same name."""
_TABLES: Final = ("sqla+", "sqlalchemy+", "db+", "kombu+")
"""What URLs begin with that it serves, too: whatever SQLAlchemy knows, and each transport with its prefix."""
_ABSENT: Final = frozenset(
    {"redis+cluster", "rediscluster", "slmq", "qpid", "zk", "sqlalchemy", "cache", "memcached", "cache+memcached"}
    | {"s3", "dynamodb", "couchbase", "elasticsearch", "cassandra", "postgres", "postgresql", "mysql"}
)
"""What Celery or its users know and nothing here serves."""


def is_bridged(scheme: str) -> bool:
    """Whether the bridge to kombu is for URLs of this kind."""
    return scheme in _BRIDGED or scheme.startswith(_TABLES)


def advice(scheme: str) -> str:
    """Return what helps somebody who has written ``scheme``; empty: nothing is known of it."""
    if scheme in _WRITE:
        return f"write {_WRITE[scheme]}"
    if scheme in _ABSENT:
        return "tranship does not speak to that; use redis://, amqp://, nats:// or sqlite:///"
    return ""
