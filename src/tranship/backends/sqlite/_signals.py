"""Tombstones, commands and heartbeats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.backends.sqlite._enqueue import delete_tasks
from tranship.backends.sqlite._outcomes import NewResult, store
from tranship.backends.sqlite._rows import raw_message
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each
from tranship.envelope import ErrorInfo, Priority, TaskResult, TaskState
from tranship.errors import MessageError, TaskCancelled
from tranship.ports import Command, Signal, Tombstone
from tranship.protocol import decode, encode_result

if TYPE_CHECKING:
    from tranship.ports import Heartbeat

__all__ = ["BEAT", "CANCEL", "COMMAND", "SEND", "heartbeat", "signal"]

COMMAND: Final = "command"
COMMAND_MEMORY: Final = 30.0
"""Seconds for which a command is kept for listeners that are slow to look."""

_QUEUED: Final = (
    "SELECT seq, id, queue, priority, attempt, content_type, content_encoding, reply_to, headers, body"
    " FROM task JOIN body USING(seq) WHERE ns=? AND state IN (0, 1) AND "
)


def _cancel(tx: Transaction, order: tuple[Sequence[Tombstone], float]) -> list[str]:
    tombstones, ttl = order
    rows: dict[int, Any] = {}
    for tombstone in tombstones:
        _inscribe(tx, tombstone)
        column = "id=?" if tombstone.kind == "id" else "cancel_key=?"
        rows.update((row[0], row) for row in tx.rows(_QUEUED + column, tx.ns, tombstone.value))
    delete_tasks(tx, list(rows))
    store(tx, [result for row in rows.values() if (result := _cancelled(tx, row, ttl))])
    tx.rings.signals = True
    return [row[1] for row in rows.values()]


def _inscribe(tx: Transaction, tombstone: Tombstone) -> None:
    # A new number, so that listeners hear of a repeated cancel too; the longer one of two counts.
    ((known,),) = tx.rows(
        "SELECT max(expires) FROM signal WHERE ns=? AND kind=? AND value=?", tx.ns, tombstone.kind, tombstone.value
    )
    tx.run("DELETE FROM signal WHERE ns=? AND kind=? AND value=?", tx.ns, tombstone.kind, tombstone.value)
    tx.run(
        "INSERT INTO signal(ns, kind, value, expires) VALUES(?,?,?,?)",
        *(tx.ns, tombstone.kind, tombstone.value, max(tombstone.expires, known or 0.0)),
    )


def _cancelled(tx: Transaction, row: Sequence[Any], ttl: float) -> NewResult | None:
    _, task_id, queue, priority, attempt, *columns = row
    message = raw_message(*columns)
    reply_to = columns[2]
    try:
        envelope = decode(message, queue=queue, priority=Priority(priority))
    except MessageError:
        pass
    else:
        if not envelope.keeps_result:
            return None
        ttl = ttl if envelope.result_ttl is None else envelope.result_ttl
        reply_to = envelope.reply_to or reply_to
    text = f"task {task_id} was cancelled before it started"
    error = ErrorInfo(type="tranship.errors.TaskCancelled", message=text, code=TaskCancelled.code)
    result = TaskResult(id=task_id, state=TaskState.CANCELLED, error=error, attempt=attempt, finished_at=tx.now)
    return NewResult(task_id, result.state.value, ttl, reply_to, encode_result(result))


def _send(tx: Transaction, command: Command) -> None:
    tx.run(
        "INSERT INTO signal(ns, kind, value, expires) VALUES(?,?,?,?)",
        *(tx.ns, COMMAND, json.dumps(_plain(command)), tx.now + COMMAND_MEMORY),
    )
    tx.rings.signals = True


def _plain(command: Command) -> dict[str, Any]:
    destination = None if command.destination is None else list(command.destination)
    return {"name": command.name, "arguments": dict(command.arguments), "destination": destination}


def _beat(tx: Transaction, beat: Heartbeat) -> None:
    from tranship.ports import heartbeat_data

    if beat.stopping:
        tx.run("DELETE FROM worker WHERE ns=? AND name=?", tx.ns, beat.worker)
        return
    text = json.dumps(heartbeat_data(beat))
    # Our own clock says when it was heard: the beat's is the worker's.
    tx.run("INSERT OR REPLACE INTO worker(ns, name, at, beat) VALUES(?,?,?,?)", tx.ns, beat.worker, tx.now, text)


def signal(kind: str, value: str, expires: float) -> Signal:
    """Return the row of a signal as what it means."""
    return Command(**json.loads(value)) if kind == COMMAND else Tombstone(kind=kind, value=value, expires=expires)


def heartbeat(text: str) -> Heartbeat | None:
    """Return a stored heartbeat; None: it is none."""
    from tranship.ports import heartbeat_of

    try:
        return heartbeat_of(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


CANCEL: Final = Kind("cancel", each(_cancel))
SEND: Final = Kind("send", each(_send), Mode.SOFT)
BEAT: Final = Kind("beat", each(_beat), Mode.SOFT)
