"""Tombstones, commands and heartbeats as they are stored and published. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

from tranship import codec
from tranship.errors import InvalidOptionError, MalformedMessage
from tranship.ports import Command, Heartbeat, Signal, Tombstone, heartbeat_data, heartbeat_of
from tranship.protocol import number_of

__all__ = [
    "beat_of",
    "command_text",
    "id_of",
    "member_of",
    "signals_of",
    "text_of_beat",
    "tombstone_of",
    "tombstones_text",
]

_HEADS: Final = {("id", True): "id:", ("key", True): "key:", ("id", False): "queued-id:", ("key", False): "queued-key:"}
_KINDS: Final = {head: kind for kind, head in _HEADS.items()}


def member_of(tombstone: Tombstone) -> bytes:
    """Return the tombstone's name in the sorted set; its score is when it expires.

    What is about queued tasks only has a name of its own, so that it never stands in for one that stops running
    tasks too.

    Raises:
        InvalidOptionError: the kind is unknown, the value is no text that UTF-8 can carry, or the time is none.
    """
    head = _HEADS.get((tombstone.kind, tombstone.running))
    if head is None:
        raise InvalidOptionError(f"tombstone kind {tombstone.kind!r} is unknown; use 'id' or 'key'", option="kind")
    if not isfinite(tombstone.expires):
        raise InvalidOptionError(f"tombstone expires at {tombstone.expires!r}; expected epoch seconds")
    try:
        return (head + tombstone.value).encode()
    except UnicodeEncodeError:
        raise InvalidOptionError(f"{tombstone.kind} {tombstone.value!r} holds half a character") from None


def tombstone_of(member: bytes, expires: float) -> Tombstone | None:
    """Return the tombstone of a member of the sorted set; None: it is none of ours."""
    head, colon, value = member.partition(b":")
    kind = _KINDS.get((head + colon).decode(errors="replace"))
    if kind is None:
        return None
    return Tombstone(kind=kind[0], value=value.decode(errors="replace"), expires=expires, running=kind[1])


def id_of(member: bytes) -> str | None:
    """Return the task id of a member of the sorted set; None: it is about a cancel key."""
    head, _, value = member.partition(b":")
    return value.decode(errors="replace") if head in (b"id", b"queued-id") else None


def tombstones_text(tombstones: Sequence[Tombstone]) -> bytes:
    """Return what is published of ``tombstones``."""
    return codec.dumps({"tombstones": [[one.kind, one.value, one.expires, one.running] for one in tombstones]})


def command_text(command: Command) -> bytes:
    """Return what is published of ``command``.

    Raises:
        EncodeError: an argument cannot be written.
    """
    destination = None if command.destination is None else list(command.destination)
    arguments = dict(command.arguments)
    body = {"command": {"name": command.name, "arguments": arguments, "destination": destination}}
    return codec.dumps(body, name="command")


def signals_of(payload: bytes, *, worker: str) -> list[Signal]:
    """Return the signals in what was published, without commands that are for others than ``worker``.

    Raises:
        MalformedMessage: it holds something else. Nothing else, whatever the bytes.
    """
    body = codec.loads(payload, codec.JSON)
    try:
        if "tombstones" in body:
            return [_tombstone(*parts) for parts in body["tombstones"]]
        command = Command(**body["command"])
    except (TypeError, KeyError, ValueError) as error:
        raise MalformedMessage(f"signal cannot be read: {type(error).__name__}") from error
    return [command] if _is_for(command, worker) else []


def text_of_beat(heartbeat: Heartbeat) -> bytes:
    """Return what is stored of ``heartbeat``."""
    return codec.dumps(heartbeat_data(heartbeat), name="heartbeat")


def beat_of(stored: bytes, *, since: float) -> Heartbeat | None:
    """Return a stored heartbeat; None: heard before ``since`` (by the server's clock), or not one of ours."""
    heard, _, text = stored.partition(b" ")
    try:
        return heartbeat_of(codec.loads(text, codec.JSON)) if (number_of(heard) or 0.0) > since else None
    except MalformedMessage:
        return None


def _tombstone(kind: Any, value: Any, expires: Any, running: Any) -> Tombstone:
    expires = number_of(expires)
    if kind not in ("id", "key") or not isinstance(value, str) or expires is None:
        raise TypeError
    return Tombstone(kind=kind, value=value, expires=expires, running=bool(running))


def _is_for(command: Command, worker: str) -> bool:
    if not isinstance(command.name, str) or not isinstance(command.arguments, dict):
        raise TypeError
    return command.destination is None or worker in command.destination
