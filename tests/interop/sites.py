"""Where Celery and tranship meet: a broker, and where each of them looks for results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tranship import Client, Task, Worker
from tranship.testing.services import Place, rabbitmqctl

SITES = ("redis", "rabbitmq-rpc", "rabbitmq-redis")
"""Results with the broker; brought to who submitted (``rpc://``); in Redis."""


@dataclass(frozen=True)
class Site:
    name: str
    url: str
    """The broker's, for both."""
    result_url: str | None
    """Where tranship keeps results; None: the broker has to do."""
    result_backend: str
    """Where Celery keeps them."""
    left: Callable[[], Any]
    """What is still in somebody's hands, or waits; false: nothing."""
    redis: Any = field(default=None)
    """A plain connection to the results, where they are in Redis."""

    @property
    def on_redis(self) -> bool:
        """Whether the broker is Redis."""
        return self.url.startswith("redis")

    @property
    def shared(self) -> bool:
        """Whether anybody can read a result."""
        return self.redis is not None

    @property
    def config(self) -> dict[str, Any]:
        """Configuration keys of Celery."""
        return {"result_backend": self.result_backend}

    @property
    def ranked(self) -> tuple[dict[str, str], dict[str, Any]]:
        """How tranship, and how Celery, are told of priorities: on RabbitMQ they need queues of another kind."""
        return ({}, {}) if self.on_redis else ({"max_priority": "10"}, {"task_queue_max_priority": 10})

    @property
    def environ(self) -> dict[str, str]:
        """Where a tranship worker in a process of its own keeps results."""
        return {} if self.result_url is None else {"TRANSHIP_RESULT_URL": self.result_url}

    def client(self, **options: str) -> Client:
        """A tranship client; ``options`` are the URL's."""
        return Client(self.with_options(**options), result_url=self.result_url)

    def worker(self, tasks: list[Task[..., Any]], *, options: Mapping[str, str] | None = None, **own: Any) -> Worker:
        """A tranship worker; ``options`` are the URL's."""
        url = self.with_options(**(options or {}))
        return Worker(url, result_url=self.result_url, tasks=tasks, shutdown_timeout=5, **own)

    def with_options(self, **options: str) -> str:
        """The broker's URL with options."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{self.url}?{query}" if query else self.url

    def kept(self, task_id: str) -> bool:
        """Whether a result of this task is kept anywhere it could be read."""
        return self.shared and self.redis.get(f"celery-task-meta-{task_id}") is not None

    def settled(self, what: str, within: float = 30.0) -> None:
        """Wait until nothing is in anybody's hands or waits; fail with ``what`` and what there still is."""
        end = time.monotonic() + within
        while left := self.left():
            assert time.monotonic() < end, f"{what}: not within {within:g} s, there is still {left}"
            time.sleep(0.05)

    def ended(self, task_id: str) -> bool:
        """Whether anything that is kept says that this task has ended; a claim on Redis says that it has begun."""
        said = self.redis.get(f"celery-task-meta-{task_id}") if self.shared else None
        return said is not None and json.loads(said)["status"] != "STARTED"


def held_by_rabbitmq(place: Place, vhost: str) -> list[str]:
    """Queues in ``vhost`` with tasks in them, or in the hands of a consumer; not what tells of cancels and workers."""
    said = rabbitmqctl(place, "list_queues", "-p", vhost, "--no-table-headers", "name", "messages")
    queues = dict(line.rsplit(maxsplit=1) for line in said.splitlines() if line.strip())
    stays = ("tranship.cancels", "tranship.heartbeats", "tranship.queues", ".dead", ".lock")
    return [name for name, count in queues.items() if count != "0" and not any(part in name for part in stays)]
