"""Cancels and commands as bytes and back: one codec for every broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tranship.ports import Command, Tombstone
from tranship.protocol import epoch_of

if TYPE_CHECKING:
    from tranship.ports import Heartbeat

__all__ = ["command_bytes", "command_of", "heartbeat_bytes", "heartbeat_read", "tombstone_bytes", "tombstone_of"]


def tombstone_bytes(tombstone: Tombstone) -> bytes:
    """Return a cancel as bytes."""
    return json.dumps([tombstone.kind, tombstone.value, tombstone.expires, tombstone.running]).encode()


def tombstone_of(data: bytes) -> Tombstone | None:
    """Return the cancel that was written as ``data``; None: it is none."""
    match _read(data):
        case [str(kind), str(value), expires, bool(running)] if (until := epoch_of(expires)) is not None:
            return Tombstone(kind=kind, value=value, expires=until, running=running)
    return None


def command_bytes(command: Command, mark: str) -> bytes:
    """Return a command as bytes; ``mark`` tells it from every other one."""
    destination = None if command.destination is None else list(command.destination)
    return json.dumps([command.name, dict(command.arguments), destination, mark]).encode()


def command_of(data: bytes) -> tuple[Command, str] | None:
    """Return the command that was written as ``data``, and its mark; None: it is none."""
    match _read(data):
        case [str(name), dict(arguments), None | [*_] as destination, str(mark)]:
            return Command(name=name, arguments=arguments, destination=destination), mark
    return None


def heartbeat_bytes(heartbeat: Heartbeat) -> bytes:
    """Return a heartbeat as bytes."""
    from tranship.ports import heartbeat_data

    return json.dumps(heartbeat_data(heartbeat)).encode()


def heartbeat_read(data: bytes) -> Heartbeat | None:
    """Return the heartbeat that was written as ``data``; None: it is none."""
    from tranship.ports import heartbeat_of

    return heartbeat_of(_read(data))


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
