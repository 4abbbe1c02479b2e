"""What a control channel promises: a cancel that outlives everybody, and signals that arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tranship.envelope import TaskState
from tranship.ports import (
    ONLOOKER,
    Backend,
    Capability,
    Command,
    Heartbeat,
    HostFigures,
    QueueTotals,
    RunningTask,
    Signal,
    Tombstone,
    Verdict,
    heartbeat_data,
)
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.ports.cancel_marks import CancelMarkCases
from tranship.testing.suites.ports.worker_names import WorkerNameCases

__all__ = ["ControlSuite", "Feed"]

_CONTROL = frozenset({Capability.CONTROL})
_SIGNAL_BOUND = 4.0
"""The contract's second, on a busy machine."""

_PATIENCE = 5.0


class _Cancelling:
    """Tombstones."""

    @case("cancel_pending_by_key", level="capability", needs=_CONTROL, rationale="all of a job's tasks, and no others")
    async def test_cancel_pending_by_key(self, context: CaseContext) -> None:
        """Three with the key, one with another, one without: what was removed is not delivered, the others are."""
        backend, worker = await context.open(), await context.open()
        doomed = await context.submit(backend, *context.messages(3, cancel_key="job-7"))
        spared = await context.submit(backend, context.message(cancel_key="job-8"), context.message())
        report = await backend.control().cancel([_tombstone("job-7")])
        assert set(report.removed) <= set(doomed), "the cancel removed tasks without its key"
        left = [one for one in doomed if one not in report.removed]
        consumer = worker.consumer(["q"])
        assert sorted(await context.drain(consumer, len(spared + left))) == sorted(spared + left)
        await context.quiet(consumer, 0.2)
        if backend.capabilities.has(Capability.RESULTS):
            read = await worker.results().get_many(list(report.removed))
            assert [one.state for one in read] == [TaskState.CANCELLED] * len(report.removed)
        feed = await Feed.open(worker, "w-1")
        assert feed.tombstones() == {"job-7"}, "workers must hear of it for what the broker could not remove"

    @case("cancel_running_signalled", level="capability", needs=_CONTROL, rationale="a running task hears of it now")
    async def test_cancel_running_signalled(self, context: CaseContext) -> None:
        """A held task is not taken from its owner; every listener is told within the bound, on its loop."""
        backend, first, second = await context.open(), await context.open(), await context.open()
        feeds = [await Feed.open(first, "w-1"), await Feed.open(second, "w-2")]
        (task_id,) = await context.submit(backend, context.message())
        consumer = first.consumer(["q"])
        held = await context.receive(consumer)
        started = time.monotonic()
        report = await backend.control().cancel([_tombstone(task_id, kind="id")])
        assert list(report.removed) == []
        for feed in feeds:
            await feed.until(task_id)
        assert time.monotonic() - started < _SIGNAL_BOUND
        await context.settle(consumer, Verdict.ACK, *held)

    @case(
        "cancel_survives_worker_restart",
        level="capability",
        needs=_CONTROL,
        rationale="a worker that starts after the cancel must not run the task",
    )
    async def test_cancel_survives_worker_restart(self, context: CaseContext) -> None:
        """Nobody listens when it is said, who said it leaves; whoever listens later knows before listen returns."""
        canceller = await context.open()
        await canceller.control().cancel([_tombstone("job-7"), _tombstone("id-1", kind="id")])
        await canceller.aclose()
        for worker in ("w-1", "w-2"):
            backend = await context.open()
            feed = await Feed.open(backend, worker)
            assert feed.tombstones() == {"job-7", "id-1"}, f"{worker} was synced without knowing"
            await backend.aclose()

    @case(
        "cancel_known_after_other_work",
        level="capability",
        needs=_CONTROL,
        rationale="what a backend was used for before must not keep cancels from who listens later",
    )
    async def test_cancel_known_after_other_work(self, context: CaseContext) -> None:
        """Cancel, submit, consume and look around first, all over the one backend that listens then."""
        backend = await context.open()
        await backend.control().cancel([_tombstone("job-7")])
        await context.submit(backend, context.message())
        await context.drain(backend.consumer(["q"]), 1)
        await backend.inspector().queues()
        await backend.inspector().workers()
        await backend.control().cancel([_tombstone("id-1", kind="id")])
        feed = await Feed.open(backend, "w-1")
        assert feed.tombstones() == {"job-7", "id-1"}, "it was synced without knowing"
        await (await context.open()).control().cancel([_tombstone("job-8")])
        await feed.until("job-8")

    @case(
        "cancel_survives_canceller",
        level="capability",
        needs=_CONTROL | {Capability.DURABLE, Capability.CROSS_PROCESS},
        rationale="what was cancelled stays cancelled when the canceller is killed and the broker restarts",
    )
    async def test_cancel_survives_canceller(self, context: CaseContext) -> None:
        """A process cancels, says so, is killed; the broker restarts where it can."""
        child = await context.child("cancel", url=context.url(), kind="key", value="job-7", expires=time.time() + 600)
        assert await child.line() == []
        await child.kill()
        if context.harness.can("restart"):
            await context.harness.restart()
        feed = await Feed.open(await context.open(), "w-1")
        assert feed.tombstones() == {"job-7"}

    @case("cancel_key_ttl", level="capability", needs=_CONTROL, rationale="tomorrow's job may have yesterday's key")
    async def test_cancel_key_ttl(self, context: CaseContext) -> None:
        """After its time nobody is told any more, and new tasks with the key are delivered."""
        backend = await context.open()
        await backend.control().cancel([_tombstone("job-7", seconds=1.0), _tombstone("job-8")])

        async def forgotten() -> bool:
            listener = await context.open()
            feed = await Feed.open(listener, "w-1")
            await listener.aclose()
            assert "job-8" in feed.tombstones()
            return "job-7" not in feed.tombstones()

        assert not await forgotten(), "the tombstone was gone at once"
        await context.eventually(forgotten, "a tombstone ends with its time")
        ids = await context.submit(backend, context.message(cancel_key="job-7"))
        assert await context.drain(backend.consumer(["q"]), 1) == ids

    @case(
        "cancel_after_done_noop",
        level="capability",
        needs=_CONTROL | {Capability.RESULTS},
        rationale="a cancel that comes too late must not rewrite what happened",
    )
    async def test_cancel_after_done_noop(self, context: CaseContext) -> None:
        """The result of a finished task stays."""
        backend = await context.open()
        (task_id,) = await context.submit(backend, context.message(cancel_key="job-7"))
        await context.drain(backend.consumer(["q"]), 1)
        assert list(await backend.results().put([context.result(task_id, 1)])) == [True]
        report = await backend.control().cancel([_tombstone("job-7"), _tombstone(task_id, kind="id")])
        assert list(report.removed) == []
        (read,) = await backend.results().get_many([task_id])
        assert read.state is TaskState.SUCCESS


