"""Sends without a task: each batch is answered once, whatever the driver does with its callback.

Where the queue can recall, what was under way when the connection went is answered over the next one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from tranship.driver._answers import checked
from tranship.driver._connection import Connection
from tranship.driver._nouns import Answer, Outgoing
from tranship.driver._queue import Posting, Recalling
from tranship.driver._steps import BLOCKED
from tranship.driver._supervisor import AnswerLost, Supervisor
from tranship.driver._timing import Deadlines
from tranship.errors import PluginError, TranshipError

__all__ = ["Posts"]

log = logging.getLogger("tranship.driver")

AGAIN: Final = 0.5
"""Seconds between two questions what became of a batch."""
Done = Callable[[Sequence[Answer] | TranshipError], None]


class _Post:
    """One batch, over which connection it went, and who is told."""

    __slots__ = ("answered", "batch", "connection", "done", "mark")

    def __init__(self, connection: Connection, batch: Sequence[Outgoing], mark: object, done: Done) -> None:
        self.connection, self.batch, self.mark, self.done = connection, batch, mark, done
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
        self._lost: dict[_Post, None] = {}
        """Those whose answer went with their connection, and is asked for over the next one."""
        self._calling: _Post | None = None
        self._generation = 0
        """Over which connection the next two hold."""
        self._queue: Posting | None = None
        self._recalls = False
        self._deadlines = Deadlines(supervisor.timing.command, self._overdue)
        supervisor.on_gone.append(self._give_up)
        supervisor.on_restored.append(self._recall)

    @property
    def possible(self) -> bool:
        """Whether the connection that is there now can do without a task."""
        supervisor = self._supervisor
        if not supervisor.connected:
            return False
        if self._generation != supervisor.generation:
            self._look_anew()
        return supervisor.immediate or self._queue is not None

    def _look_anew(self) -> None:
        """Ask what the queue of the connection can; asking for a protocol is slow, and done once for each of them."""
        queue, self._generation = self._supervisor.current.queue, self._supervisor.generation
        self._queue = queue if isinstance(queue, Posting) else None
        self._recalls = isinstance(queue, Recalling)

    @property
    def recalled(self) -> bool:
        """Whether what is posted now gets an answer even if the connection goes."""
        if self._generation != self._supervisor.generation:
            self._look_anew()
        return self._queue is not None and self._recalls

    async def sent(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Send a batch and return its answers.

        Raises:
            TranshipError: instead of them.
        """
        waiter: asyncio.Future[Sequence[Answer] | TranshipError] = asyncio.get_running_loop().create_future()
        self.post(batch, lambda found: None if waiter.done() else waiter.set_result(found))
        found = await waiter
        if isinstance(found, TranshipError):
            raise found
        return found

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
        assert self._generation == self._supervisor.generation
        post = _Post(connection, batch, self._begin(connection), done)
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
            if post.mark is not None:
                self._supervisor.end(post.mark)
                self._deadlines.end(post.mark)
            outcome: Sequence[Answer] | TranshipError
            if type(found) is list and len(found) == found.count(None) == len(post.batch):
                outcome = found  # nearly always each of them is stored
            else:
                outcome = self._outcome(post, found)
            if self._recalls and isinstance(outcome, AnswerLost) and not self._over:
                self._lost[post] = None
            else:
                post.done(outcome)

    def _outcome(self, post: _Post, found: Sequence[Answer] | Exception) -> Sequence[Answer] | TranshipError:
        if isinstance(found, Exception):
            made = self._supervisor.explained("post", found, post.connection)
            made.__cause__ = made.__cause__ or (None if made is found else found)
            return made
        try:
            return checked(self._supervisor.name, "post", found, len(post.batch))
        except TranshipError as wrong:
            return wrong

    def _begin(self, connection: Connection) -> object:
        """Note that a batch is under way: a connection that cannot be lost has no time limits of its own."""
        return self._deadlines.begin() if connection.lost is None else self._supervisor.begin()

    def _overdue(self) -> None:
        name, seconds = self._supervisor.name, self._supervisor.timing.command
        text = f"{name}: post() has not called done for a batch within {seconds:g} s; it calls it once for each"
        log.error("a driver's mistake: %s", text)
        self._answer_all(PluginError(text))

    @property
    def _over(self) -> bool:
        """Whether there will be no other connection."""
        gate = self._supervisor.gate
        return gate.closed or gate.failure is not None

    def _give_up(self) -> None:
        """Tell everybody that the connection has gone, with whatever was under way."""
        self._deadlines.close()
        if self._recalls:
            self._lost |= self._open
            self._open = {}
        if self._over:
            self._open, self._lost = {**self._lost, **self._open}, {}
        self._answer_all(AnswerLost(f"{self._supervisor.url}: the connection has gone"))

    def _answer_all(self, error: TranshipError) -> None:
        posts, self._open = self._open, {}
        for post in posts:
            self._deadlines.end(post.mark)
            post.done(error)

    # What became of those whose answer was lost.

    async def _recall(self) -> None:
        """Ask once before anybody is told that the broker is back, and then for as long as it is refused."""
        if self._lost and not await self._found_out():
            self._supervisor.spawn(self._ask_again(self._supervisor.generation))

    async def _ask_again(self, generation: int) -> None:
        while self._lost and self._supervisor.generation == generation and self._supervisor.connected:
            await asyncio.sleep(AGAIN)
            await self._found_out(again=True)

    async def _found_out(self, *, again: bool = False) -> bool:
        """Answer those whose connection has gone; False: nobody says yet what became of them."""
        posts, name = list(self._lost), self._supervisor.name
        batches = [post.batch for post in posts]
        try:
            found = await self._supervisor.run("recall", lambda c: cast("Recalling", c.queue).recall(batches))
            if len(found) != len(batches):
                raise PluginError(f"{name}: recall() gave {len(found)} answers for {len(batches)} batches")
            answers = [checked(name, "recall", one, len(batch)) for one, batch in zip(found, batches, strict=True)]
        except TranshipError as error:
            level = logging.DEBUG if again else logging.WARNING
            log.log(level, "%s: it is not known yet what became of messages: %s", self._supervisor.url, error)
            return False
        for post, answer in zip(posts, answers, strict=True):
            if self._lost.pop(post, self) is None:
                post.done(answer)
        return True
