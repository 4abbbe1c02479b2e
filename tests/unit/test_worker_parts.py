"""The small parts of the worker: threads, leases by the clock, tombstones, and what an exception becomes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest
from patience import until

from tranship.envelope import Ending, Envelope, Priority
from tranship.errors import BrokerUnreachable, DeadlineExceeded, Reject, Retry, TaskError, TaskTimedOut
from tranship.ports import Command, Delivery, Tombstone
from tranship.protocol import RawMessage
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.worker._cancels import Cancels
from tranship.worker._classify import classify, describe, stopped
from tranship.worker._leases import Leases
from tranship.worker._record import Run, Stop
from tranship.worker._threads import HandlerThreads


class Keeper:
    """A consumer's half that renews."""

    lease = 0.3

    def __init__(self) -> None:
        self.extended = 0
        self.ours = True

    async def extend(self, deliveries):
        self.extended += 1
        return [self.ours] * len(deliveries)


def run(envelope=None, consumer=None) -> Run:
    delivery = Delivery(RawMessage(b"{}", b"[[], {}, {}]"), "q", Priority.NORMAL, None)
    one = Run(delivery, consumer or Keeper())
    one.envelope = envelope or Envelope(id="a", task="unit.task")
    return one


class TestThreads:
    async def test_threads_are_reused_and_as_many_as_run_at_once(self):
        threads = HandlerThreads()
        names = [await threads.run(lambda: threading.current_thread().name) for _ in range(5)]
        assert len(set(names)) == 1
        barrier = threading.Barrier(3)
        names = await asyncio.gather(
            *(threads.run(lambda: (barrier.wait(5), threading.current_thread().name)[1]) for _ in range(3))
        )
        assert len(set(names)) == 3
        threads.stop()

    async def test_context_errors_and_odd_errors_come_through(self):
        threads = HandlerThreads()
        variable = contextvars.ContextVar("variable", default="unset")
        variable.set("set")
        assert await threads.run(variable.get) == "set"
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.run(lambda: next(iter(())))

        def leave():
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            await threads.run(leave)
        assert await threads.run(lambda: 1) == 1
        threads.stop()

    async def test_they_end_when_told(self):
        threads = HandlerThreads()
        (thread,) = [await threads.run(threading.current_thread)]
        threads.stop()
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


class TestLeases:
    async def test_by_the_clock_a_lease_ends_without_renewal(self):
        leases = Leases(0.3, fenced=False, stop=Run.tell)
        one = run()
        leases.hold(one, time.monotonic())
        assert leases.ours(one)
        leases.hold(one, time.monotonic() - 0.28)
        assert not leases.ours(one), "nothing is left for the way to the broker"
        leases.drop(one)
        assert not leases.ours(one)

    async def test_where_the_broker_refuses_it_is_asked(self):
        leases = Leases(0.3, fenced=True, stop=Run.tell)
        one = run()
        leases.hold(one, time.monotonic() - 100)
        assert leases.ours(one)
        assert Leases(None, fenced=False, stop=Run.tell).ours(one)

    async def test_renewal_goes_to_the_consumer_a_delivery_came_from(self):
        leases = Leases(0.15, fenced=False, stop=Run.tell)
        old, new = Keeper(), Keeper()
        for consumer in (old, new, new):
            leases.hold(run(consumer=consumer), time.monotonic())
        assert leases.uses(old)
        keeping = asyncio.ensure_future(leases.keep())
        await until(lambda: old.extended and new.extended)
        keeping.cancel()

    async def test_one_that_is_lost_is_told_to_stop(self):
        keeper = Keeper()
        keeper.ours = False
        leases = Leases(0.15, fenced=True, stop=Run.tell)
        one = run(consumer=keeper)
        leases.hold(one, time.monotonic())
        keeping = asyncio.ensure_future(leases.keep())
        await until(lambda: one.stopped)
        keeping.cancel()
        assert one.stopped is Stop.LOST

    async def test_a_failed_renewal_is_tried_again(self):
        keeper = Keeper()
        leases = Leases(0.15, fenced=False, stop=Run.tell)
        leases.hold(run(consumer=keeper), time.monotonic())
        extend = keeper.extend

        async def fail_once(deliveries):
            keeper.extend = extend
            raise BrokerUnreachable("not now")

        keeper.extend = fail_once
        keeping = asyncio.ensure_future(leases.keep())
        await until(lambda: keeper.extended)
        assert not keeping.done()
        keeping.cancel()

    async def test_one_that_is_not_answered_in_time_leaves_time_for_another(self):
        keeper, lease = Keeper(), 6.0
        leases = Leases(lease, fenced=False, stop=Run.tell)
        one = run(consumer=keeper)
        extend, given_up = keeper.extend, asyncio.Event()

        async def silent_once(deliveries):
            keeper.extend = extend
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

        keeper.extend = silent_once
        leases.hold(one, time.monotonic())
        keeping = asyncio.ensure_future(leases.keep())
        await given_up.wait()
        # The lease has a third left.
        await until(lambda: keeper.extended, lease / 5)
        assert leases.ours(one)
        keeping.cancel()

    async def test_slow_answers_do_not_make_renewals_rare(self):
        keeper, lease, asked = Keeper(), 3.0, []
        leases = Leases(lease, fenced=False, stop=Run.tell)
        leases.hold(run(consumer=keeper), time.monotonic())
        extend = keeper.extend

        async def slow(deliveries):
            asked.append(time.monotonic())
            # As long as an answer may take, nearly.
            await asyncio.sleep(lease / 3 * 0.8)
            return await extend(deliveries)

        keeper.extend = slow
        keeping = asyncio.ensure_future(leases.keep())
        await until(lambda: len(asked) == 3, 2 * lease)
        keeping.cancel()
        # Two thirds of a lease; one third more after a wait that begins with the answer.
        assert asked[2] - asked[0] < lease * 0.95


