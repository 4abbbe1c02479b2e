"""Tombstones, commands and heartbeats as JSON. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any, Final

from tranship import codec
from tranship.errors import InvalidOptionError, MalformedMessage
from tranship.ports import Command, Heartbeat, Tombstone, heartbeat_data, heartbeat_of
from tranship.protocol import number_of
from tranship_nats._names import token

__all__ = ["beat_bytes", "beat_of", "command_bytes", "command_of", "key_of", "tombstone_bytes", "tombstone_of"]

_KINDS: Final = ("id", "key")


def key_of(tombstone: Tombstone) -> str:
    """Return the key of a tombstone in its bucket; one about queued tasks only never replaces one about all.

    Raises:
        InvalidOptionError: the kind is unknown, the value cannot be written, or the time is none.
    """
    if tombstone.kind not in _KINDS:
        raise InvalidOptionError(f"tombstone kind {tombstone.kind!r} is unknown; use 'id' or 'key'", option="kind")
    if not isfinite(tombstone.expires):
        raise InvalidOptionError(f"tombstone expires at {tombstone.expires!r}; expected epoch seconds")
    scope = "all" if tombstone.running else "queued"
    return f"{tombstone.kind}.{scope}.{token(tombstone.value, tombstone.kind)}"


def tombstone_bytes(tombstone: Tombstone) -> bytes:
    """Return what is stored and heard of ``tombstone``."""
    return codec.dumps(asdict(tombstone))


def tombstone_of(data: bytes) -> Tombstone | None:
    """Return the tombstone in ``data``; None: it is none."""
    values = _values(data)
    kind, value, expires = values.get("kind"), values.get("value"), number_of(values.get("expires"))
    if kind not in _KINDS or not isinstance(value, str) or expires is None:
        return None
    return Tombstone(kind=kind, value=value, expires=expires, running=values.get("running") is not False)


def command_bytes(command: Command) -> bytes:
    """Return what is published of ``command``.

    Raises:
        EncodeError: an argument cannot be written.
    """
    to = None if command.destination is None else list(command.destination)
    return codec.dumps({"name": command.name, "arguments": dict(command.arguments), "to": to}, name="command")


def command_of(data: bytes, worker: str) -> Command | None:
    """Return the command in ``data``; None: it is none, or for others than ``worker``."""
    values = _values(data)
    name, arguments, to = values.get("name"), values.get("arguments"), values.get("to")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    if to is not None and (not isinstance(to, list) or worker not in to):
        return None
    return Command(name=name, arguments=arguments, destination=to)


def beat_bytes(heartbeat: Heartbeat) -> bytes:
    """Return what is stored of ``heartbeat``."""
    return codec.dumps(heartbeat_data(heartbeat), name="heartbeat")


def beat_of(data: bytes) -> Heartbeat | None:
    """Return the heartbeat in ``data``; None: it is none."""
    return heartbeat_of(_values(data))


def _values(data: bytes) -> Mapping[str, Any]:
    try:
        values = codec.loads(data, codec.JSON)
    except MalformedMessage:
        return {}
    return values if isinstance(values, dict) else {}
