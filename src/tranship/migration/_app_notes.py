"""What there is to say of an app as a whole: its URLs and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tranship.migration._note import Note, differs, works
from tranship.migration._task_facts import TaskFacts
from tranship.settings import redact

__all__ = ["app_notes"]

_BROKERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("redis", "rediss"), "tranship-redis"),
    **dict.fromkeys(("amqp", "amqps"), "tranship-rabbitmq"),
}
_STORES: Final = ("redis", "rediss")
_READ: Final = frozenset({"json", "msgpack", "application/json", "application/x-msgpack"})
_DIFFER: Final[Mapping[str, str]] = {
    "task_always_eager": "has no equal: tests use memory://, see the fixtures of tranship.testing",
    "task_default_rate_limit": "is not kept",
    "task_cls": "is not read: a class of tasks has no equal; a middleware sees every call",
    "result_compression": "is not read: leave results uncompressed while both kinds of workers run",
    "result_backend_transport_options": "is not read: say it in the URL of the results",
    "security_key": "signed messages are not read",
}
"""Settings that have to be thought about where they are set."""
_SIGNALS: Final = ("before_task_publish", "task_prerun", "task_postrun", "task_failure", "task_success", "worker_ready")


def app_notes(app: Any, tasks: Sequence[TaskFacts]) -> Iterator[Note]:
    """Yield what is to be said of the whole app."""
    conf = app.conf
    yield _broker(conf)
    yield _results(conf)
    yield from _contents(conf)
    yield from _priorities(conf)
    yield from _options(conf)
    yield from _worker(conf, tasks)
    yield from _signals()


def _broker(conf: Any) -> Note:
    url = _first(conf.broker_read_url or conf.broker_url or "amqp://")
    plugin = _BROKERS.get(_scheme(url))
    if plugin:
        return works("broker", f"{redact(url)}: the same URL here ({plugin}); Celery's workers and clients stay peers")
    return differs("broker", f"{redact(url)}: served by tranship-kombu where kombu can, with kombu+ before the URL")


def _results(conf: Any) -> Note:
    backend = _first(conf.result_backend or "")
    scheme = _scheme(backend)
    if not backend or scheme == "disabled":
        return works(
            "results", "none are kept, nor is a result_url needed; where nobody says so, RabbitMQ answers who submitted"
        )
    if scheme == "rpc":
        return works("results", "rpc://: RabbitMQ brings them to who submitted, here too; no result_url")
    if scheme in _STORES:
        return works(
            "results", f"{redact(backend)}: the same documents; give it as result_url where it is not the broker"
        )
    if scheme.startswith("db") or "+" in backend.partition("://")[0]:
        return differs(
            "results", f"{redact(backend)}: Celery's tables are read and written by tranship-kombu as result_url"
        )
    return differs(
        "results", f"{redact(backend)}: not served here; take Redis, or a database with db+... and tranship-kombu"
    )


def _contents(conf: Any) -> Iterator[Note]:
    accepted = [str(one) for one in conf.accept_content or ()]
    if odd := [one for one in accepted if one not in _READ]:
        yield differs("accept_content", f"{', '.join(odd)} is never read here: such messages become dead letters")
    for name in ("task_serializer", "result_serializer"):
        value = str(conf[name])
        if value not in _READ:
            yield differs(name, f"{value!r}: use json, or msgpack, before the first worker of tranship starts")
        elif name == "result_serializer" and value == "msgpack":
            yield differs(name, "'msgpack': say result_serializer=msgpack in the URL")
    if conf.task_serializer == "msgpack":
        yield differs("task_serializer", "'msgpack' is read as it is; to send it, give tasks serializer='msgpack'")


def _priorities(conf: Any) -> Iterator[Note]:
    if (top := conf.task_queue_max_priority) is not None:
        yield differs(
            "task_queue_max_priority", f"say max_priority={top} in the URL, so that all four levels are numbers there"
        )
    transport = conf.broker_transport_options or {}
    known = {
        "visibility_timeout": "say it in the URL, too: visibility_timeout={}",
        "max_retries": "",
        "interval_start": "",
    }
    for name, value in transport.items():
        text = known.get(name, "has no equal: leave it at its default while both kinds of workers run")
        if text:
            yield differs(f"broker_transport_options[{name!r}]", text.format(value))


def _options(conf: Any) -> Iterator[Note]:
    for name, text in _DIFFER.items():
        value = conf.get(name)
        if value and value != "celery.app.task:Task":
            yield differs(name, text)
    if (routes := conf.task_routes) is not None:
        yield from _routes(routes)


def _routes(routes: Any) -> Iterator[Note]:
    given = [routes] if isinstance(routes, Mapping) else list(routes)
    plain = {name: queue for one in given if isinstance(one, Mapping) for name, queue in _plain(one)}
    if plain:
        shown = ", ".join(f"{name}={queue}" for name, queue in plain.items())
        yield works("task_routes", f"the same for tasks that are submitted by name: task_routes = {shown!r}")
    if any(not isinstance(one, Mapping) for one in given) or len(plain) < sum(map(_size, given)):
        yield differs(
            "task_routes", "functions, regular expressions and exchanges are not read: give tasks their queue"
        )


def _plain(routes: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, route in routes.items():
        queue = route.get("queue") if isinstance(route, Mapping) else route
        if isinstance(name, str) and isinstance(queue, str):
            yield name, queue


def _size(routes: Any) -> int:
    return len(routes) if isinstance(routes, Mapping) else 0


def _worker(conf: Any, tasks: Sequence[TaskFacts]) -> Iterator[Note]:
    queues = ",".join(sorted({task.queue for task in tasks})) or str(conf.task_default_queue)
    concurrency = f" --concurrency {conf.worker_concurrency}" if conf.worker_concurrency else ""
    yield works("worker", f"tranship worker MODULE --queues {queues}{concurrency}")
    if (children := conf.worker_max_tasks_per_child) is not None:
        yield differs(
            "worker_max_tasks_per_child", f"see `tranship worker --help` for what recycles a process ({children} here)"
        )


def _signals() -> Iterator[Note]:
    import importlib

    signals = importlib.import_module("celery.signals")
    if named := [name for name in _SIGNALS if _has_receivers(getattr(signals, name))]:
        yield differs(
            "signals", f"{', '.join(named)}: receivers are not called; a middleware sees every submit and call"
        )


def _has_receivers(signal: Any) -> bool:
    """Whether anybody but Celery itself listens."""
    found = (_alive(receiver) for _, receiver in signal.receivers or ())
    return any(not str(getattr(one, "__module__", "celery")).startswith("celery") for one in found if one is not None)


def _alive(receiver: Any) -> Any:
    return receiver() if type(receiver).__name__ in ("ReferenceType", "WeakMethod", "weakref") else receiver


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0].lower()


def _first(urls: str | Iterable[str]) -> str:
    """Return the first of several URLs, which Celery takes as a list, or with semicolons."""
    return (urls.split(";") if isinstance(urls, str) else [*urls, ""])[0]
