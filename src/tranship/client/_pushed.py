"""Results of a broker that can only push them to who submitted: this process remembers what came.

Such a broker (AMQP's reply queues) keeps nothing that could be read: only the process that has submitted a task
gets its result, once. What has come is kept here for a while, so that a handle can be asked twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from tranship.envelope import TaskState
from tranship.errors import UnsupportedError
from tranship.ports import ResultSink, ResultStore, StoredResult

__all__ = ["Remembered"]

KEPT: Final = 10_000
"""Results that are kept after they came."""
KEPT_BYTES: Final = 64 * 1024 * 1024
AWAITED: Final = 1_000_000
"""Tasks without a result yet that are remembered as our own."""


class Remembered:
    """A :class:`~tranship.ports.ResultStore` of what was submitted here, over a driver's that only pushes.

    Args:
        store: the driver's.
        name: the backend's, for errors.
    """

    def __init__(self, store: ResultStore, name: str) -> None:
        self._store = store
        self._name = name
        self._sink: ResultSink = lambda _results: None
        self._awaited: dict[str, None] = {}
        self._come: dict[str, StoredResult] = {}
        self._order: deque[str] = deque()
        self._bytes = 0
        store.attach(self.come)

    def submitted(self, ids: Iterable[str]) -> None:
        """These are about to be submitted: their results will come here."""
        self._awaited.update(dict.fromkeys(ids))
        while len(self._awaited) > AWAITED:
            del self._awaited[next(iter(self._awaited))]

    def attach(self, sink: ResultSink) -> None:
        """Say where results go."""
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """Everything comes that was submitted here."""

    def unexpect(self, ids: Sequence[str]) -> None:
        """What nobody waits for now may be asked for later."""

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Send results to who submitted."""
        return await self._store.put(results)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Say what has come of each.

        Raises:
            UnsupportedError: one of ``ids`` was not submitted here.
        """
        return [self._get(task_id) for task_id in ids]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Keep their results no longer."""
        for task_id in ids:
            self._drop(task_id)

    def _get(self, task_id: str) -> StoredResult:
        come = self._come.get(task_id)
        if come is not None:
            return come
        if task_id in self._awaited:
            return StoredResult(id=task_id, state=TaskState.PENDING)
        raise UnsupportedError(
            f"the result of task {task_id} cannot be asked for here: {self._name} without a result store answers the "
            "process that submitted a task, while it lives, and nobody else. Give a result store, such as "
            "redis://...: result_url, or TRANSHIP_RESULT_URL, for clients and workers alike",
            task_id=task_id,
        )

    def come(self, results: Sequence[StoredResult]) -> None:
        """Take results of what was submitted here; of a task that ran twice, and has answered twice, the first."""
        ours = [one for one in results if self._awaited.pop(one.id, self) is None]
        for one in ours:
            self._keep(one)
        if ours:
            self._sink(ours)

    def _keep(self, result: StoredResult) -> None:
        self._come[result.id] = result
        self._order.append(result.id)
        self._bytes += len(result.document)
        while len(self._order) > KEPT or self._bytes > KEPT_BYTES:
            self._drop(self._order.popleft())

    def _drop(self, task_id: str) -> None:
        come = self._come.pop(task_id, None)
        if come is not None:
            self._bytes -= len(come.document)
