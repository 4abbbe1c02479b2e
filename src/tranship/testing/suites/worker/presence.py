"""What a worker says of itself, as an operator reads it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tranship.ports import Capability, Heartbeat, Inspector, NameHolder
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.ports.recovery import back
from tranship.testing.suites.ports.worker_names import name_keeper
from tranship.worker import Worker

__all__ = ["WorkerHealthCases", "WorkerPresenceCases"]

NEEDS: Final = {Capability.CONTROL, Capability.RESULTS}


class WorkerPresenceCases:
    """Part of the worker's suite: heartbeats."""

    @worker_case("worker_tells_what_it_is", level="capability", needs=NEEDS, rationale="an operator looks here first")
    async def test_worker_tells_what_it_is(self, facade: FacadeContext) -> None:
        """Identity, capacity, what runs since when and how far it is, the host, skills and labels."""
        gate = asyncio.Event()

        @task(name="kit.gate", queue="q", task_type="video")
        async def wait() -> None:
            current().progress(0.5, message="half")
            await gate.wait()

        client = await facade.client()
        begun = time.time()
        skills, labels = {"draw": ["model"]}, {"zone": "eu"}
        worker = await facade.work(
            wait,
            name="kit-worker",
            heartbeat_interval=0.1,
            max_concurrent_tasks=3,
            task_type_limits={"video": 2},
            skill_dependencies=skills,
            labels=labels,
        )
        handle = await client.submit(wait)
        inspector = (await facade.context.open()).inspector()

        async def runs() -> bool:
            return any(one.progress for beat in await inspector.workers() for one in beat.running)

        await facade.context.eventually(runs, "the worker says what it runs, and how far it is")
        (beat,) = await inspector.workers()
        (running,) = beat.running
        assert (running.id, running.task, running.queue, running.attempt) == (handle.id, "kit.gate", "q", 0)
        assert (running.progress, running.note) == (0.5, "half")
        assert running.since is not None
        assert begun - 1 < running.since <= time.time() + 1
        assert (beat.worker, beat.pid, list(beat.tasks)) == ("kit-worker", os.getpid(), ["kit.gate"])
        assert (beat.limit, beat.busy, beat.free) == (3, 1, 2)
        assert dict(beat.capacity) == {"video": 1}
        assert beat.host
        assert beat.version
        assert beat.instance
        assert beat.started_at is not None
        assert begun - 1 < beat.started_at <= beat.at
        assert beat.figures.cpus
        assert (dict(beat.skill_dependencies), dict(beat.labels)) == ({"draw": ["model"]}, labels)
        assert (list(beat.hot_cache), list(beat.hot_skills)) == ([], [])
        gate.set()
        await handle.result(facade.context.patience)
        await facade.stop(worker)
        assert list(await inspector.workers()) == []

    @worker_case(
        "worker_tells_changes_soon", level="capability", needs=NEEDS, rationale="who waits for a hot worker is told now"
    )
    async def test_worker_tells_changes_soon(self, facade: FacadeContext) -> None:
        """A model that a handler has loaded, a skill that is complete, a label: long before the next beat is due."""

        @task(name="kit.load", queue="q")
        async def load(name: str) -> list[str]:
            current().hot_cache.add(name)
            return list(current().hot_cache)

        client = await facade.client()
        skills = {"draw": ["model", "vae"], "scale": ["other"]}
        worker = await facade.work(load, heartbeat_interval=600, skill_dependencies=skills)
        inspector = (await facade.context.open()).inspector()
        await (await client.submit(load, "model")).result(facade.context.patience)
        beat = await _until_hot(facade, inspector, ["model"])
        assert list(beat.hot_skills) == []
        assert await (await client.submit(load, "vae")).result(facade.context.patience) == ["model", "vae"]
        beat = await _until_hot(facade, inspector, ["model", "vae"])
        assert list(beat.hot_skills) == ["draw"]
        worker.hot_cache.remove("model")
        worker.set_labels(zone="eu")
        beat = await _until_hot(facade, inspector, ["vae"])
        assert list(beat.hot_skills) == []

        async def labelled() -> bool:
            return [dict(beat.labels) for beat in await inspector.workers()] == [{"zone": "eu"}]

        await facade.context.eventually(labelled, "the label is told")

    @worker_case(
        "namesakes_are_told",
        level="capability",
        needs={Capability.CONTROL},
        rationale="two workers of one name hide each other, and both take what is for one",
    )
    async def test_namesakes_are_told(self, facade: FacadeContext) -> None:
        """Both logs have it, once each, and heartbeats say it; a worker of another name is told nothing. Where names
        are kept, two of one name are there after an outage that was longer than a name is kept.
        """

        @task(name="kit.nothing", queue="q")
        async def nothing() -> None: ...

        with _warnings() as said:
            first = await facade.work(nothing, name="twin", heartbeat_interval=0.2)
            await facade.work(nothing, name="single", heartbeat_interval=0.2)
            await _forget_name(facade, "twin")
            await facade.work(nothing, name="twin", heartbeat_interval=0.2)
            inspector = (await facade.context.open()).inspector()
            await facade.until(lambda: len(_of_namesakes(said)) >= 2, "both are told")

            async def known() -> bool:
                return [(beat.worker, len(beat.namesakes)) for beat in await inspector.workers()] == [
                    ("single", 0),
                    ("twin", 1),
                ]

            await facade.context.eventually(known, "heartbeats say it")
            await facade.stop(first)
            await facade.context.eventually(known, "the other one is there again after that one has left")
        assert len(_of_namesakes(said)) == 2, said


