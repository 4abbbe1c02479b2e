"""Group commit: one transaction for many callers, and one bad piece fails only its own."""

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest
from sqlite_kit import done, inside, look, message, opened, task_id_of, until

from tranship.backends.sqlite._file import Location, SideLock
from tranship.backends.sqlite._table import CREATE
from tranship.backends.sqlite._tasks import CLAIM, Claim
from tranship.backends.sqlite._transaction import Kind, Transaction, chunks, each
from tranship.backends.sqlite._upkeep import Checkpointer
from tranship.driver import Row
from tranship.envelope import Receipt, TaskState
from tranship.errors import BrokerUnreachable, BusyError, ClosedError, EncodeError, TranshipError
from tranship.guards import check_may_block
from tranship.ports import Settled, Settlement, Tombstone, Verdict


def commits(backend) -> list[str]:
    seen: list[str] = []
    inside(backend).store.connection.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


async def test_concurrent_submits_share_a_commit(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        seen = commits(backend)
        await asyncio.gather(*(backend.submitter().submit([message()]) for _ in range(100)))
        assert len(seen) < 20


async def test_bad_piece_fails_only_its_caller(tmp_path):
    def spoil(tx: Transaction, _: None) -> None:
        tx.run("INSERT INTO task(seq, ns, id) VALUES(1, 1, NULL)")

    async with opened(tmp_path / "a.db") as backend:
        bad = Kind("spoil", each(spoil))
        good, answer = await asyncio.gather(
            backend.submitter().submit([message()]), inside(backend).writer.call(bad, None), return_exceptions=True
        )
        assert isinstance(good[0], Receipt)
        assert isinstance(answer, TranshipError)
        assert isinstance(answer.__cause__, sqlite3.IntegrityError)
        assert look(tmp_path / "a.db", "SELECT count(*) FROM task") == [(1,)]


async def test_bad_message_fails_alone(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        bad = message()
        object.__setattr__(bad.envelope, "queue", "\ud800")
        answers = await backend.submitter().submit([message(), bad, message()])
        assert [type(answer) for answer in answers] == [Receipt, EncodeError, Receipt]


async def test_same_id_twice_is_recognised_among_many(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        first = [message() for _ in range(150)]
        await backend.submitter().submit(first)
        mixed = [message() if place % 3 else first[place] for place in range(150)]
        answers = await backend.submitter().submit(mixed)
        assert [answer.duplicate_of is not None for answer in answers] == [place % 3 == 0 for place in range(150)]
        assert look(tmp_path / "a.db", "SELECT count(*) FROM task JOIN body USING(seq)") == [(250,)]
        assert look(tmp_path / "a.db", "SELECT count(*) FROM body") == [(250,)]


async def test_number_of_a_deleted_row_is_not_used_again(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        consumer = backend.consumer(["q"])
        tokens = []
        for _ in range(3):
            await backend.submitter().submit([message()])
            (delivery,) = (await consumer.receive(1, 1.0)).deliveries
            tokens.append(delivery.token)
            await consumer.settle([done(delivery, task_id_of(delivery))])
        assert tokens == [(1, 1), (2, 1), (3, 1)]


async def test_callers_on_several_loops(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        answers = []

        def elsewhere() -> None:
            answers.extend(asyncio.run(submit()))

        async def submit():
            return await backend.submitter().submit([message()])

        threads = [threading.Thread(target=elsewhere) for _ in range(4)]
        for thread in threads:
            thread.start()
        await submit()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert [type(answer) for answer in answers] == [Receipt] * 4


async def test_claim_of_a_cancelled_call_is_handed_back_uncounted(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message() for _ in range(5)])
        consumer = backend.consumer(["q"])
        for rounds in range(20):
            call = asyncio.create_task(consumer.receive(5, 5.0))
            for _ in range(rounds % 5):
                await asyncio.sleep(0)
            if not call.cancel():
                # Served at once: there was nothing left to cancel.
                await consumer.release((await call).deliveries)
                continue
            with pytest.raises(asyncio.CancelledError):
                await call
        received = []
        async with asyncio.timeout(5):
            while len(received) < 5:
                received += (await consumer.receive(5, 1.0)).deliveries
        assert [delivery.delivery_count for delivery in received] == [1] * 5


async def test_claim_in_flight_while_closing_is_not_lost(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        await backend.submitter().submit([message()])
        call = asyncio.create_task(backend.consumer(["q"]).receive(1, 5.0))
        await asyncio.sleep(0)
        await backend.aclose()
        with contextlib.suppress(ClosedError):
            await call
    assert look(path, "SELECT state, deliveries, owner FROM task") == [(0, 0, None)]


async def test_namespaces_do_not_see_each_other(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path, namespace="one") as one, opened(path, namespace="two") as two, opened(path) as plain:
        sent = message(cancel_key="k")
        for backend in (one, two):
            (receipt,) = await backend.submitter().submit([sent])
            assert receipt.duplicate_of is None
        assert not await plain.inspector().queues()
        await one.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])
        states = [(await backend.results().get_many([sent.envelope.id]))[0].state for backend in (one, two, plain)]
        assert states == [TaskState.CANCELLED, TaskState.PENDING, TaskState.UNKNOWN]
        consumer = two.consumer(["q"])
        (delivery,) = (await consumer.receive(1, 1.0)).deliveries
        assert await consumer.settle([Settlement(delivery, Verdict.REJECT, reason="r")]) == [Settled.CONFIRMED]
        assert [len(await backend.inspector().dead()) for backend in (one, two, plain)] == [0, 1, 0]


def old_signal(tx: Transaction, _: None) -> None:
    tx.run("INSERT INTO signal(ns, name, value, expires) VALUES(1, 'c', x'', 1.0)")


async def test_upkeep_deletes_what_has_expired(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        writer = inside(backend).writer
        await writer.call(CREATE, [Row(f"r/{number}", b"{}", ttl=0.0) for number in range(10)])
        await writer.call(Kind("publish", each(old_signal)), None)
        inside(backend).store.checkpointer._upkeep_at = 0.0
        await backend.ping()
        await until(lambda: look(path, "SELECT count(*) FROM row") == [(0,)])
        assert look(path, "SELECT count(*) FROM signal") == [(0,)]


async def test_lease_of_the_last_boot_is_over(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        await backend.submitter().submit([message()])
        await inside(backend).writer.call(CLAIM, Claim(["q"], 1, "dead-host", 1e9))
    assert look(path, "SELECT state FROM task") == [(2,)]
    monkeypatch.setattr("tranship.backends.sqlite._database._boot_id", lambda: "another")
    async with opened(path):
        assert look(path, "SELECT state FROM task") == [(0,)]


async def test_stopped_process_holding_the_lock_is_named(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path, busy_timeout=0.2) as backend:
        other = SideLock(tmp_path / "a.db.lock", patience=1.0)
        other.open()
        other.acquire()
        (answer,) = await backend.submitter().submit([message()])
        assert isinstance(answer, BrokerUnreachable)
        assert "a.db.lock" in str(answer)
        other.release()
        other.close()
        (answer,) = await backend.submitter().submit([message()])
        assert isinstance(answer, Receipt)


async def test_log_is_moved_into_the_database(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as backend:
        for _ in range(10):
            await backend.submitter().submit([message(args=["x" * 1000]) for _ in range(1000)])
        assert path.stat().st_size > 8_000_000
        assert path.with_name("a.db-wal").stat().st_size < 20_000_000


def test_log_keeper_counts(tmp_path):
    keeper = Checkpointer(Location(tmp_path / "a.db"))
    assert not keeper.idle_checkpoint_due()
    keeper.wrote(1)
    assert keeper.idle_checkpoint_due()
    assert not keeper.checkpoint_due(busy=False)
    keeper.wrote(3000)
    assert keeper.checkpoint_due(busy=False)
    assert not keeper.checkpoint_due(busy=True)
    keeper.wrote(12_000)
    assert keeper.checkpoint_due(busy=True)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 57, 128, 300])
def test_chunks_are_powers_of_two(count):
    parts = list(chunks(range(count)))
    assert [value for part in parts for value in part] == list(range(count))
    assert {len(part) for part in parts} <= {1, 2, 4, 8, 16, 32, 64, 128}


async def test_a_blocking_submit_on_the_writers_thread_is_refused(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        refused: list[BaseException] = []

        def submit(_tx: Transaction, _: None) -> None:
            try:  # as __del__ does, wherever the garbage collector runs
                check_may_block()
            except BusyError as error:
                refused.append(error)

        await inside(backend).writer.call(Kind("collect garbage", each(submit)), None)
        assert "tranship-sqlite-writer" in str(refused[0])
