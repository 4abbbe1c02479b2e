"""Celery's canvas: what follows a task, and groups whose results are waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tranship.codec import JSON
from tranship.envelope import Envelope, TaskState, new_id
from tranship.errors import BrokerRefused, TaskCancelled, TaskDeadLettered, TaskFailed, TranshipError
from tranship.ports import Backend, Capability, ChordStart, ChordStore, own_chords_of, records_of
from tranship.protocol import Message, Signature
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.facades import FacadeClient, FacadeHandle
from tranship.testing.suites.facade.submit import add, echo
from tranship.testing.suites.worker.leases import deliver_in_vain
from tranship.testing.suites.worker.runs import ended

__all__ = ["CanvasCases", "ChordCases", "canvas_message", "step"]

RESULTS = {Capability.RESULTS}
CHORDS = {Capability.RESULTS, Capability.RECORDS}
AGAIN = {Capability.RESULTS, Capability.LEASE, Capability.RETRY_SAFE}


def step(name: str, *args: Any, immutable: bool = False, **options: Any) -> Signature:
    """Return a signature with an id, as Celery's clients send it."""
    chosen = {"task_id": new_id(), "queue": "q", **options}
    return Signature(task=f"kit.{name}", args=args, options=chosen, immutable=immutable)


def canvas_message(
    name: str,
    *args: Any,
    then: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Message:
    """Return a message with what is to follow its task."""
    task_id = new_id()
    head = {"task": f"kit.{name}", "id": task_id, "root_id": task_id, **(headers or {})}
    return Message(
        envelope=Envelope(id=task_id, task=f"kit.{name}", queue="q"),
        headers=orjson.dumps(head),
        body=orjson.dumps([args, kwargs or {}, then or {}]),
        content_type=JSON,
        content_encoding="utf-8",
    )


def chained(*steps: Signature) -> list[dict[str, Any]]:
    """Return the steps as a message carries them: the last one first."""
    return [one.encode() for one in reversed(steps)]


async def followed(facade: FacadeContext, client: FacadeClient, task_id: str) -> FacadeHandle:
    """Return a handle of a step once it was sent: before that, a store that knows its ids does not know it."""
    handle = client.handle(task_id)

    async def is_there() -> bool:
        return await handle.state() is not TaskState.UNKNOWN

    await facade.context.eventually(is_there, f"{task_id} is sent")
    return handle


async def value_of(facade: FacadeContext, client: FacadeClient, task_id: str) -> Any:
    """Return the result of a step."""
    return await (await followed(facade, client, task_id)).result(facade.context.patience)


async def error_of(facade: FacadeContext, client: FacadeClient, task_id: str, kind: type[TranshipError]) -> Any:
    """Insist that a step fails with ``kind``; return the error."""
    return await ended(await followed(facade, client, task_id), facade, kind)


class CanvasCases:
    """Part of the worker's suite: chains, callbacks and errbacks."""

    @worker_case("canvas_chain_runs", level="capability", needs=RESULTS, rationale="a chain is work, to its last step")
    async def test_canvas_chain_runs(self, facade: FacadeContext) -> None:
        """Four steps, one of them immutable and one a group: each gets what the one before returned, and its place."""
        seen: dict[str, tuple[Any, ...]] = {}

        @task(name="kit.place", queue="q")
        async def place(value: int, more: int = 0) -> int:
            envelope = current().envelope
            seen[envelope.id] = (value, envelope.parent_id, envelope.root_id, envelope.group_id)
            return value + more

        client, backend = await facade.client(), await facade.context.open()
        second, third = step("place", 10), step("place", 7, immutable=True)
        left, right = step("place", 1), step("place", 2)
        group = Signature.group([left, right], task_id=new_id())
        first = canvas_message("place", 1, then={"chain": chained(second, third, group)})
        await facade.work(place)
        await facade.context.submit(backend, first)
        ids = [one.options["task_id"] for one in (second, third, left, right)]
        results = [await value_of(facade, client, one) for one in ids]
        assert results == [11, 7, 8, 9]
        root, groups = first.envelope.id, group.options["task_id"]
        assert seen[ids[0]] == (1, root, root, None)
        assert seen[ids[1]] == (7, ids[0], root, None)
        assert seen[ids[2]] == (7, ids[1], root, groups)
        assert seen[ids[3]] == (7, ids[1], root, groups)

    @worker_case("canvas_links_run", level="capability", needs=RESULTS, rationale="a callback left out is work lost")
    async def test_canvas_links_run(self, facade: FacadeContext) -> None:
        """Callbacks beside each other, among them a chain, get the result; errbacks are not called."""
        called: list[Any] = []

        @task(name="kit.note", queue="q")
        async def note(value: Any) -> None:
            called.append(value)

        client, backend = await facade.client(), await facade.context.open()
        one, last = step("add", 1), step("add", 3)
        chain = Signature.chain([step("add", 2), last])
        then = {"callbacks": [one.encode(), chain.encode()], "errbacks": [step("note").encode()]}
        message = canvas_message("add", 1, 1, then=then)
        await facade.work(add, note)
        await facade.context.submit(backend, message)
        assert await value_of(facade, client, one.options["task_id"]) == 3
        assert await value_of(facade, client, last.options["task_id"]) == 7
        assert await value_of(facade, client, message.envelope.id) == 2
        assert called == []

    @worker_case(
        "canvas_failure_ends_the_chain",
        level="capability",
        needs=RESULTS,
        rationale="who waits for the last step must hear that it will never run",
    )
    async def test_canvas_failure_ends_the_chain(self, facade: FacadeContext) -> None:
        """A step fails: those behind it fail with its error, errbacks get its id, or the error, if they take more."""
        called: list[tuple[Any, ...]] = []

        @task(name="kit.fail", queue="q")
        async def fail(value: int) -> None:
            raise ValueError(f"no {value}")

        @task(name="kit.by_id", queue="q")
        async def by_id(task_id: str) -> None:
            called.append((task_id,))

        @task(name="kit.by_error", queue="q")
        async def by_error(request: Any, error: Any, traceback: Any) -> None:
            called.append((request.id, repr(error), "Traceback" in traceback))

        client, backend = await facade.client(), await facade.context.open()
        errbacks = [step("by_id"), Signature(task="kit.by_error", options={"queue": "q"})]
        failing = step("fail", link_error=[one.encode() for one in errbacks])
        behind, last = step("add", 1), step("add", 2)
        first = canvas_message("echo", 5, then={"chain": chained(failing, behind, last)})
        await facade.work(echo, fail, add, by_id, by_error)
        await facade.context.submit(backend, first)
        for one in (failing, behind, last):
            error = await error_of(facade, client, one.options["task_id"], TaskFailed)
            assert (error.type, str(error)) == ("builtins.ValueError", "no 5")
        await facade.until_long(called, 2)
        failed = failing.options["task_id"]
        assert sorted(called, key=len) == [(failed,), (failed, "ValueError('no 5')", True)]

    @worker_case(
        "canvas_unknown_step_ends_the_chain",
        level="capability",
        needs={Capability.RESULTS, Capability.DEAD_LETTERS},
        rationale="a step that nobody knows must not leave the last one waited for in vain",
    )
    async def test_canvas_unknown_step_ends_the_chain(self, facade: FacadeContext) -> None:
        """The third of four steps is known to nobody: a dead letter, and the last one fails."""
        client, backend = await facade.client(), await facade.context.open()
        second, third, last = step("add", 1), step("nobody-has-this"), step("add", 2)
        first = canvas_message("echo", 5, then={"chain": chained(second, third, last)})
        await facade.work(echo, add)
        await facade.context.submit(backend, first)
        assert await value_of(facade, client, second.options["task_id"]) == 6
        error = await error_of(facade, client, third.options["task_id"], TaskDeadLettered)
        assert error.code == "UNKNOWN_TASK"
        error = await error_of(facade, client, last.options["task_id"], TaskFailed)
        assert error.code == "UNKNOWN_TASK"

    @worker_case(
        "canvas_cancel_ends_the_chain",
        level="capability",
        needs={Capability.RESULTS, Capability.CONTROL},
        rationale="a task that is taken out of its queue must not leave those behind it waited for in vain",
    )
    async def test_canvas_cancel_ends_the_chain(self, facade: FacadeContext) -> None:
        """A first step that waits in its queue is cancelled: it does not run, and the last one is cancelled, too."""
        runs: list[int] = []

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            return value

        client, backend = await facade.client(), await facade.context.open()
        last = step("note")
        first = canvas_message("note", 4, then={"chain": chained(step("note"), last)})
        await facade.context.submit(backend, first)
        await client.cancel(task_id=first.envelope.id)
        await facade.work(note)
        await error_of(facade, client, last.options["task_id"], TaskCancelled)
        await error_of(facade, client, first.envelope.id, TaskCancelled)
        assert runs == []

    @worker_case(
        "canvas_survives_retries",
        level="capability",
        needs={Capability.RESULTS, Capability.DELAY},
        rationale="a retry is the same task, with what follows it",
    )
    async def test_canvas_survives_retries(self, facade: FacadeContext) -> None:
        """The first step fails twice before it goes well: the chain goes on, once."""
        runs: list[int] = []

        @task(name="kit.flaky", queue="q", retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01)))
        async def flaky(value: int) -> int:
            if current().attempt < 2:
                raise ValueError(value)
            return value

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            return value

        client, backend = await facade.client(), await facade.context.open()
        last = step("note")
        await facade.work(flaky, note)
        await facade.context.submit(backend, canvas_message("flaky", 4, then={"chain": chained(last)}))
        assert await value_of(facade, client, last.options["task_id"]) == 4
        assert runs == [4]

    @worker_case(
        "canvas_step_runs_once",
        level="capability",
        needs=AGAIN,
        rationale="a worker that dies after the next step was sent, and before it has settled, must not double it",
    )
    async def test_canvas_step_runs_once(self, facade: FacadeContext) -> None:
        """The first step cannot be settled and comes again: it runs twice, what follows it once."""
        firsts: list[int] = []
        runs: list[int] = []
        again = asyncio.Event()

        @task(name="kit.first", queue="q")
        async def first(value: int) -> int:
            firsts.append(value)
            if len(firsts) == 2:
                again.set()
            return value

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            # Its own result must not meet what is to go wrong with that of the first.
            await again.wait()
            return value

        client, backend = await facade.client(), await facade.context.open()
        last, callback = step("note"), step("note")
        message = canvas_message("first", 4, then={"chain": chained(last), "callbacks": [callback.encode()]})
        facade.worker_faults.fail("settle", BrokerRefused)
        # What is stored first says that it need not run again.
        facade.worker_faults.fail("put", BrokerRefused)
        await facade.context.submit(backend, message)
        await facade.work(first, note, lease=0.7)
        assert await value_of(facade, client, last.options["task_id"]) == 4
        assert await value_of(facade, client, callback.options["task_id"]) == 4
        await facade.until_long(firsts, 2)
        assert await value_of(facade, client, message.envelope.id) == 4
        assert runs == [4, 4], f"{len(runs)} runs of two steps"

    @worker_case(
        "canvas_malformed_fails", level="capability", needs=RESULTS, rationale="nothing is dropped, or guessed"
    )
    async def test_canvas_malformed_fails(self, facade: FacadeContext) -> None:
        """What is to follow cannot be read: FAILURE that names the part; the task is not run. Null is nothing."""
        runs: list[int] = []

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            return value

        client, backend = await facade.client(), await facade.context.open()
        await facade.work(note)
        for name, value, words in MALFORMED_CANVAS:
            message = canvas_message("note", 1, then={name: value})
            await facade.context.submit(backend, message)
            error = await error_of(facade, client, message.envelope.id, TaskFailed)
            assert words in str(error), error
        nothing = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
        plain = canvas_message("note", 7, then=nothing)
        await facade.context.submit(backend, plain)
        assert await value_of(facade, client, plain.envelope.id) == 7
        assert runs == [7]


