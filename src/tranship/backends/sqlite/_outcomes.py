"""Results: the first terminal one stays until it expires."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from tranship.backends.sqlite._schema import DELAYED, LEASED
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.envelope import TaskState
from tranship.ports import StoredResult

__all__ = ["FORGET", "KNOWN", "PUT", "READ", "NewResult", "known", "new_result", "store"]

_INTO: Final = "INSERT INTO result(ns,id,state,expires,reply_to,document)"
_ROW: Final = "(?,?,?,?,?,?)"
_FIRST_WINS: Final = "ON CONFLICT(ns, id) DO NOTHING"
_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name='result'"
_OLD: Final = "SELECT id, expires FROM result WHERE ns=? AND id IN (SELECT value FROM json_each(?)) AND +seq<=?"


class NewResult(NamedTuple):
    """What is to be inserted for one result."""

    id: str
    state: str
    ttl: float
    reply_to: str | None
    document: bytes


def new_result(result: StoredResult, *, ttl: float) -> NewResult:
    """Return the row for ``result``; ``ttl`` is the default."""
    keep = ttl if result.ttl is None else result.ttl
    return NewResult(result.id, result.state.value, keep, result.reply_to, result.document)


def store(tx: Transaction, results: Sequence[NewResult]) -> list[bool]:
    """Insert results and say of each whether it won."""
    if not results:
        return []
    rows = [(tx.ns, one.id, one.state, tx.now + one.ttl, one.reply_to, one.document) for one in results]
    last = tx.rows(_LAST)
    count = tx.insert(_INTO, _ROW, rows, _FIRST_WINS)
    won = [True] * len(results) if count == len(results) else _sort_out(tx, rows, int(last[0][0]) if last else 0)
    if any(won):
        tx.rings.results = True
        tx.rings.replies.update(one.reply_to for one, wins in zip(results, won, strict=True) if wins and one.reply_to)
    return won


def _sort_out(tx: Transaction, rows: Sequence[Sequence[Any]], last: int) -> list[bool]:
    """Some were there before, or are here twice; those that had expired make room."""
    old = tx.rows(_OLD, tx.ns, to_json(row[1] for row in rows), last)
    expired = {task_id for task_id, expires in old if expires <= tx.now}
    if expired:
        forget(tx, list(expired))
        tx.insert(_INTO, _ROW, [row for row in rows if row[1] in expired], _FIRST_WINS)
    taken = {task_id for task_id, expires in old if expires > tx.now}
    won = []
    for row in rows:
        won.append(row[1] not in taken)
        taken.add(row[1])
    return won


def forget(tx: Transaction, ids: Sequence[str]) -> None:
    """Delete results; unknown ids are ignored."""
    tx.run("DELETE FROM result WHERE ns=? AND id IN (SELECT value FROM json_each(?))", tx.ns, to_json(ids))


def _put(tx: Transaction, batches: Sequence[Sequence[NewResult]]) -> list[list[bool]]:
    won = iter(store(tx, list(chain.from_iterable(batches))))
    return [[next(won) for _ in batch] for batch in batches]


KNOWN: Final = """
SELECT id, state, document, 0 FROM result
    WHERE ns=?1 AND id IN (SELECT value FROM json_each(?2)) AND expires>?3
UNION ALL
SELECT id, state, NULL, attempt FROM task WHERE ns=?1 AND id IN (SELECT value FROM json_each(?2))
"""
"""One statement is one snapshot: between two, a task could move from the one table into the other."""


def known(ids: Sequence[str], rows: Sequence[Any]) -> list[StoredResult]:
    """Return the rows of :data:`KNOWN` in the order of ``ids``; a result goes before a task, and nothing is UNKNOWN."""
    found: dict[str, StoredResult] = {}
    for task_id, state, document, attempt in rows:
        if document is not None:
            found[task_id] = StoredResult(id=task_id, state=TaskState(state), document=document)
        else:
            found.setdefault(task_id, StoredResult(id=task_id, state=_task_state(state, attempt)))
    return [found.get(task_id) or StoredResult(id=task_id, state=TaskState.UNKNOWN) for task_id in ids]


def _task_state(state: int, attempt: int) -> TaskState:
    if state == LEASED:
        return TaskState.STARTED
    if attempt > 0:
        return TaskState.RETRY
    return TaskState.SCHEDULED if state == DELAYED else TaskState.PENDING


def _read(tx: Transaction, ids: Sequence[str]) -> list[StoredResult]:
    return known(ids, tx.rows(KNOWN, tx.ns, to_json(ids), tx.now))


PUT: Final = Kind("put results", _put)
FORGET: Final = Kind("forget results", each(forget))
READ: Final = Kind("read results", each(_read), Mode.READ)
