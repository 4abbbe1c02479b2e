"""Several processes on one file: wake-ups, kills, forks."""

import asyncio
import contextlib
import os
import sqlite3
import time

import pytest
from sqlite_kit import claim_and_die, in_process, inside, look, make, message, opened, serve, until

from tranship.backends.sqlite._peers import Heard, WakePipe, probe
from tranship.envelope import TaskState
from tranship.errors import ClosedError


async def test_result_comes_back_from_another_process(tmp_path):
    path = tmp_path / "a.db"
    pushed = {}
    async with opened(path) as backend:
        results = backend.results()
        results.attach(lambda found: pushed.update((one.id, one) for one in found))
        worker = asyncio.create_task(in_process(serve, str(path), 20))
        for _ in range(20):
            sent = message(reply_to=inside(backend).address)
            results.expect([sent.envelope.id])
            await backend.submitter().submit([sent])
            await until(lambda sent=sent: sent.envelope.id in pushed, 20)
        assert await worker == 0
        assert {one.state for one in pushed.values()} == {TaskState.SUCCESS}


async def test_result_of_somebody_elses_task_is_pushed(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path) as submitting, opened(path) as watching:
        sent = message(reply_to=submitting.address)
        pushed = []
        watching.results().attach(pushed.extend)
        watching.results().expect([sent.envelope.id])
        await submitting.submitter().submit([sent])
        assert await in_process(serve, str(path), 1) == 0
        await until(lambda: bool(pushed))
        assert pushed[0].id == sent.envelope.id


async def test_killed_process_gives_its_leases_back_at_once(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path, lease=30) as backend:
        consumer = backend.consumer(["q"])
        await backend.submitter().submit([message()])
        assert await in_process(claim_and_die, str(path), 30.0) == -9
        # Long before its lease is over.
        (delivery,) = (await consumer.receive(1, 15.0)).deliveries
        assert delivery.delivery_count == 2
        await until(lambda: look(path, "SELECT count(*) FROM peer") == [(1,)])


async def test_a_process_that_is_killed_before_anybody_knows_of_it_gives_its_leases_back_too(tmp_path):
    """Whoever finds a task at once has claimed it before it has said that it is there."""
    path = tmp_path / "a.db"
    async with opened(path, lease=30) as backend:
        consumer = backend.consumer(["q"])
        await backend.submitter().submit([message()])
        assert await in_process(claim_and_die, str(path), 30.0) == -9
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM peer WHERE address<>?", (inside(backend).address,))
        # Long before its lease is over.
        (delivery,) = (await consumer.receive(1, 15.0)).deliveries
        assert delivery.delivery_count == 2


async def test_lease_of_a_killed_process_survives_its_successors_start(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path, lease=30) as backend:
        await backend.submitter().submit([message()])
    assert await in_process(claim_and_die, str(path), 30.0) == -9
    for _ in range(2):
        async with opened(path) as successor:
            places = inside(successor)._pipe.places
    before = time.monotonic()
    async with opened(path) as backend:
        assert (await backend.consumer(["q"]).receive(1, 10.0)).deliveries
    assert time.monotonic() - before < 5.0
    assert not any(place.exists() for place in places)


async def test_unknown_owner_keeps_its_lease_until_it_ends(tmp_path):
    path = tmp_path / "a.db"
    async with opened(path, lease=1.0) as holder, opened(path) as waiting:
        await holder.submitter().submit([message()])
        assert (await holder.consumer(["q"]).receive(1, 5.0)).deliveries
        before = time.monotonic()
        # Its pipe was swept away, or is in another container: nothing can be said of it.
        inside(holder)._pipe._path.unlink()
        assert (await waiting.consumer(["q"]).receive(1, 5.0)).deliveries
        assert time.monotonic() - before > 0.8


async def test_swept_pipe_is_made_again(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        bell = inside(backend)._pipe
        bell._path.unlink()
        assert probe(inside(backend).address, bell.places) is Heard.UNKNOWN
        inside(backend)._renew()
        assert probe(inside(backend).address, bell.places) is Heard.ALIVE


async def test_probe_tells_the_dead_from_the_living(tmp_path):
    status = tmp_path.stat()
    bell = WakePipe((status.st_dev, status.st_ino))
    bell.open()
    assert probe(bell.address, bell.places) is Heard.ALIVE
    bell._drop()
    assert probe(bell.address, bell.places) is Heard.DEAD
    bell.close()
    assert probe(bell.address, bell.places) is Heard.UNKNOWN
    assert probe("../../etc/passwd", bell.places) is Heard.UNKNOWN


# --- fork ---


def forked(work) -> int:
    """Run ``work`` in a forked child; return its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
async def test_inherited_backend_is_closed_in_a_child(tmp_path):
    async with opened(tmp_path / "a.db") as backend:
        await backend.submitter().submit([message()])

        def use_inherited() -> None:
            with pytest.raises(ClosedError, match="fork"):
                backend.submitter().submit([message()]).send(None)
            asyncio.run(backend.aclose())

        assert forked(use_inherited) == 0
        await backend.submitter().submit([message()])
        assert (await backend.inspector().queues())[0].ready[1] == 2
        assert probe(inside(backend).address, inside(backend)._pipe.places) is Heard.ALIVE


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
async def test_child_opens_its_own_while_the_parent_writes(tmp_path):
    path = tmp_path / "a.db"

    async def submit_in_child() -> None:
        async with opened(path) as own:
            await own.submitter().submit([message()])

    async with opened(path) as backend:
        for _ in range(10):
            busy = [asyncio.create_task(backend.submitter().submit([message()])) for _ in range(20)]
            await asyncio.sleep(0)
            assert await asyncio.to_thread(forked, lambda: asyncio.run(submit_in_child())) == 0
            await asyncio.gather(*busy)
    assert look(path, "SELECT count(*) FROM task") == [(210,)]
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
async def test_forked_child_does_not_keep_a_dead_parents_bell_alive(tmp_path):
    backend = make(tmp_path / "a.db")
    await backend.open()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        bell = inside(backend)._pipe
        asyncio.get_running_loop().remove_reader(bell._reader)
        bell._drop()
        await until(lambda: probe(bell.address, bell.places) is Heard.DEAD)
    finally:
        os.close(writer)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(reader)
        bell._loop = None
        await backend.aclose()
