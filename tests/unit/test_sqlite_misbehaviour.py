"""Regressions of the embedded backends: corners where a caller would hang, lose a push, or run a task twice."""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time

import pytest
from sqlite_kit import done, inside, look, message, opened, success, task_id_of, until

from tranship.backends.sqlite import _topic
from tranship.backends.sqlite._file import ForkGate, Gate
from tranship.backends.sqlite._peers import ENROLL
from tranship.backends.sqlite._table import CREATE
from tranship.backends.sqlite._transaction import Kind, Mode, each
from tranship.driver import Row
from tranship.driver._signals import command_bytes
from tranship.errors import EncodeError, TranshipError
from tranship.ports import Command, Settled, Settlement, Tombstone, Verdict

SLEEP = Kind("sleep", each(lambda _, seconds: time.sleep(seconds)), Mode.READ)


def pushes(backend) -> list[str]:
    pushed: list[str] = []
    backend.results().attach(lambda results: pushed.extend(one.id for one in results))
    return pushed


# --- the writer's thread ---


async def test_fault_in_the_writer_is_heard_by_its_callers(tmp_path, monkeypatch):
    async with opened(tmp_path / "a.db") as backend:

        def broken(_):
            raise RuntimeError("a bug")

        monkeypatch.setattr(inside(backend).store.waker, "wake", broken)
        async with asyncio.timeout(3.0):
            assert await backend.results().put([success("a")]) == [True]
            monkeypatch.setattr(inside(backend).store, "run", broken)
            for _ in range(3):
                with pytest.raises(TranshipError):
                    await backend.ping()


async def test_closing_a_backend_whose_file_is_gone(tmp_path):
    before = threading.active_count()
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message()])
        assert (await backend.consumer(["q"]).receive(1, 1.0)).deliveries
        (tmp_path / "a.db").unlink()
        await backend.aclose()
    assert threading.active_count() == before


async def test_late_settlement_goes_before_the_claim_that_would_end_its_lease(tmp_path):
    async with opened(tmp_path / "a.db", lease=0.2) as backend:
        await backend.submitter().submit([message()])
        consumer = backend.consumer(["q"])
        (delivery,) = (await consumer.receive(1, 1.0)).deliveries
        inside(backend).queue.likely = True
        stall = asyncio.ensure_future(inside(backend).writer.call(SLEEP, 0.6))
        await asyncio.sleep(0.05)
        claiming = asyncio.ensure_future(consumer.receive(1, 0))
        await asyncio.sleep(0.05)
        settled = await consumer.settle([done(delivery, task_id_of(delivery))])
        assert settled == [Settled.CONFIRMED]
        assert not (await claiming).deliveries
        await stall


# --- wake-up pipes ---


async def test_pipe_made_again_is_no_death(tmp_path):
    async with opened(tmp_path / "a.db") as backend, opened(tmp_path / "a.db") as other:
        await backend.submitter().submit([message(), message()])
        consumer = backend.consumer(["q"])
        held = (await consumer.receive(2, 1.0)).deliveries
        await other.submitter().submit([message(queue="q")])
        inside(backend)._pipe._path.unlink()
        inside(backend)._renew()
        for sender in (backend, other):
            await sender.submitter().submit([message()])
            await sender.ping()
            await sender.ping()
        assert await consumer.extend(held) == [True, True]
        assert inside(backend)._pipe._path.exists()


async def test_result_is_pushed_where_there_are_no_pipes(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "mkfifo")
    async with opened(tmp_path / "a.db") as backend:
        assert not inside(backend)._pipe.places[0].exists()
        task = message()
        await backend.submitter().submit([task])
        pushed = pushes(backend)
        backend.results().expect([task.envelope.id])
        await backend.results().put([success(task.envelope.id)])
        await until(lambda: task.envelope.id in pushed, 3.0)


# --- pushed results ---


async def test_result_of_a_task_that_another_submitted_first_is_pushed(tmp_path):
    async with opened(tmp_path / "a.db") as backend, opened(tmp_path / "a.db") as other:
        await other.submitter().submit([message(id="same")])
        (receipt,) = await backend.submitter().submit([message(id="same")])
        assert receipt.duplicate_of == "same"
        pushed = pushes(backend)
        backend.results().expect(["same"])
        assert (await other.consumer(["q"]).receive(1, 1.0)).deliveries
        await other.results().put([success("same")])
        await until(lambda: "same" in pushed, 3.0)


async def test_busy_reader_loses_no_result(tmp_path, monkeypatch):
    async with opened(tmp_path / "a.db") as backend, opened(tmp_path / "a.db") as other:
        pushed = pushes(backend)
        backend.results().expect(["foreign"])
        await inside(backend).enrolled()
        real, refused = inside(backend).read, []

        def busy_once(sql, parameters):
            if sql == _topic.TOLD and not refused:
                refused.append(sql)
                return None
            return real(sql, parameters)

        monkeypatch.setattr(inside(backend), "read", busy_once)
        await other.results().put([success("foreign")])
        await until(lambda: bool(refused))
        await other.ping()
        await until(lambda: "foreign" in pushed, 3.0)


# --- the log and housekeeping ---


