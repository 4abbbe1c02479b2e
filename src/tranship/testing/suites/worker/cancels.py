"""Deadlines and cancels, from the client's wish to the worker's deed."""

from __future__ import annotations

import asyncio
import time

from tranship.envelope import TaskState
from tranship.errors import DeadlineExceeded, InvalidArgumentsError, TaskCancelled
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import Task, current, task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeHandle, raised
from tranship.testing.suites.worker.runs import ended

__all__ = ["CancelCases"]

RESULTS = {Capability.RESULTS}
CONTROL = {Capability.RESULTS, Capability.CONTROL}


class DeadlineCases:
    """Part of the worker's suite, for both facades."""

    @facade_case(
        "expired_before_receive_skipped", level="capability", needs=RESULTS, rationale="late work helps nobody"
    )
    async def test_expired_before_receive_skipped(self, facade: FacadeContext) -> None:
        """Passed while it was queued: EXPIRED, the body is not run; a neighbour with time left is."""
        runs, note = _noter()
        client = await facade.client()
        late = await client.submit(note.options(deadline_in=0.2), "late")
        absolute = await client.submit(note.options(deadline=time.time() + 0.2), "absolute")
        good = await client.submit(note.options(deadline_in=60), "good")
        await facade.context.pass_time(0.4)
        await facade.work(note)
        assert await good.result(facade.context.patience) == "good"
        for handle in (late, absolute):
            await ended(handle, facade, DeadlineExceeded)
            assert await client.handle(handle.id).state() is TaskState.EXPIRED
        assert runs == ["good"]

    @facade_case("expired_clock_skew", level="capability", needs=RESULTS, rationale="clocks differ by a second or two")
    async def test_expired_clock_skew(self, facade: FacadeContext) -> None:
        """A submitter's clock two seconds off either way: the deadline is a moment, and what is far away is safe."""
        runs, note = _noter()
        client = await facade.client()
        await facade.work(note)
        for skew in (-2.0, 2.0):
            handle = await client.submit(note.options(deadline=time.time() + skew + 10.0), f"{skew}")
            assert await handle.result(facade.context.patience) == f"{skew}"
        past = await client.submit(note.options(deadline=time.time() - 2.0), "past")
        await ended(past, facade, DeadlineExceeded)
        assert runs == ["-2.0", "2.0"]

    @facade_case(
        "delay_longer_than_lease",
        level="capability",
        needs={Capability.RESULTS, Capability.DELAY},
        rationale="a task that waits for its time must not be run by every lease (kombu#337)",
    )
    async def test_delay_longer_than_lease(self, facade: FacadeContext) -> None:
        """Due after four leases, two workers waiting: SCHEDULED until then, one run, not early."""
        runs, note = _noter()
        client = await facade.client(lease=0.5)
        for _ in range(2):
            await facade.work(note, lease=0.5)
        started = time.monotonic()
        handle = await client.submit(note.options(delay=2.0), "x")
        assert await handle.state() is TaskState.SCHEDULED
        assert await handle.result(2.0 + facade.context.patience) == "x"
        assert time.monotonic() - started > 1.9
        await facade.context.pass_time(0.6)
        assert runs == ["x"]


