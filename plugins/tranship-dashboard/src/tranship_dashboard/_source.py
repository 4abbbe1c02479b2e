"""What the pages show: looked at every few seconds, kept for some hours, and whoever waits for news is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from tranship import AsyncClient
from tranship.errors import TranshipError, UnsupportedError
from tranship.operations import AsyncOperator, History, QueueReport, Sampler
from tranship.ports import Heartbeat
from tranship.schema import document
from tranship.settings import Settings
from tranship.task import Task

__all__ = ["Source"]

log = logging.getLogger("tranship.dashboard")

EVERY: Final = 5.0
"""Seconds between two looks."""
TIMEOUT: Final = 10.0
"""Seconds that a look, or what a page asks for, may take."""


class Source:
    """Looks at one broker, on one event loop.

    Args:
        settings: which broker.
        tasks: those that have a form.
        history: how many finished tasks are kept to be looked at.
        keep_samples: whether the minutes of the sampler are kept for others.
        every: seconds between two looks.

    Attributes:
        operator, client: open on first use.
        sampler: depths, rates and latencies.
        history: the finished tasks that workers remember.
        queues, workers: as they were seen last.
        looked_at: when, in epoch seconds; None: never.
        problem: why the latest look has failed; empty: it has not.
        remembers: whether the broker keeps records, and so schedules and history.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tasks: Iterable[Task[..., Any]] = (),
        history: int = 10_000,
        keep_samples: bool = False,
        every: float = EVERY,
    ) -> None:
        self.settings = settings
        self.operator = AsyncOperator(settings=settings)
        self.client = AsyncClient(settings=settings)
        self.tasks = {one.name: one for one in tasks}
        self._described: Mapping[str, Any] = document(self.tasks.values())["tasks"] if self.tasks else {}
        self.sampler = Sampler()
        self.history = History(history)
        self.queues: Sequence[QueueReport] = ()
        self.workers: Sequence[Heartbeat] = ()
        self.looked_at: float | None = None
        self.problem = ""
        self.away_since: float | None = None
        self.remembers = True
        self.sees_workers = True
        self._keeps = keep_samples
        self._filled = False
        self._every = every
        self._watching: asyncio.Task[None] | None = None
        self._begun = asyncio.Lock()
        self._news: asyncio.Event = asyncio.Event()
        self._closing = False

    async def begin(self) -> None:
        """Look from now on; the first look is over when this returns. Again: does nothing."""
        async with self._begun:
            if self._watching is not None or self._closing:
                return
            await self.look()
            self._keep_looking()

    def _keep_looking(self) -> None:
        # Where it was closed during the first look, nobody would end this.
        if not self._closing:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def aclose(self) -> None:
        """Look no more, and close the connections. Idempotent."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        self._tell()
        await self.client.aclose()
        await self.operator.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Look once, now, and tell whoever waits."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._look()
        except (TranshipError, TimeoutError) as error:
            self._failed(str(error) or f"no answer within {TIMEOUT:g} s")
        except Exception as error:
            # A driver's bug: the page says so, and goes on.
            log.exception("looking at %s failed in an unexpected way", self.settings.broker_url)
            self._failed(f"{type(error).__name__}: {error}")
        else:
            self.problem, self.away_since, self.looked_at = "", None, time.time()
        self._tell()

    def _failed(self, why: str) -> None:
        self.problem = why
        self.away_since = self.away_since or time.time()

    async def _look(self) -> None:
        self.queues = await self.operator.queues()
        if self.sees_workers:
            try:
                self.workers = await self.operator.workers()
            except UnsupportedError:
                self.sees_workers = False
        self.sampler.take(self.queues, self.workers)
        if self.remembers:
            try:
                await self._remember()
            except UnsupportedError:
                self.remembers = False

    async def _remember(self) -> None:
        """Read what workers and other dashboards have kept, and keep what is seen here."""
        await self.operator.read_history(self.history)
        if not self._filled:
            await self.operator.read_samples(self.sampler)
            self._filled = True
        if self._keeps:
            await self.operator.keep_samples(self.sampler)

    # News.

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, patience: float) -> AsyncIterator[bool]:
        """Yield True after each look, and False after ``patience`` seconds without one, until it is closed."""
        while not self._closing:
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                yield False
            else:
                if not self._closing:
                    yield True

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Bound what a page asks of the broker."""
        try:
            async with asyncio.timeout(TIMEOUT):
                yield
        except TimeoutError:
            raise TranshipError(f"the broker has not answered within {TIMEOUT:g} s; try again") from None

    # What there is.

    def queue(self, name: str) -> QueueReport | None:
        """Return what was seen last of a queue."""
        return next((one for one in self.queues if one.name == name), None)

    def task_names(self) -> Sequence[str]:
        """Return the names of the tasks that can be submitted: those with a form, and those that workers have."""
        return sorted({*self.tasks, *(name for worker in self.workers for name in worker.tasks)})

    def description(self, name: str) -> Mapping[str, Any] | None:
        """Return the description of a task; None: nobody has described it."""
        return self._described.get(name)
