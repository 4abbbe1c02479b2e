"""Taking tasks, and keeping or giving back what was taken.

Order: strictly by level, then by number; queues rotate inside a level. With aging, every level below costs a task as
many seconds as ``aging`` says. A claim writes no durable fact (see ``_store``); the fence makes a late one harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tranship.backends.sqlite._messages import raw_message
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.driver import Taken
from tranship.envelope import Priority

__all__ = ["CLAIM", "PICK", "RELEASE", "RENEW", "Claim", "Token", "make_ready", "outlook", "owned"]

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
