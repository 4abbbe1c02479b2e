"""What only the hub of waiters knows: who is told, how often it reads, and what it keeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from patience import until

from tranship.envelope import TaskResult, TaskState
from tranship.errors import BrokerRefused, BrokerUnreachable, ClosedError, MalformedMessage, TranshipError
from tranship.ports import StoredResult
from tranship.protocol import encode_result
from tranship.testing.faults import Faults
from tranship.testing.harness import Harness
from tranship.waiting import Waiting


def result(task_id, value=1, state=TaskState.SUCCESS) -> StoredResult:
    document = encode_result(TaskResult(id=task_id, state=state, value=value))
    return StoredResult(id=task_id, state=state, document=document)


class Hub:
    """A hub over memory, with faults."""

    def __init__(self, *, push=True, knows_ids=False) -> None:
        self.faults = Faults()
        self.backend = self.faults.wrap(Harness("memory://").make_backend("memory://"))
        self._options = {"push": push, "knows_ids": knows_ids}

    async def __aenter__(self):
        await self.backend.open()
        self.store = self.backend.results()
        self.waiting = Waiting(self.store, loop=asyncio.get_running_loop(), **self._options)
        return self

    async def __aexit__(self, *_):
        await self.waiting.aclose()
        await self.backend.aclose()

    async def until_read(self, times=1) -> None:
        await until(lambda: self.faults.calls["get_many"] >= times and not self.waiting._unread)


@pytest.fixture(params=[True, False], ids=["push", "poll"])
def push(request):
    return request.param


async def test_many_waiters_of_one_id_are_all_told_once(push):
    async with Hub(push=push) as hub:
        told = []
        for number in range(3):
            hub.waiting.watch(["a"], lambda task_id, found, number=number: told.append((number, task_id, found.value)))
        waiting = asyncio.ensure_future(hub.waiting.wait("a"))
        await asyncio.sleep(0)
        await hub.store.put([result("a", 7)])
        assert (await waiting).value == 7
        await asyncio.sleep(0.05)  # time for a second telling, which must not come
        assert sorted(told) == [(0, "a", 7), (1, "a", 7), (2, "a", 7)]
        assert len(hub.waiting) == 0


async def test_waiters_of_one_tick_are_read_together():
    async with Hub() as hub:
        waits = [asyncio.ensure_future(hub.waiting.wait(str(number))) for number in range(400)]
        await hub.until_read()
        assert hub.faults.calls["get_many"] <= 2
        await hub.store.put([result(str(number), number) for number in range(400)])
        assert [one.value for one in await asyncio.gather(*waits)] == list(range(400))


async def test_polling_is_one_poll_for_all_and_slows_down():
    async with Hub(push=False) as hub:
        waits = [asyncio.ensure_future(hub.waiting.wait(str(number))) for number in range(100)]
        await asyncio.sleep(1.0)
        assert 3 < hub.faults.calls["get_many"] < 20
        await hub.store.put([result(str(number)) for number in range(100)])
        await asyncio.wait_for(asyncio.gather(*waits), 3)


async def test_whoever_gives_up_is_forgotten_and_others_are_not():
    async with Hub() as hub:
        patient = asyncio.ensure_future(hub.waiting.wait("a"))
        hasty = asyncio.ensure_future(hub.waiting.wait("a"))
        alone = asyncio.ensure_future(hub.waiting.wait("b"))
        await hub.until_read()
        for one in (hasty, alone):
            one.cancel()
        await asyncio.gather(hasty, alone, return_exceptions=True)
        assert len(hub.waiting) == 1
        assert hub.store.waiting == 1
        await hub.store.put([result("a")])
        assert (await patient).value == 1
        assert hub.store.waiting == 0


async def test_a_document_that_cannot_be_read_is_told_to_its_waiter_only(push):
    async with Hub(push=push) as hub:
        bad, good, late = (asyncio.ensure_future(hub.waiting.wait(name)) for name in ("bad", "good", "late"))
        await asyncio.sleep(0)
        await hub.store.put([replace(result("bad"), document=b"\xffno document"), result("good", 5)])
        with pytest.raises(MalformedMessage):
            await asyncio.wait_for(bad, 5)
        assert (await asyncio.wait_for(good, 5)).value == 5
        await hub.store.put([result("late", 6)])
        assert (await asyncio.wait_for(late, 5)).value == 6


async def test_a_document_that_was_bad_all_along_is_told_too():
    async with Hub() as hub:
        await hub.store.put([replace(result("bad"), document=b"{"), result("good", 5)])
        waits = [asyncio.ensure_future(hub.waiting.wait(name)) for name in ("bad", "good")]
        with pytest.raises(MalformedMessage):
            await asyncio.wait_for(waits[0], 5)
        assert (await asyncio.wait_for(waits[1], 5)).value == 5


async def test_an_outage_is_waited_out_and_a_refusal_is_not():
    async with Hub() as hub:
        await hub.store.put([result("a")])
        hub.faults.fail("get_many", BrokerUnreachable, times=2)
        assert (await asyncio.wait_for(hub.waiting.wait("a"), 5)).value == 1
        hub.faults.fail("get_many", BrokerRefused)
        with pytest.raises(BrokerRefused):
            await hub.waiting.wait("b")
        assert len(hub.waiting) == 0


async def test_a_bug_in_a_driver_leaves_nobody_waiting(caplog):
    async with Hub() as hub:

        async def get_many(_ids):
            raise ZeroDivisionError

        hub.store.get_many = get_many
        with pytest.raises(TranshipError, match="ZeroDivisionError"):
            await asyncio.wait_for(hub.waiting.wait("a"), 5)
        del hub.store.get_many
        await hub.store.put([result("b")])
        assert (await asyncio.wait_for(hub.waiting.wait("b"), 5)).value == 1


async def test_after_a_lost_connection_everything_is_read_again():
    async with Hub() as hub:
        waits = [asyncio.ensure_future(hub.waiting.wait(name)) for name in ("a", "b")]
        await hub.until_read()
        hub.store.attach(lambda _results: None)  # what is pushed now is lost
        await hub.store.put([result("a", 1), result("b", 2)])
        await asyncio.sleep(0)
        assert not any(wait.done() for wait in waits)
        hub.waiting.restored()
        assert [one.value for one in await asyncio.wait_for(asyncio.gather(*waits), 5)] == [1, 2]


async def test_an_unknown_id_is_told_only_where_that_can_be_known():
    async with Hub(knows_ids=True) as hub:
        assert (await asyncio.wait_for(hub.waiting.wait("typo"), 5)).state is TaskState.UNKNOWN
    async with Hub(knows_ids=False) as hub:
        waiting = asyncio.ensure_future(hub.waiting.wait("later"))
        await hub.until_read()
        assert not waiting.done()
        await hub.store.put([result("later")])
        assert (await asyncio.wait_for(waiting, 5)).value == 1


async def test_close_tells_everybody(push):
    async with Hub(push=push) as hub:
        waits = [asyncio.ensure_future(hub.waiting.wait(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        await hub.waiting.aclose()
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(one) for one in found] == [ClosedError] * 3


async def test_states_come_in_the_order_of_the_ids():
    async with Hub() as hub:
        await hub.store.put([result(str(number), number) for number in range(0, 1200, 2)])
        states = await hub.waiting.states([str(number) for number in range(1200)])
        assert [one.value for one in states] == [number if number % 2 == 0 else None for number in range(1200)]


async def test_what_came_before_anybody_waited_needs_no_read():
    async with Hub() as hub:
        hub.waiting.anticipate(["a"])
        await hub.store.put([result("a", 7)])
        await until(lambda: hub.waiting._early._come)
        assert (await hub.waiting.wait("a")).value == 7
        assert hub.faults.calls["get_many"] == 0


async def test_who_waits_for_what_is_expected_already_does_not_read():
    async with Hub() as hub:
        hub.waiting.anticipate(["a"])
        waiting = asyncio.ensure_future(hub.waiting.wait("a"))
        await asyncio.sleep(0)
        await hub.store.put([result("a", 7)])
        assert (await waiting).value == 7
        assert hub.faults.calls["get_many"] == 0
        # The second time it is not kept any more.
        assert (await hub.waiting.wait("a")).value == 7
        assert hub.faults.calls["get_many"] == 1


async def test_after_a_lost_connection_what_was_expected_is_read():
    async with Hub() as hub:
        hub.waiting.anticipate(["a", "b"])
        waiting = asyncio.ensure_future(hub.waiting.wait("a"))
        await asyncio.sleep(0)
        hub.store.unexpect(["a", "b"])  # as if the push were lost
        await hub.store.put([result("a", 1), result("b", 2)])
        hub.waiting.restored()
        assert (await waiting).value == 1
        assert (await hub.waiting.wait("b")).value == 2


async def test_a_forgotten_result_is_not_found_among_those_that_came_early():
    async with Hub() as hub:
        hub.waiting.anticipate(["a"])
        await hub.store.put([result("a", 7)])
        await until(lambda: hub.waiting._early._come)
        await hub.store.forget_many(["a"])
        hub.waiting.forget(["a"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hub.waiting.wait("a"), 0.1)


async def test_a_dead_letter_that_was_replayed_is_not_reported_as_it_died_first():
    async with Hub() as hub:
        hub.waiting.anticipate(["a"])
        await hub.store.put([result("a", state=TaskState.DEAD_LETTERED)])
        await until(lambda: not hub.waiting._early._expected)
        await hub.store.forget_many(["a"])  # another process replays it
        await hub.store.put([result("a", 7)])
        assert (await hub.waiting.wait("a")).value == 7


async def test_who_fires_and_forgets_soon_expects_no_more(monkeypatch):
    monkeypatch.setattr("tranship.waiting.ANTICIPATED", 3)
    async with Hub() as hub:
        ids = [str(number) for number in range(5)]
        for task_id in ids:
            hub.waiting.anticipate([task_id])
        assert list(hub.waiting._early._expected) == ["0", "1", "2"]
        await hub.store.put([result(task_id, int(task_id)) for task_id in ids])
        await until(lambda: not hub.waiting._early._expected)
        assert list(hub.waiting._early._come) == ["0", "1", "2"]
        # Whoever waits after all makes room again.
        assert (await hub.waiting.wait("4")).value == 4
        hub.waiting.anticipate(["5"])
        assert list(hub.waiting._early._expected) == ["5"]
        waits = await asyncio.gather(*[hub.waiting.wait(task_id) for task_id in ids])
        assert [one.value for one in waits] == [0, 1, 2, 3, 4]
