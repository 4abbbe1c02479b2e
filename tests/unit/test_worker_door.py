"""Commands over the health server: for who has the token, by POST and over a WebSocket, whatever is sent."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws_events

from tranship import Worker, task
from tranship.errors import InvalidOptionError
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker
from tranship.worker._door import MOST

TOKEN = "a-token-for-the-tests-alone"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
KNOWN_BYTES = KNOWN["Authorization"].encode()
NUMBERS = itertools.count(1)


@task(name="door.nothing", queue="door")
async def nothing() -> None:
    """Do nothing."""


def make(token: str | None = TOKEN) -> Worker:
    """A worker with a door."""
    settings = Settings.load(
        environ={}, broker_url=f"memory://door-{next(NUMBERS)}", health_port=0, control_token=token
    )
    return Worker(settings=settings, tasks=[nothing])


@pytest.fixture
def worker() -> Iterator[Worker]:
    """One at work, with commands of its own."""
    made, gate = make(), threading.Event()
    made.on_command("double")(lambda number: 2 * number)
    made.on_command("slow")(lambda: gate.wait(0.8))
    made.on_command("secret")(object)
    with BackgroundWorker(made):
        yield made
    gate.set()


async def post(worker: Worker, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """What a POST is answered."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"http://127.0.0.1:{worker.health_port}/control"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=data, headers=KNOWN if headers is None else headers) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text


def test_commands_by_post(worker: Worker) -> None:
    """The same as over the broker, its own included."""

    async def main() -> None:
        status, said = await post(worker, {"command": "pause", "arguments": {"queue": "door"}})
        assert (status, said["state"], said["worker"]) == (200, "done", worker.name)
        _, said = await post(worker, {"command": "status"})
        assert said["value"]["paused"] == ["door"]
        assert (await post(worker, {"command": "double", "arguments": {"number": 21}}))[1]["value"] == 42

    asyncio.run(main())


def test_commands_over_a_websocket(worker: Worker) -> None:
    """Several over one, each answered with its own mark; one that takes long says first that it runs."""

    async def main() -> None:
        url = f"ws://127.0.0.1:{worker.health_port}/control"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=KNOWN) as socket:
            for number in range(3):
                await socket.send_json({"id": number, "command": "double", "arguments": {"number": number}})
            said = [await socket.receive_json(timeout=10) for _ in range(3)]
            assert [(one["id"], one["state"], one["value"]) for one in said] == [(n, "done", 2 * n) for n in range(3)]
            await socket.send_json({"id": "s", "command": "slow"})
            states = [(await socket.receive_json(timeout=10))["state"] for _ in range(2)]
            assert states == ["running", "done"]
            await socket.ping()
            await socket.send_str("no JSON")
            assert "this is no JSON" in (await socket.receive_json(timeout=10))["error"]
            await socket.send_json({"command": "log-level", "arguments": {"level": "LOUD"}})
            assert (await socket.receive_json(timeout=10))["state"] == "refused"
            # As long as a text may be, and one more.
            await socket.send_str("x" * 70_000)
            assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert (await post(worker, {"command": "status"}))[0] == 200

    asyncio.run(main())


