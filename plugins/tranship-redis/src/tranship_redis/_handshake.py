"""What is said on a connection before anybody may use it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from redis.exceptions import ResponseError

from tranship.errors import TranshipError
from tranship_redis._errors import Lost, error_of
from tranship_redis._pack import pack
from tranship_redis._scripts import ALL
from tranship_redis._server import ServerInfo
from tranship_redis._wire import Wire

__all__ = ["greet"]

log = logging.getLogger("tranship.redis")


async def greet(wire: Wire, place: str, *, is_resp3: bool, load: bool, was_master: bool) -> ServerInfo:
    """Find out whom we talk to, and load the scripts, in one round trip.

    Args:
        wire: a new connection.
        place: names the server in errors.
        is_resp3: what was agreed on.
        load: whether scripts will be run on this connection.
        was_master: whether the server served us before.

    Raises:
        UnsupportedError, BrokerRefused: it cannot serve us.
        NotReady: it will soon.
        BrokerUnreachable: it went away.
    """
    scripts = ALL if load else ()
    first, *loaded = await _all(wire, [pack(b"INFO"), *(script.load() for script in scripts)])
    if isinstance(first, ResponseError) and not str(first).startswith(("NOPERM", "ERR")):
        raise error_of(first, doing=f"asking {place} who it is")
    server = ServerInfo.read(first, is_resp3=is_resp3)
    server.check(place, was_master=was_master)
    for script, reply in zip(scripts, loaded, strict=True):
        _check_loaded(script.name, reply, place)
    return server


def _check_loaded(name: str, reply: object, place: str) -> None:
    if not isinstance(reply, ResponseError):
        return
    if str(reply).startswith("ERR"):
        # A script this server cannot read harms those who run it: they are told then.
        log.error("%s cannot read the script %s: %s", place, name, reply)
        return
    raise error_of(reply, doing=f"loading the script {name} into {place}")


async def _all(wire: Wire, commands: list[bytes]) -> list[Any]:
    answers: list[Any] = []
    done = asyncio.get_running_loop().create_future()

    def answered(reply: Any) -> None:
        answers.append(reply)
        if len(answers) == len(commands) and not done.done():
            done.set_result(None)

    for command in commands:
        wire.post(command, answered)
    await done
    for answer in answers:
        if isinstance(answer, TranshipError | Lost):
            raise answer
    return answers
