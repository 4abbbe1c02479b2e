"""Messages that nobody of ours has written, put on the queue as they are."""

from __future__ import annotations

from typing import Any

from tranship.envelope import TaskState
from tranship.errors import TaskDeadLettered, TaskFailed
from tranship.ports import Backend, Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.facade.submit import add, echo
from tranship.testing.suites.ports.malformed import MALFORMED, WELL_FORMED, Bad, message_of, sent
from tranship.testing.suites.worker.runs import ended

__all__ = ["MessageCases"]

RESULTS = {Capability.RESULTS}
DEAD = {Capability.RESULTS, Capability.DEAD_LETTERS}


class MessageCases:
    """Part of the worker's suite."""

    @worker_case(
        "undecodable_dead_letters",
        level="capability",
        needs=DEAD,
        rationale="a message that cannot be read must neither be lost nor stop the next one",
    )
    async def test_undecodable_dead_letters(self, facade: FacadeContext) -> None:
        """Every way to be malformed, a good task behind each: the good run, the bad are kept with a reason."""
        backend = await facade.context.open()
        client = await facade.client()
        arrived = 0
        good = []
        for number, bad in enumerate(MALFORMED):
            arrived += await sent(backend, bad)
            good.append(await client.submit(echo, number))
        await facade.work(echo, add)
        found = await client.collect(good, 20.0)
        assert [one.value for one in found] == list(range(len(MALFORMED))), "a good task was harmed"
        letters = await _dead(facade, backend, arrived)
        reasons = {letter.reason for letter in letters}
        assert reasons == {"malformed"}, reasons
        assert all(letter.detail for letter in letters)
        bodies = {letter.body for letter in letters}
        missing = [bad.name for bad in MALFORMED if bad.raw_body is not None and bad.raw_body not in bodies]
        assert not missing, f"the bytes of {missing} were not kept"
        await facade.context.quiet(backend.consumer(["q"]), 0.1)

    @worker_case(
        "undecodable_tells_waiter",
        level="capability",
        needs=DEAD,
        rationale="a waiter must hear of it, if it can be known who waits",
    )
    async def test_undecodable_tells_waiter(self, facade: FacadeContext) -> None:
        """The id can be read and the rest cannot: who waits for the id gets TaskDeadLettered."""
        backend = await facade.context.open()
        client = await facade.client()
        message = message_of(Bad(name="body", raw_body=b'[[1], {}, {}, "four"]'))
        await facade.context.submit(backend, message)
        await facade.work(echo)
        error = await ended(client.handle(message.envelope.id), facade, TaskDeadLettered)
        assert error.code == "MALFORMED_MESSAGE"

    @worker_case("unknown_task_dead_letters", level="capability", needs=DEAD, rationale="never dropped, never looped")
    async def test_unknown_task_dead_letters(self, facade: FacadeContext) -> None:
        """No handler of that name: a dead letter, and an error that names it for who waits; the next task runs."""

        @task(name="kit.nobody-has-this", queue="q")
        def nobody() -> None: ...

        client = await facade.client()
        await facade.work(echo)
        handle = await client.submit(nobody)
        good = await client.submit(echo, 1)
        error = await ended(handle, facade, TaskDeadLettered)
        assert error.code == "UNKNOWN_TASK"
        assert "kit.nobody-has-this" in str(error)
        (letter,) = await _dead(facade, await facade.context.open(), 1)
        assert (letter.task_id, letter.task, letter.reason) == (handle.id, "kit.nobody-has-this", "unknown-task")
        assert await good.result(facade.context.patience) == 1

    @worker_case("wrong_arguments_fail", level="capability", needs=RESULTS, rationale="a foreign sender checks nothing")
    async def test_wrong_arguments_fail(self, facade: FacadeContext) -> None:
        """Arguments that do not fit, from a sender without our checks: FAILURE, not retried, that says which."""
        client = await facade.client()
        await facade.work(add)
        message = message_of(Bad(name="arguments", headers={"task": "kit.add"}, body=[[1], {"up": 2}, {}]))
        await facade.context.submit(await facade.context.open(), message)
        error = await ended(client.handle(message.envelope.id), facade, TaskFailed)
        assert (error.code, type(error)) == ("INVALID_ARGUMENTS", TaskFailed)
        assert "kit.add" in str(error)

    @worker_case("foreign_messages_run", level="capability", needs=RESULTS, rationale="Celery's messages are ours, too")
    async def test_foreign_messages_run(self, facade: FacadeContext) -> None:
        """The least a Celery worker runs, null where null may be, protocol 1, msgpack, compressed: all run."""
        client = await facade.client()
        backend = await facade.context.open()
        await facade.work(add)
        for good in WELL_FORMED:
            message = message_of(good)
            await facade.context.submit(backend, message)
            handle = client.handle(message.envelope.id)
            result = await handle.wait(facade.context.patience)
            assert (result.state, result.value) == (TaskState.SUCCESS, 5), f"{good.name}: {result}"


async def _dead(facade: FacadeContext, backend: Backend, count: int) -> list[Any]:
    inspector = backend.inspector()

    async def all_there() -> list[Any]:
        letters = list(await inspector.dead("q", limit=1000))
        return letters if len(letters) == count else []

    return await facade.context.eventually(all_there, f"{count} dead letters")