def test_who_answers_no_ping_makes_room_for_others(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight that have vanished, or that take nothing any more, do not lock everybody else out; who answers stays."""
    monkeypatch.setattr("tranship.worker._door.SILENCE", 0.3)
    url = f"ws://127.0.0.1:{worker.health_port}/control"

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            alive = await session.ws_connect(url, headers=KNOWN, autoping=False)
            answering = asyncio.create_task(_told(alive))
            # Nobody reads them while they are alive, and so nobody answers.
            deaf = [await session.ws_connect(url, headers=KNOWN, autoping=False) for _ in range(MOST - 1)]
            for one in deaf:
                kinds = [(await one.receive(timeout=10)).type for _ in range(2)]
                assert kinds == [aiohttp.WSMsgType.PING, aiohttp.WSMsgType.CLOSED]
            others = [await session.ws_connect(url, headers=KNOWN) for _ in range(MOST - 1)]
            await others[-1].send_json({"command": "double", "arguments": {"number": 21}})
            assert (await others[-1].receive_json(timeout=10))["value"] == 42
            await alive.send_json({"command": "status"})
            assert (await answering)["state"] == "done"

    asyncio.run(main())


async def _told(alive: aiohttp.ClientWebSocketResponse) -> Any:
    """Answer pings until something else comes, and return that."""
    pinged = 0
    while (said := await alive.receive(timeout=10)).type is aiohttp.WSMsgType.PING:
        pinged += 1
        await alive.pong()
    assert pinged > 1
    return said.json()


def test_who_takes_no_answer_is_closed(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although he says something all the time."""
    monkeypatch.setattr("tranship.worker._door.SILENCE", 0.3)
    command = ws_events.TextMessage(data=json.dumps({"command": "double", "arguments": {"number": "x" * 30_000}}))

    def flood() -> None:
        client = WSConnection(ConnectionType.CLIENT)
        hello = ws_events.Request(host="worker", target="/control", extra_headers=[(b"authorization", KNOWN_BYTES)])
        with socket.create_connection(("127.0.0.1", worker.health_port or 0), timeout=10) as line:
            line.sendall(client.send(hello))
            client.receive_data(line.recv(4096))
            # Far more than all buffers between the two have.
            for _ in range(2000):
                line.sendall(client.send(command))

    with pytest.raises(ConnectionError):
        flood()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"command": "stauts"}, 404, "did you mean 'status'"),
        ({"command": "concurrency", "arguments": {"limit": 0}}, 400, "at least 1"),
        ({"command": "pause", "arguments": {"queues": 1}}, 400, "queues"),
        ({"command": "pause", "arguments": [1]}, 400, "this is no command"),
        ([], 400, "this is no command"),
        ({"command": "status", "id": [1]}, 400, "this is no command"),
        ({"command": "status", "id": {"__type__": "bytes", "__value__": "x"}}, 400, "this is no command"),
        (b"\xff", 400, "this is no JSON"),
        (b"", 400, "this is no JSON"),
        ({"command": "secret"}, 500, "object"),
        (b" " * 70_000, 413, "at most"),
    ],
)
def test_what_is_wrong_is_answered(worker: Worker, body: Any, status: int, words: str) -> None:
    """And the worker goes on."""
    found, said = asyncio.run(post(worker, body))
    assert found == status
    assert words in str(said)
    assert asyncio.run(post(worker, {"command": "status"}))[0] == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_nobody_without_the_token_is_let_in(worker: Worker, headers: dict[str, str]) -> None:
    """Neither by POST nor over a WebSocket; nothing was done."""

    async def main() -> None:
        status, said = await post(worker, {"command": "stop"}, headers)
        assert status == 401
        assert TOKEN not in said
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                await session.ws_connect(f"ws://127.0.0.1:{worker.health_port}/control", headers=headers)
        assert (await post(worker, {"command": "status"}))[0] == 200

    asyncio.run(main())


def test_without_a_token_there_is_no_door() -> None:
    """It is a page that is not there."""
    with BackgroundWorker(made := make(None)):
        assert asyncio.run(post(made, {"command": "stop"}))[0] == 404


def test_it_can_be_stopped() -> None:
    """The answer comes before the end."""
    made = make()
    with BackgroundWorker(made):
        assert asyncio.run(post(made, {"command": "stop"}))[1]["value"] == "stops"


@pytest.mark.parametrize("token", ["short", "x" * 15, "ü" * 20])
def test_tokens_that_are_refused_are_not_shown(token: str) -> None:
    """Whoever reads the error reads no token; nor does who asks for the settings."""
    with pytest.raises(InvalidOptionError, match="16 ASCII characters") as refused:
        Settings.load(environ={}, broker_url="memory://door", control_token=token)
    assert token not in str(refused.value)
    settings = Settings.load(environ={"TRANSHIP_CONTROL_TOKEN": TOKEN}, broker_url="memory://door")
    assert TOKEN not in repr(settings)
    assert TOKEN not in str(settings.rows())
    assert settings.control_token == TOKEN