class _Signalling:
    """Live signals."""

    @case("command_reaches_destination", level="capability", needs=_CONTROL, rationale="one worker is told, or all are")
    async def test_command_reaches_destination(self, context: CaseContext) -> None:
        """To one by name: the other hears only what is for all, which comes after it."""
        backend, first, second = await context.open(), await context.open(), await context.open()
        one, two = await Feed.open(first, "w-1"), await Feed.open(second, "w-2")
        await backend.control().send(Command(name="set", arguments={"limit": 3}, destination=["w-1"]))
        await backend.control().send(Command(name="ping"))
        for feed in (one, two):
            await feed.until("ping")
        assert one.commands() == {"set": {"limit": 3}, "ping": {}}
        assert set(two.commands()) == {"ping"}

    @case(
        "command_reaches_onlookers",
        level="capability",
        needs=_CONTROL,
        rationale="workers answer over the channel that commands come by, and whoever asked is no worker",
    )
    async def test_command_reaches_onlookers(self, context: CaseContext) -> None:
        """To those who only look on: a worker hears what is for all, which comes after it, and they hear both; the
        other way round, too.
        """
        asks, looks, works = await context.open(), await context.open(), await context.open()
        one, two = await Feed.open(asks, ONLOOKER), await Feed.open(looks, ONLOOKER)
        worker = await Feed.open(works, "w-1")
        await asks.control().send(Command(name="ask", arguments={"id": "x"}, destination=["w-1"]))
        await worker.until("ask")
        await works.control().send(Command(name="answer", arguments={"id": "x"}, destination=[ONLOOKER]))
        await works.control().send(Command(name="ping"))
        for feed in (one, two, worker):
            await feed.until("ping")
        assert one.commands() == two.commands() == {"answer": {"id": "x"}, "ping": {}}
        assert set(worker.commands()) == {"ask", "ping"}

    @case("control_feed_ends", level="capability", needs=_CONTROL, rationale="a closed worker must not be called back")
    async def test_control_feed_ends(self, context: CaseContext) -> None:
        """After aclose the sink is not called any more, while another one still is."""
        backend, gone, there = await context.open(), await context.open(), await context.open()
        silent, witness = await Feed.open(gone, "w-1"), await Feed.open(there, "w-2")
        await gone.aclose()
        await backend.control().send(Command(name="ping"))
        await witness.until("ping")
        assert silent.commands() == {}

    @case(
        "worker_heartbeats", level="capability", needs=_CONTROL, rationale="an operator sees who is there and what runs"
    )
    async def test_worker_heartbeats(self, context: CaseContext) -> None:
        """The latest beat of each, by name; who says ``stopping`` is gone."""
        backend, other = await context.open(), await context.open()
        await backend.control().beat(_beat("w-2", running=["a"]))
        await other.control().beat(_beat("w-1"))
        await backend.control().beat(_beat("w-2", running=["b", "c"]))
        inspector = other.inspector()
        found = await inspector.workers()
        beats = [(beat.worker, [one.id for one in beat.running], list(beat.queues)) for beat in found]
        assert beats == [("w-1", [], ["q"]), ("w-2", ["b", "c"], ["q"])]
        await other.control().beat(_beat("w-1", stopping=True))
        assert [beat.worker for beat in await inspector.workers()] == ["w-2"]

    @case(
        "worker_heartbeat_expires",
        level="stress",
        needs=_CONTROL,
        rationale="a worker that was killed says no goodbye, and must not be counted on for ever",
        limit=180,
    )
    async def test_worker_heartbeat_expires(self, context: CaseContext) -> None:
        """One beat and then silence: forgotten after a minute, and not before half of it."""
        backend, memory = await context.open(), context.harness.worker_memory
        inspector = (await context.open()).inspector()
        await backend.control().beat(_beat("w-1"))
        await context.pass_time(memory / 2)
        assert [one.worker for one in await inspector.workers()] == ["w-1"]

        async def forgotten() -> bool:
            return not await inspector.workers()

        await context.eventually(forgotten, "it is forgotten", within=memory / 2 + context.patience)

    @case(
        "heartbeat_arrives_whole",
        level="capability",
        needs=_CONTROL,
        rationale="what a worker says of itself is of use to those who read all of it",
    )
    async def test_heartbeat_arrives_whole(self, context: CaseContext) -> None:
        """Every field, with text and numbers of all kinds, read over another connection."""
        backend, other = await context.open(), await context.open()
        beat = _full_beat()
        await backend.control().beat(beat)
        (found,) = await other.inspector().workers()
        assert heartbeat_data(found) == heartbeat_data(beat)


