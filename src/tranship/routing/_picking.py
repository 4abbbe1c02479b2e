"""One result of a task that has several, because it ran at two brokers: always the same one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from tranship.errors import TranshipError
from tranship.ports import StoredResult
from tranship.protocol import decode_result
from tranship.routing._member import Member
from tranship.routing._status import Counts

__all__ = ["Picking"]

log = logging.getLogger("tranship.routing")

ROOM: Final = 10_000


class Picking:
    """Remembers which result was shown of each task that may have several. The first that is seen stays; of several
    that are seen at once, the one that was finished first, so that other processes pick the same.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._picked: dict[str, tuple[set[Member], StoredResult]] = {}

    def pick(self, task_id: str, ended: Sequence[tuple[Member, StoredResult]]) -> StoredResult:
        """Return the result to show, of those found now (at least one) and before."""
        known = self._picked.get(task_id)
        members, shown = known or (set[Member](), min((one for _, one in ended), key=_finished))
        before = len(members)
        members.update(member for member, _ in ended)
        if before < 2 <= len(members):
            self._counts.ran_twice += 1
            log.warning("task %s has a result at two brokers; the first one counts", task_id)
        return self._remember(task_id, members, shown)

    def forget(self, ids: Iterable[str]) -> None:
        """The stored results of ``ids`` have been deleted."""
        for task_id in ids:
            self._picked.pop(task_id, None)

    def _remember(self, task_id: str, members: set[Member], shown: StoredResult) -> StoredResult:
        self._picked[task_id] = (members, shown)
        if len(self._picked) > ROOM:
            del self._picked[next(iter(self._picked))]
        return shown


def _finished(result: StoredResult) -> float:
    try:
        return decode_result(result.document, task_id=result.id).finished_at or float("inf")
    except TranshipError:
        return float("inf")
