"""Results where nothing is kept: they come once, to who submitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import uuid4

from tranship.driver._connection import ReplyQueue, replies_of
from tranship.driver._results import NAMES, STATES, checked_size
from tranship.driver._supervisor import Supervisor
from tranship.errors import UnsupportedError
from tranship.ports import ResultSink, StoredResult

__all__ = ["PushedResults"]

log = logging.getLogger("tranship.driver")


class PushedResults:
    """The result store of a driver without a table: RESULT_PUSH without RESULTS.

    Results go to an address, which travels as ``reply_to``: the driver's reply queue, or, where it has none, a name of
    its topic; what is told by topic while the connection of who submitted is away is lost.

    Args:
        supervisor: of the backend, which is connected.
        limit: bytes of a result document.
    """

    def __init__(self, supervisor: Supervisor, limit: int) -> None:
        self._supervisor, self._limit = supervisor, limit
        self._name = f"p/{uuid4().hex}"
        self._sink: ResultSink | None = None
        self.address = self._queue.address
        supervisor.on_restored.append(self._hear_again)

    @property
    def _queue(self) -> ReplyQueue:
        """The reply queue over the connection that is there now."""
        return replies_of(self._supervisor.current) or TopicReplies(self._supervisor, self._name)

    def attach(self, sink: ResultSink) -> None:
        """Say where results go, and hear what comes."""
        self._supervisor.gate.check()
        first, self._sink = self._sink is None, sink
        if first and self._supervisor.connected:
            self._queue.hear(self._heard)

    async def _hear_again(self) -> None:
        if self._sink is not None:
            self._queue.hear(self._heard)

    def _heard(self, results: Sequence[StoredResult]) -> None:
        try:
            if self._sink is not None:
                self._sink(results)
        except Exception:
            # The driver has to go on: with the next ones, and with what it says of these to its broker.
            log.exception("%s: taking %d results failed", self._supervisor.url, len(results))

    def expect(self, ids: Sequence[str]) -> None:
        """Everything comes that was submitted with our address."""

    def unexpect(self, ids: Sequence[str]) -> None:
        """It comes all the same."""

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Send each to who has submitted; all of them win, as nobody keeps score."""
        self._supervisor.gate.check()
        checked_size(results, self._limit)
        wanted = [one for one in results if one.reply_to]
        if wanted:
            await self._supervisor.call("push", lambda _: self._queue.push(wanted))
        return [True] * len(results)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Nobody keeps them.

        Raises:
            UnsupportedError: always.
        """
        self._supervisor.gate.check()
        del ids
        raise UnsupportedError(f"{self._supervisor.name} keeps no results: they come once, to who submitted")

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""
        self._supervisor.gate.check()
        del ids


class TopicReplies:
    """The reply queue of a driver that has only a topic.

    Args:
        supervisor: of the backend.
        address: the name that tells of results for us.
    """

    def __init__(self, supervisor: Supervisor, address: str) -> None:
        self._topic, self.address = supervisor.topic, address

    def hear(self, heard: Callable[[Sequence[StoredResult]], None]) -> None:
        """Subscribe."""

        def told(_name: str, value: bytes) -> None:
            task_id, state, document = value.split(b"\n", 2)
            heard([StoredResult(id=task_id.decode(), state=STATES[state], document=document)])

        self._topic.subscribe([self.address], told)

    async def push(self, results: Sequence[StoredResult]) -> None:
        """Publish each under the name that it is for."""
        items = [(one.reply_to or "", b"\n".join((one.id.encode(), NAMES[one.state], one.document))) for one in results]
        await self._topic.publish(items)