class ControlSuite(_Cancelling, _Signalling, CancelMarkCases, WorkerNameCases):
    """Everything about cancels, commands, heartbeats and names."""


class Feed:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self._signals: list[Signal] = []
        self._news = asyncio.Event()

    @classmethod
    async def open(cls, backend: Backend, worker: str) -> Feed:
        """Listen as ``worker``."""
        feed = cls()
        await backend.control().listen(feed.take, worker=worker)
        return feed

    def take(self, signals: Sequence[Signal]) -> None:
        """Remember them; the backend calls this."""
        self._signals += signals
        self._news.set()

    def tombstones(self) -> set[str]:
        """The ids and keys of all tombstones so far."""
        return {signal.value for signal in self._signals if isinstance(signal, Tombstone)}

    def commands(self) -> dict[str, object]:
        """Arguments by name of all commands so far."""
        return {signal.name: dict(signal.arguments) for signal in self._signals if isinstance(signal, Command)}

    async def until(self, told: str) -> None:
        """Return when the tombstone or the command ``told`` has come, or fail after a bound."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while told not in self.tombstones() | set(self.commands()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"nobody was told of {told!r} within {_PATIENCE} s") from None


def _tombstone(value: str, *, kind: str = "key", seconds: float = 600.0) -> Tombstone:
    return Tombstone(kind=kind, value=value, expires=time.time() + seconds)


def _beat(worker: str, *, running: Sequence[str] = (), stopping: bool = False) -> Heartbeat:
    return Heartbeat(
        worker=worker,
        host="here",
        pid=1,
        queues=["q"],
        running=[RunningTask(id=one) for one in running],
        limit=10,
        at=time.time(),
        stopping=stopping,
    )


def _full_beat() -> Heartbeat:
    now = round(time.time(), 3)
    task = RunningTask(id="a", task="app.résumé", queue="q", since=now - 3, attempt=2, progress=0.25, note="5 of 20")
    return Heartbeat(
        worker="w-é",
        host="here",
        pid=4711,
        queues=["q", "another queue"],
        running=[task],
        limit=10,
        at=now,
        ahead=0.5,
        instance="0123",
        version="0.1.0",
        started_at=now - 60,
        tasks=["app.résumé", "app.two"],
        busy=8000,
        free=2,
        capacity={"gpu": 1, "cpu": 0},
        figures=HostFigures(
            cpus=8, load=0.75, memory=2**36, memory_available=2**35, process_cpu=1.5, process_memory=2**27
        ),
        skill_dependencies={"draw": ["model-1", "model-2"], "nothing": []},
        hot_cache=["model-1", "model-2"],
        hot_skills=["draw", "nothing"],
        labels={"zone": "eu-1", "gpus": [0, 1], "spot": True, "cost": 0.5, "nested": {"none": None}},
        namesakes=["on there, process 12"],
        totals={"q": QueueTotals(ended=9000, failed=20, retried=7, seconds=1234.5), "another queue": QueueTotals()},
        remembers=1000,
        remembered=4000,
        left_out={"running": 7999},
    )
