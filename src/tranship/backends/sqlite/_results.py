"""The result store: reads at once, and pushes what is expected."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from tranship.backends.sqlite._faults import too_large
from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._log import ROW
from tranship.backends.sqlite._outcomes import FORGET, KNOWN, PUT, READ, known, new_result
from tranship.backends.sqlite._peers import RESULTS, Wants
from tranship.backends.sqlite._transaction import to_json
from tranship.backends.sqlite._watch import Watch
from tranship.envelope import TaskState
from tranship.errors import TranshipError
from tranship.ports import ResultSink, StoredResult

__all__ = ["SqliteResults"]

HERE: Final = 200
"""Ids read on the loop's thread; more are read by the writer's."""
REMEMBERED: Final = 100_000
"""Submitted ids that are remembered as coming back here by themselves."""
PATIENCE: Final = 0.02
"""Seconds in which an expected id may turn out to be submitted by us."""

LINGER: Final = 5.0
"""Seconds after the last foreign result for which the bell still rings for such."""

_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name='result'"
_NEWEST: Final = " UNION ALL SELECT seq, NULL, NULL, NULL FROM sqlite_sequence WHERE name='result'"
"""In the same snapshot: never beyond what the read has surely seen, because later commits have higher numbers."""
# "+ns" keeps SQLite from the index by namespace: the numbers behind the last one are few.
_OURS: Final = f"SELECT seq, id, state, document FROM result WHERE seq>? AND +ns=? AND reply_to=?{_NEWEST}"  # noqa: S608
_ALL: Final = f"SELECT seq, id, NULL, NULL FROM result WHERE seq>? AND +ns=?{_NEWEST}"  # noqa: S608 - constants
_DOCUMENTS: Final = "SELECT seq, id, state, document FROM result WHERE seq IN (SELECT value FROM json_each(?))"


class SqliteResults:
    """See :class:`tranship.ports.ResultStore`.

    Results of tasks that were submitted here come with our address on them and ring our bell. Results of
    other tasks (*foreign*) are looked for among all new ones, from when such a result is expected.
    """

    def __init__(self, hub: Hub, watch: Watch) -> None:
        self._hub = hub
        self._watch = watch
        self._sink: ResultSink | None = None
        self._expected: set[str] = set()
        self._ours: set[str] = set()
        self._order: collections.deque[str] = collections.deque()
        self._foreign = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0
        hub.hears[RESULTS].append(self._pull)

    def attach(self, sink: ResultSink) -> None:
        """From now on push to ``sink``."""
        self._sink = sink

    def announce(self, ids: Sequence[str]) -> None:
        """These are being submitted here: their results will have our address on them."""
        self._ours.update(ids)
        self._order.extend(ids)
        while len(self._order) > REMEMBERED:
            self._ours.discard(self._order.popleft())

    def disown(self, ids: Sequence[str]) -> None:
        """These were known before: their results may have somebody else's address on them."""
        self._ours.difference_update(ids)
        if not self._expected.isdisjoint(ids):
            self._wonder()

    def expect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids``."""
        if not self._expected:
            self._last = self._newest()
        self._expected.update(ids)
        self._watch.want(self)
        if not self._ours.issuperset(ids):
            self._wonder()

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids``."""
        self._expected.difference_update(ids)
        if self._expected:
            return
        self._watch.leave(self)
        if self._foreign and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._come_home)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results."""
        self._hub.check()
        if not results:
            return []
        for result in results:
            if len(result.document) > self._hub.options.max_message_size:
                raise too_large(result.id, len(result.document), self._hub.options.max_message_size)
        rows = [new_result(result, ttl=self._hub.options.result_ttl) for result in results]
        weight = max(len(rows), sum(len(row.document) for row in rows) // ROW)
        return await self._hub.writer.call(PUT, rows, weight=weight)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of ``ids``."""
        self._hub.check()
        if not ids:
            return []
        rows = None
        if len(ids) <= HERE:
            rows = self._hub.read(KNOWN, (self._hub.ns, to_json(ids), time.time()))
        if rows is None:
            return await self._hub.writer.call(READ, ids)
        return known(ids, rows)

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results."""
        self._hub.check()
        if ids:
            await self._hub.writer.call(FORGET, ids, weight=len(ids))

    def close(self) -> None:
        """Push no more."""
        self._expected.clear()
        self._watch.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pull(self) -> None:
        if not self._expected or self._hub.failure is not None:
            return
        try:
            rows = self._new()
        except TranshipError:
            # The next look meets it again, and whoever calls a method is told.
            return
        if rows:
            self._push(rows)

    def _push(self, rows: Sequence[Any]) -> None:
        hits = [
            StoredResult(id=task_id, state=TaskState(state), document=document)
            for _, task_id, state, document in rows
            if task_id in self._expected
        ]
        self._hand_over(hits)

    def _hand_over(self, hits: Sequence[StoredResult]) -> None:
        self.unexpect([hit.id for hit in hits])
        if hits and self._sink is not None:
            self._sink(hits)

    def _newest(self) -> int:
        rows = self._hub.read(_LAST, ())
        return int(rows[0][0]) if rows else self._last

    def _new(self) -> list[Any] | None:
        """What is behind the last one: what came for us, or whatever is expected among all."""
        if self._foreign:
            rows = self._hub.read(_ALL, (self._last, self._hub.ns))
        else:
            rows = self._hub.read(_OURS, (self._last, self._hub.ns, self._hub.address))
        if rows is None:
            return None
        found: list[Any] | None = [row for row in rows if row[1] is not None]
        if found and self._foreign:
            found = self._documents(found)
        if found is not None:
            # Only now: what could not be read is read the next time.
            self._last = max([self._last, *(row[0] for row in rows if row[1] is None)])
        return found

    def _documents(self, rows: Sequence[Any]) -> list[Any] | None:
        hits = [seq for seq, task_id, _, _ in rows if task_id in self._expected]
        return self._hub.read(_DOCUMENTS, (to_json(hits),)) if hits else []

    def _wonder(self) -> None:
        if not self._foreign and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look_abroad)

    def _look_abroad(self) -> None:
        self._timer = None
        if self._foreign or self._expected <= self._ours or self._hub.failure is not None:
            return
        self._foreign = True
        self._task = asyncio.get_running_loop().create_task(self._go_abroad())

    def _come_home(self) -> None:
        self._timer = None
        if not self._expected and self._hub.failure is None:
            self._foreign = False
            self._hub.dismiss(Wants.FOREIGN_RESULTS)

    async def _go_abroad(self) -> None:
        # The bell rings for foreign results once this is done; until then, or without it, the looks find them.
        with contextlib.suppress(TranshipError):
            await self._hub.enroll(Wants.FOREIGN_RESULTS)
        # While only ours were looked for, others may have been passed over.
        with contextlib.suppress(TranshipError):
            known = await self.get_many(list(self._expected - self._ours))
            self._hand_over([one for one in known if one.state.terminal and one.id in self._expected])
        self._pull()
