"""Connecting: TCP or TLS, who we are, what both sides can bear, and which virtual host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tranship_rabbitmq.amqp.ends import WireEnded
from tranship_rabbitmq.amqp.methods import Method, pack
from tranship_rabbitmq.amqp.wire import Wire

__all__ = ["Place", "dial"]

_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "consumer_cancel_notify": True,
    "basic.nack": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "exchange_exchange_bindings": True,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, and as whom to be there."""

    host: str
    port: int
    vhost: str
    username: str
    password: str = field(repr=False)
    heartbeat: int
    """Seconds; 0: none."""
    name: str
    """What the server's tools call the connection."""
    tls: ssl.SSLContext | None = None
    external: bool = False
    """Whether the certificate says who we are, and no password does."""


async def dial(place: Place) -> tuple[Wire, Mapping[str, Any]]:
    """Return an open connection, and what the server says of itself. The caller bounds it.

    Raises:
        WireEnded: the server refused, or is none.
        OSError, ssl.SSLError: nobody is there, or not whom we trust.
    """
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(Wire, place.host, place.port, ssl=place.tls)
    try:
        return wire, await _shake_hands(wire, place)
    except BaseException:
        wire.end(WireEnded("connecting failed"))
        await wire.gone()
        raise


async def _shake_hands(wire: Wire, place: Place) -> Mapping[str, Any]:
    start = await _greeting(wire, place)
    server: Mapping[str, Any] = start.arguments[2]
    mechanism, response = _login(place)
    wire.method(0, pack("connection.start-ok", _client(place.name), mechanism, response, "en_US"))
    channel_max, frame_max, heartbeat = (await wire.said("connection.tune")).arguments
    # 0 means that the server sets no bound.
    wire.channel_max = channel_max or 65535
    wire.frame_max = frame_max or 131_072
    beat = place.heartbeat if not heartbeat else min(place.heartbeat, heartbeat) or place.heartbeat
    wire.method(0, pack("connection.tune-ok", channel_max, wire.frame_max, beat))
    wire.method(0, pack("connection.open", place.vhost, "", False))
    await wire.said("connection.open-ok")
    wire.beat(beat)
    return server


async def _greeting(wire: Wire, place: Place) -> Method:
    try:
        return await wire.said("connection.start")
    except WireEnded as why:
        if place.tls is not None or why.code:
            raise
        raise WireEnded(f"{why.text}, before a word was said; if that port speaks TLS, use amqps://") from why


def _login(place: Place) -> tuple[str, bytes]:
    if place.external:
        return "EXTERNAL", b""
    return "PLAIN", b"\0%b\0%b" % (place.username.encode(), place.password.encode())


def _client(name: str) -> dict[str, Any]:
    return {"product": "tranship", "connection_name": name, "capabilities": _CAPABILITIES}
