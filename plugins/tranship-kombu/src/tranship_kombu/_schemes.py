"""Which URLs there are: ``kombu+`` before each of kombu's transports, and the names that Celery has for them."""

from __future__ import annotations

from typing import Final

__all__ = ["DATABASES", "DIALECTS", "PREFIXED", "SHARED", "transport_of"]

DIALECTS: Final = (
    "sqlite",
    "postgresql",
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "postgresql+pg8000",
    "cockroachdb",
    "mysql",
    "mysql+pymysql",
    "mysql+mysqldb",
    "mysql+mysqlconnector",
    "mariadb",
    "mariadb+pymysql",
    "mariadb+mariadbconnector",
    "oracle",
    "oracle+oracledb",
    "mssql",
    "mssql+pyodbc",
    "mssql+pymssql",
)
"""What may stand for SQLAlchemy behind ``sqla+`` and ``db+``."""

_BETTER: Final = ("memory", "amqp", "amqps", "redis", "rediss")
"""Served by plugins of their own, which do more, or built in: only with ``kombu+``."""
_PLAIN: Final = (
    "pyamqp",
    "redis+socket",
    "sentinel",
    "filesystem",
    "sqs",
    "gcpubsub",
    "azureservicebus",
    "azurestoragequeues",
    "pgmq",
    "mongodb",
    "mongodb+srv",
    "zookeeper",
    "confluentkafka",
    "kafka",
    "consul",
    "etcd",
    "pyro",
    *(f"sqla+{dialect}" for dialect in DIALECTS),
    *(f"sqlalchemy+{dialect}" for dialect in DIALECTS),
)

PREFIXED: Final = tuple(f"kombu+{name}" for name in (*_BETTER, *_PLAIN))
"""Nobody else's."""
SHARED: Final = _PLAIN
"""Celery's own, served unless another plugin does."""
DATABASES: Final = tuple(f"db+{dialect}" for dialect in DIALECTS)
"""Of results in Celery's tables."""


def transport_of(scheme: str) -> str:
    """Return what Celery calls the scheme of a URL: without our prefix."""
    return scheme.removeprefix("kombu+")
