"""Dead letters: list, show, replay, purge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tranship.backends.sqlite._enqueue import insert_tasks
from tranship.backends.sqlite._outcomes import forget
from tranship.backends.sqlite._rows import JSON, NewTask
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.envelope import DeadLetter, Priority, new_id
from tranship.protocol import restarted

__all__ = ["ADD", "DEAD", "GET", "PURGE", "REPLAY"]

_LETTER: Final = (
    "SELECT id, task_id, queue, priority, reason, detail, deliveries, died, headers, body, content_type FROM dead"
)
_BEHIND: Final = (
    " WHERE ns=?1 AND seq>coalesce((SELECT seq FROM dead WHERE ns=?1 AND id=?2),"
    " (SELECT max(seq) FROM dead WHERE ns=?1 AND id<?2), 0)"
)
"""Behind a dead letter, or behind its elders when it has gone meanwhile: ids are in the order of time."""
_NAMED: Final = (
    "seq IN (SELECT seq FROM dead WHERE ns=?1 AND id IN (SELECT value FROM json_each(?2))"
    " UNION SELECT seq FROM dead WHERE ns=?1 AND task_id IN (SELECT value FROM json_each(?2)))"
)


def _dead(tx: Transaction, order: tuple[str | None, int, str]) -> list[DeadLetter]:
    queue, limit, after = order
    sql = _LETTER + _BEHIND
    if queue is None:
        rows = tx.rows(sql + " ORDER BY seq LIMIT ?3", tx.ns, after, limit)
    else:
        rows = tx.rows(sql + " AND queue=?4 ORDER BY seq LIMIT ?3", tx.ns, after, limit, queue)
    return [_letter(row) for row in rows]


def _get(tx: Transaction, ids: Sequence[str]) -> list[DeadLetter]:
    return [_letter(row) for row in tx.rows(f"{_LETTER} WHERE {_NAMED} ORDER BY seq", tx.ns, to_json(ids))]


def _letter(row: Sequence[Any]) -> DeadLetter:
    own, task_id, queue, priority, reason, detail, deliveries, died, raw, body, content_type = row
    headers = _headers(raw)
    name = headers.get("task")
    return DeadLetter(
        id=own,
        task_id=task_id,
        task=name if isinstance(name, str) else None,
        queue=queue,
        priority=Priority(priority),
        reason=reason,
        detail=detail,
        deliveries=deliveries,
        died_at=died,
        headers=headers,
        body=body,
        content_type=content_type or JSON,
    )


def _headers(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _replay(tx: Transaction, ids: Sequence[str]) -> list[str]:
    rows = tx.rows(
        "SELECT seq, id, task_id, queue, priority, attempt, cancel_key,"  # noqa: S608 - a constant
        f" content_type, content_encoding, reply_to, headers, body FROM dead WHERE {_NAMED} ORDER BY seq",
        *(tx.ns, to_json(ids)),
    )
    tasks = [_fresh(*row[2:]) for row in rows]
    # One whose id is queued again already stays where it is.
    replayed = [row for row, went_in in zip(rows, insert_tasks(tx, tasks), strict=True) if went_in]
    tx.run("DELETE FROM dead WHERE seq IN (SELECT value FROM json_each(?))", to_json(row[0] for row in replayed))
    forget(tx, [row[2] for row in replayed])
    names = {name for row in replayed for name in row[1:3]}
    return [given for given in ids if given in names]


def _fresh(task_id: str, queue: str, priority: int, _attempt: int, cancel_key: str | None, *body: Any) -> NewTask:
    """The task as if it were new, its earlier attempts forgotten."""
    content_type, content_encoding, reply_to, headers, data = body
    kept = (content_type, content_encoding, reply_to, restarted(headers), data)
    return NewTask(task_id, queue, priority, None, 0, cancel_key, kept)


def _purge(tx: Transaction, order: tuple[Sequence[str] | None, str | None]) -> int:
    ids, queue = order
    sql, parameters = "DELETE FROM dead WHERE ns=?1", [tx.ns]
    if ids is not None:
        return tx.run(f"DELETE FROM dead WHERE {_NAMED}", tx.ns, to_json(ids))  # noqa: S608 - a constant
    if queue is not None:
        return tx.run(sql + " AND queue=?2", *parameters, queue)
    return tx.run(sql, *parameters)


_ADD: Final = """
INSERT INTO dead(ns, id, task_id, queue, priority, attempt, cancel_key, reason, detail, deliveries, died,
                 content_type, content_encoding, reply_to, headers, body)
VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
"""


def _add(tx: Transaction, order: Sequence[tuple[DeadLetter, NewTask]]) -> None:
    for letter, task in order:
        # An id of our own: they are in the order of arrival.
        about = (letter.reason, letter.detail, letter.deliveries, letter.died_at)
        place = (task.id, task.queue, task.priority, task.attempt, task.cancel_key)
        tx.run(_ADD, tx.ns, new_id(), *place, *about, *task.body)


DEAD: Final = Kind("list dead letters", each(_dead), Mode.READ)
GET: Final = Kind("show dead letters", each(_get), Mode.READ)
REPLAY: Final = Kind("replay dead letters", each(_replay))
ADD: Final = Kind("add dead letters", each(_add), grows=True)
PURGE: Final = Kind("purge dead letters", each(_purge))
