"""The I/O loop beside the handlers' loop: what it waits for is seen while it is stepped, and after it has moved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from tranship.worker._io import IOLoop

BOUND = 10.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield here, there


@contextlib.asynccontextmanager
async def io_loop() -> AsyncIterator[IOLoop]:
    io = IOLoop("test-io")
    try:
        yield io
    finally:
        io.close()


async def echo(sock: socket.socket, ran: list[int]) -> None:
    loop = asyncio.get_running_loop()
    while received := await loop.sock_recv(sock, 100):
        ran.append(threading.get_ident())
        await loop.sock_sendall(sock, received)


async def until_watched(io: IOLoop, sock: socket.socket) -> None:
    """Until the handlers' loop waits for ``sock`` in the I/O loop's place."""
    async with asyncio.timeout(BOUND):
        while sock.fileno() not in io._selector._copies:  # noqa: ASYNC110 - it is what a turn of the loop leads to
            await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - nothing is read but their names


async def test_what_comes_is_seen_before_and_after_a_move(pair):
    here, there = pair
    loop, ran = asyncio.get_running_loop(), []
    async with io_loop() as io:
        served = asyncio.create_task(io.run(echo(there, ran)))
        for moved in (False, True):
            if moved:
                assert io.move()
            for _ in range(3):
                async with asyncio.timeout(BOUND):
                    await loop.sock_sendall(here, b"x")
                    assert await loop.sock_recv(here, 1) == b"x"
        here.close()
        async with asyncio.timeout(BOUND):
            await served
    assert {ident == threading.get_ident() for ident in ran[:3]} == {True}
    assert threading.get_ident() not in ran[3:]


async def test_a_full_socket_is_written_to_once_there_is_room(pair):
    here, there = pair
    loop, much = asyncio.get_running_loop(), b"x" * 4_000_000

    async def send() -> None:
        await asyncio.get_running_loop().sock_sendall(there, much)

    async with io_loop() as io, asyncio.timeout(BOUND):
        sending = asyncio.create_task(io.run(send()))
        received = 0
        while received < len(much):
            received += len(await loop.sock_recv(here, 1 << 20))
        await sending


async def test_a_number_closed_in_the_thread_and_used_again_is_the_handlers_own(pair):
    """The loop has moved, its connection is gone, and the handler that blocked opens the next one at once."""
    _, there = pair
    loop, ran = asyncio.get_running_loop(), []
    async with io_loop() as io:
        served = asyncio.create_task(io.run(echo(there, ran)))
        await until_watched(io, there)
        number = there.fileno()
        # From here on the handlers' loop is blocked.
        assert io.move()
        closed = threading.Event()
        io.loop.call_soon_threadsafe(
            lambda: (io._main.cancel(), io.loop.call_soon(lambda: (there.close(), closed.set())))
        )
        assert closed.wait(BOUND)
        one, other = socket.socketpair()
        with one, other:
            assert number in (one.fileno(), other.fileno())
            again = one if one.fileno() == number else other
            heard = asyncio.Event()
            # In the very turn that was blocked: nothing else has run on this loop since the move.
            loop.add_reader(number, heard.set)
            (one if again is other else other).send(b"y")
            async with asyncio.timeout(BOUND):
                await heard.wait()
            loop.remove_reader(number)
        with contextlib.suppress(asyncio.CancelledError):
            await served


async def test_no_descriptor_is_left(pair):
    _, there = pair
    before = descriptors()
    for moves in (False, True):
        async with io_loop() as io:
            serving = asyncio.create_task(io.run(echo(there, [])))
            await until_watched(io, there)
            if moves:
                assert io.move()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        assert descriptors() == before
