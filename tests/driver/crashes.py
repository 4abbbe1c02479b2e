"""Crash injection: a promise is tried again and again, each time with another verb of the driver going wrong.

A verb is refused, with or without a reason, or done and its answer lost; or it is the last one that the process ever called, before or after it was
done. The kit does something between any two verbs, so that it has been stopped at each of its awaits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from driver.rows_driver import Broker
from tranship import clocks
from tranship.driver._delay import DelayedRow
from tranship.driver._packing import unpack
from tranship.envelope import Envelope, TaskResult, TaskState, new_id
from tranship.errors import StorageFull, TranshipError
from tranship.ports import StoredResult
from tranship.protocol import Encoder, encode_result

MODES = ("refused", "full", "answer lost", "killed before", "killed after")
ENCODER = Encoder()


def message(check_id: bool = False, **envelope: Any):
    made = ENCODER.encode(Envelope(**{"id": new_id(), "task": "t", "queue": "q", **envelope}))
    made.check_id = check_id
    return made


def result(task_id: str, value: Any) -> StoredResult:
    document = encode_result(TaskResult(id=task_id, state=TaskState.SUCCESS, value=value))
    return StoredResult(id=task_id, state=TaskState.SUCCESS, document=document)


class Injector:
    """Counts the verbs of one process, and lets one of them go wrong."""

    def __init__(self, mode: str, at: int) -> None:
        self.mode, self.at = mode, at
        self.count, self.armed, self.struck, self.dead = 0, False, "", False
        self.before: dict[str, Callable[[], Awaitable[Any]]] = {}

    async def run(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0)  # as if there were a network: others run meanwhile
        if self.dead:
            raise ConnectionResetError("the process is dead")
        if (hook := self.before.pop(name, None)) is not None:
            await hook()
        self.count += self.armed
        if not self.armed or self.count != self.at:
            return await call()
        self.struck = name
        self.dead = self.mode.startswith("killed")
        if self.mode == "full":
            raise StorageFull("no room")
        if self.mode in ("answer lost", "killed after"):
            await call()
        raise ConnectionResetError(f"{name}: {self.mode}")

    def wrap(self, connection: Any) -> Any:
        for name in ("queue", "table", "topic", "log"):
            part = getattr(connection, name)
            if part is not None:
                setattr(connection, name, self._wrapped(part))
        return connection

    def _wrapped(self, part: Any) -> Any:
        names = [name for name in dir(part) if not name.startswith("_")]
        return SimpleNamespace(**{name: self._verb(name, getattr(part, name)) for name in names})

    def _post(self, value: Any) -> Any:
        def post(batch, done):
            if self.dead:
                raise ConnectionResetError("the process is dead")
            self.count += self.armed
            if not self.armed or self.count != self.at:
                value(batch, done)
                return
            self.struck, self.dead = "post", self.mode.startswith("killed")
            if self.mode in ("answer lost", "killed after"):
                value(batch, lambda _answers: done(ConnectionResetError(self.mode)))
            elif self.mode == "full":
                done(StorageFull("no room"))
            else:
                raise ConnectionResetError(f"post: {self.mode}")

        return post

    def _verb(self, name: str, value: Any) -> Any:
        if name == "post":
            return self._post(value)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def run(*arguments: Any) -> Any:
            return await self.run(name, lambda: value(*arguments))

        return run


class World:
    """One broker, one process that goes wrong, and whoever comes after it."""

    def __init__(self, mode: str = "", at: int = 0, **broker: Any) -> None:
        self.broker = Broker(**broker)
        self.injector = Injector(mode, at)
        self._backends: list[Any] = []
        self._patches = ExitStack()

    async def __aenter__(self):
        clock = SimpleNamespace(time=lambda: time.time() + self.broker.ahead, time_ns=time.time_ns)
        self._patches.enter_context(patch.object(clocks, "time", clock))
        return self

    async def __aexit__(self, *_):
        for backend in self._backends:
            await backend.aclose()
        self._patches.close()

    @property
    def killed(self) -> bool:
        return self.injector.dead

    async def open(self, *, doomed: bool = True, **options: Any):
        """Open a backend: of the process that goes wrong, or of another one."""
        wrap = self.injector.wrap if doomed else lambda connection: connection
        backend = self.broker.backend(wrap, **options)
        await backend.open()
        self._backends.append(backend)
        return backend

    async def step(self, work: Awaitable[Any]) -> Any:
        """Do what may go wrong; return what it gave, or its error."""
        self.injector.armed = True
        try:
            return await work
        except TranshipError as error:
            return error
        finally:
            self.injector.armed = False

    def later(self, seconds: float = 3600.0) -> None:
        """Every lease and every claim is over."""
        self.broker.ahead += seconds

    def places(self, task_id: str) -> list[str]:
        """Where a task is."""
        found = ["queue"] * self.broker.ids().count(task_id)
        for key, value in self.broker.live().items():
            if key.startswith("w/") and unpack(DelayedRow(SimpleNamespace(value=value)).data)[0].id == task_id:
                found.append("delayed")
            if key.startswith("d/") and unpack(value.partition(b"\n")[2])[0].id == task_id:
                found.append("dead")
            if key == f"r/{task_id}":
                found.append("result")
        return sorted(found)


Scenario = Callable[[World], Awaitable[None]]


async def everywhere(scenario: Scenario, **broker: Any) -> int:
    """Run ``scenario`` with each of its verbs going wrong in each way; return how many times."""
    async with World(**broker) as world:
        await scenario(world)
    runs = 0
    for mode in MODES:
        at = 0
        while True:
            at += 1
            async with World(mode, at, **broker) as world:
                try:
                    await scenario(world)
                except AssertionError as error:
                    raise AssertionError(f"{mode}: verb {at} ({world.injector.struck}): {error}") from error
                if not world.injector.struck:
                    break
            runs += 1
            assert at < 100, "the scenario does not end"
    assert runs, "the scenario calls no verb"
    return runs
