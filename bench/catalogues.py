"""Which module has the rows of which broker."""

from __future__ import annotations

CATALOGUES = {
    "sqlite": "on_sqlite",
    "redis": "on_redis",
    "rabbitmq": "on_rabbitmq",
    "nats": "on_nats",
    "sandai": "on_sandai",
    "stages": "on_stages",
}
"""The rows of each broker: loaded when chosen, so that nobody needs the peers of the others."""
