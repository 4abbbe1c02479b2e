"""Tasks as rows: putting them in, taking them, keeping or giving back what was taken, and taking them out for good.

What belongs to putting in and taking out is one step with it.

Order: strictly by level, then by number; queues rotate inside a level. With aging, every level below costs a task as
many seconds as ``aging`` says. A claim writes no durable fact (see ``_store``); the fence makes a late one harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from tranship.backends.sqlite._database import DELAYED, READY
from tranship.backends.sqlite._table import create, known
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.driver import End, Ending, Outgoing, Taken, headers_bytes
from tranship.envelope import Priority
from tranship.errors import EncodeError
from tranship.ports import Settled
from tranship.protocol import RawMessage

__all__ = [
    "CLAIM",
    "END",
    "PICK",
    "RELEASE",
    "RENEW",
    "SEND",
    "Claim",
    "Token",
    "make_ready",
    "outlook",
    "raw_message",
    "refusal",
]

# As messages.

_JSON: Final = "application/json"
_UTF8: Final = "utf-8"
"""The usual content type and encoding are stored as NULL."""
_NO_PROPERTIES: Final[Mapping[str, Any]] = {}


def body_row(seq: int, task: Outgoing) -> tuple[object, ...]:
    """Return the columns of a task's body row."""
    message = task.source
    return (
        seq,
        None if message.content_type == _JSON else message.content_type,
        None if message.content_encoding == _UTF8 else message.content_encoding,
        task.facts.reply_to,
        headers_bytes(message),
        message.body,
    )


def raw_message(
    content_type: str | None, content_encoding: str | None, reply_to: str | None, headers: bytes, body: bytes
) -> RawMessage:
    """Return the columns of a body row as a message."""
    properties = _NO_PROPERTIES if reply_to is None else {"reply_to": reply_to}
    return RawMessage(headers, body, content_type or _JSON, content_encoding or _UTF8, properties)


def refusal(message: Outgoing) -> EncodeError | None:
    """Return the error for a message with a name that is no text for SQLite."""
    facts = message.facts
    names = facts.id, facts.queue, facts.cancel_key or "", facts.reply_to or ""
    plain = "".join(names)
    if plain.isascii() and "\0" not in facts.id:
        return None
    if "\0" in facts.id:
        return EncodeError(f"the id {facts.id!r} has a NUL in it; use Unicode text without", task_id=facts.id)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        wrong = next(name for name in names if not name.isascii() and error.object[error.start] in name)
        made = EncodeError(f"{wrong!r} is no valid text ({error}); use Unicode text", task_id=facts.id)
        made.__cause__ = error
        return made
    return None


# Taking, keeping, giving back.

Token = tuple[int, int]
"""Number and fence of a claimed row."""


class Claim(NamedTuple):
    """What a consumer wants."""

    queues: Sequence[str]
    """In the order in which they are served this time, inside a level."""
    limit: int
    owner: str
    lease: float
    aging: float = 0.0
    due: bool = True
    """Whether a delayed task or an ended lease has come due, as far as the consumer has seen."""


class _Candidate(NamedTuple):
    seq: int
    priority: int
    enqueued: float
    deliveries: int
    fence: int
    id: str
    queue: str


_LEVELS: Final = tuple(Priority)
_CANDIDATE: Final = "SELECT seq, priority, enqueued, deliveries, fence, id, queue FROM task"
_PROMOTE: Final = "UPDATE task SET state=0, due=NULL WHERE state=1 AND due<=?"
_REAP: Final = "UPDATE task SET state=0, due=NULL, owner=NULL WHERE state=2 AND due<=?"
_READY: Final = f"{_CANDIDATE} WHERE ns=? AND queue=? AND state=0 ORDER BY priority, seq LIMIT ?"
_READY_LEVEL: Final = f"{_CANDIDATE} WHERE ns=? AND queue=? AND priority=? AND state=0 ORDER BY seq LIMIT ?"
_NAMED: Final = f"{_CANDIDATE} WHERE seq IN (SELECT value FROM json_each(?)) AND state IN (0, 1)"  # noqa: S608
_SINGLE_BODY: Final = "SELECT seq, content_type, content_encoding, reply_to, headers, body FROM body WHERE seq=?"
_BODIES: Final = (
    "SELECT seq, content_type, content_encoding, reply_to, headers, body FROM body"
    " WHERE seq IN (SELECT value FROM json_each(?))"
)
_TAKE_ONE: Final = "UPDATE task SET state=2, due=?, owner=?, fence=fence+1, deliveries=deliveries+1 WHERE seq=?"
_TAKE: Final = (
    "UPDATE task SET state=2, due=?, owner=?, fence=fence+1, deliveries=deliveries+1"
    " WHERE seq IN (SELECT value FROM json_each(?))"
)


def claim(tx: Transaction, claims: Sequence[Claim]) -> list[list[Taken]]:
    """Serve claims, after making due tasks ready and ending expired leases."""
    if any(wanted.due for wanted in claims):
        tx.run(_PROMOTE, tx.now)
        tx.run(_REAP, tx.lease_now)
    return [_serve(tx, wanted) for wanted in claims]


def _serve(tx: Transaction, wanted: Claim) -> list[Taken]:
    return _taken(tx, _candidates(tx, wanted), wanted.owner, wanted.lease)


