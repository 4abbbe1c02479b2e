"""What the tests of the SQLite backend share; importable by the processes they start."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from tranship.backends.sqlite import make_backend
from tranship.backends.sqlite._connection import SqliteConnection
from tranship.driver import DriverBackend
from tranship.envelope import Envelope, TaskResult, TaskState, new_id
from tranship.ports import Delivery, Settlement, StoredResult, Verdict
from tranship.protocol import Encoder, Message, encode_result
from tranship.settings import BackendConfig, BrokerURL

T = TypeVar("T")

PROCESSES = multiprocessing.get_context("spawn")


class Shared:
    """The process's shared state, for one test."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, create: Callable[[], T], /) -> T:
        return self._kept.setdefault(key, create()) if key not in self._kept else self._kept[key]


def make(path: Path | str, **options: Any) -> DriverBackend:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    url = BrokerURL.parse(f"sqlite:///{path}" + (f"?{query}" if query else ""))
    return make_backend(BackendConfig(url, Shared()))


@contextlib.asynccontextmanager
async def opened(path: Path | str, **options: Any) -> AsyncIterator[DriverBackend]:
    backend = make(path, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def inside(backend: DriverBackend) -> SqliteConnection:
    """Return the connection behind a backend."""
    connection = backend._supervisor.current
    assert isinstance(connection, SqliteConnection)
    return connection


def message(**fields: Any) -> Message:
    fields = {"id": new_id(), "task": "tests.noop", "queue": "q", **fields}
    return Encoder().encode(Envelope(**fields))


def success(task_id: str, value: Any = None, **fields: Any) -> StoredResult:
    result = TaskResult(id=task_id, state=TaskState.SUCCESS, value=value)
    return StoredResult(id=task_id, state=TaskState.SUCCESS, document=encode_result(result), **fields)


def done(delivery: Delivery, task_id: str) -> Settlement:
    return Settlement(delivery, Verdict.ACK, success(task_id, reply_to=delivery.message.properties.get("reply_to")))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


async def in_process(target: Callable[..., Any], *arguments: Any) -> int:
    """Run ``target`` in a fresh process and return its exit code."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    await asyncio.to_thread(process.join, 30)
    assert process.exitcode is not None, "the process did not end"
    return process.exitcode


def look(path: Path | str, sql: str) -> list[Any]:
    """Ask the database as a foreign program would, through SQLite and never by opening the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# --- what processes run ---


def open_and_submit(path: str, count: int) -> None:
    async def run() -> None:
        async with opened(path) as backend:
            for _ in range(count):
                await backend.submitter().submit([message()])

    asyncio.run(run())


def serve(path: str, count: int) -> None:
    """Run ``count`` tasks and leave."""

    async def run() -> None:
        async with opened(path) as backend:
            consumer = backend.consumer(["q"])
            for _ in range(count):
                for delivery in (await consumer.receive(1, 20.0)).deliveries:
                    await consumer.settle([done(delivery, task_id_of(delivery))])

    asyncio.run(run())


def claim_and_die(path: str, lease: float) -> None:
    async def run() -> None:
        backend = make(path, lease=lease)
        await backend.open()
        received = await backend.consumer(["q"]).receive(1, 20.0)
        assert received.deliveries
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(run())


def task_id_of(delivery: Delivery) -> str:
    from tranship.protocol import decode

    return decode(delivery.message, queue=delivery.queue, priority=delivery.priority).id