class CancelKeyCases:
    """Part of the worker's suite, for both facades."""

    @facade_case(
        "cancel_pending_by_key", level="capability", needs=CONTROL, rationale="one word must stop a thousand tasks"
    )
    async def test_cancel_pending_by_key(self, facade: FacadeContext) -> None:
        """All with the key are skipped, queued or scheduled or submitted later; the others run."""
        runs, note = _noter()
        client = await facade.client()
        await _refused_targets(facade)
        mine = note.options(cancel_key="job-7")
        doomed = [await client.submit(mine, f"doomed-{number}") for number in range(5)]
        if await facade.context.has(Capability.DELAY):
            doomed.append(await client.submit(mine.options(delay=0.5), "doomed-later"))
        kept = [await client.submit(note.options(cancel_key="job-8"), "kept"), await client.submit(note, "free")]
        removed = await client.cancel("job-7")
        assert set(removed) <= {handle.id for handle in doomed}
        doomed.append(await client.submit(mine, "doomed-afterwards"))
        await facade.work(note)
        assert [await handle.result(facade.context.patience) for handle in kept] == ["kept", "free"]
        for handle in doomed:
            await ended(handle, facade, TaskCancelled)
            assert await handle.state() is TaskState.CANCELLED
        assert sorted(runs) == ["free", "kept"]

    @facade_case(
        "cancel_running_signalled", level="capability", needs=CONTROL, rationale="stop means now, not at the end"
    )
    async def test_cancel_running_signalled(self, facade: FacadeContext) -> None:
        """By key and by handle, on the loop and in a thread: signalled within a second, CANCELLED, not retried."""
        runs: list[str] = []
        ended_at: dict[str, float] = {}
        policy = RetryPolicy(max_attempts=5, backoff=FixedBackoff(0.01))

        @task(name="kit.endless", queue="q", retry=policy)
        async def endless(name: str) -> None:
            runs.append(name)
            try:
                await asyncio.sleep(60)
            finally:
                ended_at[name] = time.monotonic()

        @task(name="kit.endless-thread", queue="q", retry=policy)
        def endless_thread(name: str) -> None:
            runs.append(name)
            current().wait_cancelled(60)
            ended_at[name] = time.monotonic()
            current().raise_if_cancelled()

        client = await facade.client()
        await facade.work(endless, endless_thread)
        by_key = [
            await client.submit(one.options(cancel_key="stop"), f"{one.name}-key") for one in (endless, endless_thread)
        ]
        by_id = [await client.submit(one, f"{one.name}-id") for one in (endless, endless_thread)]
        left = await client.submit(endless, "left")
        await facade.until(lambda: len(runs) == 5, "all run")
        asked = time.monotonic()
        # At once: a cancel may return later than it is heard.
        await asyncio.gather(client.cancel("stop"), *(handle.cancel() for handle in by_id))
        for handle in [*by_key, *by_id]:
            await ended(handle, facade, TaskCancelled)
        slowest = max(ended_at.values()) - asked
        assert slowest < 1.0, f"signalled after {slowest:.2f} s"
        assert not await left.ready()
        assert len(runs) == 5, f"a cancelled task ran again: {runs}"

    @facade_case(
        "cancel_survives_worker_restart",
        level="capability",
        needs=CONTROL,
        rationale="nobody may be listening just then",
    )
    async def test_cancel_survives_worker_restart(self, facade: FacadeContext) -> None:
        """Cancelled while no worker lives: the next one knows, also of tasks submitted in between."""
        runs, note = _noter()
        client = await facade.client()
        worker = await facade.work(note)
        await (await client.submit(note, "first")).result(facade.context.patience)
        await facade.stop(worker)
        doomed = await client.submit(note.options(cancel_key="k"), "doomed")
        await client.cancel("k")
        await client.cancel(task_id="order-5")
        later = await client.submit(note.options(cancel_key="k"), "later")
        named = await client.submit(note.options(task_id="order-5"), "order-5")
        await facade.work(note)
        for handle in (doomed, later, named):
            await ended(handle, facade, TaskCancelled)
        assert runs == ["first"]

    @facade_case("cancel_key_ttl", level="capability", needs=CONTROL, rationale="a key may be used again some day")
    async def test_cancel_key_ttl(self, facade: FacadeContext) -> None:
        """Within its time the key is dead, afterwards it is free; a worker that heard of it forgets it, too."""
        runs, note = _noter()
        client = await facade.client()
        mine = note.options(cancel_key="k")
        await facade.work(note)
        await client.cancel("k", ttl=0.8)
        await ended(await client.submit(mine, "early"), facade, TaskCancelled)
        await facade.context.pass_time(1.0)
        assert await (await client.submit(mine, "late")).result(facade.context.patience) == "late"
        assert runs == ["late"]

    @facade_case("cancel_after_done_noop", level="capability", needs=CONTROL, rationale="the past cannot be cancelled")
    async def test_cancel_after_done_noop(self, facade: FacadeContext) -> None:
        """A finished task stays SUCCESS for everybody; nothing runs again."""
        runs, note = _noter()
        client = await facade.client()
        await facade.work(note)
        handle = await client.submit(note.options(cancel_key="k"), "x")
        assert await handle.result(facade.context.patience) == "x"
        assert await client.cancel("k") == []
        await handle.cancel()
        marker = await client.submit(note, "marker")
        assert await marker.result(facade.context.patience) == "marker"
        fresh: FacadeHandle = client.handle(handle.id)
        assert (await fresh.state(), await fresh.result(facade.context.patience)) == (TaskState.SUCCESS, "x")
        assert runs == ["x", "marker"]


class CancelCases(DeadlineCases, CancelKeyCases):
    """Part of the worker's suite."""


def _noter() -> tuple[list[str], Task[[str], str]]:
    """A task that notes its runs, and the notes."""
    runs: list[str] = []

    @task(name="kit.note", queue="q")
    async def note(value: str) -> str:
        runs.append(value)
        return value

    return runs, note


async def _refused_targets(facade: FacadeContext) -> None:
    client = await facade.client()
    await raised(client.cancel(), InvalidArgumentsError)
    await raised(client.cancel("k", task_id="i"), InvalidArgumentsError)
    await raised(client.cancel(""), InvalidArgumentsError)
