"""What only the table of shared connections knows: who shares, where a link lives, and when it goes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from tranship._portal import Portal
from tranship.connections import ConnectionTable, process_table
from tranship.errors import BrokerUnreachable, BusyError, ClosedError


class Wire:
    """A link that counts."""

    opened = 0
    closed = 0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def aclose(self) -> None:
        assert asyncio.get_running_loop() is self.loop, "closed on another loop than it was opened on"
        type(self).closed += 1


@pytest.fixture
def wires():
    class Counted(Wire):
        opened = closed = 0

        @classmethod
        async def open(cls):
            await asyncio.sleep(0)
            cls.opened += 1
            return cls()

    return Counted


@pytest.fixture
def table():
    return ConnectionTable()


def portal_threads() -> int:
    return sum(thread.name == "tranship-io" for thread in threading.enumerate())


async def test_one_loop_shares_one_link_until_the_last_has_gone(table, wires):
    loop = asyncio.get_running_loop()
    leases = [table.lease("k", wires.open, loop) for _ in range(3)]
    links = await asyncio.gather(*(lease.open() for lease in leases))
    assert len(set(links)) == 1 == wires.opened
    assert links[0].loop is loop
    for lease in leases[:2]:
        await lease.release()
        await lease.release()
    assert (wires.closed, table.links()) == (0, 1)
    await leases[2].release()
    assert (wires.closed, table.links()) == (1, 0)


async def test_different_keys_share_nothing(table, wires):
    loop = asyncio.get_running_loop()
    one, other = table.lease("k", wires.open, loop), table.lease("l", wires.open, loop)
    assert await one.open() is not await other.open()
    await one.release()
    await other.release()


async def test_a_second_loop_shares_the_link_of_the_io_thread(table, wires):
    mine = table.lease("k", wires.open, asyncio.get_running_loop())
    here = await mine.open()

    async def elsewhere():
        lease = table.lease("k", wires.open, asyncio.get_running_loop())
        link = await lease.open()
        assert link.loop is table.portal().loop
        await lease.release()
        return link

    there = await asyncio.to_thread(asyncio.run, elsewhere())
    assert there is not here
    await mine.release()
    assert (wires.closed, table.links()) == (2, 0)


def test_the_io_thread_lives_as_long_as_somebody_needs_it(table, wires):
    before = portal_threads()
    leases = [table.lease("k", wires.open), table.lease("k", wires.open), table.lease("l", wires.open)]
    for lease in leases:
        table.portal().run(lease.open())
    assert portal_threads() == before + 1
    for lease in leases[:2]:
        lease.release_blocking()
    assert portal_threads() == before + 1
    leases[2].release_blocking()
    assert portal_threads() == before
    again = table.lease("k", wires.open)
    assert table.portal().run(again.open()).loop is table.portal().loop
    again.release_blocking()
    assert portal_threads() == before


def test_the_io_thread_of_a_link_that_has_gone_is_not_made_anew(table, wires):
    before = portal_threads()
    lease = table.lease("k", wires.open)
    link = table.portal().run(lease.open())
    assert table.portal_of(link.loop) is table.portal()
    lease.release_blocking()
    with pytest.raises(ClosedError):
        table.portal_of(link.loop)
    assert portal_threads() == before


async def test_a_failed_opening_reaches_all_who_wait_and_may_be_tried_again(table, wires):
    attempts = 0

    async def flaky():
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0)
        if attempts == 1:
            raise BrokerUnreachable("not yet")
        return await wires.open()

    loop = asyncio.get_running_loop()
    leases = [table.lease("k", flaky, loop) for _ in range(3)]
    failed = await asyncio.gather(*(lease.open() for lease in leases), return_exceptions=True)
    assert [type(error) for error in failed] == [BrokerUnreachable] * 3
    assert attempts == 1
    assert await leases[0].open() is await leases[1].open()
    for lease in leases:
        await lease.release()
    assert (wires.opened, wires.closed) == (1, 1)


async def test_a_cancelled_opener_does_not_take_the_others_along(table, wires):
    loop = asyncio.get_running_loop()
    leases = [table.lease("k", wires.open, loop) for _ in range(2)]
    opening = [asyncio.ensure_future(lease.open()) for lease in leases]
    await asyncio.sleep(0)
    opening[0].cancel()
    assert isinstance(await opening[1], wires)
    for lease in leases:
        await lease.release()
    assert wires.closed == 1


async def test_releasing_while_opening_closes_what_was_opened(table, wires):
    lease = table.lease("k", wires.open, asyncio.get_running_loop())
    opening = asyncio.ensure_future(lease.open())
    await asyncio.sleep(0)
    await lease.release()
    await asyncio.gather(opening, return_exceptions=True)
    assert (wires.opened, wires.closed, table.links()) == (1, 1, 0)
    with pytest.raises(ClosedError):
        await lease.open()


def test_a_loop_that_was_closed_takes_its_link_along(table, wires):
    async def use_and_forget():
        await table.lease("k", wires.open, asyncio.get_running_loop()).open()

    asyncio.run(use_and_forget())

    async def use():
        lease = table.lease("k", wires.open, asyncio.get_running_loop())
        link = await lease.open()
        assert link.loop is asyncio.get_running_loop()
        await lease.release()

    asyncio.run(use())
    assert (wires.opened, wires.closed) == (2, 1)


@pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info < (3, 12, 2),
    reason="Python 3.12.0 and 3.12.1 start no thread once the main one has ended, although another still runs",
)
def test_a_hosts_name_is_found_when_the_main_thread_has_ended():
    code = (
        "import threading\nfrom tranship._portal import Portal\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    portal = Portal()\n"
        "    print(len(portal.run(portal.loop.getaddrinfo('localhost', 80))) > 0)\n"
        "    portal.stop()\n"
        "threading.Thread(target=late).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_state_is_made_once(table):
    made = []
    barrier = threading.Barrier(8)

    def get():
        barrier.wait()
        table.shared("key", lambda: made.append(1) or object())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_starts_with_an_empty_table(wires):
    table = process_table()
    lease = table.lease("fork", wires.open)
    table.portal().run(lease.open())
    child = os.fork()
    if child == 0:
        fresh = process_table()
        os._exit(0 if fresh is not table and fresh.links() == 0 else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert process_table() is table
    lease.release_blocking()


class TestPortal:
    def test_it_runs_and_returns_and_raises(self):
        portal = Portal()

        async def work(value):
            await asyncio.sleep(0)
            if value is None:
                raise ZeroDivisionError
            return value

        assert portal.run(work(7)) == 7
        with pytest.raises(ZeroDivisionError):
            portal.run(work(None))
        portal.stop()

    def test_waiting_for_itself_is_refused(self):
        portal = Portal()

        async def nothing(): ...

        async def reenter():
            portal.run(nothing())

        with pytest.raises(BusyError):
            portal.run(reenter())
        portal.stop()

    def test_what_is_under_way_when_it_stops_ends_as_closed(self):
        portal = Portal()
        found = []
        started = threading.Event()

        async def endless():
            started.set()
            await asyncio.Event().wait()

        def wait():
            try:
                portal.run(endless())
            except ClosedError as error:
                found.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert started.wait(5)
        portal.stop()
        portal.stop()
        thread.join(5)
        assert len(found) == 1

        async def nothing(): ...

        with pytest.raises(ClosedError):
            portal.run(nothing())
