"""A Celery client in a process of its own, driven from the tests.

The functions in the first half run there; :class:`CeleryClient` calls them from here and brings back plain data:
a class that Celery makes up for an unknown exception could not travel.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from interop.celery_config import CONFIG, celery_config
from interop.problems import OutOfPaper, Printer, Refused

PATIENCE = 30.0
"""Seconds that one call may take."""


@dataclass(frozen=True)
class Answer:
    """What ``AsyncResult.get()`` gave."""

    state: str
    value: Any = None
    error: str = ""
    """The qualified name of what it raised; empty: nothing."""
    text: str = ""
    args: tuple[Any, ...] = ()
    """What it raised was made of."""
    ours: bool = False
    """Whether what it raised is an instance of our own class."""
    traceback: str | None = None


# In the client's process.

_sent: dict[str, Any] = {}
"""What sending returned, by id: it knows the subscription that was made then."""


def _configure(config: str) -> None:
    os.environ[CONFIG] = config


def _send(name: str, args: Sequence[Any], kwargs: dict[str, Any], options: dict[str, Any]) -> str:
    from interop.celery_app import app

    if isinstance(options.get("eta"), float):
        options["eta"] = datetime.fromtimestamp(options["eta"], UTC)
    result = app.tasks[name].apply_async(tuple(args), kwargs, **options)
    _sent[result.id] = result
    return result.id


def _send_unknown(name: str, options: dict[str, Any]) -> str:
    from interop.celery_app import app

    result = app.send_task(name, **options)
    _sent[result.id] = result
    return result.id


def _send_stamped(name: str, args: Sequence[Any], queue: str, stamps: dict[str, Any]) -> str:
    from interop.celery_app import app

    signature = app.tasks[name].signature(tuple(args), queue=queue)
    signature.stamp(**stamps)
    result = signature.apply_async()
    _sent[result.id] = result
    return result.id


def _send_told(name: str, args: Sequence[Any], queue: str) -> str:
    from interop.celery_app import app

    app.conf.task_send_sent_event = True
    app.amqp.__dict__.pop("send_task_message", None)
    try:
        return _send(name, args, {}, {"queue": queue})
    finally:
        app.conf.task_send_sent_event = False
        app.amqp.__dict__.pop("send_task_message", None)


def _revoke_stamped(stamps: dict[str, Any], terminate: bool) -> None:
    from interop.celery_app import app

    app.control.revoke_by_stamped_headers(stamps, terminate=terminate)


def _send_protocol1(name: str, args: Sequence[Any]) -> str:
    from interop.celery_app import app

    amqp = app.amqp
    usual, amqp.create_task_message = amqp.create_task_message, amqp.task_protocols[1]
    try:
        return _send(name, args, {}, {})
    finally:
        amqp.create_task_message = usual


def _send_many(name: str, calls: Sequence[tuple[Any, dict[str, Any]]]) -> list[str]:
    return [_send(name, [arg], options.pop("kwargs", {}), options) for arg, options in calls]


def _canvas(name: str, queue: str, mark: str, seconds: float) -> dict[str, Any]:
    from interop.canvases import run

    return run(name, queue, mark, seconds)


def _group(sums: Sequence[tuple[int, int]], seconds: float) -> list[Any]:
    from celery import group

    from interop.celery_app import add

    return group(add.s(*pair) for pair in sums).apply_async().get(timeout=seconds)


def _result(task_id: str) -> Any:
    from interop.celery_app import app

    return _sent.get(task_id) or app.AsyncResult(task_id)


def _get(task_id: str, seconds: float) -> Answer:
    result = _result(task_id)
    try:
        value = result.get(timeout=seconds)
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        ours = isinstance(error, OutOfPaper | Refused | Printer.Jam)
        return Answer(result.state, None, kind, str(error), error.args, ours, result.traceback)
    return Answer(result.state, value)


def _get_many(ids: Sequence[str], seconds: float) -> list[Answer]:
    return [_get(task_id, seconds) for task_id in ids]


def _state(task_id: str) -> str:
    return _result(task_id).state


def _info(task_id: str) -> Any:
    return _result(task_id).info


def _revoke(task_id: str, terminate: bool) -> None:
    from interop.celery_app import app

    app.control.revoke(task_id, terminate=terminate)


def _ping(seconds: float) -> dict[str, Any]:
    from interop.celery_app import app

    return {node: answer for one in app.control.ping(timeout=seconds) for node, answer in one.items()}


_seen: list[dict[str, Any]] = []
"""The events that have come."""


def _watch() -> None:
    """Receive events from now on, in a thread, as Celery's own monitors do."""
    from interop.celery_app import app

    ready = threading.Event()

    def capture() -> None:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": _seen.append})
            receiver.on_consume_ready = lambda *_args, **_more: ready.set()
            receiver.capture(limit=None, timeout=None, wakeup=False)

    threading.Thread(target=capture, name="events", daemon=True).start()
    assert ready.wait(PATIENCE), "events are not received"


