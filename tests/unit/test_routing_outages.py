"""Routing while brokers fail: nothing is lost, nobody waits for somebody else's broker, doubles are counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter

import pytest
from routing_kit import PATIENCE, QUICK, accepted, brokers, message, messages, take, until

from tranship.driver._consumer import DriverConsumer
from tranship.envelope import Receipt, TaskResult, TaskState
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    StorageFull,
    SubmitUnknown,
    UnsupportedError,
)
from tranship.ports import ConnectionEvent, Heartbeat, Settled, Settlement, StoredResult, Tombstone, Verdict
from tranship.protocol import encode_result
from tranship.registry import Registry
from tranship.routing import Circuit, failover, round_robin
from tranship.routing._placements import task_id_of


def result(task_id: str, value: object, finished_at: float = 1.0) -> StoredResult:
    document = TaskResult(id=task_id, state=TaskState.SUCCESS, value=value, finished_at=finished_at)
    return StoredResult(id=task_id, state=TaskState.SUCCESS, document=encode_result(document))


class TestOpening:
    async def test_one_down_is_a_warning(self, caplog):
        async with brokers() as both:
            both.faults[0].fail("open", times=-1)
            backend = await both.open()
            assert "working without broker" in caplog.text
            assert [both.urls[0] in text for text in backend.warnings] == [True]
            await accepted(backend, message())
            assert await both.counts() == [0, 1]

    async def test_all_down_is_one_error_that_names_each(self):
        async with brokers(3) as all_three:
            for faults in all_three.faults:
                faults.fail("open", times=-1)
            with pytest.raises(BrokerUnreachable) as caught:
                await all_three.open()
            assert all(url in str(caught.value) for url in all_three.urls)

    async def test_all_refusing_is_permanent(self):
        async with brokers() as both:
            for faults in both.faults:
                faults.fail("open", BrokerRefused, times=-1)
            with pytest.raises(BrokerRefused, match="none of the 2 brokers"):
                await both.open()

    async def test_a_late_one_joins_with_everything(self):
        """Opened by itself once it is there; then it is consumed, listened to, and pushes what is expected."""
        async with brokers() as both:
            both.faults[1].fail("open", times=-1)
            backend = await both.open()
            await backend.ensure(["q"])
            heard, pushed = [], []
            await backend.control().listen(heard.extend, worker="w")
            backend.results().attach(pushed.extend)
            backend.results().expect(["elsewhere"])
            consumer = backend.consumer(["q"])
            waiting = asyncio.create_task(consumer.receive(1, PATIENCE))
            other = await both.at(1)
            both.heal(1)
            sent = message()
            await accepted(other, sent)
            (delivery,) = (await waiting).deliveries
            assert task_id_of(delivery) == sent.envelope.id
            await other.results().put([result("elsewhere", 1)])
            await other.control().cancel([Tombstone(kind="id", value="x", expires=time.time() + 60)])
            await until(lambda: pushed and heard, "the late broker tells what happens there")
            assert [one.circuit for one in backend.native.brokers] == [Circuit.CLOSED] * 2

    async def test_a_late_one_that_lacks_what_is_relied_on_is_not_used(self, monkeypatch):
        async with brokers() as both:
            both.faults[1].fail("open", times=-1)
            backend = await both.open()
            monkeypatch.setattr("tranship.routing._backend.unfit", lambda _member, _declared: ["control"])
            both.heal(1)
            await until(lambda: "lacks control" in str(backend.native.brokers[1].problem), "it is refused")

    async def test_once_only_and_not_after_close(self):
        async with brokers() as both:
            backend = await both.open()
            with pytest.raises(ClosedError):
                await backend.open()
            await backend.aclose()
            for use in (backend.submitter, backend.results, backend.control, backend.inspector):
                with pytest.raises(ClosedError):
                    use()


class TestShares:
    @pytest.mark.parametrize("batch", [1, 7, 500])
    async def test_they_follow_the_weights(self, batch):
        async with brokers(3, in_turn=True) as three:
            three.url = three.url.replace("weights=1,1,1", "weights=5,3,2")
            backend = await three.open()
            for _ in range(1000 // batch):
                await accepted(backend, *messages(batch))
            total = 1000 // batch * batch
            shares = [one.accepted / total for one in backend.native.brokers]
            assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
            assert [count / total for count in await three.counts()] == shares

    async def test_a_key_belongs_to_one_broker_for_everybody(self):
        async with brokers(3, in_turn=True) as three:
            first, second = await three.open(), await three.open()
            for number in range(20):
                once, twice = (message(dedup_key=f"order-{number}", dedup_window=60.0) for _ in range(2))
                await accepted(first, once)
                (answer,) = await second.submitter().submit([twice])
                assert answer == Receipt(twice.envelope.id, duplicate_of=once.envelope.id)
            assert all(await three.counts()), "the keys are spread"


class TestFailingOver:
    async def test_definitely_not_stored_goes_elsewhere_at_once(self):
        async with brokers() as both:
            backend = await both.open()
            both.cut(0, "submit", "ping")
            await accepted(backend, *messages(10))
            assert await both.counts() == [0, 10]
            assert backend.native.republished == 0

    async def test_it_stays_with_the_new_one_and_goes_back_when_told_to(self):
        async with brokers(fail_back=0.3) as both:
            backend = await both.open()
            both.cut(0)
            for _ in range(3):
                await accepted(backend, message())
            assert [one.active for one in backend.native.brokers] == [False, True]
            both.heal(0)
            await until(lambda: backend.native.brokers[0].circuit is Circuit.CLOSED, "it is found to be back")
            await accepted(backend, message())
            assert (await both.counts())[0] == 0, "it has not been well for long enough"
            came_back = time.monotonic()
            while (await both.counts())[0] == 0:
                assert time.monotonic() < came_back + PATIENCE
                await accepted(backend, message())
            assert backend.native.switches == 2

    async def test_never_going_back(self):
        async with brokers(fail_back=None) as both:
            backend = await both.open()
            both.cut(0)
            for _ in range(3):
                await accepted(backend, message())
            both.heal(0)
            await until(lambda: backend.native.brokers[0].circuit is Circuit.CLOSED, "it is found to be back")
            await accepted(backend, *messages(5))
            assert await both.counts() == [0, 8]

    async def test_a_broken_circuit_is_not_tried_with_tasks(self):
        async with brokers(breaker_failures=2, in_turn=True) as both:
            backend = await both.open()
            both.cut(0, "submit", "ping")
            for _ in range(20):
                await accepted(backend, message())
            assert both.faults[0].calls["submit"] == 2
            assert both.faults[0].calls["ping"] >= 1 or backend.native.brokers[0].circuit is not Circuit.CLOSED

    async def test_a_full_broker_is_still_consumed(self):
        async with brokers() as both:
            backend = await both.open()
            await accepted(backend, *messages(3))
            both.faults[0].fail("submit", StorageFull, times=-1)
            await accepted(backend, *messages(2))
            assert await both.counts() == [3, 2]
            assert len(await take(backend.consumer(["q"]), 5)) == 5

    async def test_all_away_is_told_and_retried_by_the_core(self):
        async with brokers() as both:
            backend = await both.open()
            both.cut(0)
            both.cut(1)
            answers = await backend.submitter().submit(messages(2))
            assert [type(answer) for answer in answers] == [BrokerUnreachable] * 2
            both.heal(0)
            both.heal(1)
            await until(lambda: any(one.circuit is Circuit.CLOSED for one in backend.native.brokers), "one is back")
            await accepted(backend, *messages(2))

    async def test_events_tell_of_each(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            told = []
            backend.on_event(lambda event, generation: told.append((event, generation)))
            both.cut(0)
            for _ in range(6):
                await accepted(backend, message())
            both.heal(0)
            await until(lambda: len(told) == 2, "lost and found are told")
            assert told == [(ConnectionEvent.LOST, 0), (ConnectionEvent.RESTORED, 1)]

    async def test_what_not_every_broker_can_is_refused_wherever_it_would_go(self, monkeypatch):
        async with brokers() as both:
            backend = await both.open()
            lacking = backend._fleet.capabilities
            monkeypatch.setattr(backend._fleet, "capabilities", type(lacking)({}))
            (answer,) = await backend.submitter().submit([message(dedup_key="k")])
            assert isinstance(answer, UnsupportedError)
            with pytest.raises(UnsupportedError, match="not every broker"):
                backend.results()


class TestInDoubt:
    async def test_back_in_time_it_is_recognised(self):
        """The answer is lost, the broker is there: asked again under the same id, and there once."""
        async with brokers() as both:
            backend = await both.open()
            both.faults[0].fail("submit", SubmitUnknown, after=True)
            sent = message()
            (answer,) = await backend.submitter().submit([sent])
            assert answer == Receipt(sent.envelope.id)
            assert await both.counts() == [1, 0]
            assert backend.native.republished == 0

    async def test_away_for_good_it_is_published_again_and_counted(self, caplog):
        async with brokers() as both:
            backend = await both.open()
            both.faults[0].fail("submit", SubmitUnknown, after=True, times=-1)
            both.cut(0, "ping")
            batch = messages(5)
            await accepted(backend, *batch)
            assert await both.counts() == [5, 5]
            assert (backend.native.republished, backend.native.duplicates) == (5, 0)
            assert "5 tasks are given to" in caplog.text

    async def test_a_late_yes_makes_it_a_duplicate(self):
        async with brokers() as both:
            backend = await both.open()
            both.faults[0].stall("submit", after=True, times=-1)
            await accepted(backend, *messages(3))
            assert backend.native.republished == 3
            both.faults[0].release("submit")
            await until(lambda: backend.native.duplicates == 3, "the first broker had them")

    async def test_a_late_no_does_not(self):
        async with brokers() as both:
            backend = await both.open()
            both.faults[0].stall("submit", times=-1)
            sent = message()
            await accepted(backend, sent)
            both.faults[0].fail("submit", times=-1)
            await backend.aclose()
            assert await both.counts() == [0, 1]
            assert (backend.native.republished, backend.native.duplicates) == (1, 0)

    async def test_told_instead(self):
        async with brokers(unknown="tell") as both:
            backend = await both.open()
            both.faults[0].fail("submit", SubmitUnknown, after=True, times=-1)
            both.cut(0, "ping")
            sent = message()
            (answer,) = await backend.submitter().submit([sent])
            assert isinstance(answer, SubmitUnknown)
            sent.check_id, sent.tries = True, 1
            (answer,) = await backend.submitter().submit([sent])
            assert isinstance(answer, SubmitUnknown | BrokerUnreachable)
            assert await both.counts() == [1, 0], "it was given to nobody else"

    async def test_it_ends_once_for_who_waits_although_it_ran_twice(self):
        async with brokers() as both:
            backend = await both.open()
            both.faults[0].fail("submit", SubmitUnknown, after=True, times=-1)
            both.cut(0, "ping")
            (task_id,) = await accepted(backend, message())
            pushed = []
            store = backend.results()
            store.attach(pushed.extend)
            store.expect([task_id])
            one, other = await both.at(0), await both.at(1)
            await other.results().put([result(task_id, "second broker", 1.0)])
            await one.results().put([result(task_id, "first broker", 2.0)])
            await until(lambda: len(pushed) == 2, "both are pushed")
            assert len({one.document for one in pushed}) == 1, "two different ends were told"
            both.heal(0)
            await until(lambda: backend.native.brokers[0].circuit is Circuit.CLOSED, "it is back")
            for reader in (backend, await both.open()):
                (read,) = await reader.results().get_many([task_id])
                assert read.document == pushed[0].document
                assert reader.native.ran_twice == 1


class TestConsuming:
    async def test_leases_of_who_comes_later_are_renewed_in_time(self):
        """Whoever renews asks for the length once, when only one broker may be there."""
        async with brokers() as both:
            both.url = failover(f"{both.urls[0]}?lease=0.5", both.urls[1], **QUICK)
            both.faults[0].fail("open", times=-1)
            backend = await both.open()
            consumer = backend.consumer(["q"])
            assert consumer.lease == 0.5
            both.heal(0)
            await until(lambda: backend.native.brokers[0].problem is None, "the first one is there")
            assert consumer.lease == 0.5

    async def test_one_that_hangs_does_not_hold_up_the_other(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            both.faults[0].stall("receive", times=-1)
            consumer = backend.consumer(["q"])
            await accepted(backend, *messages(10))
            assert len(await take(consumer, 5)) == 5
            both.faults[0].release("receive")
            assert len(await take(consumer, 5)) == 5

    async def test_everything_comes_once_from_all(self):
        async with brokers(3, in_turn=True) as three:
            backend = await three.open()
            ids = await accepted(backend, *messages(100))
            consumer = backend.consumer(["q"])
            got = await take(consumer, 100)
            assert sorted(map(task_id_of, got)) == sorted(ids)
            assert set(await consumer.extend(got)) == {True}
            answers = await consumer.settle([Settlement(one, Verdict.ACK) for one in got])
            assert Counter(answers) == {Settled.CONFIRMED: 100}

    async def test_settling_goes_on_while_one_is_away(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            ids = await accepted(backend, *messages(4))
            consumer = backend.consumer(["q"])
            got = await take(consumer, 4)
            both.cut(0)
            settlements = [Settlement(one, Verdict.ACK, result=result(task_id_of(one), 1)) for one in got]
            answers = await consumer.settle(settlements)
            assert Counter(answers) == {Settled.CONFIRMED: 2, Settled.SENT: 2}
            both.heal(0)
            reader = await both.open()

            async def ended() -> int:
                return sum(one.state.terminal for one in await reader.results().get_many(ids))

            end = time.monotonic() + PATIENCE
            while await ended() < 4:
                assert time.monotonic() < end, "what was settled during the outage is stored after it"
                await asyncio.sleep(0.02)
            assert not (await consumer.receive(5, 0.1)).deliveries

    async def test_settling_is_the_cores_when_nobody_is_there(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            await accepted(backend, *messages(4))
            consumer = backend.consumer(["q"])
            got = await take(consumer, 4)
            both.cut(0)
            both.cut(1)
            settlements = [Settlement(one, Verdict.ACK) for one in got]
            answers = await consumer.settle(settlements)
            assert [type(one) for one in answers] == [BrokerUnreachable] * 4
            both.heal(0)
            both.heal(1)
            assert list(await consumer.settle(settlements)) == [Settled.CONFIRMED] * 4

    async def test_renewing_goes_on_while_one_is_away(self):
        async with brokers(in_turn=True, lease=0.6) as both:
            backend = await both.open()
            await accepted(backend, *messages(4))
            consumer = backend.consumer(["q"])
            got = await take(consumer, 4)
            both.cut(0, "extend")
            end = time.monotonic() + 1.2
            while time.monotonic() < end:
                assert list(await consumer.extend(got)) == [True] * 4, "an outage is no lost lease"
                await asyncio.sleep(0.1)
            answers = await consumer.settle([Settlement(one, Verdict.ACK) for one in got])
            assert Counter(answers) == {Settled.CONFIRMED: 2, Settled.LOST: 2}

    async def test_a_broker_whose_leases_are_its_connections_is_asked(self, monkeypatch):
        async def lost(_consumer, deliveries):
            return [False] * len(deliveries)

        monkeypatch.setattr(DriverConsumer, "lease", None)
        monkeypatch.setattr(DriverConsumer, "extend", lost)
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            await accepted(backend, *messages(2))
            consumer = backend.consumer(["q"])
            got = await take(consumer, 2)
            assert list(await consumer.extend(got)) == [False, False]

    async def test_nobody_there_is_an_error_and_ends_by_itself(self):
        async with brokers() as both:
            backend = await both.open()
            consumer = backend.consumer(["q"])
            both.cut(0)
            both.cut(1)
            with contextlib.suppress(BrokerUnreachable):
                while backend._fleet.usable():
                    await consumer.receive(1, 0.05)
            with pytest.raises(BrokerUnreachable, match="no broker of 2"):
                await consumer.receive(1, 0.05)
            waiting = asyncio.create_task(consumer.receive(1, PATIENCE))
            both.heal(1)
            await accepted(await both.at(1), message())
            assert len((await waiting).deliveries) == 1

    async def test_aging_leaves_the_order_to_each_broker(self):
        async with brokers(in_turn=True, aging=0.1) as both:
            backend = await both.open()
            assert backend.consumer(["q"])._taking._strict is False


class TestAskingAll:
    async def test_a_result_whose_broker_is_away_is_pending_and_others_are_read(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            ids = await accepted(backend, *messages(2))
            for number, task_id in enumerate(ids):
                await (await both.at(number)).results().put([result(task_id, number)])
            both.cut(0)
            read = await backend.results().get_many(ids)
            assert [one.state for one in read] == [TaskState.PENDING, TaskState.SUCCESS]
            both.cut(1)
            with pytest.raises(BrokerUnreachable):
                await backend.results().get_many(ids)

    async def test_a_cancel_reaches_who_was_away(self):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            both.cut(0)
            await backend.submitter().submit(messages(9))
            heard = []
            listener = await both.at(0)
            await listener.control().listen(heard.extend, worker="w")
            await backend.control().cancel([Tombstone(kind="key", value="job", expires=time.time() + 60)])
            assert heard == []
            both.heal(0)
            await until(lambda: heard, "the cancel is repeated")
            assert [one.value for one in heard] == ["job"]

    async def test_a_cancel_while_who_was_away_is_told_of_another(self):
        async with brokers(in_turn=True, answer_timeout=PATIENCE) as both:
            backend = await both.open()
            both.cut(0, "ping", "submit", "cancel")
            await backend.submitter().submit(messages(9))
            heard = []
            await (await both.at(0)).control().listen(heard.extend, worker="w")

            async def cancel(key):
                await backend.control().cancel([Tombstone(kind="key", value=key, expires=time.time() + 60)])

            await cancel("first")
            both.heal(0)
            both.faults[0].stall("cancel")
            hits = both.faults[0].hit["cancel"]
            await until(lambda: both.faults[0].hit["cancel"] > hits, "the first cancel is on its way")
            await cancel("second")
            both.faults[0].release("cancel")
            await until(lambda: len(heard) >= 2, "both cancels are repeated")
            assert [one.value for one in heard] == ["first", "second"]

    async def test_cancels_that_are_over_are_not_kept_for_who_is_away(self):
        async with brokers() as both:
            backend = await both.open()
            both.cut(1, "ping", "cancel")
            over = [Tombstone(kind="id", value=str(number), expires=time.time() - 1) for number in range(5000)]
            for start in range(0, 5000, 500):
                await backend.control().cancel(over[start : start + 500])
            kept = next(iter(backend.control()._missed.values()))
            assert len(kept) < 2000

    async def test_numbers_of_those_that_answer(self, caplog):
        async with brokers(in_turn=True) as both:
            backend = await both.open()
            await accepted(backend, *messages(6))
            beat = Heartbeat(worker="w", host="h", pid=1, queues=["q"], running=[], limit=1, at=time.time())
            await backend.control().beat(beat)
            assert [sum(info.ready.values()) for info in await backend.inspector().queues()] == [6]
            both.faults[0].fail("queues", times=-1)
            with caplog.at_level(logging.WARNING):
                assert [sum(info.ready.values()) for info in await backend.inspector().queues()] == [3]
            assert "is left out" in caplog.text
            assert [one.worker for one in await backend.inspector().workers()] == ["w"]


class TestFiles:
    async def test_a_file_that_vanished_is_made_anew_and_the_other_goes_on(self, tmp_path):
        urls = [f"sqlite:///{tmp_path / name / 'queue.db'}" for name in ("a", "b")]
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        backend = Registry(entry_points=False, environ={}).create(round_robin(*urls, **QUICK))
        await backend.open()
        try:
            consumer = backend.consumer(["q"])
            await accepted(backend, *messages(2))
            assert len(await take(consumer, 2)) == 2
            (tmp_path / "a").rename(tmp_path / "away")
            await until(lambda: backend.native.brokers[0].problem is not None, "it is noticed")
            await accepted(backend, *messages(10))
            got = await take(consumer, 10)
            assert set(await consumer.settle([Settlement(one, Verdict.ACK) for one in got])) == {Settled.CONFIRMED}
            (tmp_path / "a").mkdir()
            await until(lambda: backend.native.brokers[0].problem is None, "a new file is used")
            await accepted(backend, *messages(10))
            assert len(await take(consumer, 10)) == 10
        finally:
            await backend.aclose()
