"""What a task keeps to go on where it was, as records of its result store.

Each is created, and its value never changed: of two runs of one task at once both go by the first that wrote it.
A value is in a JSON list with the time until which the record is kept, in epoch seconds. Records:

- ``steps/<length of id>:<id>/step/<name>``: the value of a step that is done.
- ``steps/<length of id>:<id>/sleep/<name>``: until when it sleeps, in epoch seconds by the broker's clock.
- ``steps/<length of id>:<id>/event/<name>``: what an event that was sent to the task brought.
- ``steps/<length of id>:<id>/wait/<number>/<name>``: when it began to wait for an event, and for how long at most.
- ``steps/<length of id>:<id>/over/<number>/<name>``: whether the event came in time.
- ``once/<key>``: the value of what was done once in all, likewise.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from tranship import codec
from tranship.errors import MalformedMessage

__all__ = [
    "EVENT_KEPT",
    "KEPT",
    "ONCE_KEPT",
    "decode_value",
    "encode_value",
    "event_key",
    "event_topic",
    "kept_until",
    "once_key",
    "over_key",
    "sleep_key",
    "step_key",
    "steps_prefix",
    "wait_key",
]

KEPT: Final = 86400.0
"""Seconds for which the steps of a task are kept at least: longer than its run, and the waiting for the next one."""
EVENT_KEPT: Final = 7 * 86400.0
"""Seconds for which an event is kept that comes before its task keeps anything."""
ONCE_KEPT: Final = 30 * 86400.0
"""Seconds for which is known what was done once."""


def steps_prefix(task_id: str) -> str:
    """Return what the keys of everything begin with that a task keeps."""
    # With its length: an id may have a slash in it, and so may a name.
    return f"steps/{len(task_id)}:{task_id}/"


def step_key(task_id: str, name: str) -> str:
    """Return the key of a step of a task."""
    return f"{steps_prefix(task_id)}step/{name}"


def sleep_key(task_id: str, name: str) -> str:
    """Return the key of until when a task sleeps."""
    return f"{steps_prefix(task_id)}sleep/{name}"


def event_key(task_id: str, name: str) -> str:
    """Return the key of what an event brought."""
    return f"{steps_prefix(task_id)}event/{name}"


def event_topic(key: str) -> str:
    """Return the name under which is told that the event with this key was sent."""
    # Of a length and of characters that every topic takes.
    return f"event/{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:32]}"


def wait_key(task_id: str, name: str, number: int) -> str:
    """Return the key of the beginning of one wait for an event."""
    return f"{steps_prefix(task_id)}wait/{number}/{name}"


def over_key(task_id: str, name: str, number: int) -> str:
    """Return the key of how one wait for an event ended."""
    return f"{steps_prefix(task_id)}over/{number}/{name}"


def once_key(key: str) -> str:
    """Return the key of what is done once; ``key`` is the user's."""
    return f"once/{key}"


def encode_value(value: Any, until: float, name: str) -> bytes:
    """Return a value as that of its record, which is kept ``until`` then; ``name`` is what an error calls it.

    Raises:
        EncodeError: it cannot be written.
    """
    return codec.dumps([value, until], name=name)


def decode_value(data: bytes) -> Any:
    """Return the value of a record.

    Raises:
        MalformedMessage: it has none.
    """
    return _decode(data)[0]


def kept_until(data: bytes) -> float:
    """Return until when a record is kept.

    Raises:
        MalformedMessage: it does not say so.
    """
    return _decode(data)[1]


def _decode(data: bytes) -> tuple[Any, float]:
    match codec.loads(data, codec.JSON):
        case [value, int() | float() as until]:
            return value, float(until)
    raise MalformedMessage("the record of a step is no list of its value and a time")
