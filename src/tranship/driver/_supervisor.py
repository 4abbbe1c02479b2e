"""The connection supervisor: one connection at a time, back-off with jitter, and the seam where errors are mapped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast

from tranship.clocks import Clock
from tranship.driver._answers import LISTS, checked, listed
from tranship.driver._connection import Connection, TellingTime, Topic
from tranship.driver._dialling import Classify, Dialler
from tranship.driver._nouns import QueueTraits
from tranship.driver._queue import traits_of
from tranship.driver._shielded import Left, Shielded
from tranship.driver._steps import Waits, at_once, stepped, steps_of
from tranship.driver._timing import Deadlines, Timing
from tranship.errors import (
    BrokerGone,
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    PluginError,
    StorageFull,
    TranshipError,
)
from tranship.guards import Gate
from tranship.ports import ConnectionEvent

__all__ = ["OF_ALL", "AnswerLost", "Supervisor"]

T = TypeVar("T")
log = logging.getLogger("tranship.driver")

OF_ALL: Final = (BrokerUnreachable, PluginError, StorageFull)
"""Errors of a verb that have nothing to do with a single item of its batch."""
CLOSING: Final = 2.0
"""Seconds that a connection may take to close."""


class AnswerLost(BrokerUnreachable):
    """The connection went while a verb was under way: it may have been done."""


def _permanent(lost: asyncio.Future[BaseException | None]) -> TranshipError | None:
    """Return why a connection is lost, if that is for good."""
    reason = lost.result()
    return reason if isinstance(reason, TranshipError) and not reason.retryable else None


class Supervisor:
    """Keeps one connection, and runs the driver's verbs over it.

    A verb never sees that its caller was cancelled, and is ended at close. Over a connection that is ``immediate``
    there is no moment to cancel it in; for the others, see :class:`Shielded`.

    Args:
        name: of the driver, for errors.
        url: without secrets.
        connect: opens a connection.
        classify: the driver's.
        timing: how long to wait for what.

    Attributes:
        table_topic: what stands in for the topic of a driver that has none.
        generation: counts the connections; 0: there has been none.
        traits: of the queue of the last connection.
        immediate: whether its verbs never wait.
        taskless: whether they may run in any task.
        clock: of the broker, where a connection tells it.
        connected: whether there is a connection now.
        listeners: called when the connection is lost or restored.
        on_restored: run one after the other after each restoration, before anybody else is told.
        on_gone: called when a connection is lost or closed.
    """

    def __init__(
        self, name: str, url: str, connect: Callable[[], Awaitable[Connection]], classify: Classify, timing: Timing
    ) -> None:
        self.name: str = name
        self.url: str = url
        self.gate: Gate = Gate(url)
        self.timing: Timing = timing
        self._dialler, self._classify = Dialler(url, connect, classify, timing), classify
        self._connection: Connection | None = None
        self._deadlines: Deadlines | None = None
        self.table_topic: Topic | None = None
        self.generation: int = 0
        self.traits: QueueTraits = QueueTraits()
        self.immediate: bool = False
        self.taskless: bool = False
        self.clock: Clock = Clock()
        self.connected: bool = False
        self.listeners: list[Callable[[ConnectionEvent, int], None]] = []
        self.on_restored: list[Callable[[], Awaitable[None]]] = []
        self.on_gone: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waited_for: set[Shielded[Any]] = set()

    @property
    def current(self) -> Connection:
        """The connection.

        Raises:
            ClosedError: the backend is closed, or was never opened.
            BrokerUnreachable: there is none now.
            BrokerRefused: likewise, because the broker does not let us in any more.
            TranshipError: it is lost for good.
        """
        connection = self._connection
        if connection is None or self.gate.closed:
            self.check()
            reason = self._dialler.failure
            kind = BrokerRefused if isinstance(reason, BrokerRefused) else BrokerUnreachable
            raise kind(f"{self.url}: not connected, trying again: {reason}") from reason
        lost = connection.lost
        if lost is not None and lost.done() and (permanent := _permanent(lost)) is not None:
            self.gate.failure = permanent
            self.gate.check()
        return connection

    def check(self) -> None:
        """Return while the backend is open.

        Raises:
            ClosedError: it is closed, or was never opened.
            TranshipError: it has ended for good.
        """
        self.gate.check()
        if self.generation == 0:
            raise ClosedError(f"{self.url} is not open; await open() first")

    @property
    def topic(self) -> Topic:
        """The driver's topic, or the one that is made of its table."""
        found = (self._connection or self.current).topic or self.table_topic
        assert found is not None
        return found

    # Running verbs.

    async def call(self, verb: str, run: Callable[[Connection], Awaitable[T]], *, wait: float = 0.0) -> T:
        """Run one verb of the driver, whatever becomes of the caller; otherwise as :meth:`run`."""
        return await self.together(self.run(verb, run, wait=wait))

    async def together(self, work: Coroutine[Any, Any, T]) -> T:
        """Run what a cancel of the caller must not part: several verbs in a row.

        Raises:
            ClosedError: the backend was closed meanwhile.
        """
        if self.immediate:
            return await work
        shielded = self.shielded(work)
        self._waited_for.add(shielded)
        try:
            return await shielded
        except Left:
            raise ClosedError(f"{self.url} is closed") from None
        finally:
            self._waited_for.discard(shielded)

    def shielded(self, work: Coroutine[Any, Any, T], *, in_task: bool = False) -> Shielded[T]:
        """Return ``work`` for one who awaits it, or has it ``in_task`` at once."""
        return Shielded(work, self.spawn, in_task=in_task or not self.taskless)

    async def run(self, verb: str, run: Callable[[Connection], Awaitable[T]], *, wait: float = 0.0) -> T:
        """Run one verb in the current task, with a time limit and every error as one of ours.

        Args:
            verb: its name, for errors.
            run: calls it.
            wait: seconds that it may wait for something beyond its round trip.

        Raises:
            AnswerLost: the connection went; the verb was done, or not.
            BrokerUnreachable: there is no connection; it was not done.
            PluginError: the driver raised what its ``classify`` does not know.
        """
        if self.immediate:
            return listed(self.name, verb, self.now(verb, run))
        connection, deadlines = self.current, self._deadlines
        mark = None if deadlines is None else deadlines.begin(wait)
        try:
            found = await stepped(steps_of(run(connection)), lambda seconds: self.blocked(verb, seconds))
            return listed(self.name, verb, found) if verb in LISTS else found
        except Exception as native:  # noqa: BLE001 - it is raised
            self._raise(verb, native, connection)
        finally:
            if deadlines is not None:
                deadlines.end(mark)

    def now(self, verb: str, run: Callable[[Connection], Awaitable[T]]) -> T:
        """Do the same over a connection that is immediate, and return when it is done."""
        connection = self.current
        try:
            return at_once(run(connection), lambda seconds: self.blocked(verb, seconds))
        except Exception as native:  # noqa: BLE001 - it is raised
            self._raise(verb, native, connection)

    def blocked(self, verb: str, seconds: float) -> None:
        """Say that a verb has held up everything else on the loop: leases, heartbeats, other tasks."""
        text = "%s: %s() has blocked the event loop for %.1f s; a verb awaits what takes time, or has a thread do it"
        # A busy machine may be to blame, too.
        log.warning(text, self.name, verb, seconds)

    async def answers(self, verb: str, run: Callable[[Connection], Awaitable[Sequence[T]]], count: int) -> Sequence[T]:
        """Run a verb that answers each of ``count`` items; otherwise as :meth:`run`.

        Raises:
            PluginError: it does not answer each of them, or with what it may not answer.
        """
        found = self.now(verb, run) if self.immediate else await self.run(verb, run)
        return checked(self.name, verb, found, count)

    def begin(self, wait: float = 0.0) -> object:
        """Note that a verb is under way; the connection is given up unless :meth:`end` gets the mark in time."""
        return None if self._deadlines is None else self._deadlines.begin(wait)

    def end(self, mark: object) -> None:
        """Note that a verb has ended; one of a connection that has gone, too."""
        if self._deadlines is not None:
            self._deadlines.end(mark)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the backend at the latest; its error, if nobody asks, is nobody's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def explained(self, verb: str, native: Exception, connection: Connection) -> TranshipError:
        """Return one of our errors for what a verb has raised over ``connection``."""
        if isinstance(native, BrokerGone):
            self._give_up(native)
        if isinstance(native, TranshipError):
            return native
        if isinstance(native, Waits):
            return PluginError(f"{self.name}: {verb}() waits, and its connection says that it is immediate")
        made = self._classify(native)
        if made is None:
            return PluginError(
                f"{self.name}: {verb}() raised {type(native).__name__}, which the driver's classify() does not know"
            )
        if not isinstance(made, BrokerUnreachable):
            return made
        connection.abort()
        return AnswerLost(f"{self.url}: {made}")

    def _raise(self, verb: str, native: Exception, connection: Connection) -> NoReturn:
        made = self.explained(verb, native, connection)
        if made is native:
            raise native
        raise made from native

    # The connection's life.

    def check_new(self) -> None:
        """Return if it was neither opened nor closed before.

        Raises:
            ClosedError: it was.
        """
        self.gate.check()
        if self.generation:
            raise ClosedError(f"{self.url} was opened before; make a new backend")

    async def open(self) -> None:
        """Connect, once.

        Raises:
            ClosedError: it was opened or closed before.
            BrokerUnreachable, BrokerRefused, ...: as the driver classifies it.
        """
        self.check_new()
        connection = await self._dialler.connect()
        if self.gate.closed:
            self._dialler.close_soon(connection)
            await self._dialler.closed()
            self.gate.check()
        self._use(connection)
        with contextlib.suppress(TranshipError):
            await self.read_clock()
        if connection.lost is not None:
            self.spawn(self._supervise(connection))

    def _use(self, connection: Connection) -> None:
        self._connection, self.connected = connection, True
        self.generation += 1
        self.traits = traits_of(connection.queue)
        self.immediate = getattr(connection, "immediate", False)
        self.taskless = getattr(connection, "taskless", False)
        limited = connection.lost is not None and self.timing.command is not None
        self._deadlines = Deadlines(self.timing.command, connection.abort) if limited else None

    def _gone(self) -> Connection | None:
        connection, self._connection = self._connection, None
        self.connected = False
        if self._deadlines is not None:
            self._deadlines.close()
        for hook in self.on_gone:
            hook()
        return connection

    async def _supervise(self, connection: Connection) -> None:
        """Watch over the connection, and replace it when it is lost, until the backend is closed."""
        try:
            await self._follow(connection)
        finally:
            if not self.gate.closed and self._connection is not None:
                # Cancelled with a loop that ends, without a goodbye: no socket may outlive it.
                self._connection.abort()

    async def _follow(self, connection: Connection) -> None:
        """Replace what is lost; for a reason that is permanent it stays lost, and every call says that from then on."""
        while True:
            assert connection.lost is not None
            while not connection.lost.done():
                await asyncio.wait({connection.lost}, timeout=self.timing.keepalive)
                if not connection.lost.done():
                    with contextlib.suppress(TranshipError):
                        await self.run("ping", lambda current: current.ping())
            if self._connection is None:
                return  # A verb has found out that it is gone for good, and said so.
            self._dialler.failure = connection.lost.result()
            log.warning("%s: the connection is lost: %r", self.url, self._dialler.failure)
            if (reason := _permanent(connection.lost)) is not None:
                self._give_up(reason)
                return
            self._gone()
            self._tell(ConnectionEvent.LOST)
            self._dialler.close_soon(connection)
            connection = await self._dialler.connect_again()
            self._use(connection)
            await self._restore()

    def _give_up(self, reason: TranshipError) -> None:
        """Have every call say so from now on: what we were connected to is gone, and does not come back."""
        self.gate.failure = reason
        if self._connection is not None:
            self._dialler.close_soon(self._connection)
            self._gone()
            self._tell(ConnectionEvent.LOST)

    async def read_clock(self) -> None:
        """Ask the broker what time it is, where it has a clock of its own.

        Raises:
            BrokerUnreachable: it does not answer.
            PluginError: it says no time.
        """
        if isinstance(self.current, TellingTime):
            asked = time.time()
            there = await self.run("now", lambda c: cast("TellingTime", c).now())
            if not isinstance(there, float | int | None):
                raise PluginError(f"{self.name}: now() gave {there!r:.100}; expected seconds since 1970, or None")
            if there is not None:
                self.clock.read(asked, there)

    async def _restore(self) -> None:
        for hook in [self.read_clock, *self.on_restored]:
            try:
                await hook()
            except TranshipError as error:
                log.info("%s: not restored: %s", self.url, error)  # with the next connection it is tried again
            except Exception:
                log.exception("%s: restoring failed in an unexpected way", self.url)
        self._tell(ConnectionEvent.RESTORED)

    def _tell(self, event: ConnectionEvent) -> None:
        for listener in list(self.listeners):
            try:
                listener(event, self.generation)
            except Exception:
                log.exception("%s: a listener failed", self.url)

    async def aclose(self) -> None:
        """End everything. Idempotent."""
        self.gate.closed = True
        for shielded in list(self._waited_for):
            shielded.leave()
        # Not those of another loop: in a forked child, what its parent left behind.
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        tasks = {task for task in self._tasks if task is not this and task.get_loop() is loop}
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSING)
            if left:
                log.warning("%s: %d verbs of %s ignore that they are cancelled", self.url, len(left), self.name)
        connection = self._gone()
        if connection is not None:
            self._dialler.close_soon(connection)
        await self._dialler.closed()
