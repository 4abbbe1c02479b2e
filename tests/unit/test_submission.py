"""What only the submission buffer knows: when it coalesces, cuts, retries and gives up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging

import pytest

from tranship.envelope import Envelope, Receipt, new_id
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    PluginError,
    StorageFull,
    SubmitTimeout,
    SubmitUnknown,
)
from tranship.protocol import Encoder
from tranship.submission import BATCH, IN_FLIGHT, Submission
from tranship.testing.faults import Faults
from tranship.testing.harness import Harness

encoder = Encoder()


def message(**fields):
    return encoder.encode(Envelope(**{"id": new_id(), "task": "unit.task", "queue": "q", **fields}))


def messages(count):
    return [message(args=(number,)) for number in range(count)]


class Buffer:
    """A submission over memory, with faults."""

    def __init__(self, *, timeout=1.0, retry_safe=True) -> None:
        self.faults = Faults()
        self.backend = self.faults.wrap(Harness("memory://").make_backend("memory://"))
        self._options = {"timeout": timeout, "retry_safe": retry_safe}

    async def __aenter__(self):
        await self.backend.open()
        loop = asyncio.get_running_loop()
        self.submission = Submission(self.backend.submitter(), loop=loop, **self._options)
        return self

    async def __aexit__(self, *_):
        self.faults.release("submit")
        await self.submission.aclose()
        await self.backend.aclose()

    async def queued(self) -> int:
        return sum(sum(queue.ready.values()) for queue in await self.backend.inspector().queues())


async def test_what_comes_in_one_tick_is_one_round_trip():
    async with Buffer() as buffer:
        answers = await asyncio.gather(*(buffer.submission.submit([one]) for one in messages(200)))
        assert buffer.faults.calls["submit"] == 1
        assert len({answer.id for (answer,) in answers}) == 200


async def test_a_long_job_is_cut_and_answered_in_order():
    async with Buffer() as buffer:
        many = messages(3 * BATCH + 7)
        answers = await buffer.submission.submit(many)
        assert answers == [Receipt(one.envelope.id) for one in many]
        assert buffer.faults.calls["submit"] == 4


async def test_round_trips_under_way_are_bounded():
    async with Buffer(timeout=5) as buffer:
        buffer.faults.stall("submit", times=-1)
        tasks = []
        for one in messages(IN_FLIGHT + 3):
            tasks.append(asyncio.ensure_future(buffer.submission.submit([one])))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert buffer.faults.calls["submit"] == IN_FLIGHT
        buffer.faults.release("submit")
        await asyncio.gather(*tasks)
        assert buffer.faults.calls["submit"] == IN_FLIGHT + 1, "what waited did not travel together"


async def test_unreachable_for_a_while_is_waited_out():
    async with Buffer() as buffer:
        buffer.faults.fail("submit", BrokerUnreachable, times=3)
        one = message()
        assert await buffer.submission.submit([one]) == [Receipt(one.envelope.id)]
        assert buffer.faults.calls["submit"] == 4


async def test_unreachable_for_good_is_a_timeout_and_nothing_is_queued():
    async with Buffer(timeout=0.3) as buffer:
        buffer.faults.fail("submit", BrokerUnreachable, times=-1)
        (error,) = await buffer.submission.submit([message()])
        assert isinstance(error, SubmitTimeout)
        buffer.faults.clear("submit")
        assert await buffer.queued() == 0


async def test_unreachable_after_unknown_stays_unknown():
    async with Buffer(timeout=0.4) as buffer:
        buffer.faults.fail("submit", SubmitUnknown, after=True)
        buffer.faults.fail("submit", BrokerUnreachable, times=-1)
        (error,) = await buffer.submission.submit([message()])
        assert isinstance(error, SubmitUnknown), "it may be there: nobody may say that it is not"
        assert await buffer.queued() == 1


async def test_unknown_is_not_repeated_where_that_could_run_it_twice():
    async with Buffer(retry_safe=False) as buffer:
        buffer.faults.fail("submit", SubmitUnknown, after=True)
        (error,) = await buffer.submission.submit([message()])
        assert isinstance(error, SubmitUnknown)
        assert buffer.faults.calls["submit"] == 1
        assert await buffer.queued() == 1


async def test_unknown_is_repeated_under_the_same_id_where_it_is_recognised():
    async with Buffer() as buffer:
        buffer.faults.fail("submit", SubmitUnknown, after=True, times=2)
        one = message()
        assert await buffer.submission.submit([one]) == [Receipt(one.envelope.id)]
        assert await buffer.queued() == 1


class Misbehaved(SubmitUnknown):
    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.__cause__ = PluginError("mine: send() gave None for 1 items")


async def test_a_bug_of_the_drivers_is_told_at_once_and_named():
    async with Buffer() as buffer:
        buffer.faults.fail("submit", Misbehaved, times=-1)
        one = message()
        (error,) = await buffer.submission.submit([one])
        assert (type(error), error.task_id, buffer.faults.calls["submit"]) == (SubmitUnknown, one.envelope.id, 1)
        assert isinstance(error.__cause__, Misbehaved)
        assert "send() gave None" in str(error.__cause__.__cause__)


async def test_what_was_said_of_a_lost_answer_is_the_cause_when_time_is_up():
    async with Buffer(timeout=0.3) as buffer:
        buffer.faults.fail("submit", SubmitUnknown, times=-1)
        (error,) = await buffer.submission.submit([message()])
        assert isinstance(error, SubmitUnknown)
        assert isinstance(error.__cause__, SubmitUnknown)


async def test_a_duplicate_by_key_is_told_after_a_retry_too():
    async with Buffer() as buffer:
        first, second = message(dedup_key="k"), message(dedup_key="k")
        await buffer.submission.submit([first])
        buffer.faults.fail("submit", BrokerUnreachable)
        (receipt,) = await buffer.submission.submit([second])
        assert receipt == Receipt(second.envelope.id, duplicate_of=first.envelope.id)


async def test_a_definite_refusal_is_final_and_its_neighbours_are_served():
    async with Buffer() as buffer:
        buffer.faults.refused = lambda one: StorageFull("full") if one.envelope.args == (1,) else None
        answers = await buffer.submission.submit(messages(3))
        assert [type(answer) for answer in answers] == [Receipt, StorageFull, Receipt]
        assert buffer.faults.calls["submit"] == 1


async def test_a_refusal_of_everything_reaches_every_caller():
    async with Buffer() as buffer:
        buffer.faults.fail("submit", BrokerRefused)
        answers = await asyncio.gather(*(buffer.submission.submit([one]) for one in messages(3)))
        assert [type(answer) for (answer,) in answers] == [BrokerRefused] * 3


async def test_a_bug_in_a_driver_leaves_nobody_waiting(caplog):
    async with Buffer() as buffer:

        class Broken:
            max_message_size = buffer.backend.submitter().max_message_size

            async def submit(self, _messages):
                raise ZeroDivisionError

        submission = Submission(Broken(), loop=asyncio.get_running_loop(), timeout=0.2, retry_safe=False)
        with caplog.at_level(logging.ERROR):
            (error,) = await submission.submit([message()])
        assert isinstance(error, SubmitUnknown)
        assert isinstance(error.__cause__, ZeroDivisionError)
        await submission.aclose()


async def test_a_cancelled_caller_changes_nothing_for_its_neighbours():
    async with Buffer() as buffer:
        one, other = messages(2)
        tasks = [asyncio.ensure_future(buffer.submission.submit([each])) for each in (one, other)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await tasks[1] == [Receipt(other.envelope.id)]
        assert await buffer.queued() == 2


async def test_size_is_checked_before_anything_is_sent():
    async with Buffer() as buffer:
        with pytest.raises(MessageTooLarge) as caught:
            buffer.submission.check(message(args=("x" * 17_000_000,)))
        assert caught.value.limit == 16 * 1024 * 1024 < caught.value.size


async def test_after_close_every_door_says_so():
    async with Buffer() as buffer:
        await buffer.submission.aclose()
        with pytest.raises(ClosedError):
            await buffer.submission.submit([message()])
        waiter = concurrent.futures.Future()
        buffer.submission.post(messages(2), waiter)
        assert [type(answer) for answer in waiter.result(0)] == [ClosedError] * 2


async def test_a_blocked_thread_gets_its_answers():
    async with Buffer() as buffer:
        sent = messages(3)
        answers = await asyncio.to_thread(buffer.submission.submit_blocking, sent)
        assert [answer.id for answer in answers] == [one.envelope.id for one in sent]
        await buffer.submission.aclose()
        late = await asyncio.to_thread(buffer.submission.submit_blocking, sent)
        assert [type(answer) for answer in late] == [ClosedError] * 3


async def test_close_waits_for_what_is_under_way():
    async with Buffer() as buffer:
        buffer.faults.fail("submit", BrokerUnreachable, times=2)
        task = asyncio.ensure_future(buffer.submission.submit([message()]))
        await asyncio.sleep(0)
        await buffer.submission.aclose()
        assert isinstance((await task)[0], Receipt)


async def test_a_post_that_meets_the_close_is_answered():
    """The flag is looked at before the append and after: in between the buffer may have closed for good."""
    async with Buffer() as buffer:
        submission = buffer.submission

        class Late(type(submission._jobs)):
            def append(self, job):
                super().append(job)
                submission._closed = True

        submission._jobs = Late()
        waiter = concurrent.futures.Future()
        submission.post([message()], waiter)
        assert isinstance(waiter.result(0)[0], ClosedError)


async def test_other_loops_get_their_answers():
    async with Buffer() as buffer:

        async def elsewhere():
            return await buffer.submission.submit_from([one], asyncio.get_running_loop())

        one = message()
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == [Receipt(one.envelope.id)]


async def test_a_driver_that_fails_to_post_leaves_nobody_waiting(caplog):
    """Answers through callbacks have no task whose failure would be seen."""

    class Broken:
        max_message_size = 1_000_000

        async def submit(self, messages):
            raise AssertionError("not called")

        def post(self, messages, answered):
            raise RuntimeError("a bug of the driver's")

    submission = Submission(Broken(), loop=asyncio.get_running_loop(), timeout=5, retry_safe=False)
    (answer,) = await asyncio.wait_for(submission.submit([message()]), 2)
    assert isinstance(answer, SubmitUnknown)
    assert "post failed" in caplog.text
    await submission.aclose()


async def test_an_interrupt_in_the_middle_of_a_wake_up_leaves_nobody_waiting(monkeypatch):
    async with Buffer() as buffer:
        submission, loop = buffer.submission, asyncio.get_running_loop()

        def interrupted(*_):
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            submission.post([message()], concurrent.futures.Future())
        waiter: concurrent.futures.Future = concurrent.futures.Future()
        submission.post([message()], waiter)
        (answer,) = await asyncio.wait_for(asyncio.wrap_future(waiter), 5)
        assert isinstance(answer, Receipt)
        assert await buffer.queued() == 2, "what was posted before the interrupt goes along"
