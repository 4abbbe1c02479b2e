"""Sends without a task: each batch is answered once, whatever the driver does with its callback."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from tranship.driver._answers import checked
from tranship.driver._nouns import Answer, Outgoing
from tranship.driver._protocols import Connection, Posting
from tranship.driver._steps import BLOCKED
from tranship.driver._supervisor import AnswerLost, Supervisor
from tranship.driver._timing import Deadlines
from tranship.errors import PluginError, TranshipError

__all__ = ["Posts"]

log = logging.getLogger("tranship.driver")

Done = Callable[[Sequence[Answer] | TranshipError], None]


class _Post:
    """One batch: how many messages, over which connection, and who is told."""

    __slots__ = ("answered", "connection", "count", "done", "mark")

    def __init__(self, connection: Connection, count: int, mark: object, done: Done) -> None:
        self.connection, self.count, self.mark, self.done = connection, count, mark, done
        self.answered = False
        """Whether the driver has said something; whoever waited may have been told before that."""


class Posts:
    """The batches of one backend that were posted and are not answered yet.

    Args:
        supervisor: of the backend.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._open: dict[_Post, None] = {}
        self._calling: _Post | None = None
        self._asked: tuple[int, Posting | None] = 0, None
        self._deadlines = Deadlines(supervisor.timing.command, self._overdue)
        supervisor.on_gone.append(self._give_up)

    @property
    def possible(self) -> bool:
        """Whether the connection that is there now can do without a task."""
        return self._supervisor.connected and (self._supervisor.immediate or self._queue is not None)

    @property
    def _queue(self) -> Posting | None:
        """The queue, if it can post; asking for a protocol is slow, and done once for each connection."""
        if self._asked[0] != self._supervisor.generation:
            queue = self._supervisor.current.queue
            self._asked = self._supervisor.generation, queue if isinstance(queue, Posting) else None
        return self._asked[1]

    def post(self, batch: Sequence[Outgoing], done: Done) -> None:
        """Send a batch, and call ``done`` once, later, with the answers or one of our errors.

        Raises:
            BrokerUnreachable, ClosedError: nothing was sent.
        """
        if self._supervisor.immediate:
            asyncio.get_running_loop().call_soon(done, self._sent(batch))
        else:
            self._post(batch, done)

    def _sent(self, batch: Sequence[Outgoing]) -> Sequence[Answer] | TranshipError:
        supervisor = self._supervisor
        try:
            return checked(supervisor.name, "send", supervisor.now("send", lambda c: c.queue.send(batch)), len(batch))
        except TranshipError as error:
            return error

    def _post(self, batch: Sequence[Outgoing], done: Done) -> None:
        connection, loop, thread = self._supervisor.current, asyncio.get_running_loop(), threading.get_ident()
        queue = self._queue
        assert queue is not None
        post = _Post(connection, len(batch), self._begin(connection), done)
        self._open[post] = None

        def heard(found: Sequence[Answer] | Exception) -> None:
            if threading.get_ident() != thread:
                log.error("%s: post() called done from another thread than the loop's", self._supervisor.name)
                loop.call_soon_threadsafe(self._heard, post, found)
            elif self._calling is post:
                loop.call_soon(self._heard, post, found)
            else:
                self._heard(post, found)

        self._calling, began = post, time.monotonic()
        try:
            queue.post(batch, heard)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            heard(error)
        finally:
            self._calling = None
            if (seconds := time.monotonic() - began) > BLOCKED:
                self._supervisor.blocked("post", seconds)

    def _heard(self, post: _Post, found: Sequence[Answer] | Exception) -> None:
        if post.answered:
            log.error("%s: post() called done twice for one batch; what it said first counts", self._supervisor.name)
            return
        post.answered = True
        if self._open.pop(post, self) is None:
            self._supervisor.end(post.mark)
            self._deadlines.end(post.mark)
            post.done(self._outcome(post, found))

    def _outcome(self, post: _Post, found: Sequence[Answer] | Exception) -> Sequence[Answer] | TranshipError:
        if isinstance(found, Exception):
            made = self._supervisor.explained("post", found, post.connection)
            made.__cause__ = made.__cause__ or (None if made is found else found)
            return made
        try:
            return checked(self._supervisor.name, "post", found, post.count)
        except TranshipError as wrong:
            return wrong

    def _begin(self, connection: Connection) -> object:
        """Note that a batch is under way: a connection that cannot be lost has no time limits of its own."""
        return self._deadlines.begin() if connection.lost is None else self._supervisor.begin()

    def _overdue(self) -> None:
        name, seconds = self._supervisor.name, self._supervisor.timing.command
        text = f"{name}: post() has not called done for a batch within {seconds:g} s; it calls it once for each"
        log.error("%s", text)
        self._answer_all(PluginError(text))

    def _give_up(self) -> None:
        """Tell everybody that the connection has gone, with whatever was under way."""
        self._deadlines.close()
        self._answer_all(AnswerLost(f"{self._supervisor.url}: the connection has gone"))

    def _answer_all(self, error: TranshipError) -> None:
        posts, self._open = self._open, {}
        for post in posts:
            self._deadlines.end(post.mark)
            post.done(error)