class TestCancels:
    def test_by_id_by_key_and_not_for_ever(self):
        told = []
        cancels = Cancels(told.append)
        soon, long = time.time() + 0.05, time.time() + 60
        tombstones = [
            Tombstone(kind="id", value="a", expires=long),
            Tombstone(kind="key", value="k", expires=long),
            Tombstone(kind="key", value="short", expires=soon),
        ]
        cancels.heard([*tombstones, Command(name="ping")])
        assert told == tombstones
        assert cancels.covers(Envelope(id="a", task="t"))
        assert cancels.covers(Envelope(id="b", task="t", cancel_key="k"))
        assert not cancels.covers(Envelope(id="k", task="t", cancel_key="a")), "an id is no key"
        assert not cancels.covers(Envelope(id="c", task="t"))
        time.sleep(0.06)
        assert not cancels.covers(Envelope(id="d", task="t", cancel_key="short"))

    def test_a_cancel_of_queued_tasks_only_is_not_announced(self):
        told = []
        cancels = Cancels(told.append)
        cancels.heard([Tombstone(kind="id", value="a", expires=time.time() + 60, running=False)])
        assert not told
        assert cancels.covers(Envelope(id="a", task="t"))

    def test_the_longest_memory_counts(self):
        """Celery's workers forget after three hours, and say so when they repeat what was cancelled for a day."""
        cancels = Cancels(lambda _: None)
        for left in (60, -1):
            cancels.heard([Tombstone(kind="id", value="a", expires=time.time() + left, running=False)])
        assert cancels.covers(Envelope(id="a", task="t"))

    def test_what_has_expired_is_swept(self):
        cancels = Cancels(lambda _: None)
        for number in range(3000):
            cancels.heard([Tombstone(kind="id", value=str(number), expires=time.time() - 1)])
        assert len(cancels._until) <= 1025


class TestClassify:
    def policy(self, **fields) -> Envelope:
        policy = RetryPolicy(max_attempts=2, backoff=FixedBackoff(1.0))
        return Envelope(**{"id": "a", "task": "unit.task", "retry": policy, **fields})

    def outcome(self, error, **fields) -> Run:
        one = run(self.policy(**fields))
        classify(one, error)
        return one

    def test_an_exception_with_attempts_left_is_a_retry(self):
        one = self.outcome(ValueError("x"))
        assert (one.outcome, one.delay) == (Ending.RETRY, 1.0)

    def test_the_last_attempt_ends_among_the_dead_letters(self):
        one = self.outcome(ValueError("x"), attempt=1)
        assert (one.outcome, one.reason) == (Ending.DEAD, "retries-exhausted")

    def test_without_a_policy_it_is_a_failure(self):
        assert self.outcome(ValueError("x"), retry=None).outcome is Ending.FAILED

    def test_no_attempt_is_scheduled_behind_the_deadline(self):
        one = self.outcome(ValueError("the cause"), deadline=time.time() + 0.5)
        assert one.outcome is Ending.FAILED
        assert one.error.message == "the cause"

    def test_signals_are_no_errors(self):
        assert self.outcome(Retry(5.0)).delay == 5.0
        assert self.outcome(Retry(0.25)).delay == 0.25
        assert self.outcome(Retry(), retry=None).outcome is Ending.RETRY
        rejected = self.outcome(Reject("why"))
        assert (rejected.outcome, rejected.reason) == (Ending.DEAD, "why")

    def test_a_stop_has_its_own_outcome(self):
        expected = {
            Stop.CANCELLED: Ending.CANCELLED,
            Stop.DEADLINE: Ending.EXPIRED,
            Stop.LOST: Ending.LOST,
            Stop.SHUTDOWN: Ending.RELEASED,
            Stop.TIMEOUT: Ending.RETRY,
        }
        for why, outcome in expected.items():
            one = run(self.policy(run_timeout=3.0))
            stopped(one, why)
            assert one.outcome is outcome

    def test_described_errors_carry_what_they_know(self):
        class Custom(TaskError):
            pass

        info = describe(Custom("no", code="NO", retryable=False, at=[1]))
        assert (info.message, info.code, info.retryable, info.details) == ("no", "NO", False, {"at": [1]})
        assert info.type.endswith("Custom")
        assert describe(TaskTimedOut("x")).code == "TASK_TIMED_OUT"
        assert describe(DeadlineExceeded("x")).retryable is False
        with pytest.raises(KeyError) as caught:
            raise KeyError("gone")
        assert "test_described_errors" in (describe(caught.value).traceback or "")
