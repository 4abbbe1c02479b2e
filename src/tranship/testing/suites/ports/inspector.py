"""What an inspector promises: true numbers, and dead letters that can be brought back."""

from __future__ import annotations

import time

from tranship.envelope import Priority, TaskState
from tranship.ports import Backend, Capability, QueueBrowser, QueueInfo, Verdict, ready_in
from tranship.protocol import Encoder, decode
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.suites.ports.backlog import BacklogCases
from tranship.testing.suites.ports.malformed import MALFORMED, sent

__all__ = ["InspectorSuite"]

_DEAD = frozenset({Capability.DEAD_LETTERS})
_UNREADABLE = ("headers are no JSON", "no task", "body is no JSON", "body is no UTF-8", "pickle")


class _Counting:
    """Queues and numbers."""

    @case(
        "inspect_counts",
        level="capability",
        needs={Capability.INSPECT_DEPTH},
        rationale="alarms and autoscaling act on these numbers",
    )
    async def test_inspect_counts(self, context: CaseContext) -> None:
        """Ready by level, delayed, in flight, dead, of each queue; numbers the backend lacks are None."""
        backend, other = await context.open(lease=60), await context.open()
        assert list(await other.inspector().queues()) == []
        await context.submit(backend, *context.messages(3), *context.messages(2, priority=Priority.LOW))
        await context.submit(backend, *context.messages(4, queue="p"))
        has = backend.capabilities.has
        if has(Capability.DELAY):
            await context.submit(backend, context.message(not_before=time.time() + 600))
        consumer = backend.consumer(["q"])
        (held,) = await context.receive(consumer)
        p, q = await other.inspector().queues()
        assert (p.name, _ready(p)) == ("p", {Priority.NORMAL: 4})
        assert (q.name, _ready(q)) == ("q", {Priority.NORMAL: 2, Priority.LOW: 2})
        assert q.in_flight == (1 if has(Capability.INSPECT_IN_FLIGHT) else None)
        if has(Capability.DELAY) and q.delayed is not None:
            assert q.delayed == 1
        await context.settle(consumer, Verdict.ACK, held)
        if has(Capability.INSPECT_IN_FLIGHT):
            assert (await other.inspector().queues())[1].in_flight == 0

    @case(
        "inspect_ready_in_queues",
        level="capability",
        needs={Capability.INSPECT_DEPTH},
        rationale="a worker that gets nothing asks whether there is nothing",
    )
    async def test_inspect_ready_in_queues(self, context: CaseContext) -> None:
        """What is ready in some queues, on all levels; queues that nobody has heard of have nothing."""
        backend, other = await context.open(), await context.open()
        assert await ready_in(other.inspector(), ["q", "p"]) == 0
        await context.submit(
            backend, *context.messages(3), *context.messages(2, priority=Priority.LOW), context.message(queue="p")
        )
        assert await ready_in(other.inspector(), ["q"]) == 5
        assert await ready_in(other.inspector(), ["p", "q", "r"]) == 6

    @case(
        "inspect_oldest_age",
        level="capability",
        needs={Capability.INSPECT_OLDEST},
        rationale="a short queue that does not move is the worst kind",
    )
    async def test_inspect_oldest_age(self, context: CaseContext) -> None:
        """It grows with the oldest ready task and falls when that is gone."""
        backend = await context.open()
        started = time.time()
        await context.submit(backend, context.message())

        async def old_enough() -> float | None:
            age = await _age(backend)
            return age if age is not None and age > 0.6 else None

        age = await context.eventually(old_enough, "the age of a waiting task grows")
        assert age is not None
        assert age <= time.time() - started + 0.1
        if not backend.capabilities.has(Capability.ORDERED):
            # Which of two is taken first cannot be known.
            await context.drain(backend.consumer(["q"]), 1)
            await context.submit(backend, context.message())
        else:
            await context.submit(backend, context.message())
            await context.drain(backend.consumer(["q"]), 1)
        younger = await _age(backend)
        assert younger is not None
        assert younger < age, "the oldest is gone, but its age is still reported"


