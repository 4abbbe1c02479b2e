"""Commands to one worker over its health server, for those who have its token: by POST, or over a WebSocket.

What is asked and answered is that of the control channel, as JSON; only who carries it differs.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tranship import codec
from tranship.commanding import LARGEST, CommandAnswer, CommandCall, CommandState, answer_message
from tranship.errors import TranshipError
from tranship.worker._health import PATIENCE, Answer, Request, written
from tranship.worker._web_socket import WebSocket, accepted

if TYPE_CHECKING:
    from tranship.worker._remote import RemoteCommands

__all__ = ["Commands"]

MOST: Final = 8
"""WebSockets at once."""
SILENCE: Final = 20.0
"""Seconds after which a WebSocket that says nothing is pinged, and after as many more without an answer closed."""
_STATUSES: Final = {
    CommandState.DONE: HTTPStatus.OK,
    CommandState.REFUSED: HTTPStatus.BAD_REQUEST,
    CommandState.UNKNOWN: HTTPStatus.NOT_FOUND,
}
_EXAMPLE: Final = '{"command": "pause", "arguments": {"queue": "media"}}'

Tell = Callable[[CommandAnswer], Awaitable[None]]


class Commands:
    """That of one worker, on its I/O loop.

    Args:
        token: who has it may command.
        commands: returns what obeys; None: the worker has no session.
    """

    def __init__(self, token: str, commands: Callable[[], RemoteCommands | None]) -> None:
        self._token = token
        self._commands = commands
        self._sockets = 0

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: asyncio.Timeout
    ) -> None:
        """Answer a request; one that is let in has as much time as it takes.

        Raises:
            OSError, EOFError: the connection is lost.
        """
        if not self._is_known(request):
            writer.write(written(_error(HTTPStatus.UNAUTHORIZED, "give the header Authorization: Bearer TOKEN")))
        elif self._commands() is None:
            writer.write(written(_error(HTTPStatus.SERVICE_UNAVAILABLE, "the worker is not at work, or it stops")))
        elif request.headers.get("upgrade", "").lower() == "websocket":
            await self._upgrade(request, reader, writer, patience)
        elif request.method == "POST":
            writer.write(written(await self._post(request, reader, patience)))
        else:
            text = f"POST {_EXAMPLE}, or open a WebSocket and send that"
            writer.write(written(_error(HTTPStatus.METHOD_NOT_ALLOWED, text), allow="POST"))
        # The command may have taken its time; who does not take the answer has no more than anybody else.
        patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)
        await writer.drain()

    def _is_known(self, request: Request) -> bool:
        # A browser cannot send this header for a page of somebody else's.
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token.encode())

    # By POST.

    async def _post(self, request: Request, reader: asyncio.StreamReader, patience: asyncio.Timeout) -> Answer:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 9:
            return _error(HTTPStatus.LENGTH_REQUIRED, "give the header Content-Length")
        if int(length) > LARGEST:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a command has at most {LARGEST:,} bytes")
        text = (await reader.readexactly(int(length))).decode(errors="replace")
        patience.reschedule(None)
        answers: list[dict[str, Any]] = []

        async def tell(said: dict[str, Any]) -> None:
            answers.append(said)

        await self._obey(text, tell)
        state = answers[-1]["state"]
        status = _STATUSES.get(CommandState(state), HTTPStatus.INTERNAL_SERVER_ERROR)
        return Answer(status, json.dumps(answers[-1]) + "\n")

    # Over a WebSocket.

    async def _upgrade(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: asyncio.Timeout
    ) -> None:
        key = request.headers.get("sec-websocket-key")
        if not key or request.method != "GET" or request.headers.get("sec-websocket-version") != "13":
            writer.write(written(_error(HTTPStatus.BAD_REQUEST, "this is no WebSocket of version 13")))
            return
        if self._sockets >= MOST:
            writer.write(written(_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST} WebSockets are open already")))
            return
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        writer.write("\r\n".join([*head, f"Sec-WebSocket-Accept: {accepted(key)}", "", ""]).encode())
        await writer.drain()
        patience.reschedule(None)
        socket = WebSocket(reader, writer, largest=LARGEST, patience=SILENCE)
        self._sockets += 1
        try:
            while (text := await socket.receive()) is not None:
                await self._obey(text, lambda said: socket.send(json.dumps(said)))
        finally:
            self._sockets -= 1

    # Both.

    async def _obey(self, text: str, tell: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Have one command done, and tell what became of it, and before that that it runs if it takes long."""
        asked = _asked(text)
        commands = self._commands()
        if isinstance(asked, str) or commands is None:
            why = asked if isinstance(asked, str) else "the worker has stopped"
            await tell({"state": CommandState.REFUSED.value, "value": None, "error": why})
            return
        marks = {} if asked.get("id") is None else {"id": asked["id"]}
        call = CommandCall(id=secrets.token_hex(8), name=asked["command"], arguments=asked.get("arguments") or {})
        await commands.obey(call, lambda answer: tell({**marks, **_plain(answer)}))


def _asked(text: str) -> Mapping[str, Any] | str:
    """Return what is commanded, or why it cannot be."""
    try:
        found: Any = codec.loads(text.encode(errors="replace"), codec.JSON)
    except TranshipError as error:
        return f"this is no JSON ({error}); expected {_EXAMPLE}"
    match found:
        # An id is given back as it came, so it has to be something that JSON itself can say.
        case {"command": str(), **others} if isinstance(others.get("arguments") or {}, dict) and isinstance(
            others.get("id", ""), str | int | None
        ):
            asked: Mapping[str, Any] = found
            return asked
    return f"this is no command; expected {_EXAMPLE}"


def _plain(answer: CommandAnswer) -> dict[str, Any]:
    # As over the control channel: what cannot be sent there is a failure here, too.
    said = dict(answer_message("", answer).arguments)
    said.pop("id")
    return {**said, "value": json.loads(said["value"])}


def _error(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n", "text/plain")
