"""Putting tasks in: with explicit numbers and few statements; duplicates are recognised on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from tranship.backends.sqlite._rows import NewTask
from tranship.backends.sqlite._schema import DELAYED, READY
from tranship.backends.sqlite._transaction import Kind, Transaction, to_json

__all__ = ["SUBMIT", "insert_tasks"]

_TASK: Final = "INSERT INTO task(seq,ns,id,queue,priority,state,due,attempt,cancel_key,enqueued)"
_TASK_ROW: Final = "(?,?,?,?,?,?,?,?,?,?)"
_BODY: Final = "INSERT INTO body(seq,content_type,content_encoding,reply_to,headers,body)"
_BODY_ROW: Final = "(?,?,?,?,?,?)"


def submit(tx: Transaction, batches: Sequence[Sequence[NewTask]]) -> list[list[str | None]]:
    """Insert batches of tasks; the answer to each task is the id of the one that was there first, or None."""
    tasks = list(chain.from_iterable(batches))
    answers = [_known(tx, task) if task.check_id or task.dedup_key is not None else None for task in tasks]
    fresh = [place for place, answer in enumerate(answers) if answer is None]
    for place, inserted in zip(fresh, insert_tasks(tx, [tasks[place] for place in fresh]), strict=True):
        if not inserted:
            answers[place] = tasks[place].id
    rest = iter(answers)
    return [[next(rest) for _ in batch] for batch in batches]


SUBMIT: Final = Kind("submit", submit, grows=True)


def insert_tasks(tx: Transaction, tasks: Sequence[NewTask]) -> list[bool]:
    """Insert tasks and say of each whether it went in: one whose id is queued already does not."""
    if not tasks:
        return []
    first = _last_seq(tx) + 1
    hot = [_hot(tx, first + offset, task) for offset, task in enumerate(tasks)]
    count = tx.insert(_TASK, _TASK_ROW, hot, "ON CONFLICT(ns, id) DO NOTHING")
    inserted = [True] * len(tasks)
    if count < len(tasks):
        present = {seq for (seq,) in tx.rows("SELECT seq FROM task WHERE seq>=?", first)}
        inserted = [first + offset in present for offset in range(len(tasks))]
    bodies = [(first + offset, *task.body) for offset, task in enumerate(tasks) if inserted[offset]]
    tx.insert(_BODY, _BODY_ROW, bodies)
    tx.rings.queues.update(task.queue for task in tasks)
    return inserted


def _hot(tx: Transaction, seq: int, task: NewTask) -> tuple[object, ...]:
    delayed = task.due is not None and task.due > tx.now
    state, due = (DELAYED, task.due) if delayed else (READY, None)
    return (seq, tx.ns, task.id, task.queue, task.priority, state, due, task.attempt, task.cancel_key, tx.now)


def _last_seq(tx: Transaction) -> int:
    rows = tx.rows("SELECT seq FROM sqlite_sequence WHERE name='task'")
    return int(rows[0][0]) if rows else 0


def _known(tx: Transaction, task: NewTask) -> str | None:
    if task.check_id and _has_id(tx, task.id):
        return task.id
    if task.dedup_key is None:
        return None
    taken = tx.rows("SELECT id FROM dedup WHERE ns=? AND key=? AND expires>?", tx.ns, task.dedup_key, tx.now)
    if taken:
        return str(taken[0][0])
    tx.run(
        "INSERT OR REPLACE INTO dedup(ns, key, id, expires) VALUES(?,?,?,?)",
        *(tx.ns, task.dedup_key, task.id, tx.now + task.dedup_window),
    )
    return None


def _has_id(tx: Transaction, task_id: str) -> bool:
    sql = "SELECT 1 FROM task WHERE ns=?1 AND id=?2 UNION ALL SELECT 1 FROM result WHERE ns=?1 AND id=?2 AND expires>?3"
    return bool(tx.rows(sql, tx.ns, task_id, tx.now))


def delete_tasks(tx: Transaction, seqs: Sequence[int]) -> None:
    """Delete tasks with their bodies."""
    if len(seqs) == 1:
        tx.run("DELETE FROM task WHERE seq=?", seqs[0])
        tx.run("DELETE FROM body WHERE seq=?", seqs[0])
    elif seqs:
        numbers = to_json(seqs)
        tx.run("DELETE FROM task WHERE seq IN (SELECT value FROM json_each(?))", numbers)
        tx.run("DELETE FROM body WHERE seq IN (SELECT value FROM json_each(?))", numbers)