class _Browsing:
    """What waits, one by one."""

    @case(
        "inspect_waiting_in_order",
        level="capability",
        needs={Capability.BROWSE},
        rationale="why does my task not run? because of what is before it",
    )
    async def test_inspect_waiting_in_order(self, context: CaseContext) -> None:
        """What is ready as it would be taken, then what is delayed; not what a worker has, nor other queues."""
        backend, other = await context.open(lease=60), await context.open()
        has = backend.capabilities.has
        low, normal = context.messages(2, priority=Priority.LOW), context.messages(3, cancel_key="k")
        for messages in (low, normal, context.messages(2, queue="p")):
            await context.submit(backend, *messages)
        delayed: list[str] = []
        if has(Capability.DELAY):
            late, soon = (context.message(not_before=time.time() + seconds) for seconds in (900, 600))
            await context.submit(backend, late, soon)
            delayed = [soon.envelope.id, late.envelope.id]
        (held,) = await context.receive(backend.consumer(["q"]))
        browser = _browser(other)
        tasks = await browser.waiting("q")
        ready = [one for one in tasks if one.state == "ready"]
        every = {one.envelope.id for one in (*low, *normal)}
        assert {one.id for one in ready} == every - set(ids_of([held]))
        if has(Capability.PRIORITY) and has(Capability.ORDERED):
            assert [one.id for one in ready] == [one.envelope.id for one in (*normal[1:], *low)]
        assert {one.id for one in tasks if one.state == "delayed"} == set(delayed)
        assert [one.state for one in tasks] == ["ready"] * len(ready) + ["delayed"] * len(delayed)
        first = next(one for one in ready if one.id == normal[-1].envelope.id)
        envelope = normal[-1].envelope
        assert (first.queue, first.priority, first.task) == ("q", Priority.NORMAL, envelope.task)
        assert (first.attempt, first.cancel_key) == (0, "k")
        assert list(await browser.waiting("q", limit=2)) == list(tasks[:2])
        assert list(await browser.waiting("nobody-knows-it")) == []

    @case(
        "inspect_purge_one",
        level="capability",
        needs={Capability.BROWSE},
        rationale="the one task that is in the way goes, the others stay",
    )
    async def test_inspect_purge_one(self, context: CaseContext) -> None:
        """Those of the ids that wait in this queue are gone, and say so; others, and what a worker has, stay."""
        backend, other = await context.open(lease=60), await context.open()
        messages = context.messages(4)
        elsewhere = context.message(queue="p")
        await context.submit(backend, *messages, elsewhere)
        consumer = backend.consumer(["q"])
        (held,) = await context.receive(consumer)
        (mine,) = ids_of([held])
        waiting = [one.envelope.id for one in messages if one.envelope.id != mine]
        asked = [waiting[1], mine, elsewhere.envelope.id, "unknown"]
        assert list(await _browser(other).purge("q", asked)) == waiting[1:2]
        assert list(await _browser(other).purge("q", asked)) == []
        await context.settle(consumer, Verdict.ACK, held)
        assert set(await context.drain(consumer, 2)) == {waiting[0], waiting[2]}
        if backend.capabilities.has(Capability.RESULTS):
            (result,) = await backend.results().get_many(waiting[1:2])
            assert result is not None
            assert result.state is TaskState.CANCELLED
            assert b"purged" in result.document

    @case(
        "inspect_purge_all",
        level="capability",
        needs={Capability.BROWSE},
        rationale="a queue that was filled by mistake is emptied, and nothing beside it",
    )
    async def test_inspect_purge_all(self, context: CaseContext) -> None:
        """Everything that waits is gone, what is delayed too, however much it is; other queues are as they were."""
        backend = await context.open(lease=60)
        messages = [*context.messages(700), context.message(priority=Priority.LOW)]
        if backend.capabilities.has(Capability.DELAY):
            messages.append(context.message(not_before=time.time() + 600))
        await context.submit(backend, *messages, context.message(queue="p"))
        purged = await _browser(backend).purge("q")
        assert sorted(purged) == sorted(one.envelope.id for one in messages)
        assert list(await _browser(backend).waiting("q")) == []
        assert len(await _browser(backend).waiting("p")) == 1
        await context.submit(backend, context.message())
        assert len(await context.drain(backend.consumer(["q"]), 1)) == 1


