"""What one run of a task keeps, where two runs of it are there at once and where one is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tranship.envelope import Envelope
from tranship.errors import InvalidOptionError, LeaseLost, MessageTooLarge
from tranship.outcomes import Suspended
from tranship.ports import Records, keeps_records
from tranship.registry import Registry
from tranship.steps import step_key
from tranship.task import TaskContext
from tranship.worker._durable import Steps


@pytest.fixture
async def records() -> AsyncIterator[Records]:
    backend = Registry().create("memory://durable")
    assert keeps_records(backend)
    await backend.open()
    yield backend.records()
    await backend.aclose()


def run_of(records: Records, task_id: str = "t", limit: int = 1000, ahead: float = 0.0) -> TaskContext:
    """A run of a task, as a worker makes it."""
    io = asyncio.get_running_loop()
    envelope = Envelope(id=task_id, task="kit.durable")
    return TaskContext(envelope, ahead=ahead, durably=lambda one: Steps(one, records, io=io, limit=limit))


async def test_of_two_runs_at_once_both_go_by_the_first_that_was_kept(records: Records) -> None:
    gates = {"early": asyncio.Event(), "late": asyncio.Event()}

    async def who(name: str) -> str:
        await gates[name].wait()
        return name

    late = asyncio.create_task(run_of(records).step("who", who, "late"))
    early = asyncio.create_task(run_of(records).step("who", who, "early"))
    await asyncio.sleep(0)
    gates["early"].set()
    assert await early == "early"
    gates["late"].set()
    assert await late == "early"


async def test_a_run_that_has_lost_its_lease_does_no_further_step(records: Records) -> None:
    run, calls = run_of(records), []
    run.cancel("lost")
    with pytest.raises(LeaseLost):
        await run.step("who", calls.append, 1)
    assert not calls


async def test_what_was_done_when_the_handler_is_cancelled_is_kept(records: Records) -> None:
    handler: list[asyncio.Task[str]] = []

    def cancelled() -> str:
        handler[0].cancel()
        return "done"

    handler.append(asyncio.create_task(run_of(records).step("one", cancelled)))
    with pytest.raises(asyncio.CancelledError):
        await handler[0]
    for _ in range(1000):
        if (await records.read([step_key("t", "one")]))[0] is not None:
            break
        await asyncio.sleep(0.001)
    else:
        pytest.fail("what was done is not kept")
    assert await run_of(records).step("one", cancelled) == "done"


async def test_tasks_whose_ids_and_names_look_alike_have_steps_of_their_own(records: Records) -> None:
    assert await run_of(records, "a").step("b/step/c", str, 1) == "1"
    assert await run_of(records, "a/step/b").step("c", str, 2) == "2"


async def test_a_value_that_is_too_large_is_refused(records: Records) -> None:
    with pytest.raises(MessageTooLarge, match="step 'large'"):
        await run_of(records).step("large", str, "x" * 2000)


async def test_a_sleep_ends_by_the_clock_of_the_broker(records: Records) -> None:
    with pytest.raises(Suspended) as caught:
        await run_of(records).sleep(100)
    assert 99 < caught.value.delay <= 100
    await run_of(records, ahead=101.0).sleep(100)


async def test_a_key_of_the_users_is_checked(records: Records) -> None:
    for key in ("", "x" * 1000, 7):
        with pytest.raises(InvalidOptionError):
            run_of(records).once(key, str)  # type: ignore[arg-type]


async def test_what_a_task_keeps_is_kept_for_longer_when_it_comes_again_late(records: Records) -> None:
    run = run_of(records)
    for number in range(3):
        await run.step(f"number {number}", str, number)
    assert run.durable is not None
    await run.durable.renew(1_000_000.0)
    found = await records.read([step_key("t", f"number {number}") for number in range(3)])
    assert all(one is not None and one.ttl is not None and one.ttl > 1_000_000 for one in found)
    assert [await run_of(records).step(f"number {number}", int) for number in range(3)] == ["0", "1", "2"]


async def test_what_is_kept_for_long_enough_is_not_written_again(records: Records) -> None:
    run = run_of(records)
    await run.step("one", str, 1)
    (before,) = await records.read([step_key("t", "one")])
    assert run.durable is not None
    await run.durable.renew(10.0)
    assert await records.read([step_key("t", "one")]) == [before]