def _pick(tx: Transaction, order: tuple[Sequence[int], str, float]) -> list[Taken]:
    """Take exactly these, in their order."""
    seqs, owner, lease = order
    found = {row[0]: _Candidate(*row) for row in tx.rows(_NAMED, to_json(seqs))}
    return _taken(tx, [found[seq] for seq in seqs if seq in found], owner, lease)


def _taken(tx: Transaction, chosen: Sequence[_Candidate], owner: str, lease: float) -> list[Taken]:
    if not chosen:
        return []
    until = tx.lease_now + lease
    if len(chosen) == 1:
        tx.run(_TAKE_ONE, until, owner, chosen[0].seq)
        rows = tx.rows(_SINGLE_BODY, chosen[0].seq)
    else:
        seqs = to_json([one.seq for one in chosen])
        tx.run(_TAKE, until, owner, seqs)
        rows = tx.rows(_BODIES, seqs)
    bodies = {row[0]: row for row in rows}
    return [
        Taken(
            (one.seq, one.fence + 1),
            one.queue,
            _LEVELS[one.priority],
            raw_message(*bodies[one.seq][1:]),
            one.deliveries + 1,
            task_id=one.id,
        )
        for one in chosen
    ]


def _candidates(tx: Transaction, wanted: Claim) -> list[_Candidate]:
    if wanted.aging:
        return _aged(tx, wanted)
    if len(wanted.queues) == 1:
        return [_Candidate(*row) for row in tx.rows(_READY, tx.ns, wanted.queues[0], wanted.limit)]
    found = [_Candidate(*row) for queue in wanted.queues for row in tx.rows(_READY, tx.ns, queue, wanted.limit)]
    return _rotated(found, wanted, lambda one: one.priority)


def _aged(tx: Transaction, wanted: Claim) -> list[_Candidate]:
    # Inside a level the older one comes first, so that the heads of the levels are enough to merge.
    found = [
        _Candidate(*row)
        for queue in wanted.queues
        for level in range(4)
        for row in tx.rows(_READY_LEVEL, tx.ns, queue, level, wanted.limit)
    ]
    found.sort(key=lambda one: (one.enqueued + one.priority * wanted.aging, one.seq))
    return found[: wanted.limit]


def _rotated(found: list[_Candidate], wanted: Claim, level: Callable[[_Candidate], int]) -> list[_Candidate]:
    """Take turns between the queues inside each level; ``wanted.queues`` says who begins."""
    place = {queue: number for number, queue in enumerate(wanted.queues)}
    turns: dict[tuple[int, str], int] = {}
    keyed = []
    for one in found:
        turn = turns[level(one), one.queue] = turns.get((level(one), one.queue), 0) + 1
        keyed.append((level(one), turn, place[one.queue], one))
    keyed.sort(key=lambda key: key[:3])
    return [one for *_, one in keyed[: wanted.limit]]


def owned(tx: Transaction, tokens: Sequence[Token]) -> dict[Token, bool]:
    """Return those of ``tokens`` that are still their holder's."""
    if len(tokens) == 1:
        rows = tx.rows("SELECT seq, fence FROM task WHERE seq=? AND state=2", tokens[0][0])
    else:
        rows = tx.rows(
            "SELECT seq, fence FROM task WHERE seq IN (SELECT value FROM json_each(?)) AND state=2",
            to_json(seq for seq, _ in tokens),
        )
    current = set(rows)
    return {token: True for token in tokens if token in current}


def _release(tx: Transaction, tokens: Sequence[Token]) -> list[bool]:
    """Give back what nobody has touched; its count is taken back, too."""
    held = owned(tx, tokens)
    make_ready(tx, [seq for seq, _ in held], uncount=1)
    return [held.pop(token, False) for token in tokens]


def make_ready(tx: Transaction, numbers: Sequence[int], *, uncount: int = 0) -> None:
    """Make leased rows ready again, in their old place, and wake the consumers of their queues."""
    if not numbers:
        return
    seqs = to_json(numbers)
    tx.run(
        "UPDATE task SET state=0, due=NULL, owner=NULL, deliveries=deliveries-?"
        " WHERE seq IN (SELECT value FROM json_each(?))",
        *(uncount, seqs),
    )
    rows = tx.rows("SELECT DISTINCT queue FROM task WHERE seq IN (SELECT value FROM json_each(?))", seqs)
    tx.wakes.queues.update(queue for (queue,) in rows)


def _renew(tx: Transaction, order: tuple[Sequence[Token], float]) -> list[bool]:
    tokens, lease = order
    held = owned(tx, tokens)
    tx.run(
        "UPDATE task SET due=? WHERE seq IN (SELECT value FROM json_each(?))",
        *(tx.lease_now + lease, to_json(seq for seq, _ in held)),
    )
    return [token in held for token in tokens]


CLAIM: Final = Kind("claim", claim, Mode.SOFT, first=True)
PICK: Final = Kind("pick", each(_pick), Mode.SOFT)
RELEASE: Final = Kind("release", each(_release), Mode.SOFT)
RENEW: Final = Kind("renew", each(_renew), Mode.SOFT)


def outlook(count: int) -> str:
    """The text of a point read: is anything ready in ``count`` queues, and when is the next thing due?"""
    marks = ",".join("?" * count)
    return (
        f"SELECT EXISTS(SELECT 1 FROM task WHERE ns=? AND queue IN ({marks}) AND state=0),"  # noqa: S608 - marks only
        " (SELECT min(due) FROM task WHERE state=1), (SELECT min(due) FROM task WHERE state=2)"
    )


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
