"""The doctor's rounds: connect, ping, look at queues and workers; bounded, and never raising for what is ill."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from tranship import __version__
from tranship.clocks import TellsTime, look
from tranship.connections import process_table
from tranship.errors import BrokerUnreachable, ConfigurationError, TranshipError, UnsupportedError
from tranship.operations._diagnosis import Diagnosis, Reach
from tranship.operations._findings import judge
from tranship.operations._queues import QueueReport, live_workers, queue_reports
from tranship.ports import Backend, Heartbeat
from tranship.registry import Registry
from tranship.routing import RoutingOptions, brokers_of
from tranship.settings import MODES, BrokerURL, Settings

__all__ = ["diagnose"]

T = TypeVar("T")

PINGS: Final = 5


@dataclass(slots=True)
class Seen:
    """What a look at the broker found."""

    queues: list[QueueReport] = field(default_factory=list)
    workers: Sequence[Heartbeat] = ()


async def diagnose(settings: Settings, registry: Registry, timeout: float) -> Diagnosis:
    """Look at everything; each step that waits gets ``timeout`` seconds."""
    broker, results = settings.broker(), settings.results()
    reach, seen = await _examined("broker", broker, registry, timeout)
    reached = [reach]
    if results is not None and results != broker:
        reached.append((await _examined("results", results, registry, timeout))[0])
    diagnosis = Diagnosis(
        versions=_versions(),
        settings=settings.rows(),
        plugins=registry.plugins(),
        reached=reached,
        queues=seen.queues,
        workers=seen.workers,
        findings=(),
    )
    return replace(diagnosis, findings=judge(diagnosis, settings, os.environ, now=time.time()))


async def _examined(role: str, url: BrokerURL, registry: Registry, timeout: float) -> tuple[Reach, Seen]:
    """Look at a broker and, if it is several, at each of them, all at once."""
    first, *others = await asyncio.gather(
        _examine(role, url, registry, timeout),
        *(_examined("member", member, registry, timeout) for member in _members(url)),
    )
    return replace(first[0], members=[reach for reach, _ in others]), first[1]


def _members(url: BrokerURL) -> Sequence[BrokerURL]:
    if url.scheme not in MODES:
        return ()
    try:
        return brokers_of(url, RoutingOptions.read(url))
    except ConfigurationError:
        # Said by the attempt to use them as one.
        return ()


async def _examine(role: str, url: BrokerURL, registry: Registry, timeout: float) -> tuple[Reach, Seen]:
    reach, seen = Reach(role=role, url=str(url)), Seen()
    try:
        backend = registry.create(url, shared=process_table().shared, results=role == "results")
    except TranshipError as error:
        return replace(reach, error=error), seen
    reach = replace(reach, backend=backend.name)
    try:
        reach = await _connect(backend, reach, timeout)
        if role == "broker":
            seen = await _bounded(_look(backend), timeout, "looking at its queues")
    except TranshipError as error:
        reach = replace(reach, error=error)
    finally:
        await backend.aclose()
    return reach, seen


async def _connect(backend: Backend, reach: Reach, timeout: float) -> Reach:
    begun = time.perf_counter()
    await _bounded(backend.open(), timeout, "connecting")
    connected = time.perf_counter() - begun
    # Only an opened backend knows what its server can do, and a URL may be more exact than the one given.
    reach = replace(reach, url=backend.url, connect_seconds=connected, capabilities=backend.capabilities)
    reach = replace(reach, warnings=backend.warnings)
    if isinstance(backend, TellsTime):
        reach = replace(reach, clock_ahead=(await look(backend, backend.url)).ahead)
    return replace(reach, ping_seconds=await _bounded(_pings(backend), timeout, "pinging"))


async def _pings(backend: Backend) -> float:
    seconds = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        await backend.ping()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


async def _look(backend: Backend) -> Seen:
    try:
        return Seen(await queue_reports(backend), await live_workers(backend) or ())
    except UnsupportedError:
        return Seen()  # said by its capabilities


async def _bounded(step: Coroutine[Any, Any, T], timeout: float, doing: str) -> T:
    try:
        async with asyncio.timeout(timeout) as scope:
            return await step
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise BrokerUnreachable(f"no answer within {timeout:g} s while {doing}") from error


def _versions() -> dict[str, str]:
    import sqlite3

    found = {"python": platform.python_version(), "platform": platform.platform(), "sqlite": sqlite3.sqlite_version}
    return {"tranship": __version__, **found}
