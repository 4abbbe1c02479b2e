"""Ending deliveries: result and removal in one step, and nothing at all when the delivery is not ours any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from tranship.backends.sqlite._claims import Token, make_ready, owned
from tranship.backends.sqlite._enqueue import delete_tasks, insert_tasks
from tranship.backends.sqlite._outcomes import NewResult, store
from tranship.backends.sqlite._rows import NewTask
from tranship.backends.sqlite._transaction import Kind, Transaction
from tranship.envelope import new_id
from tranship.ports import Settled, Verdict

__all__ = ["SETTLE", "Ending"]


@dataclass(frozen=True, slots=True)
class Ending:
    """One settlement as the database needs it."""

    token: Token
    verdict: Verdict
    result: NewResult | None = None
    replacement: NewTask | None = None
    reason: str = ""
    detail: str = ""


_BURY: Final = """
INSERT INTO dead(ns, id, task_id, queue, priority, attempt, cancel_key, reason, detail, deliveries, died,
                 content_type, content_encoding, reply_to, headers, body)
SELECT ns, ?, id, queue, priority, attempt, cancel_key, ?, ?, deliveries, ?,
       content_type, content_encoding, reply_to, headers, body
FROM task JOIN body USING(seq) WHERE seq=?
"""


def settle(tx: Transaction, batches: Sequence[Sequence[Ending]]) -> list[list[Settled]]:
    """Carry out verdicts; the fence decides whose delivery it is. Settling twice is LOST the second time."""
    endings = list(chain.from_iterable(batches))
    held = owned(tx, [ending.token for ending in endings])
    ours = [ending for ending in endings if held.pop(ending.token, False)]
    _carry_out(tx, ours)
    won = set(map(id, ours))
    return [[Settled.CONFIRMED if id(ending) in won else Settled.LOST for ending in batch] for batch in batches]


SETTLE: Final = Kind("settle", settle)


def _carry_out(tx: Transaction, endings: Sequence[Ending]) -> None:
    for ending in endings:
        if ending.verdict is Verdict.REJECT:
            tx.run(_BURY, new_id(), ending.reason, ending.detail, tx.now, ending.token[0])
    nacked = [ending.token[0] for ending in endings if ending.verdict is Verdict.NACK]
    make_ready(tx, nacked)
    delete_tasks(tx, [ending.token[0] for ending in endings if ending.verdict is not Verdict.NACK])
    insert_tasks(tx, [ending.replacement for ending in endings if ending.replacement is not None])
    store(tx, [ending.result for ending in endings if ending.result is not None])
