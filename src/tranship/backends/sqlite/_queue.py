"""All queues of one connection, verb by verb."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from tranship.backends.sqlite._database import DELAYED, LEASED, READY, explain, lease_clock
from tranship.backends.sqlite._tasks import (
    CLAIM,
    END,
    PICK,
    RELEASE,
    RENEW,
    SEND,
    Claim,
    Token,
    outlook,
    raw_message,
    refusal,
)
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.backends.sqlite._upkeep import ROW
from tranship.driver import (
    Answer,
    End,
    Ending,
    Outgoing,
    QueueTraits,
    SendLimits,
    Slot,
    Stored,
    Taken,
    TakenBatch,
    Undo,
    facts_read,
)
from tranship.envelope import Priority
from tranship.errors import EncodeError
from tranship.ports import CountKind, Settled

if TYPE_CHECKING:
    from tranship.backends.sqlite._connection import SqliteConnection
    from tranship.ports import QueueInfo

__all__ = ["SqliteQueue"]

AGAIN: Final = 0.01
"""Seconds until the next look where the last one was in vain: others were faster, or the database is busy."""
UNDER_WAY: Final = 64
"""Batches of one submit that wait for the writer, which makes few transactions of them."""

_STORED: Final = "SELECT seq, id, queue, priority, state, reply_to, headers FROM task JOIN body USING(seq) WHERE ns=?"
BY_ID: Final = f"{_STORED} AND id IN (SELECT value FROM json_each(?))"  # noqa: S608
BY_KEY: Final = f"{_STORED} AND cancel_key IN (SELECT value FROM json_each(?))"  # noqa: S608
_IN_STATE: Final = f"{_STORED} AND queue=? AND state=%d ORDER BY %s LIMIT ?"
IN_ORDER: Final = {
    "ready": _IN_STATE % (READY, "priority, seq"),
    "delayed": _IN_STATE % (DELAYED, "due, seq"),
    "held": _IN_STATE % (LEASED, "due, seq"),
}
_STATES: Final[dict[int, Literal["ready", "delayed", "held"]]] = {READY: "ready", DELAYED: "delayed", LEASED: "held"}


class SqliteQueue:
    """The queues of one namespace; each verb is one transaction, and often a part of one that others share."""

    def __init__(self, connection: SqliteConnection) -> None:
        options = connection.options
        self._connection, self._writer = connection, connection.writer
        self._lease, self._aging = options.lease, options.aging
        self.likely = False
        """Woken, or served to the full last time: claim without looking first."""
        self.traits = QueueTraits(
            lease=options.lease,
            counts=CountKind.EXACT,
            order="keeps-place",
            levels=True,
            delays=True,
            unique=True,
            fuses=True,
            tells=True,
            limits=SendLimits(under_way=UNDER_WAY),
        )

    # Sending and ending.

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Insert what can be written as text, each unless it is a duplicate."""
        refusals = list(map(refusal, batch))
        return _merged(refusals, await self._begin(batch, refusals))

    def post(self, batch: Sequence[Outgoing], done: Callable[[Sequence[Answer] | Exception], None]) -> None:
        """Do the same; the answers come from the writer's thread."""
        refusals = list(map(refusal, batch))

        def answered(sending: asyncio.Future[list[str | None]]) -> None:
            error = sending.exception()
            done(_merged(refusals, sending.result()) if error is None else explain(error, self._writer.store.path))

        self._begin(batch, refusals).add_done_callback(answered)

    def _begin(
        self, batch: Sequence[Outgoing], refusals: Sequence[EncodeError | None]
    ) -> asyncio.Future[list[str | None]]:
        good = batch if not any(refusals) else [one for one, no in zip(batch, refusals, strict=True) if no is None]
        return self._writer.begin(
            SEND,
            good,
            weight=max(len(good), sum([len(one.source.headers) + len(one.source.body) for one in good]) // ROW),
        )

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled]:
        """End what is ours, with everything that belongs to it; giving back alone is not synced."""
        if all(one.end is End.RELEASE and not one.rows and not one.then for one in endings):
            held = await self._writer.call(RELEASE, [one.token for one in endings], weight=len(endings))
            return [Settled.CONFIRMED if ours else Settled.LOST for ours in held]
        weight = max(2 * len(endings), sum([len(row.value) for one in endings for row in one.rows]) // ROW)
        return await self._writer.call(END, endings, weight=weight)

    # Taking.

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:  # noqa: ARG002 - looks once
        """Claim what is ready, with a glance before that: most looks of an idle worker find nothing."""
        queues = list(dict.fromkeys(queue for queue, _ in slots))
        if self.likely and (taken := await self._claim(queues, limit, due=True)):
            return TakenBatch(taken)
        found = self._connection.read(outlook(len(queues)), (self._connection.ns, *queues))
        if found is None:
            return TakenBatch(await self._claim(queues, limit, due=True), next_due=AGAIN)
        ((ready, delayed, leased),) = found
        due = _due_in(delayed, leased)
        taken = await self._claim(queues, limit, due=due <= 0) if ready or due <= 0 else []
        return TakenBatch(taken, next_due=None if due == float("inf") else max(due, AGAIN))

    async def _claim(self, queues: Sequence[str], limit: int, *, due: bool) -> list[Taken]:
        wanted = Claim(queues, limit, self._connection.address, self._lease, self._aging, due)
        taken = await self._writer.call(CLAIM, wanted, weight=limit)
        self.likely = len(taken) == limit
        return taken

    async def pick(self, refs: Sequence[int]) -> Sequence[Taken]:
        """Claim exactly these."""
        return await self._writer.call(PICK, (refs, self._connection.address, self._lease), weight=len(refs))

    async def renew(self, tokens: Sequence[Token]) -> Sequence[bool]:
        """Let leases last for one more from now."""
        return await self._writer.call(RENEW, (tokens, self._lease), weight=len(tokens))

    def watch(self, slots: Sequence[Slot], heard: Callable[[], None]) -> Undo:
        """Be woken when something arrives."""
        return self._connection.watch({queue for queue, _ in slots}, heard)

    # Looking.

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> Sequence[Stored]:
        """Look tasks up."""
        return await self._writer.call(FIND, (ids, cancel_keys))

    async def scan(self, queue: str, state: str, limit: int) -> Sequence[Stored]:
        """Return the first ones in one state."""
        return await self._writer.call(SCAN, (queue, state, limit))

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is where. Counting grows with the number of tasks (some 0.1 s for a million), and this process
        writes nothing meanwhile.
        """
        return await self._writer.call(COUNT, None)


def _merged(refusals: Sequence[EncodeError | None], found: Sequence[str | None]) -> Sequence[Answer]:
    if not any(refusals):
        return found
    rest = iter(found)
    return [next(rest) if refusal is None else refusal for refusal in refusals]


def _due_in(delayed: float | None, leased: float | None) -> float:
    """Seconds until something becomes ready by itself; 0 or less: it is due."""
    waits = [delayed - time.time()] if delayed is not None else []
    if leased is not None:
        waits.append(leased - lease_clock())
    return min(waits, default=float("inf"))


def _stored(rows: Sequence[Sequence[Any]]) -> list[Stored]:
    found = []
    for seq, task_id, queue, level, state, reply_to, headers in rows:
        facts = facts_read(raw_message(None, None, reply_to, headers, b""), queue, Priority(level))
        found.append(Stored(seq, facts._replace(id=task_id), _STATES[state]))
    return found


def _find(tx: Transaction, order: tuple[Sequence[str], Sequence[str]]) -> list[Stored]:
    ids, keys = order
    found = {row[0]: row for row in tx.rows(BY_ID, tx.ns, to_json(ids))} if ids else {}
    found |= {row[0]: row for row in tx.rows(BY_KEY, tx.ns, to_json(keys))} if keys else {}
    return _stored(list(found.values()))


def _scan(tx: Transaction, order: tuple[str, str, int]) -> list[Stored]:
    queue, state, limit = order
    return _stored(tx.rows(IN_ORDER[state], tx.ns, queue, limit))


COUNTS: Final = """
SELECT queue, 'ready', priority, count(*), min(seq) FROM task WHERE ns=?1 AND state=0 GROUP BY queue, priority
UNION ALL SELECT queue, 'delayed', 0, count(*), 0 FROM task INDEXED BY task_delayed
    WHERE ns=?1 AND state=1 GROUP BY queue
UNION ALL SELECT queue, 'leased', 0, count(*), 0 FROM task INDEXED BY task_leased
    WHERE ns=?1 AND state=2 GROUP BY queue
"""
"""Each part is answered by one index alone."""


def _count(tx: Transaction, _: None) -> list[QueueInfo]:
    found: dict[str, list[Sequence[Any]]] = {}
    for row in tx.rows(COUNTS, tx.ns):
        found.setdefault(row[0], []).append(row)
    return [_info(tx, name, found[name]) for name in sorted(found)]


def _info(tx: Transaction, name: str, rows: list[Sequence[Any]]) -> QueueInfo:
    from tranship.ports import QueueInfo

    ready = {Priority(level): count for _, kind, level, count, _ in rows if kind == "ready"}
    counts = {kind: count for _, kind, _, count, _ in rows if kind != "ready"}
    heads = [seq for _, kind, _, _, seq in rows if kind == "ready"]
    return QueueInfo(
        name=name,
        ready={level: ready.get(level, 0) for level in Priority},
        delayed=counts.get("delayed", 0),
        in_flight=counts.get("leased", 0),
        oldest_age=_age(tx, min(heads)) if heads else 0.0,
    )


def _age(tx: Transaction, seq: int) -> float:
    ((enqueued,),) = tx.rows("SELECT enqueued FROM task WHERE seq=?", seq)
    return max(0.0, tx.now - float(enqueued))


FIND: Final = Kind("find", each(_find), Mode.READ)
SCAN: Final = Kind("scan", each(_scan), Mode.READ)
COUNT: Final = Kind("count", each(_count), Mode.READ)
