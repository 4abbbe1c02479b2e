"""What became of what was under way when its connection went: found out over the next one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from driver.conditions import until
from driver.rows_driver import Broker, Queue
from driver.scenarios import message
from tranship.driver import DriverBackend, LocalConnection, SendLimits, Timing
from tranship.envelope import Receipt
from tranship.errors import BrokerRefused, ClosedError, SubmitUnknown
from tranship.ports import ConnectionEvent
from tranship.settings import BackendConfig, BrokerURL, CommonOptions


class Server:
    """Answers nothing while it is silent, stores every other message, and knows which."""

    def __init__(self) -> None:
        self.silent = False
        self.refuses = 0
        self.down = False
        self.asked: list[list[list[str]]] = []
        self.connections: list[Silent] = []

    def backend(self) -> DriverBackend:
        async def connect() -> Silent:
            await asyncio.sleep(0)
            if self.down:
                raise ConnectionRefusedError("nobody listens")
            self.connections.append(Silent(self))
            return self.connections[-1]

        config = BackendConfig(BrokerURL.parse("silent://here"), lambda _key, make: make())
        return DriverBackend("silent", config, options=CommonOptions(), connect=connect, timing=Timing())


class Silent(LocalConnection):
    def __init__(self, server: Server) -> None:
        super().__init__(Posts(server), lost=asyncio.get_running_loop().create_future())

    def abort(self) -> None:
        if not self.lost.done():
            self.lost.set_result(ConnectionResetError("cut"))
            for done in self.queue.waiting:
                done(ConnectionResetError("cut"))


class Posts(Queue):
    def __init__(self, server: Server) -> None:
        super().__init__(Broker(), None)
        self.server = server
        self.waiting: list[Any] = []
        self.traits = type(self.traits)(limits=SendLimits(messages=2, under_way=4))

    def post(self, batch, done):
        if self.server.silent:
            self.waiting.append(done)
        else:
            super()._post(batch, done)

    async def recall(self, batches):
        self.server.asked.append([[one.id for one in batch] for batch in batches])
        if self.server.refuses:
            self.server.refuses -= 1
            raise BrokerRefused("not now")
        return [[None if number % 2 == 0 else "twin" for number in range(len(batch))] for batch in batches]


@pytest.fixture
async def server():
    return Server()


async def opened(server: Server) -> DriverBackend:
    backend = server.backend()
    await backend.open()
    server.silent = True
    return backend


def post(backend: DriverBackend, count: int) -> asyncio.Future[list[Any]]:
    answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    backend.submitter().post([message() for _ in range(count)], answered.set_result)
    return answered


async def test_it_is_answered_before_anybody_is_told_that_the_broker_is_back(server: Server) -> None:
    backend = await opened(server)
    told: list[tuple[ConnectionEvent, bool]] = []
    answered = post(backend, 2)
    backend.on_event(lambda event, _generation: told.append((event, answered.done())))
    server.connections[0].abort()
    first, second = await asyncio.wait_for(answered, 10)
    assert isinstance(first, Receipt)
    assert first.duplicate_of is None
    assert second.duplicate_of == "twin"
    await until(lambda: len(told) == 2, "it is back")
    assert told == [(ConnectionEvent.LOST, False), (ConnectionEvent.RESTORED, True)]
    assert len(server.asked) == 1
    await backend.aclose()


async def test_several_batches_of_one_submit_are_asked_for_together(server: Server) -> None:
    backend = await opened(server)
    submitting = asyncio.gather(backend.submitter().submit([message() for _ in range(6)]))
    await until(lambda: len(server.connections[0].queue.waiting) == 3, "all is under way")
    server.connections[0].abort()
    (answers,) = await asyncio.wait_for(submitting, 10)
    assert [answer.duplicate_of for answer in answers] == [None, "twin"] * 3
    assert [len(asked) for asked in server.asked] == [3]
    await backend.aclose()


async def test_while_it_is_refused_it_is_asked_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    backend = await opened(server)
    answered = post(backend, 1)
    server.refuses = 2
    server.connections[0].abort()
    (answer,) = await asyncio.wait_for(answered, 10)
    assert isinstance(answer, Receipt)
    assert len(server.asked) == 3
    assert caplog.text.count("what became of messages") == 1
    await backend.aclose()


async def test_closed_before_it_is_found_out(server: Server) -> None:
    backend = await opened(server)
    answered = post(backend, 1)
    server.down = True
    server.connections[0].abort()
    await asyncio.sleep(0.01)
    assert not answered.done()
    await backend.aclose()
    (answer,) = await asyncio.wait_for(answered, 10)
    assert isinstance(answer, SubmitUnknown)
    with pytest.raises(ClosedError):
        await backend.submitter().submit([message()])
