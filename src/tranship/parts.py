"""What a task tells while it runs, as records of its result store: its progress, and its parts.

Parts are partial results: what a handler emits or yields, in order. Each run of a task has parts of its own, numbered
from nought; a later run makes those of the runs before it void. Records:

- ``progress/<id>``: the latest progress, as JSON.
- ``parts/<id>``: the name of the run whose parts count. It is also the name that is told when there is something new.
- ``parts/<id>/<run>/<number>``: some parts in a row, as a JSON list. Keys sort as the parts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.outcomes import Progress

__all__ = [
    "decode_parts",
    "decode_progress",
    "encode_part",
    "encode_parts",
    "encode_progress",
    "part_key",
    "parts_prefix",
    "progress_key",
    "run_key",
    "run_name",
]


def progress_key(task_id: str) -> str:
    """Return the key of a task's progress."""
    return f"progress/{task_id}"


def run_key(task_id: str) -> str:
    """Return the key of the name of the run whose parts count, which is told when a task has told something."""
    return f"parts/{task_id}"


def run_name(attempt: int, began: float) -> str:
    """Return the name of a run; a later attempt sorts behind, and of one attempt the run that began later."""
    return f"{attempt:06d}-{int(began * 1000):014d}"


def parts_prefix(task_id: str, run: str) -> str:
    """Return what the keys of the parts of a run begin with."""
    return f"parts/{task_id}/{run}/"


def part_key(task_id: str, run: str, number: int) -> str:
    """Return the key of the parts of a run from ``number`` on."""
    return f"{parts_prefix(task_id, run)}{number:010d}"


def encode_part(value: Any) -> bytes:
    """Return one part as bytes.

    Raises:
        EncodeError: it cannot be written.
    """
    return codec.dumps(value, name="the part")


def encode_parts(parts: Sequence[bytes]) -> bytes:
    """Return parts in a row as the value of one record."""
    return b"[" + b",".join(parts) + b"]"


def decode_parts(value: bytes) -> Sequence[Any]:
    """Return the parts of one record.

    Raises:
        MalformedMessage: it has none.
    """
    found = codec.loads(value, codec.JSON)
    if not isinstance(found, list):
        raise MalformedMessage("a record of parts is no list")
    return found


def encode_progress(progress: Progress) -> bytes:
    """Return progress as the value of its record."""
    return codec.dumps([progress.done, progress.total, progress.message, progress.at, progress.attempt])


def decode_progress(value: bytes) -> Progress | None:
    """Return the progress of a record; None: it is none."""
    try:
        found = codec.loads(value, codec.JSON)
    except MalformedMessage:
        return None
    match found:
        case [
            int() | float() as done,
            None | int() | float() as total,
            str(message),
            int() | float() as at,
            int(attempt),
        ]:
            return Progress(float(done), total if total is None else float(total), message, float(at), attempt)
    return None
