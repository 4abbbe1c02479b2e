"""One time that a worker works: from before its broker is there until everything is given back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from tranship.errors import BrokerError
from tranship.registry import Registry
from tranship.worker._builder import open_session
from tranship.worker._checkup import Checkup, WorkerStatus
from tranship.worker._health import Door
from tranship.worker._io import IOLoop
from tranship.worker._opening import begin
from tranship.worker._record import Run
from tranship.worker._session import Session
from tranship.worker._setup import Setup
from tranship.worker._stopping import Stopping
from tranship.worker._watch import EVERY, Watch

__all__ = ["NOT_AT_WORK", "Owner", "Shift", "Until"]

log = logging.getLogger("tranship.worker")

NOT_AT_WORK: Final = "not at work"
EVERY_ASKED: Final = 0.1
"""Seconds between two looks whether a handler blocks, where health checks wait for their answer."""
WINDING: Final = 30.0
"""Seconds that giving back and settling may take in a hurry."""
LAST_CALL: Final = 6.0
"""Seconds that receiving gets to notice that it is over: a little more than its longest pause."""
_SHARED: Final = (
    "task type %r shares %s with others: what comes beyond its limit of %d is put back for a moment; tasks of a type "
    "with a queue of its own stay at the broker"
)

Until = Callable[[Session], Any]
"""Returns a coroutine that ends when there is nothing more to do."""


class Owner(Protocol):
    """Who is told what happens: the worker."""

    on_listen: Callable[[int], None]
    on_begin: Callable[[], None]
    on_task_end: Callable[[Run], None] | None
    on_end: Callable[[], None]

    def status(self) -> WorkerStatus:
        """What a health check wants to know."""


class Shift:
    """Opens the broker, works until there is nothing more to do or it is told to stop, and winds down.

    Made on the loop that handlers run on; the work itself is on an I/O loop of its own.

    Args:
        owner: is told when it begins and ends.
        setup: what the worker was given.
        stopping: tells when to stop.
        registry: the plugins to choose from; None: those installed.

    Attributes:
        session: what works; None: the broker is not there yet.
        problem: why it does not, then.
        health_port: where health checks are answered; None: nowhere.
    """

    def __init__(self, owner: Owner, setup: Setup, stopping: Stopping, *, registry: Registry | None) -> None:
        self._owner = owner
        self._setup = setup
        self._stopping = stopping
        self._registry = registry
        self.session: Session | None = None
        self.problem = NOT_AT_WORK
        self.health_port: int | None = None
        self._io = IOLoop(f"tranship-worker-{setup.name}")
        self._watch = Watch(
            self._io,
            self._runs,
            lambda: self.session.latest() if self.session else None,
            every=EVERY if setup.settings.health_port is None else EVERY_ASKED,
        )

    async def work(self, until: Until, patience: float) -> None:
        """Work until ``until`` says so, or it is told to stop.

        Args:
            until: when there is nothing more to do.
            patience: seconds for which a broker that cannot be reached is waited for at the start.
        """
        await self._io.run(self._work(until, patience))

    def close(self) -> None:
        """Leave the I/O loop."""
        self._watch.stop()
        self._io.close()

    # On the I/O loop.

    async def _work(self, until: Until, patience: float) -> None:
        stopping, name = self._stopping, self._setup.name
        setup = replace(self._setup, began=self._watch.begin, ended=self._owner.on_task_end)
        stopping.begin()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._owner.on_end)
            setup = await self._be_asked(setup, stack)
            session = await begin(
                lambda opened: open_session(setup, opened, io=self._io, registry=self._registry),
                stack,
                patience=patience,
                stop=stopping.stop,
                failed=self._waits_for_broker,
            )
            if session is None:
                log.info("worker %s stops: %s; it was not at work yet", name, stopping.reason)
                return
            self.session = session
            self._watch.keep(session.lease)
            self._say_begin(session)
            self._owner.on_begin()
            await self._session_until(session, until)

    def _runs(self) -> Sequence[Run]:
        return self.session.runs() if self.session else ()

    async def _be_asked(self, setup: Setup, stack: contextlib.AsyncExitStack) -> Setup:
        """Answer health checks, from before the broker is asked for anything until everything is given back."""
        settings = setup.settings
        if settings.health_port is None:
            return setup
        checkup = Checkup(
            setup.name,
            tasks=setup.tasks,
            queues=setup.queues,
            limit=settings.max_concurrent_tasks,
            status=self._owner.status,
            runs=self._runs,
            doors={} if settings.control_token is None else {"/control": self._door(settings.control_token)},
        )
        server = await stack.enter_async_context(checkup.server(settings.health_host, settings.health_port))
        self.health_port = server.port
        self._owner.on_listen(server.port)
        return replace(setup, ended=_both(setup.ended, checkup.metrics.ended))

    def _door(self, token: str) -> Door:
        # Loaded where there is one.
        from tranship.worker._door import Commands

        return Commands(token, lambda: self.session.commands if self.session else None).answer

    def _waits_for_broker(self, error: BrokerError) -> None:
        self.problem = f"waiting for the broker: {error}"

    async def _session_until(self, session: Session, until: Until) -> None:
        working = asyncio.create_task(session.run())
        waiting = asyncio.create_task(until(session))
        stopping = asyncio.create_task(self._stopping.stop.wait())
        try:
            await asyncio.wait({working, waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._stopping.hurry.set()
            raise
        finally:
            stopping.cancel()
            # Also when we are cancelled: nothing that is held may be left to its lease.
            await asyncio.shield(self._wind_down(session, working, waiting))
            self._say_end(session, working, waiting)
        if not waiting.cancelled():
            waiting.result()
        if not working.cancelled():
            working.result()

    async def _wind_down(self, session: Session, working: asyncio.Task[None], waiting: asyncio.Task[None]) -> None:
        hurrying = asyncio.create_task(self._stopping.hurry.wait())
        draining = asyncio.create_task(session.drain(self._setup.settings.shutdown_timeout))
        await asyncio.wait({hurrying, draining}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            session.hurry()
        hurrying.cancel()
        waiting.cancel()
        await asyncio.wait({draining, waiting}, timeout=WINDING)
        # Receiving has ended by now, unless the broker left it hanging before it began.
        await asyncio.wait({working}, timeout=LAST_CALL)
        for task in (draining, working, waiting):
            task.cancel()
        await asyncio.wait({draining, working, waiting}, timeout=LAST_CALL)
        if draining.done() and not draining.cancelled() and (error := draining.exception()):
            log.error("worker %s did not stop in good order", self._setup.name, exc_info=error)

    def _say_begin(self, session: Session) -> None:
        setup = self._setup
        log.info("worker %s consumes %s from %s", setup.name, ", ".join(setup.queues), session.url)
        for kind, queues in session.shared_types().items():
            log.info(_SHARED, kind, ", ".join(queues), setup.type_limits[kind])

    def _say_end(self, session: Session, working: asyncio.Task[None], waiting: asyncio.Task[None]) -> None:
        ended = [one for one in (waiting, working) if one.done() and not one.cancelled()]
        failed = next((error for one in ended if (error := one.exception())), None)
        if failed is not None:
            why = f"{type(failed).__name__}: {failed}"
        else:
            why = "nothing is left to do" if waiting in ended else self._stopping.reason or "it was cancelled"
        level = logging.INFO if failed is None else logging.ERROR
        done = session.status().done
        log.log(level, "worker %s has stopped: %s; deliveries done: %d", self._setup.name, why, done)


def _both(first: Callable[[Run], None] | None, second: Callable[[Run], None]) -> Callable[[Run], None]:
    if first is None:
        return second

    def call(run: Run) -> None:
        first(run)
        second(run)

    return call
