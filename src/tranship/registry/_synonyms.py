"""Schemes as others call them: Celery's transports and result backends, and what people guess."""

from __future__ import annotations

from typing import Final

__all__ = ["advice"]

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

_ABSENT: Final = frozenset(
    {"sqs", "sentinel", "redis+cluster", "rediscluster", "azureservicebus", "azurestoragequeues", "gcpubsub", "kafka"}
    | {"confluentkafka", "mongodb", "mongodb+srv", "zookeeper", "zk", "consul", "etcd", "pyro", "slmq", "qpid"}
    | {"filesystem", "db+postgresql", "db+mysql", "sqla+postgresql", "sqla+mysql", "sqlalchemy", "cache", "memcached"}
    | {"cache+memcached", "s3", "dynamodb", "couchbase", "elasticsearch", "cassandra", "postgres", "postgresql"}
    | {"mysql"}
)
"""What Celery or its users know and nothing here serves."""


def advice(scheme: str) -> str:
    """Return what helps somebody who has written ``scheme``; empty: nothing is known of it."""
    if scheme in _WRITE:
        return f"write {_WRITE[scheme]}"
    if scheme in _ABSENT:
        return "tranship does not speak to that; use redis://, amqp://, nats:// or sqlite:///"
    return ""