async def test_log_of_large_messages_stays_short(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        for _ in range(40):
            await backend.submitter().submit([message(headers={"filler": "x" * 1_000_000})])
        assert (tmp_path / "a.db-wal").stat().st_size < 16_000_000


async def test_reader_of_another_program_stalls_nobody(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        for _ in range(6):
            await backend.submitter().submit([message(headers={"filler": "x" * 1_000_000})])
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as foreign:
            foreign.execute("BEGIN")
            foreign.execute("SELECT count(*) FROM task").fetchall()
            await backend.ping()
            await asyncio.sleep(1.3)
            before = time.monotonic()
            await backend.ping()
            assert time.monotonic() - before < 1.0


async def test_housekeeping_keeps_up(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await inside(backend).writer.call(CREATE, [Row(f"r/{number}", b"", ttl=0.0) for number in range(3000)])
        inside(backend).store.checkpointer._upkeep_at = time.monotonic()
        await backend.ping()
        end = time.monotonic() + 5.0
        while look(tmp_path / "a.db", "SELECT count(*) FROM row") != [(0,)]:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


# --- forks ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_threads_that_fork_at_once_leave_every_gate_open():
    forks = ForkGate()
    gates = [Gate(lambda: None) for _ in range(3)]
    for gate in gates:
        forks.add(gate)
    with gates[2].lock, gates[1].lock, gates[0].lock:
        threads = [threading.Thread(target=_fork_hooks, args=[forks], daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(3.0)
    assert not any(thread.is_alive() or gate.lock.locked() for thread in threads for gate in gates)


def _fork_hooks(forks: ForkGate) -> None:
    forks._before()
    time.sleep(0.05)
    forks._parent()


# --- odd texts, paging, signals ---


async def test_forgetting_an_odd_id_leaves_others_alone(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        results = backend.results()
        await results.put([success("a")])
        await results.forget_many(["a\0c"])
        assert [one.state.terminal for one in await results.get_many(["a", "a\0c"])] == [True, False]
        (refused,) = await backend.submitter().submit([message(id="a\0b")])
        assert isinstance(refused, EncodeError)


async def test_odd_text_in_the_detail_does_not_keep_a_message_from_dying(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message()])
        consumer = backend.consumer(["q"])
        (delivery,) = (await consumer.receive(1, 1.0)).deliveries
        rejected = Settlement(delivery, Verdict.REJECT, reason="malformed", detail="bad \ud800 text")
        assert await consumer.settle([rejected]) == [Settled.CONFIRMED]
        assert len(await backend.inspector().dead()) == 1


async def test_paging_goes_on_behind_a_dead_letter_that_was_purged(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message() for _ in range(3)])
        consumer = backend.consumer(["q"])
        for delivery in (await consumer.receive(3, 1.0)).deliveries:
            await consumer.settle([Settlement(delivery, Verdict.REJECT, reason="r")])
            await asyncio.sleep(0.002)
        inspector = backend.inspector()
        letters = [letter.id for letter in await inspector.dead()]
        await inspector.dead_purge([letters[1]])
        assert [letter.id for letter in await inspector.dead(after=letters[1])] == [letters[2]]


async def test_what_is_published_during_a_read_is_heard_once(tmp_path, monkeypatch):
    async with opened(tmp_path / "a.db") as backend, opened(tmp_path / "a.db") as other:
        heard = []
        await backend.control().listen(heard.extend, worker="w")
        real, sent = inside(backend).read, []

        def late(sql, parameters):
            found = real(sql, parameters)
            if sql == _topic.SIGNALS_SINCE and any(name == "c" for _, name, _ in found) and not sent:
                sent.append(True)
                with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as foreign:
                    foreign.execute(
                        "INSERT INTO signal(ns, name, value, expires) SELECT ns, name, ?, expires FROM signal"
                        " WHERE name='c'",
                        [command_bytes(Command(name="late"), "another")],
                    )
            return found

        monkeypatch.setattr(inside(backend), "read", late)
        await other.control().send(Command(name="early"))
        await until(lambda: len(heard) >= 2)
        await asyncio.sleep(0.7)
        assert [one.name for one in heard] == ["early", "late"]


async def test_repeated_cancel_does_not_shorten_a_tombstone(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        now = time.time()
        for seconds in (100.0, 0.0):
            await backend.control().cancel([Tombstone(kind="id", value="t", expires=now + seconds)])
        heard = []
        await backend.control().listen(heard.extend, worker="w")
        assert [one.expires for one in heard] == [now + 100.0]


async def test_failed_enrolment_is_tried_again(tmp_path, monkeypatch):
    async with opened(tmp_path / "a.db") as backend, opened(tmp_path / "a.db") as other:
        real, refused = inside(backend).writer.begin, []

        def once(kind, argument, **options):
            found = real(kind, argument, **options)
            if kind is ENROLL and not refused:
                refused.append(kind)
                found.cancel()
            return found

        monkeypatch.setattr(inside(backend).writer, "begin", once)
        pushed = pushes(backend)
        backend.results().expect(["foreign"])
        assert refused
        await until(lambda: inside(backend)._enrolment is not None and inside(backend)._enrolling.done())
        await other.results().put([success("foreign")])
        await until(lambda: "foreign" in pushed, 3.0)
