"""Limits by type of task, seen from the broker: never exceeded, nothing lost, nothing counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tranship.ports import Capability, CountKind, Verdict
from tranship.task import Task, current, task
from tranship.testing.context import ids_of
from tranship.testing.facade_context import FacadeContext, worker_case

__all__ = ["TypeLimitCases"]

RESULTS = {Capability.RESULTS}
NUMBER = 12
LIMIT = 2
ROUNDS = 20


class TypeLimitCases:
    """Part of the worker's suite: how many tasks of one type run at once."""

    @worker_case(
        "type_limit_own_queue", level="capability", needs=RESULTS, rationale="two encoders are all a machine can bear"
    )
    async def test_type_limit_own_queue(self, facade: FacadeContext) -> None:
        """Twelve of a type limited to two, in a queue of its own, over two workers: never more than two in one worker,
        the others' slots stay free for others, and what cannot run yet stays with the broker.
        """
        seen = _Seen()
        video, mail = seen.task("video", "video"), seen.task("mail", "mail")
        client = await facade.client()
        worker = await facade.work(video, mail, task_type_limits={"video": LIMIT}, max_concurrent_tasks=5)
        handles = await client.submit_many(video.call(number) for number in range(NUMBER))
        await facade.until(lambda: seen.now["video"] == LIMIT, "two run")
        # The full type neither takes the others' slots nor keeps a receive of theirs waiting.
        handles += await client.submit_many(mail.call(number) for number in range(3))
        await facade.until(lambda: seen.now["mail"] == 3, "three of the others run")
        assert seen.now["video"] == LIMIT
        assert worker.status().capacity == {"video": 0}
        other = await facade.work(video, task_type_limits={"video": 3}, max_concurrent_tasks=5)
        await facade.until(lambda: seen.now["video"] == LIMIT + 3, "another worker takes what this one left")
        assert other.status().capacity == {"video": 0}
        seen.gate.set()
        assert await _all(facade, handles) == [*range(NUMBER), 0, 1, 2]
        assert seen.most["video"] == LIMIT + 3
        assert seen.counts == {(0, 1)}, "an attempt or a delivery was counted"

    @worker_case(
        "type_limit_two_freed", level="capability", needs=RESULTS, rationale="whoever asks anew must not stop asking"
    )
    async def test_type_limit_two_freed(self, facade: FacadeContext) -> None:
        """Two types that are full, each with a queue of its own, get room at one moment, again and again, while a third
        queue is waited on: the worker goes on to take from all three.
        """
        gates: list[asyncio.Event] = []

        async def run(number: int) -> int:
            await gates[number].wait()
            return number

        made = {
            kind: _typed(kind, task_type=None if kind == "mail" else kind)(run) for kind in ("video", "sound", "mail")
        }
        client = await facade.client()
        worker = await facade.work(*made.values(), task_type_limits={"video": 1, "sound": 1}, max_concurrent_tasks=4)
        full = {"video": 0, "sound": 0}
        for number in range(ROUNDS):
            gates.append(asyncio.Event())
            handles = await client.submit_many(made[kind].call(number) for kind in full)
            await facade.until(lambda: worker.status().capacity == full, f"both types are full, round {number}")
            gates[number].set()
            assert await _all(facade, handles) == [number] * 2
        assert await (await client.submit(made["mail"], 0)).result(facade.context.patience) == 0
        assert worker.status().ready

    @worker_case(
        "type_limit_shared_queue",
        level="capability",
        needs=RESULTS | {Capability.DELAY},
        rationale="whoever shares a queue must not fill the others' slots, and must not be lost",
    )
    async def test_type_limit_shared_queue(self, facade: FacadeContext) -> None:
        """Twelve of a type limited to two, in front of others of the same queue: the others run beside them, the
        surplus comes later, with attempt and delivery count as they were.
        """
        seen = _Seen()
        video, mail = seen.task("video", "q"), seen.task("mail", "q")
        client = await facade.client()
        handles = await client.submit_many(video.call(number) for number in range(NUMBER))
        handles += await client.submit_many(mail.call(number) for number in range(3))
        worker = await facade.work(video, mail, task_type_limits={"video": LIMIT}, max_concurrent_tasks=5)
        await facade.until(lambda: seen.now["mail"] == 3, "those behind the surplus run")
        assert seen.now["video"] == LIMIT
        # Each was put back once, and then comes by no more often than every fifth of a second, and ever more seldom.
        before = worker.status().done
        await asyncio.sleep(1.0)
        assert worker.status().done - before < 3 * NUMBER, "it loops hot"
        seen.gate.set()
        assert await _all(facade, handles) == [*range(NUMBER), 0, 1, 2]
        assert seen.most["video"] == LIMIT
        assert seen.counts == {(0, 1)}, "an attempt or a delivery was counted"

    @worker_case(
        "type_limit_stop", level="capability", needs=RESULTS, rationale="a worker that stops keeps nothing for itself"
    )
    async def test_type_limit_stop(self, facade: FacadeContext) -> None:
        """A worker with a full type stops: what runs ends, and the rest is there for the next one at once."""
        seen = _Seen()
        video = seen.task("video", "video")
        client = await facade.client(lease=60)
        worker = await facade.work(video, task_type_limits={"video": LIMIT}, lease=60)
        handles = await client.submit_many(video.call(number) for number in range(NUMBER))
        await facade.until(lambda: seen.now["video"] == LIMIT, "two run")
        worker.stop()
        await facade.work(video, lease=60, max_concurrent_tasks=NUMBER)
        await facade.until(lambda: seen.now["video"] == NUMBER, "the next one has all the others")
        seen.gate.set()
        await facade.stop(worker)
        assert await _all(facade, handles) == list(range(NUMBER))

    @worker_case(
        "type_limit_redelivered",
        level="capability",
        needs=RESULTS | {Capability.CONTROL},
        rationale="a task that kills its workers must not become a fresh one by waiting",
    )
    async def test_type_limit_redelivered(self, facade: FacadeContext) -> None:
        """Three that were delivered before share a queue and a limit of one: they take turns with their counts as they
        were; one that waits can be cancelled, and the rest is given back as soon as the worker stops.
        """
        seen = _Seen()
        video, mail = seen.task("video", "q"), seen.task("mail", "q")
        client = await facade.client(lease=60)
        handles = [await client.submit(video, number) for number in range(4)]
        backend = await facade.context.open(lease=60)
        rival = backend.consumer(["q"])
        before = await facade.context.receive(rival, 4)
        await facade.context.settle(rival, Verdict.NACK, *before)
        await rival.aclose()
        worker = await facade.work(video, mail, task_type_limits={"video": 1}, max_concurrent_tasks=4, lease=60)
        await facade.until(lambda: len(worker.status().running) == 4, "the worker has all four")
        await facade.until(lambda: seen.now["video"] == 1, "one of them runs")
        waiting = [handle for handle in handles if handle.id != seen.ids[0]]
        await waiting[0].cancel()
        await facade.until(lambda: len(worker.status().running) == 3, "the cancelled one does not wait any more")
        worker.stop()
        rival = backend.consumer(["q"])
        back = await facade.context.receive(rival, 2)
        assert sorted(ids_of(back)) == sorted(handle.id for handle in waiting[1:])
        if before[0].count_kind is CountKind.EXACT:
            assert [one.delivery_count for one in back] == [2, 2], "waiting was counted"
        seen.gate.set()
        await facade.stop(worker)
        assert seen.most["video"] == 1
        assert {attempt for attempt, _ in seen.counts} == {0}


class _Seen:
    """What runs, by type: start and stop of each handler."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.now = dict.fromkeys(("video", "mail"), 0)
        self.most = dict.fromkeys(("video", "mail"), 0)
        self.counts: set[tuple[int, int]] = set()
        """Attempt and delivery count."""
        self.ids: list[str] = []

    def task(self, kind: str, queue: str) -> Task[..., Any]:
        """Make a task of this type that returns its argument once the gate is open."""

        async def run(number: int) -> int:
            self.now[kind] += 1
            self.most[kind] = max(self.most[kind], self.now[kind])
            self.ids.append(current().id)
            self.counts.add((current().attempt, current().delivery_count))
            await self.gate.wait()
            # Others have the time to come too early.
            await asyncio.sleep(0)
            self.now[kind] -= 1
            return number

        decorate: Callable[..., Task[..., Any]] = task(name=f"kit.typed-{kind}", queue=queue, task_type=kind)
        return decorate(run)


def _typed(kind: str, *, task_type: str | None) -> Callable[..., Task[..., Any]]:
    return task(name=f"kit.freed-{kind}", queue=kind, task_type=task_type)


async def _all(facade: FacadeContext, handles: list[Any]) -> list[Any]:
    return [await handle.result(facade.context.patience) for handle in handles]
