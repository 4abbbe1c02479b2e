"""What an operator sees of queues and workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tranship.backends.sqlite._signals import heartbeat
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each
from tranship.backends.sqlite._upkeep import WORKER_MEMORY
from tranship.envelope import Priority
from tranship.ports import Heartbeat, QueueInfo

__all__ = ["QUEUES", "WORKERS"]

_COUNTS: Final = """
SELECT queue, 'ready', priority, count(*), min(seq) FROM task WHERE ns=?1 AND state=0 GROUP BY queue, priority
UNION ALL SELECT queue, 'delayed', 0, count(*), 0 FROM task INDEXED BY task_delayed
    WHERE ns=?1 AND state=1 GROUP BY queue
UNION ALL SELECT queue, 'leased', 0, count(*), 0 FROM task INDEXED BY task_leased
    WHERE ns=?1 AND state=2 GROUP BY queue
UNION ALL SELECT queue, 'dead', 0, count(*), 0 FROM dead WHERE ns=?1 GROUP BY queue
"""
"""Each part is answered by one index alone."""


def _queues(tx: Transaction, _: None) -> list[QueueInfo]:
    found: dict[str, list[Sequence[Any]]] = {}
    for row in tx.rows(_COUNTS, tx.ns):
        found.setdefault(row[0], []).append(row)
    return [_info(tx, name, found[name]) for name in sorted(found)]


def _info(tx: Transaction, name: str, rows: list[Sequence[Any]]) -> QueueInfo:
    ready = {Priority(level): count for _, kind, level, count, _ in rows if kind == "ready"}
    counts = {kind: count for _, kind, _, count, _ in rows if kind != "ready"}
    heads = [seq for _, kind, _, _, seq in rows if kind == "ready"]
    return QueueInfo(
        name=name,
        ready={level: ready.get(level, 0) for level in Priority},
        delayed=counts.get("delayed", 0),
        in_flight=counts.get("leased", 0),
        oldest_age=_age(tx, min(heads)) if heads else 0.0,
        dead=counts.get("dead", 0),
    )


def _age(tx: Transaction, seq: int) -> float:
    ((enqueued,),) = tx.rows("SELECT enqueued FROM task WHERE seq=?", seq)
    return max(0.0, tx.now - float(enqueued))


def _workers(tx: Transaction, _: None) -> list[Heartbeat]:
    rows = tx.rows("SELECT beat FROM worker WHERE ns=? AND at>? ORDER BY name", tx.ns, tx.now - WORKER_MEMORY)
    return [beat for (text,) in rows if (beat := heartbeat(text)) is not None]


QUEUES: Final = Kind("count queues", each(_queues), Mode.READ)
WORKERS: Final = Kind("list workers", each(_workers), Mode.READ)
