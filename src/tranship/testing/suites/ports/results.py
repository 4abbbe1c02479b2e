"""What a result store promises: first one wins, who expects it gets it, unknown is not pending."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tranship.envelope import TRANSITIONS, ErrorInfo, TaskState, new_id
from tranship.errors import UnsupportedError
from tranship.ports import Capability, IdKeeper, KnownId, ResultStore, Settlement, Verdict
from tranship.protocol import decode, decode_result
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.ports.pushed_results import PushedResults
from tranship.testing.suites.ports.records import RecordCases
from tranship.testing.suites.ports.replies import ReplyCases

__all__ = ["ResultStoreSuite"]

_RESULTS = frozenset({Capability.RESULTS})
_PUSH = frozenset({Capability.RESULTS, Capability.RESULT_PUSH})
_PUSH_BOUND = 0.25
"""Five times the 50 ms that are wanted: far from any polling interval, safe on a busy machine."""


class _Storing:
    """Writing and reading."""

    @case("result_set_get", level="capability", needs=_RESULTS, rationale="any process may ask, in any order")
    async def test_result_set_get(self, context: CaseContext) -> None:
        """Success and failure, read elsewhere, in the order asked for, value and error intact."""
        backend, other = await context.open(), await context.open()
        error = ErrorInfo(type="builtins.ValueError", message="caf\u00e9", code="TOO_LATE", details={"n": [1]})
        good = context.result("a-1", {"value": [1, None, "\u6f22"]}, worker="w-1")
        bad = context.result("a-2", state=TaskState.FAILURE, error=error, attempt=2)
        assert list(await backend.results().put([good, bad])) == [True, True]
        read = await other.results().get_many(["a-2", "a-1"])
        assert [(one.id, one.state) for one in read] == [("a-2", TaskState.FAILURE), ("a-1", TaskState.SUCCESS)]
        failure, success = (decode_result(one.document, task_id=one.id) for one in read)
        assert success.unwrap() == {"value": [1, None, "\u6f22"]}
        assert failure.error is not None
        assert (failure.error.message, failure.error.code, dict(failure.error.details)) == (
            "caf\u00e9",
            "TOO_LATE",
            {"n": [1]},
        )

    @case(
        "result_first_write_wins",
        level="capability",
        needs=_RESULTS,
        rationale="a zombie's late result must not replace what the caller has read",
    )
    async def test_result_first_write_wins(self, context: CaseContext) -> None:
        """The second terminal write is refused, also when both come at once from different places."""
        backends = [await context.open() for _ in range(3)]
        first, late = context.result("a-1", "first"), context.result("a-1", state=TaskState.CANCELLED)
        assert list(await backends[0].results().put([first])) == [True]
        assert list(await backends[1].results().put([late, context.result("a-2", 2)])) == [False, True]
        await _expect_value(backends[2].results(), "a-1", "first")
        for race in range(10):
            rivals = [backend.results().put([context.result(f"r-{race}", n)]) for n, backend in enumerate(backends)]
            won = [answer for (answer,) in await asyncio.gather(*rivals)]
            assert sorted(won) == [False, False, True], f"{won.count(True)} writers won"
            await _expect_value(backends[0].results(), f"r-{race}", won.index(True))

    @case(
        "result_ttl_expires",
        level="capability",
        needs=_RESULTS | {Capability.RESULT_TTL},
        rationale="results that stay for ever fill the store; results that go early are lost",
    )
    async def test_result_ttl_expires(self, context: CaseContext) -> None:
        """Kept for its time, gone soon after it, while another stays."""
        backend = await context.open(result_ttl=1.0)
        per_result = backend.capabilities[Capability.RESULT_TTL].properties.get("ttl") == "per-result"
        store = backend.results()
        started = time.monotonic()
        await store.put([context.result("brief", 1, ttl=1.0 if per_result else None)])
        if per_result:
            await store.put([context.result("default", 2), context.result("long", 3, ttl=600.0)])
        await _expect_value(store, "brief", 1)

        async def gone() -> bool:
            return not (await store.get_many(["brief"]))[0].state.terminal

        await context.eventually(gone, "a result with a ttl of 1 s expires")
        assert time.monotonic() - started > 0.8, "it expired early"
        if per_result:
            await _expect_value(store, "long", 3)

    @case("result_forget_idempotent", level="capability", needs=_RESULTS, rationale="clean-up is repeated after errors")
    async def test_result_forget_idempotent(self, context: CaseContext) -> None:
        """Forgotten, again, and unknown ids: no error, and nobody else is forgotten."""
        backend = await context.open()
        store = backend.results()
        await store.put([context.result("a-1", 1), context.result("a-2", 2)])
        await store.forget_many(["a-1", "never-heard-of"])
        await store.forget_many(["a-1"])
        (gone,) = await store.get_many(["a-1"])
        assert not gone.state.terminal
        await _expect_value(store, "a-2", 2)
        assert list(await store.put([context.result("a-1", "again")])) == [True], "a forgotten id is taken"

    @case(
        "result_unknown_id_not_pending",
        level="capability",
        needs=_RESULTS | {Capability.KNOWS_IDS},
        rationale="waiting for a mistyped id must end at once, not with a timeout",
    )
    async def test_result_unknown_id_not_pending(self, context: CaseContext) -> None:
        """UNKNOWN for what was never submitted, PENDING for what is queued."""
        backend, other = await context.open(), await context.open()
        (queued,) = await context.submit(backend, context.message())
        read = await other.results().get_many([new_id(), queued])
        assert [one.state for one in read] == [TaskState.UNKNOWN, TaskState.PENDING]
        assert [one.document for one in read] == [b"", b""]

    @case(
        "result_told_ids_are_known",
        level="capability",
        needs=_RESULTS,
        rationale="a store that is told of ids knows them, and takes none of them for a result",
    )
    async def test_result_told_ids_are_known(self, context: CaseContext) -> None:
        """With ``knows_ids`` an id that was told is PENDING, or SCHEDULED, everywhere, until there is a result; any
        other, and one that was taken back or forgotten, is UNKNOWN.
        """
        try:
            store, other = [(await context.open(knows_ids="true")).results() for _ in range(2)]
        except UnsupportedError as error:
            context.skip(f"refused: {error}")
        assert isinstance(store, IdKeeper), "a store with knows_ids has to be an IdKeeper"
        now, names = time.time(), ("ready", "late", "taken-back", "never-told")
        assert list(await store.keep_ids([KnownId("ready"), KnownId("late", ready=now + 600)])) == [True, True]
        assert list(await store.keep_ids([KnownId("taken-back", ttl=60), KnownId("ready")])) == [True, False]
        await store.drop_ids(["taken-back", "never-told"])
        known = [TaskState.PENDING, TaskState.SCHEDULED, TaskState.UNKNOWN, TaskState.UNKNOWN]
        assert [one.state for one in await other.get_many(names)] == known
        assert list(await other.put([context.result("ready", 1), context.result("never-told", 2)])) == [True, True]
        ended = [TaskState.SUCCESS, TaskState.SCHEDULED, TaskState.UNKNOWN, TaskState.SUCCESS]
        assert [one.state for one in await store.get_many(names)] == ended
        await store.forget_many(names)
        forgotten = [TaskState.UNKNOWN, TaskState.SCHEDULED, TaskState.UNKNOWN, TaskState.UNKNOWN]
        assert [one.state for one in await other.get_many(names)] == forgotten

    @case(
        "state_transitions_legal",
        level="capability",
        needs=_RESULTS | {Capability.KNOWS_IDS, Capability.DELAY},
        rationale="a state that jumps makes every dashboard and every waiting caller wrong",
    )
    async def test_state_transitions_legal(self, context: CaseContext) -> None:
        """Delayed, queued, held, retried, held, done: what is read follows the documented graph."""
        backend = await context.open(lease=60)
        store, consumer = backend.results(), backend.consumer(["q"])
        seen = [TaskState.UNKNOWN]
        (task_id,) = await context.submit(backend, context.message(not_before=time.time() + 0.7))

        async def look() -> TaskState:
            (read,) = await store.get_many([task_id])
            if read.state is not seen[-1]:
                seen.append(read.state)
            return read.state

        assert await look() is TaskState.SCHEDULED
        held = await context.receive(consumer)
        assert await look() is TaskState.STARTED
        retry = context.message(id=task_id, attempt=1, not_before=time.time() + 0.7)
        await context.settle(consumer, Verdict.REPLACE, *held, replacement=retry)
        assert await look() in {TaskState.RETRY, TaskState.SCHEDULED}
        held = await context.receive(consumer)
        assert await look() is TaskState.STARTED
        assert list(await store.put([context.result(task_id, 1)])) == [True]
        await context.settle(consumer, Verdict.ACK, *held)
        assert await look() is TaskState.SUCCESS
        _assert_path(seen)


class _Pushing:
    """Results come to who expects them."""

    @case(
        "result_wait_pushed",
        level="capability",
        needs=_PUSH,
        rationale="polling costs the broker, and its pause the caller",
    )
    async def test_result_wait_pushed(self, context: CaseContext) -> None:
        """Stored elsewhere, here at once: the median of 15 is far below any polling interval."""
        backend, worker = await context.open(), await context.open()
        inbox = PushedResults(backend.results(), context)
        latencies = []
        for number in range(15):
            takes = context.harness.takes_tasks
            ids = await context.submit(worker, context.message(queue="unread")) if takes else [new_id()]
            inbox.store.expect(ids)
            await inbox.store.get_many(ids)
            await worker.results().put([context.result(ids[0], number)])
            started = time.monotonic()
            pushed = await inbox.get(ids[0])
            latencies.append(time.monotonic() - started)
            assert decode_result(pushed.document, task_id=ids[0]).unwrap() == number
        assert statistics.median(latencies) < _PUSH_BOUND, f"pushed after {sorted(latencies)} s"

    @case(
        "result_set_before_wait",
        level="capability",
        needs=_PUSH,
        rationale="a fast worker is done before its caller waits",
    )
    async def test_result_set_before_wait(self, context: CaseContext) -> None:
        """Expect, then read: there is no gap in which a result can be missed."""
        backend, worker = await context.open(), await context.open()
        inbox = PushedResults(backend.results(), context)
        await worker.results().put([context.result("early", 1)])
        inbox.store.expect(["early"])
        await _expect_value(inbox.store, "early", 1)
        for number in range(20):
            # The write races expect and read: one of the two has to bring it.
            writing = context.start(worker.results().put([context.result(f"race-{number}", number)]))
            await asyncio.sleep(0)
            inbox.store.expect([f"race-{number}"])
            (read,) = await inbox.store.get_many([f"race-{number}"])
            if not read.state.terminal:
                await inbox.get(f"race-{number}")
            await writing

    @case(
        "result_1000_waiters_bounded_connections",
        level="capability",
        needs=_PUSH,
        rationale="a connection per waiter brings the broker down at a thousand",
    )
    async def test_result_1000_waiters_bounded_connections(self, context: CaseContext) -> None:
        """1,000 ids expected by one backend: all are pushed, over a handful of connections."""
        backend, worker = await context.open(), await context.open()
        inbox = PushedResults(backend.results(), context)
        before = await context.harness.connections()
        ids = [new_id() for _ in range(1000)]
        inbox.store.expect(ids)
        await inbox.store.get_many(ids[:1])
        during = await context.harness.connections()
        results = [context.result(task_id, number) for number, task_id in enumerate(ids)]
        assert all(await worker.results().put(results))
        for task_id in ids:
            await inbox.get(task_id)
        if before is not None and during is not None:
            assert during - before <= 10, f"{during - before} connections for 1,000 waiters"

    @case(
        "result_pushed_by_settle",
        level="capability",
        needs=_PUSH | {Capability.FUSED_SETTLE},
        rationale="the fused path must wake waiters like the plain one",
    )
    async def test_result_pushed_by_settle(self, context: CaseContext) -> None:
        """A result that travels with its settlement is pushed, too."""
        backend, worker = await context.open(), await context.open()
        inbox = PushedResults(backend.results(), context)
        ids = await context.submit(backend, context.message())
        inbox.store.expect(ids)
        await inbox.store.get_many(ids)
        consumer = worker.consumer(["q"])
        (held,) = await context.receive(consumer)
        address = decode(held.message, queue=held.queue, priority=held.priority).reply_to
        result = replace(context.result(ids[0], "done"), reply_to=address)
        await consumer.settle([Settlement(held, Verdict.ACK, result=result)])
        assert decode_result((await inbox.get(ids[0])).document, task_id=ids[0]).unwrap() == "done"

    @case(
        "result_unexpect_forgets",
        level="capability",
        needs=_PUSH,
        rationale="a caller that gave up must leave nothing behind, in us or in the broker",
    )
    async def test_result_unexpect_forgets(self, context: CaseContext) -> None:
        """Unexpected ids are not pushed; a store that counts its ``waiting`` ids counts none."""
        backend, worker = await context.open(), await context.open()
        inbox = PushedResults(backend.results(), context)
        ids = [new_id() for _ in range(20)]
        inbox.store.expect(ids)
        await inbox.store.get_many(ids[:1])
        assert inbox.waiting() in {None, 20}
        inbox.store.unexpect([*ids[1:], "never-expected"])
        assert inbox.waiting() in {None, 1}, f"{inbox.waiting()} ids are expected, not one"
        await worker.results().put([context.result(task_id, 1) for task_id in reversed(ids)])
        await inbox.get(ids[0])
        assert inbox.ids() == {ids[0]}, "ids that nobody waits for were pushed"
        inbox.store.unexpect(ids)
        assert inbox.waiting() in {None, 0}, f"{inbox.waiting()} ids are still expected"


class ResultStoreSuite(_Storing, _Pushing, ReplyCases, RecordCases):
    """Everything about results, and what else their store keeps."""


async def _expect_value(store: ResultStore, task_id: str, value: object) -> None:
    (read,) = await store.get_many([task_id])
    assert read.state is TaskState.SUCCESS, f"{task_id} is {read.state}"
    assert decode_result(read.document, task_id=task_id).unwrap() == value


def _assert_path(seen: Sequence[TaskState]) -> None:
    """Insist that each state can be reached from the one before, with steps in between that nobody saw."""
    for before, after in pairwise(seen):
        reachable, frontier = set(TRANSITIONS[before]), set(TRANSITIONS[before])
        while frontier:
            frontier = {far for near in frontier for far in TRANSITIONS[near]} - reachable
            reachable |= frontier
        assert after in reachable, f"{after} came after {before}: {[state.value for state in seen]}"