class _Burying:
    """Dead letters."""

    @case(
        "dead_list_show_replay_purge",
        level="capability",
        needs=_DEAD,
        rationale="a dead letter nobody can bring back is a lost task with a name",
    )
    async def test_dead_list_show_replay_purge(self, context: CaseContext) -> None:
        """Listed, shown by either id, replayed as new with its result forgotten, purged."""
        backend = await context.open()
        ids = await _bury(context, backend, 3)
        inspector = backend.inspector()
        letters = await inspector.dead("q")
        assert [letter.task_id for letter in letters] == ids, "dead letters are listed oldest first"
        by_own_id = await inspector.dead_get([letters[1].id, "unknown"])
        assert [letter.task_id for letter in by_own_id] == ids[1:2]
        assert [letter.id for letter in await inspector.dead_get(ids[:1])] == [letters[0].id]
        assert list(await inspector.dead_replay([letters[0].id, "unknown"])) == [letters[0].id]
        consumer = backend.consumer(["q"])
        (again,) = await context.receive(consumer)
        assert ids_of([again]) == ids[:1]
        assert again.message.body == letters[0].body
        if backend.capabilities[Capability.DELIVERY_COUNT].properties.get("kind") == "exact":
            assert again.delivery_count == 1, "a replayed task starts at 0 deliveries"
        await context.settle(consumer, Verdict.ACK, again)
        assert await inspector.dead_purge([letters[1].id]) == 1
        assert [letter.task_id for letter in await inspector.dead()] == ids[2:]
        assert await inspector.dead_purge() == 1
        assert list(await inspector.dead()) == []
        await context.quiet(consumer, 0.2)

    @case(
        "dead_unreadable_hides_no_others",
        level="capability",
        needs=_DEAD,
        rationale="the one letter that nobody can read must not hide those that can be brought back",
    )
    async def test_dead_unreadable_hides_no_others(self, context: CaseContext) -> None:
        """Broken headers, a broken body, a good one: each is listed, shown with its bytes, and can be purged."""
        backend = await context.open()
        bad = [one for one in MALFORMED if one.name in _UNREADABLE]
        arrived = [one for one in bad if await sent(backend, one)]
        (good,) = await context.submit(backend, context.message())
        consumer, inspector = backend.consumer(["q"]), backend.inspector()
        for _ in range(len(arrived) + 1):
            (one,) = await context.receive(consumer)
            await context.settle(consumer, Verdict.REJECT, one, reason="malformed")
        try:
            letters = await inspector.dead("q")
            found = await inspector.dead_get([one.id for one in letters])
        except Exception as error:
            raise AssertionError(f"one that cannot be read hides the others: {error!r}") from error
        assert sorted(one.id for one in found) == sorted(one.id for one in letters)
        assert len(letters) == len(arrived) + 1
        assert good in [one.task_id for one in letters]
        bodies = {one.body for one in letters}
        assert {one.raw_body for one in arrived if one.raw_body is not None} <= bodies
        assert await inspector.dead_purge() == len(letters)

    @case(
        "dead_copy_before_original_goes",
        level="capability",
        needs=_DEAD | {Capability.INSPECT_DEPTH, Capability.INSPECT_IN_FLIGHT},
        rationale="a task that is in neither place for a moment is in none, if that is the moment of a crash",
    )
    async def test_dead_copy_before_original_goes(self, context: CaseContext) -> None:
        """Somebody who looks all the time, the queue first, finds every task in the queue or among the letters."""
        backend, other = await context.open(lease=60), await context.open()
        total = 12
        await context.submit(backend, *context.messages(total))
        consumer, inspector = backend.consumer(["q"]), other.inspector()

        async def reject_all() -> None:
            for _ in range(total):
                await context.settle(consumer, Verdict.REJECT, *await context.receive(consumer), reason="no")

        rejecting = context.start(reject_all())
        looks = 0
        while not rejecting.done():
            queued = sum(sum(one.ready.values()) + (one.in_flight or 0) for one in await inspector.queues())
            letters = len(await inspector.dead("q"))
            assert queued + letters >= total, f"{total - queued - letters} tasks are nowhere"
            looks += 1
            await context.pass_time(0.0)  # looking may not let anybody else go on
        await rejecting
        assert looks, "it was done before anybody looked"
        assert len(await inspector.dead("q")) == total

    @case(
        "dead_seen_at_once",
        level="capability",
        needs=_DEAD,
        rationale="a command opens the broker for one look, and closes it again",
    )
    async def test_dead_seen_at_once(self, context: CaseContext) -> None:
        """Each verb finds the letter although it is the first one of its backend."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        for _ in range(2):
            await context.submit(backend, context.message())
            await context.settle(consumer, Verdict.REJECT, *await context.receive(consumer))
        first, second = await (await context.open()).inspector().dead()
        found = await (await context.open()).inspector().dead_get([second.id])
        assert [one.id for one in found] == [second.id]
        assert list(await (await context.open()).inspector().dead_replay([first.id])) == [first.id]
        assert await (await context.open()).inspector().dead_purge() == 1
        assert list(await (await context.open()).inspector().dead()) == []

    @case(
        "dead_replay_forgets_result",
        level="capability",
        needs=_DEAD | {Capability.RESULTS},
        rationale="the old verdict would refuse the new result",
    )
    async def test_dead_replay_forgets_result(self, context: CaseContext) -> None:
        """Replayed: not DEAD_LETTERED any more, and the next result is the first."""
        backend = await context.open()
        (task_id,) = await _bury(context, backend, 1)
        store = backend.results()
        assert list(await store.put([context.result(task_id, state=TaskState.DEAD_LETTERED)])) == [True]
        assert list(await backend.inspector().dead_replay([task_id])) == [task_id]
        assert not (await store.get_many([task_id]))[0].state.terminal
        await context.drain(backend.consumer(["q"]), 1)
        assert list(await store.put([context.result(task_id, 1)])) == [True]

    @case(
        "dead_replay_starts_over",
        level="capability",
        needs=_DEAD,
        rationale="a replayed task has all its attempts again, and waits for nothing",
    )
    async def test_dead_replay_starts_over(self, context: CaseContext) -> None:
        """Given up at its third attempt, replayed: attempt 0, ready at once, everything else as it was."""
        backend = await context.open()
        delays = backend.capabilities.has(Capability.DELAY)
        waited = time.time() - 1 if delays else None
        tired = context.message(attempt=2, not_before=waited, cancel_key="k").envelope
        await context.submit(backend, Encoder().encode(tired))
        consumer = backend.consumer(["q"])
        (delivery,) = await context.receive(consumer)
        await context.settle(consumer, Verdict.REJECT, delivery)
        assert list(await backend.inspector().dead_replay([tired.id])) == [tired.id]
        (again,) = await context.receive(consumer)
        found = decode(again.message, queue=again.queue, priority=again.priority)
        assert (found.id, found.attempt, found.not_before, found.cancel_key) == (tired.id, 0, None, "k")
        await context.settle(consumer, Verdict.ACK, again)

    @case(
        "dead_by_queue_and_page", level="capability", needs=_DEAD, rationale="ten thousand of them do not fit a screen"
    )
    async def test_dead_by_queue_and_page(self, context: CaseContext) -> None:
        """Of one queue or of all, page by page without gap or repetition; purging spares the other queue."""
        backend, other = await context.open(), await context.open()
        in_q, in_p = await _bury(context, backend, 5), await _bury(context, backend, 2, queue="p")
        inspector = other.inspector()
        assert [letter.task_id for letter in await inspector.dead("p")] == in_p
        pages: list[str | None] = []
        after = ""
        while page := await inspector.dead(limit=3, after=after):
            assert len(page) <= 3
            pages += [letter.task_id for letter in page]
            after = page[-1].id
            assert len(pages) <= 7, "the pages repeat themselves"
        assert pages == in_q + in_p
        assert await inspector.dead_purge(queue="q") == 5
        assert [letter.task_id for letter in await inspector.dead()] == in_p

    @case(
        "dead_page_survives_purge",
        level="capability",
        needs=_DEAD,
        rationale="somebody else cleans up while we leaf through them",
    )
    async def test_dead_page_survives_purge(self, context: CaseContext) -> None:
        """Behind a dead letter that has gone come those that were behind it, not the first ones again."""
        backend = await context.open()
        await _bury(context, backend, 4)
        inspector = backend.inspector()
        letters = [letter.id for letter in await inspector.dead()]
        assert await inspector.dead_purge([letters[1]]) == 1
        assert [letter.id for letter in await inspector.dead(after=letters[1])] == letters[2:]

    @case("dead_peek_is_honest", level="capability", needs=_DEAD, rationale="looking must not change what is looked at")
    async def test_dead_peek_is_honest(self, context: CaseContext) -> None:
        """Unless ``peek_disturbs`` says so, two looks show the same."""
        backend = await context.open()
        await _bury(context, backend, 3)
        inspector = backend.inspector()
        first, second = await inspector.dead(), await inspector.dead()
        assert sorted(letter.id for letter in first) == sorted(letter.id for letter in second)
        if not inspector.peek_disturbs:
            assert list(first) == list(second)


class InspectorSuite(_Counting, _Browsing, _Burying, BacklogCases):
    """Everything an operator sees and does."""


def _ready(info: QueueInfo) -> dict[Priority, int]:
    return {level: count for level, count in info.ready.items() if count}


def _browser(backend: Backend) -> QueueBrowser:
    inspector = backend.inspector()
    assert isinstance(inspector, QueueBrowser), "a backend with BROWSE has an inspector that is a QueueBrowser"
    return inspector


async def _age(backend: Backend) -> float | None:
    (info,) = await backend.inspector().queues()
    return info.oldest_age


async def _bury(context: CaseContext, backend: Backend, count: int, *, queue: str = "q") -> list[str]:
    """Submit, receive and reject one after the other, so that their order is certain."""
    consumer = backend.consumer([queue])
    ids = []
    for message in context.messages(count, queue=queue):
        ids += await context.submit(backend, message)
        await context.settle(
            consumer, Verdict.REJECT, *await context.receive(consumer), reason="rejected", detail="by the kit"
        )
    await consumer.aclose()
    return ids