class WorkerHealthCases:
    """Part of the worker's suite: health checks."""

    @worker_case(
        "health_tells_cut_off",
        level="capability",
        needs=NEEDS,
        rationale="a worker that gets nothing any more must not look well, however busy it is",
    )
    async def test_health_tells_cut_off(self, facade: FacadeContext) -> None:
        """Full of work and cut off: alive, not ready; connected again: ready; told to stop: not ready."""
        gate = asyncio.Event()
        started: list[int] = []

        @task(name="kit.gate", queue="q")
        async def wait() -> None:
            started.append(1)
            await gate.wait()

        proxy = facade.context.proxy()
        client = await facade.client()
        worker = await facade.work(wait, via=proxy, max_concurrent_tasks=1, health_port=0, heartbeat_interval=0.5)
        assert await _asked(worker, "/ready") == 200
        handle = await client.submit(wait)
        await facade.until_long(started, 1)
        assert await _asked(worker, "/ready") == 200
        proxy.refuse()
        proxy.reset()

        async def answers(code: int) -> bool:
            return await _asked(worker, "/ready") == code

        await facade.context.eventually(lambda: answers(503), "it says that it is cut off")
        assert worker.status().problem
        assert not worker.status().connected
        assert await _asked(worker, "/live") == 200
        proxy.heal()
        await facade.context.eventually(lambda: answers(200), "it is ready again")
        assert worker.status().connected
        if not await facade.context.has(Capability.LEASE):
            # What it had is lost with the connection, and comes again: once it has stopped, nobody would run it.
            await facade.until_long(started, 2)
        worker.stop()
        await facade.context.eventually(lambda: answers(503), "it says that it stops")
        assert worker.status().problem == "stopping"
        gate.set()
        await handle.result(back(facade.context))


async def _asked(worker: Worker, path: str) -> int:
    """Ask ``worker`` and return the status code."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.health_port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split()[1])


async def _until_hot(facade: FacadeContext, inspector: Inspector, cache: list[str]) -> Heartbeat:
    found: list[Heartbeat] = []

    async def told() -> bool:
        found[:] = [beat for beat in await inspector.workers() if list(beat.hot_cache) == cache]
        return bool(found)

    await facade.context.eventually(told, f"the worker says that {cache} are loaded")
    return found[0]


async def _forget_name(facade: FacadeContext, name: str) -> None:
    """Let the broker forget who has a name, where it knows."""
    if await facade.context.has(Capability.UNIQUE_NAMES):
        keeper = name_keeper(await facade.context.open())
        holder = await keeper.take_name(NameHolder(name=name, instance="a stranger"), 1.0)
        assert holder is not None
        await keeper.free_name(holder)


def _of_namesakes(said: Sequence[str]) -> list[str]:
    return [one for one in said if "another worker is named 'twin'" in one]


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What workers warn of meanwhile."""
    said: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                said.append(record.getMessage())

    log, note = logging.getLogger("tranship.worker"), Note()
    log.addHandler(note)
    try:
        yield said
    finally:
        log.removeHandler(note)
