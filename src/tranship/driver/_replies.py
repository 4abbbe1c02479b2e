"""Results where nothing is kept: told once, by topic, to who submitted."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from tranship.driver._results import NAMES, STATES, checked_size
from tranship.driver._supervisor import Supervisor
from tranship.errors import UnsupportedError
from tranship.ports import ResultSink, StoredResult

__all__ = ["TopicReplies"]


class TopicReplies:
    """The result store of a driver that has a topic and no table: RESULT_PUSH without RESULTS.

    Who submits subscribes to a name of his own, which travels as ``reply_to``. What is told while his connection is
    away is lost.

    Args:
        supervisor: of the backend.
        limit: bytes of a result document.
    """

    def __init__(self, supervisor: Supervisor, limit: int) -> None:
        self.address = f"p/{uuid4().hex}"
        self._supervisor, self._limit = supervisor, limit
        self._sink: ResultSink | None = None
        supervisor.on_restored.append(self._subscribe_again)

    def attach(self, sink: ResultSink) -> None:
        """Say where results go, and subscribe."""
        first, self._sink = self._sink is None, sink
        if first and self._supervisor.connected:
            self._supervisor.topic.subscribe([self.address], self._heard)

    async def _subscribe_again(self) -> None:
        if self._sink is not None:
            self._supervisor.topic.subscribe([self.address], self._heard)

    def _heard(self, _name: str, value: bytes) -> None:
        task_id, state, document = value.split(b"\n", 2)
        if self._sink is not None:
            self._sink([StoredResult(id=task_id.decode(), state=STATES[state], document=document)])

    def expect(self, ids: Sequence[str]) -> None:
        """Everything comes that was submitted with our address."""

    def unexpect(self, ids: Sequence[str]) -> None:
        """It comes all the same."""

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Tell those who have submitted."""
        checked_size(results, self._limit)
        items = [
            (one.reply_to, b"\n".join((one.id.encode(), NAMES[one.state], one.document)))
            for one in results
            if one.reply_to is not None
        ]
        if items:
            await self._supervisor.call("publish", lambda _: self._supervisor.topic.publish(items))
        return [True] * len(results)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Nobody keeps them.

        Raises:
            UnsupportedError: always.
        """
        del ids
        raise UnsupportedError(f"{self._supervisor.name} keeps no results: they come once, to who submitted")

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""
        self._supervisor.gate.check()
        del ids