def _events() -> list[dict[str, Any]]:
    return list(_seen)


def _ask(node: str, method: str, arguments: dict[str, Any], seconds: float) -> Any:
    from interop.celery_app import app

    said = app.control.broadcast(method, arguments=arguments, destination=[node], reply=True, timeout=seconds)
    return said[0][node] if said else None


# Here.


class CeleryClient:
    """Drives a Celery client. Leaving the block ends its process.

    Args:
        url: the broker.
        config: more configuration keys of Celery.
    """

    def __init__(self, url: str, **config: Any) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            # Not forked: the tests have threads and loops that a child must not inherit.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_configure,
            initargs=(json.dumps(celery_config(url, **config)),),
        )

    def send(self, name: str, *args: Any, kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        """``apply_async`` of ``interop.<name>``; an ``eta`` is given in epoch seconds. Return the id."""
        return self._call(_send, f"interop.{name}", args, kwargs or {}, options)

    def send_unknown(self, name: str, **options: Any) -> str:
        """``send_task`` of a task that the client does not have. Return the id."""
        return self._call(_send_unknown, name, options)

    def send_stamped(self, name: str, *args: Any, queue: str, **stamps: Any) -> str:
        """Send ``interop.<name>`` with stamps, as Celery's canvas puts them on each task of a workflow. Return the id."""
        return self._call(_send_stamped, f"interop.{name}", args, queue, stamps)

    def send_told(self, name: str, *args: Any, queue: str) -> str:
        """Send ``interop.<name>`` with ``task_send_sent_event``. Return the id."""
        return self._call(_send_told, f"interop.{name}", args, queue)

    def revoke_stamped(self, *, terminate: bool = False, **stamps: Any) -> None:
        self._call(_revoke_stamped, stamps, terminate)

    def send_protocol1(self, name: str, *args: Any) -> str:
        return self._call(_send_protocol1, f"interop.{name}", args)

    def send_many(self, name: str, calls: Sequence[tuple[Any, dict[str, Any]]]) -> list[str]:
        """``apply_async`` for each (argument, options); ``kwargs`` among the options are the task's."""
        return self._call(_send_many, f"interop.{name}", calls)

    def canvas(self, name: str, queue: str, mark: str = "", within: float = 20.0) -> dict[str, Any]:
        """Send a workflow of ``canvases`` to ``queue``; return what became of it."""
        return self._call(_canvas, name, queue, mark, within, patience=max(PATIENCE, 2 * within))

    def group(self, sums: Sequence[tuple[int, int]], within: float = 30.0) -> list[Any]:
        """Run a group of ``add`` and join its results."""
        return self._call(_group, sums, within)

    def get(self, task_id: str, within: float = 30.0) -> Answer:
        """``AsyncResult.get()``, whatever it raises."""
        return self._call(_get, task_id, within)

    def get_many(self, ids: Sequence[str], within: float = 30.0) -> list[Answer]:
        return self._call(_get_many, ids, within, patience=max(PATIENCE, 4 * within))

    def state(self, task_id: str) -> str:
        return self._call(_state, task_id)

    def info(self, task_id: str) -> Any:
        """What ``AsyncResult.info`` shows, such as the worker of a STARTED task."""
        return self._call(_info, task_id)

    def revoke(self, task_id: str, *, terminate: bool = False) -> None:
        self._call(_revoke, task_id, terminate)

    def ask(self, node: str, method: str, *, within: float = 10.0, **arguments: Any) -> Any:
        """``app.control.broadcast()`` of one command to one worker: its answer; None: it has not answered."""
        return self._call(_ask, node, method, arguments, within)

    def watch(self) -> None:
        """Receive events from now on."""
        self._call(_watch)

    def seen(self) -> list[dict[str, Any]]:
        """The events that have come since."""
        return self._call(_events)

    def ping(self, within: float = 1.0) -> dict[str, Any]:
        """``app.control.ping()``: who answered what."""
        return self._call(_ping, within)

    def _call(self, function: Callable[..., Any], *args: Any, patience: float = PATIENCE) -> Any:
        return self._pool.submit(function, *args).result(patience)

    def __enter__(self) -> Self:
        self._call(os.getpid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
