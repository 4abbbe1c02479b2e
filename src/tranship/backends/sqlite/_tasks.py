"""Putting tasks in and taking them out for good; what belongs to that is one step with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from tranship.backends.sqlite._claims import Token, make_ready, owned
from tranship.backends.sqlite._database import DELAYED, READY
from tranship.backends.sqlite._messages import body_row
from tranship.backends.sqlite._rows import create, known
from tranship.backends.sqlite._transaction import Kind, Transaction, to_json
from tranship.driver import End, Ending, Outgoing
from tranship.ports import Settled

__all__ = ["END", "SEND"]

_TASK: Final = "INSERT INTO task(seq,ns,id,queue,priority,state,due,attempt,cancel_key,enqueued)"
_TASK_ROW: Final = "(?,?,?,?,?,?,?,?,?,?)"
_BODY: Final = "INSERT INTO body(seq,content_type,content_encoding,reply_to,headers,body)"
_BODY_ROW: Final = "(?,?,?,?,?,?)"

# Sending.


def _send(tx: Transaction, batches: Sequence[Sequence[Outgoing]]) -> list[list[str | None]]:
    """Insert batches of tasks; the answer to each task is the id of the one that was there first, or None."""
    tasks = list(chain.from_iterable(batches))
    answers = [_first(tx, task) if task.unless is not None or task.first is not None else None for task in tasks]
    fresh = [place for place, answer in enumerate(answers) if answer is None]
    for place, inserted in zip(fresh, _insert(tx, [tasks[place] for place in fresh]), strict=True):
        if not inserted:
            answers[place] = tasks[place].id
    rest = iter(answers)
    return [[next(rest) for _ in batch] for batch in batches]


def _first(tx: Transaction, task: Outgoing) -> str | None:
    """Return the id that keeps this task out, if there is one, after taking its key."""
    if task.unless is not None and (
        tx.rows("SELECT 1 FROM task WHERE ns=? AND id=?", tx.ns, task.id) or known(tx, task.unless) is not None
    ):
        return task.id
    if task.first is not None:
        (there,) = create(tx, [task.first])
        if there is not None and there != task.first.value:
            return there.decode()
    return None


def _insert(tx: Transaction, tasks: Sequence[Outgoing]) -> list[bool]:
    """Insert tasks and say of each whether it went in: one whose id is queued already does not."""
    if not tasks:
        return []
    first = tx.last("task") + 1
    hot = [_hot(tx, first + offset, task) for offset, task in enumerate(tasks)]
    count = tx.insert(_TASK, _TASK_ROW, hot, "ON CONFLICT(ns, id) DO NOTHING")
    inserted = [True] * len(tasks)
    if count < len(tasks):
        present = {seq for (seq,) in tx.rows("SELECT seq FROM task WHERE seq>=?", first)}
        inserted = [first + offset in present for offset in range(len(tasks))]
    bodies = [body_row(first + offset, task) for offset, task in enumerate(tasks) if inserted[offset]]
    tx.insert(_BODY, _BODY_ROW, bodies)
    tx.wakes.queues.update(task.facts.queue for task in tasks)
    return inserted


def _hot(tx: Transaction, seq: int, task: Outgoing) -> tuple[object, ...]:
    facts = task.facts
    state, due = (DELAYED, task.ready) if task.ready > tx.now else (READY, None)
    return (seq, tx.ns, facts.id, facts.queue, int(facts.level), state, due, facts.attempt, facts.cancel_key, tx.now)


# Ending.


def _end(tx: Transaction, batches: Sequence[Sequence[Ending]]) -> list[list[Settled]]:
    """End deliveries, with what belongs to it; the fence decides whose delivery it is. A second end is LOST."""
    endings = list(chain.from_iterable(batches))
    held = owned(tx, [one.token for one in endings])
    if len(held) == len(endings):
        _carry_out(tx, endings)
        return [[Settled.CONFIRMED] * len(batch) for batch in batches]
    ours = {one.token: one for one in endings if held.pop(one.token, False)}
    _carry_out(tx, list(ours.values()))
    return [[_said(one, ours) for one in batch] for batch in batches]


def _said(ending: Ending, ours: dict[Token, Ending]) -> Settled:
    return Settled.CONFIRMED if ours.get(ending.token) is ending else Settled.LOST


def _carry_out(tx: Transaction, endings: Sequence[Ending]) -> None:
    make_ready(tx, _ended(endings, End.REQUEUE))
    make_ready(tx, _ended(endings, End.RELEASE), uncount=1)
    _delete(tx, _ended(endings, End.REMOVE))
    _insert(tx, [message for one in endings for message in one.then])
    create(tx, [row for one in endings for row in one.rows])


def _ended(endings: Sequence[Ending], end: End) -> list[int]:
    return [one.token[0] for one in endings if one.end is end]


def _delete(tx: Transaction, seqs: Sequence[int]) -> None:
    if len(seqs) == 1:
        tx.run("DELETE FROM task WHERE seq=?", seqs[0])
        tx.run("DELETE FROM body WHERE seq=?", seqs[0])
    elif seqs:
        numbers = to_json(seqs)
        tx.run("DELETE FROM task WHERE seq IN (SELECT value FROM json_each(?))", numbers)
        tx.run("DELETE FROM body WHERE seq IN (SELECT value FROM json_each(?))", numbers)


SEND: Final = Kind("send", _send, grows=True)
END: Final = Kind("end", _end)
