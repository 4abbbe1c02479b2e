"""Clients as they are in the field, in a process of their own: plain Celery, and ``sandai-operator-client``.

The functions in the first half run there; :class:`OriginalClient` calls them from here and brings back plain data.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds that one call may take."""


@dataclass(frozen=True)
class Answer:
    """What a method of the original client returned or raised."""

    value: Any = None
    error: str = ""
    """The name of the exception's class; empty: none."""
    text: str = ""
    details: Any = None
    seconds: float = 0.0


# In the client's process.

Where = tuple[str, str, str, str]
"""Broker, result backend, name and version of an operator."""
_clients: dict[Where, Any] = {}


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def _send_raw(
    urls: tuple[str, str], task: str, queue: str, payload: dict[str, Any], serializers: tuple[str, str]
) -> Any:
    """What ``OperatorClient`` does with Celery, without it: one task, keyword arguments and a queue."""
    from celery import Celery

    app = Celery("client", broker=urls[0], backend=urls[1])
    app.conf.update(
        task_serializer=serializers[0], result_serializer=serializers[1], accept_content=["json", "msgpack"]
    )
    return app.send_task(task, kwargs=payload, queue=queue)


def _raw(*message: Any, seconds: float) -> Answer:
    result = _send_raw(*message)
    try:
        value = result.get(timeout=seconds)
    except Exception as error:
        return Answer(result.state, type(error).__name__, str(error))
    return Answer(value)


def _original(where: Where, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
    from sandai.operator_client import OperatorClient

    url, results, name, version = where
    if where not in _clients:
        _clients[where] = OperatorClient(name, version, broker_url=url, result_backend=results)
    client = _clients[where]
    return _noted(lambda: _blocking(client, method, args, kwargs))


def _blocking(client: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if method == "desc":
        return client.desc
    found = getattr(client, method)(*args, **kwargs)
    if method == "async_call":
        return found.get(timeout=PATIENCE)
    if method == "batch_async":
        return [one.get(timeout=PATIENCE) for one in found]
    if method == "batch_submit":
        return [_row(one) for one in client.batch_collect(found, timeout=PATIENCE)]
    return _plain(found)


def _original_async(where: Where, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
    from sandai.operator_client import AsyncOperatorClient

    url, results, name, version = where

    async def call() -> Any:
        async with AsyncOperatorClient(name, version, broker_url=url, result_backend=results) as client:
            return await _awaited(client, method, args, kwargs)

    return _noted(lambda: asyncio.run(call()))


async def _awaited(client: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = await getattr(client, method)(*args, **kwargs)
    if method == "async_call":
        return await found.get(timeout=PATIENCE)
    if method == "batch_async":
        return [await one.get(timeout=PATIENCE) for one in found]
    if method == "batch_submit":
        return [_row(one) for one in await client.batch_collect(found, timeout=PATIENCE)]
    return _plain(found)


def _plain(found: Any) -> Any:
    if isinstance(found, list):
        return [_row(one) if hasattr(one, "error") else one for one in found]
    return asdict(found) if hasattr(found, "submit_ok") else found


def _row(found: Any) -> tuple[Any, ...]:
    """One result of a batch."""
    return found.index, found.artifacts, found.results, type(found.error).__name__ if found.error else ""


def _noted(call: Callable[[], Any]) -> Answer:
    begun = time.monotonic()
    try:
        value = call()
    except Exception as error:
        details = getattr(error, "error_details", None) or getattr(error, "details", None) or vars(error)
        return Answer(None, type(error).__name__, str(error), _data(details), time.monotonic() - begun)
    return Answer(value, seconds=time.monotonic() - begun)


def _data(details: Any) -> Any:
    return details if isinstance(details, dict | list | str | int | float | None) else repr(details)


def _leave() -> None:
    for client in _clients.values():
        client.close()


# Here.


class OriginalClient:
    """Drives both. Leaving the block ends the process.

    Args:
        url: the broker.
        results: the result backend, a Redis; None: the broker is one.
    """

    def __init__(self, url: str, results: str | None = None) -> None:
        self.urls = url, results or url
        # Not forked: the tests have threads and loops that a child must not inherit.
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)

    def raw(
        self,
        task: str,
        queue: str,
        *,
        serializers: tuple[str, str] = ("msgpack", "json"),
        within: float = 20.0,
        **payload: Any,
    ) -> Answer:
        """``Celery.send_task`` and ``get()``: the value, or the state and what was raised."""
        return self._call(_raw, self.urls, task, queue, payload, serializers, seconds=within)

    def call(self, operator: Any, method: str, *args: Any, asynchronous: bool = False, **kwargs: Any) -> Answer:
        """A method of the original client; handles are waited for."""
        where = (*self.urls, operator.name, operator.version)
        return self._call(_original_async if asynchronous else _original, where, method, args, kwargs)

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._pool.submit(function, *args, **kwargs).result(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(_leave)
        finally:
            self._pool.shutdown(cancel_futures=True)
