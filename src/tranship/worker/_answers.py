"""What a worker answers to who asks it over Celery's remote control: in Celery's shapes, of bounded size."""

from __future__ import annotations

import collections
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship import __version__
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._record import Run
from tranship.worker._setup import Setup
from tranship.worker._shown import argument_texts, plain_arguments

if TYPE_CHECKING:
    from tranship.settings import BrokerURL
    from tranship.worker._flow import Flow

__all__ = ["Answers"]

MOST: Final = 1_000
"""Tasks in one answer."""
_RUSAGE: Final = (
    *("utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap", "inblock", "oublock"),
    *("msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw"),
)
_QUEUE: Final[Mapping[str, Any]] = {
    "queue_arguments": None,
    "binding_arguments": None,
    "consumer_arguments": None,
    "durable": True,
    "exclusive": False,
    "auto_delete": False,
    "no_ack": False,
    "alias": None,
    "bindings": [],
    "no_declare": None,
    "expires": None,
    "message_ttl": None,
    "max_length": None,
    "max_length_bytes": None,
    "max_priority": None,
}
"""A queue as kombu describes it, besides its name."""
_EXCHANGE: Final[Mapping[str, Any]] = {
    "type": "direct",
    "arguments": None,
    "durable": True,
    "passive": False,
    "auto_delete": False,
    "delivery_mode": None,
    "no_declare": False,
}


class Answers:
    """Of one worker at work; on its I/O loop.

    Args:
        setup: what the worker was given.
        node: what Celery's tools call it.
        flow: what becomes of its deliveries.
        queues: what it consumes.
        clock: returns what the node's logical clock says.
    """

    def __init__(
        self, setup: Setup, node: str, flow: Flow, queues: ConsumedQueues, *, clock: Callable[[], int]
    ) -> None:
        self._setup = setup
        self._node = node
        self._flow = flow
        self._queues = queues
        self._clock = clock
        self._began = time.time()
        self._totals: collections.Counter[str] = collections.Counter()
        self.rates: dict[str, str] = {}
        """The rate limit of a task, as it was said."""

    def count(self, run: Run) -> None:
        """Count a delivery that has ended."""
        if run.task is not None:
            self._totals[run.task.name] += 1

    # Tasks.

    def active(self, *, safe: bool) -> list[dict[str, Any]]:
        """What runs."""
        return self._infos((run for run in self._flow.runs() if run.handed), safe=safe)

    def reserved(self) -> list[dict[str, Any]]:
        """What was taken and waits here."""
        return self._infos((run for run in self._flow.runs() if not run.handed), safe=False)

    def query(self, ids: Iterable[str]) -> dict[str, Any]:
        """Of each of ``ids`` that is here, in what state, and what is known of it."""
        wanted = set(ids)
        found = [run for run in self._flow.runs() if run.id in wanted]
        return {str(run.id): ["active" if run.handed else "reserved", self._info(run, safe=False)] for run in found}

    def _infos(self, runs: Iterable[Run], *, safe: bool) -> list[dict[str, Any]]:
        known = [run for run in runs if run.envelope is not None]
        return [self._info(run, safe=safe) for run in known[:MOST]]

    def _info(self, run: Run, *, safe: bool) -> dict[str, Any]:
        envelope = run.envelope
        assert envelope is not None
        args, kwargs = argument_texts(run) if safe else plain_arguments(run)
        began = time.time() - (time.monotonic() - run.began) if run.began else None
        priority = run.delivery.message.properties.get("priority")
        return {
            "id": envelope.id,
            "name": envelope.task,
            "args": args,
            "kwargs": kwargs,
            "type": envelope.task,
            "hostname": self._node,
            "time_start": began,
            # As with acks_late: it is, once it has ended.
            "acknowledged": False,
            "delivery_info": {
                "exchange": "",
                "routing_key": run.delivery.queue,
                "priority": priority if isinstance(priority, int) else 0,
                "redelivered": run.delivery.delivery_count > 1,
            },
            "worker_pid": os.getpid() if run.began else None,
        }

    # The worker.

    def stats(self) -> dict[str, Any]:
        """What it is, and has done."""
        limit = self._flow.limit
        return {
            "total": dict(self._totals),
            "pid": os.getpid(),
            "clock": str(self._clock()),
            "uptime": round(time.time() - self._began),
            "pool": {
                "implementation": "tranship.worker:Worker",
                "max-concurrency": limit,
                "threads": limit,
                "processes": [os.getpid()],
            },
            "broker": _broker(self._setup.settings.broker_url),
            "prefetch_count": limit,
            "rusage": _rusage(),
        }

    def registered(self, items: Sequence[str], *, builtins: bool) -> list[str]:
        """The names of its tasks, with those of ``items`` that are known of each."""
        names = sorted(name for name in self._setup.tasks if builtins or not name.startswith("celery."))
        return [self._registered(name, items) for name in names]

    def _registered(self, name: str, items: Sequence[str]) -> str:
        options = self._setup.tasks[name].options_set
        known = {"rate_limit": self.rates.get(name), "time_limit": options.run_seconds, "queue": options.queue}
        said = [f"{item}={known[item]}" for item in items if known.get(item) is not None]
        return f"{name} [{' '.join(said)}]" if said else name

    def active_queues(self) -> list[dict[str, Any]]:
        """What it consumes."""
        return [
            {"name": name, "exchange": {"name": name, **_EXCHANGE}, "routing_key": name, **_QUEUE}
            for name in self._queues.names
        ]

    def conf(self, *, with_defaults: bool) -> dict[str, Any]:
        """Its settings: under Celery's names what means the same there, under ``tranship_...`` everything."""
        settings = self._setup.settings
        conf: dict[str, Any] = {
            "broker_url": str(settings.broker_url),
            "result_backend": str(settings.result_url or settings.broker_url),
            "worker_concurrency": self._flow.limit,
            "worker_send_task_events": settings.events,
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
        }
        rows = [row for row in settings.rows() if with_defaults or row.origin != "default"]
        return {**conf, **{f"tranship_{row.name}": row.value for row in rows}}

    def report(self) -> str:
        """What somebody who looks for an error wants to know first."""
        settings = "".join(f"{name}: {value!r}\n" for name, value in self.conf(with_defaults=False).items())
        return (
            f"\nsoftware -> tranship:{__version__} py:{platform.python_version()}\n"
            f"platform -> system:{platform.system()} arch:{', '.join(platform.architecture())}\n"
            f"            kernel version:{platform.release()} imp:{platform.python_implementation()}\n"
            f"settings -> transport:{self._setup.settings.broker_url.scheme}\n\n{settings}"
        )


def _broker(url: BrokerURL) -> dict[str, Any]:
    """The broker as kombu describes it, without secrets."""
    return {
        "hostname": url.host or None,
        "userid": url.username,
        "virtual_host": url.database or "/",
        "port": url.port,
        "insist": False,
        "ssl": url.scheme in ("rediss", "amqps"),
        "transport": url.scheme,
        "connect_timeout": None,
        "transport_options": {},
        "login_method": None,
        "uri_prefix": None,
        "heartbeat": None,
        "failover_strategy": None,
        "alternates": [],
        "credential_provider": None,
    }


def _rusage() -> Any:
    try:
        import resource
    except ImportError:
        return "N/A"
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {name: getattr(used, f"ru_{name}") for name in _RUSAGE}
