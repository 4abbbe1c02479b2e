"""The scheduler as its users see it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from tranship._running import run
from tranship._signals import heard
from tranship.client import AsyncClient
from tranship.client._link import ClientLink
from tranship.client.shared import Connector
from tranship.clocks import look
from tranship.connections import process_table
from tranship.errors import (
    BatchSubmitError,
    BrokerError,
    BusyError,
    ConfigurationError,
    EncodeError,
    InvalidArgumentsError,
    InvalidOptionError,
    MessageTooLarge,
    TranshipError,
)
from tranship.middleware import Middleware
from tranship.ports import NameHolder
from tranship.registry import Registry
from tranship.schedules._beat import schedules_of_beat
from tranship.schedules._book import Book, Origin
from tranship.schedules._engine import LEADER, Engine, Pace
from tranship.schedules._schedule import Schedule
from tranship.settings import Settings
from tranship.task import Task, TaskCall, task_of

__all__ = ["Scheduler"]

log = logging.getLogger("tranship.schedules")

AGAIN: Final = 1.0
"""Seconds between two attempts to reach the broker at the start."""
CLOCK_LOOK: Final = 60.0
"""Seconds between two looks at the broker's clock."""
STOPPING: Final = 10.0
"""Seconds that stopping may take."""


class Scheduler:
    """Sends the ticks of periodic tasks. Of all that run on one broker one leads; another takes over within seconds.

    It needs a broker, or a result store, that keeps records (RECORDS).

    Args:
        url: the broker; None: ``TRANSHIP_BROKER_URL``, the settings file, else the embedded default.
        tasks: those that have ``every=`` or ``cron=`` run at these times; the others are what schedules name.
        schedules: more of them.
        beat_schedule: Celery's setting of that name as it is, or the Celery app that has it.
        timezone: of ``beat_schedule``; None: the app's, else UTC.
        result_url: where records are kept if the broker keeps none.
        namespace: prefixes every name on the broker.
        middleware: what every submit passes through, as a client's.
        pace: how often it looks, and how soon another one takes over.
        settings, registry: as for :class:`~tranship.Client`; the setting ``schedules`` adds to the schedules.

    Raises:
        InvalidURLError, InvalidOptionError, InvalidArgumentsError: a value that cannot be used.
        ConfigurationError: a schedule that cannot be kept.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tasks: Iterable[Any] = (),
        schedules: Iterable[Schedule] = (),
        beat_schedule: Any = None,
        timezone: str | None = None,
        result_url: str | None = None,
        namespace: str | None = None,
        middleware: Iterable[Middleware] = (),
        pace: Pace | None = None,
        settings: Settings | None = None,
        registry: Registry | None = None,
    ) -> None:
        given: dict[str, Any] = {"broker_url": url, "result_url": result_url, "namespace": namespace}
        self.settings: Settings = settings.replace(**given) if settings else Settings.load(**given)
        known = _by_name(tasks)
        beat = () if beat_schedule is None else schedules_of_beat(beat_schedule, tasks=known, timezone=timezone)
        self._declared = _declared(
            [
                *((Schedule.on(one, one.timetable), "code") for one in known.values() if one.timetable is not None),
                *((one, "code") for one in schedules),
                *((one, "settings") for one in _of_settings(self.settings, known)),
                *((one, "beat") for one in beat),
            ]
        )
        self._middleware, self._registry, self._pace = tuple(middleware), registry, pace or Pace()
        self._connector = Connector(self.settings, registry)
        self._at_work = False
        self._asked = False
        self._halt: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._background: concurrent.futures.Future[None] | None = None
        self.engine: Engine | None = None

    @property
    def schedules(self) -> list[Schedule]:
        """What it declares."""
        return [schedule for schedule, _ in self._declared]

    @property
    def leads(self) -> bool:
        """Whether it is this one that sends; any thread."""
        return self.engine is not None and self.engine.leads

    def run(self) -> None:
        """Send ticks until SIGTERM or SIGINT. A broker that cannot be reached is waited for.

        Raises:
            UnsupportedError: neither broker nor result store keeps records.
            BrokerRefused, ...: it cannot work, or not any longer.
        """
        with heard(lambda _number: self.stop()):
            run(self.serve(), instead="await scheduler.serve()")

    async def serve(self) -> None:
        """The same on the running loop, until :meth:`stop`.

        Raises:
            As :meth:`run`; BusyError: it is at work already.
        """
        try:
            await self._serve()
        finally:
            await self._renew_connector().aclose()

    def stop(self) -> None:
        """Ask it to stop, and give up the lead; any thread."""
        self._asked = True
        if self._halt is not None:
            loop, event = self._halt
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def start(self) -> None:
        """Send ticks in the background, on the I/O loop thread, which no handler can block, until :meth:`close`.

        Returns once it is at work, or the broker is waited for.

        Raises:
            TranshipError: whatever :meth:`run` raises.
        """
        begun: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._background = process_table().portal().call(self._serve(begun))
        try:
            begun.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End what :meth:`start` has begun. Idempotent."""
        background, self._background = self._background, None
        if background is not None:
            self.stop()
            # What went wrong was told when it did.
            with contextlib.suppress(TranshipError, TimeoutError, concurrent.futures.CancelledError):
                background.result(2 * STOPPING)
        self._renew_connector().close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextlib.asynccontextmanager
    async def beside(self, _worker: object = None) -> AsyncIterator[Self]:
        """Run it beside a worker: ``Worker(tasks=tasks, lifespan=Scheduler(tasks=tasks).beside)``."""
        await asyncio.to_thread(self.start)
        try:
            yield self
        finally:
            await asyncio.to_thread(self.close)

    # Steps.

    def _renew_connector(self) -> Connector:
        """What is given back cannot be used again; whoever starts once more needs another one."""
        connector, self._connector = self._connector, Connector(self.settings, self._registry)
        return connector

    async def _serve(self, begun: concurrent.futures.Future[None] | None = None) -> None:
        if self._at_work:
            raise BusyError("this scheduler is at work already; make another one")
        self._at_work = True
        stop = asyncio.Event()
        self._halt = asyncio.get_running_loop(), stop
        if self._asked:
            stop.set()
        try:
            await self._until(stop, self._work(begun))
        except BaseException as error:
            if begun is not None and not begun.done():
                begun.set_exception(error)
            elif isinstance(error, TranshipError):
                log.error("the scheduler has stopped: %s", error)  # noqa: TRY400 - its user's business, not a bug
            elif isinstance(error, Exception):
                log.exception("the scheduler has stopped")
            raise
        finally:
            self._at_work = self._asked = False
            self._halt = self.engine = None
            _tell(begun)

    async def _until(self, stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` until it ends or ``stop`` is set; then let it finish what it is sending."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self.engine is not None:
                self.engine.stop()
                await asyncio.wait({working}, timeout=STOPPING)
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.wait({working}, timeout=STOPPING)
        if working.done() and not working.cancelled():
            working.result()

    async def _work(self, begun: concurrent.futures.Future[None] | None) -> None:
        link = await self._link(begun)
        loop = asyncio.get_running_loop()
        work = self._on_link(link, begun)
        if link.loop is loop:
            await work
            return
        there = asyncio.run_coroutine_threadsafe(work, link.loop)
        try:
            await asyncio.wrap_future(there)
        except asyncio.CancelledError:
            there.cancel()
            raise

    async def _link(self, begun: concurrent.futures.Future[None] | None) -> ClientLink:
        """Connect; wait for a broker that cannot be reached."""
        waits = False
        while True:
            try:
                link = await self._connector.link()
            except BrokerError as error:
                if not error.retryable:
                    raise
                if not waits:
                    log.warning("the scheduler waits for the broker: %s", error)
                waits = True
                _tell(begun)
                await asyncio.sleep(AGAIN)
            else:
                if waits:
                    log.info("the broker is there")
                return link

    async def _on_link(self, link: ClientLink, begun: concurrent.futures.Future[None] | None) -> None:
        keeper = link.record_keeper()
        records, clock = keeper.records(), await look(keeper, keeper.url)
        async with AsyncClient(settings=self.settings, middleware=self._middleware, registry=self._registry) as client:
            self.engine = Engine(
                records,
                Book(records, keeper.url),
                lambda calls: _submit(client, calls),
                self._declared,
                holder=_holder(),
                now=clock.now,
                pace=self._pace,
            )
            log.info("scheduler at %s: %d schedules of its own", keeper.url, len(self._declared))
            _tell(begun)
            looking = asyncio.create_task(_keep_looking(keeper))
            try:
                await self.engine.run()
            finally:
                looking.cancel()


def _tell(begun: concurrent.futures.Future[None] | None) -> None:
    if begun is not None and not begun.done():
        begun.set_result(None)


def _holder() -> NameHolder:
    now = time.time()
    instance = secrets.token_hex(8)
    return NameHolder(name=LEADER, instance=instance, host=socket.gethostname(), pid=os.getpid(), since=now, at=now)


async def _keep_looking(keeper: Any) -> None:
    while True:
        await asyncio.sleep(CLOCK_LOOK)
        await look(keeper, keeper.url)


async def _submit(client: AsyncClient, calls: Sequence[TaskCall[object]]) -> Mapping[int, TranshipError]:
    try:
        await client.submit_many(calls)
    except BatchSubmitError as error:
        return error.errors
    except (EncodeError, MessageTooLarge, InvalidArgumentsError, InvalidOptionError) as error:
        if len(calls) == 1:
            return {0: error}
        # One is bad, and nothing was sent: each for itself.
        found: dict[int, TranshipError] = {}
        for at, call in enumerate(calls):
            errors = await _submit(client, [call])
            found.update(dict.fromkeys([at], errors[0]) if errors else {})
        return found
    return {}


def _by_name(tasks: Iterable[Any]) -> dict[str, Task[..., Any]]:
    found: dict[str, Task[..., Any]] = {}
    for given in tasks:
        one = task_of(given)
        if not isinstance(one, Task):
            raise ConfigurationError(f"{given!r} is no task; expected functions decorated with @task")
        found[one.name] = one
    return found


def _declared(several: Sequence[tuple[Schedule, Origin]]) -> list[tuple[Schedule, Origin]]:
    names: dict[str, Origin] = {}
    for schedule, origin in several:
        if not isinstance(schedule, Schedule):
            raise ConfigurationError(f"{schedule!r} is no schedule; expected Schedule(name, task, every=...)")
        if schedule.name in names:
            raise ConfigurationError(
                f"schedule {schedule.name!r} is declared twice, in {names[schedule.name]} and in {origin}; "
                "give one of them another name"
            )
        names[schedule.name] = origin
    return list(several)


def _of_settings(settings: Settings, known: Mapping[str, Task[..., Any]]) -> list[Schedule]:
    if settings.schedules is None:
        return []
    where = settings.origin("schedules")
    tables = settings.schedules.tables
    elsewhere = {one for table in tables.values() if settings.task_routes.queue_of(one := str(table.get("task")))}
    return [_of_table(name, table, known, where, elsewhere) for name, table in tables.items()]


def _of_table(
    name: str, given: Mapping[str, Any], known: Mapping[str, Task[..., Any]], where: str, elsewhere: Collection[str]
) -> Schedule:
    table = {key.replace("-", "_"): value for key, value in given.items()}
    task = table.pop("task", None)
    if not isinstance(task, str):
        raise ConfigurationError(f"schedule {name}: task is {task!r} in {where}; expected the name of a task")
    if task not in known and task not in elsewhere and "queue" not in table:
        import difflib

        close = difflib.get_close_matches(task, known, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigurationError(
            f"schedule {name}: nobody here knows a task {task!r} ({where}); {guess}if it runs elsewhere, say its queue"
        )
    try:
        return Schedule(name, known.get(task, task), **table)
    except TypeError as error:
        if isinstance(error, TranshipError):
            raise
        raise ConfigurationError(f"schedule {name}: {error} ({where})") from None