MALFORMED_CANVAS: Sequence[tuple[str, Any, str]] = (
    ("callbacks", 3, "callbacks is a number"),
    ("callbacks", [{"args": []}], "callbacks[0].task is null"),
    ("errbacks", [None], "errbacks[0] is null"),
    ("chain", [{"task": "t"}, {"task": "t", "options": []}], "chain[1].options is a list"),
    ("chain", "t", "chain is the text 't'"),
    ("chord", "t", "chord is the text 't'"),
)


class ChordCases:
    """Part of the worker's suite: groups whose results are waited for."""

    @worker_case("canvas_chord_runs", level="capability", needs=CHORDS, rationale="a chord is work, to its body")
    async def test_canvas_chord_runs(self, facade: FacadeContext) -> None:
        """A chord as the second step, of a task, a chain and a chord; its body gets their results in order."""
        client, backend = await facade.client(), await facade.context.open()
        inner = Signature.chord([step("echo"), step("add", 1)], step("echo"))
        chord = Signature.chord(
            [step("add", 1), Signature.chain([step("add", 2), step("add", 3)]), inner], step("echo")
        )
        last = step("echo")
        first = canvas_message("echo", 10, then={"chain": chained(chord, last)})
        await facade.work(echo, add)
        await facade.context.submit(backend, first)
        assert await value_of(facade, client, last.options["task_id"]) == [11, 15, [10, 11]]

    @worker_case(
        "canvas_ten_thousand_members",
        level="stress",
        needs=CHORDS,
        rationale="a large workflow must end, and take no longer for each member than a small one",
        limit=240.0,
    )
    async def test_canvas_ten_thousand_members(self, facade: FacadeContext) -> None:
        """One message with a chord of ten thousand: its body gets all their results, in order."""
        client, backend = await facade.client(), await facade.context.open()
        last = step("echo")
        chord = Signature.chord([step("add", at) for at in range(10_000)], last)
        await facade.work(echo, add, max_concurrent_tasks=50)
        await facade.context.submit(backend, canvas_message("echo", 0, then={"chain": chained(chord)}))
        handle = client.handle(last.options["task_id"])
        until = time.monotonic() + 200.0
        while await handle.state() is not TaskState.SUCCESS:
            assert time.monotonic() < until, f"the body is {await handle.state()}"
            await asyncio.sleep(0.1)
        assert await handle.result(facade.context.patience) == list(range(10_000))

    @worker_case(
        "canvas_chord_fails",
        level="capability",
        needs=CHORDS,
        rationale="who waits for the body must hear that it will never run",
    )
    async def test_canvas_chord_fails(self, facade: FacadeContext) -> None:
        """A member fails: its chord's body, and what follows that, fail with a ChordError; the errback is called."""
        called: list[str] = []

        @task(name="kit.fail", queue="q")
        async def fail(value: int) -> None:
            raise ValueError(f"no {value}")

        @task(name="kit.note", queue="q")
        async def note(task_id: str) -> None:
            called.append(task_id)

        client, backend = await facade.client(), await facade.context.open()
        failing = step("fail")
        body, last = step("echo", link_error=[step("note").encode()]), step("echo")
        chord = Signature.chord([step("echo"), failing], body)
        await facade.work(echo, fail, note)
        await facade.context.submit(backend, canvas_message("echo", 3, then={"chain": chained(chord, last)}))
        for one in (body, last):
            error = await error_of(facade, client, one.options["task_id"], TaskFailed)
            assert error.type == "celery.exceptions.ChordError"
            assert str(error) == f"Dependency {failing.options['task_id']} raised ValueError('no 3')"
        await facade.until(lambda: called == [body.options["task_id"]], "the errback of the body is called")

    @worker_case(
        "canvas_chord_unlock_runs",
        level="capability",
        needs={Capability.RESULTS, Capability.DELAY},
        rationale="where Celery's result store cannot count, its clients send a task that looks",
    )
    async def test_canvas_chord_unlock_runs(self, facade: FacadeContext) -> None:
        """``celery.chord_unlock`` beside two members: it comes again until both have ended, and sends the body."""
        client, backend = await facade.client(), await facade.context.open()
        body, group_id = step("echo"), new_id()
        members = [canvas_message("add", at, 1, headers={"group": group_id, "group_index": at}) for at in (1, 2)]
        result = [[[one.envelope.id, None], None] for one in members]
        options = {"result": result, "interval": 0.05, "max_retries": None}
        head = {"task": "celery.chord_unlock"}
        unlock = canvas_message("unlock", group_id, body.encode(), headers=head, kwargs=options)
        await facade.context.submit(backend, unlock)
        await facade.context.submit(backend, members[0])
        await facade.work(echo, add)
        assert await value_of(facade, client, members[0].envelope.id) == 2
        await facade.context.submit(backend, members[1])
        assert await value_of(facade, client, body.options["task_id"]) == [2, 3]

    @worker_case(
        "chord_body_runs_once",
        level="capability",
        needs=CHORDS | AGAIN,
        rationale="workers die between the last part and the body",
    )
    async def test_chord_body_runs_once(self, facade: FacadeContext) -> None:
        """Members that cannot be settled come again, the last one, too: each is counted once, the body runs once."""
        members: list[int] = []
        bodies: list[Any] = []
        gate = asyncio.Event()

        @task(name="kit.member", queue="q")
        async def member(value: int) -> int:
            members.append(value)
            return value

        @task(name="kit.body", queue="q")
        async def body(values: list[int]) -> list[int]:
            bodies.append(values)
            # Not settled before the last member is.
            await gate.wait()
            return values

        client, backend = await facade.client(), await facade.context.open()
        group_id, end = new_id(), step("body")
        await chords_of(backend).start(ChordStart(group_id=group_id, size=3))
        await facade.work(member, body, lease=0.7)
        fused = backend.capabilities.has(Capability.FUSED_SETTLE) and facade.context.harness.results is None
        for at in range(3):
            # One by one: the others of a batch would be settled without it.
            facade.worker_faults.fail("settle" if fused else "put", BrokerRefused)
            place = {"group": group_id, "group_index": at}
            message = canvas_message("member", at, then={"chord": end.encode()}, headers=place)
            await facade.context.submit(backend, message)
            await facade.until(lambda at=at: members.count(at) == 2, f"member {at} runs again")  # type: ignore[misc]
            # Settled, too: the next fault is for the next one.
            assert await value_of(facade, client, message.envelope.id) == at
        gate.set()
        assert await value_of(facade, client, end.options["task_id"]) == [0, 1, 2]
        assert bodies == [[0, 1, 2]]

    @worker_case(
        "canvas_answered_member_counts",
        level="capability",
        needs=CHORDS | {Capability.DELIVERY_COUNT},
        rationale="who stores a result first and counts it then may die in between, as Celery's workers do",
    )
    async def test_canvas_answered_member_counts(self, facade: FacadeContext) -> None:
        """A member that comes again with its result there already counts for its chord."""

        @task(name="kit.member", queue="q")
        async def member(value: int) -> int:
            return value

        client, backend = await facade.client(), await facade.context.open()
        store = await facade.context.open_results()
        group_id, end = new_id(), step("echo")
        await chords_of(store).start(ChordStart(group_id=group_id, size=1))
        place = {"group": group_id, "group_index": 0}
        message = canvas_message("member", 7, then={"chord": end.encode()}, headers=place)
        await facade.context.submit(backend, message)
        await deliver_in_vain(facade, backend, message.envelope.id, 1)
        await store.results().put([facade.context.result(message.envelope.id, 7)])
        await facade.work(member, echo)
        assert await value_of(facade, client, end.options["task_id"]) == [7]


def chords_of(backend: Backend) -> ChordStore:
    """Return what counts the parts of chords at ``backend``."""
    from tranship.canvas import RecordChords

    own, records = own_chords_of(backend), records_of(backend)
    assert records is not None
    return own or RecordChords(records)
