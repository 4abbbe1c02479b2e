"""Moving a backlog from one broker to another, while clients and workers go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from tranship._portal import Portal
from tranship.checks import not_negative, one_of, positive, whole
from tranship.client._link import cancelled_result
from tranship.connections import process_table
from tranship.errors import (
    ConfigurationError,
    InvalidArgumentsError,
    TranshipError,
    UnsupportedError,
)
from tranship.operations._move_cancels import Cancels
from tranship.operations._move_dead import DeadMove
from tranship.operations._move_item import Item
from tranship.operations._move_patience import GaveUp, Patience, Stop, Stopped
from tranship.operations._move_report import MoveReport, Tally, Watcher
from tranship.operations._move_settle import Endings
from tranship.operations._move_source import BATCH, Source
from tranship.operations._move_survey import LATER, check_apart, count, gives_early, survey, warnings
from tranship.operations._move_target import Target
from tranship.ports import Backend, Capability
from tranship.registry import Registry
from tranship.settings import BrokerURL, Settings

__all__ = ["Move", "MoveOptions"]

STRANDED: Final = 1000
"""Refused messages that are held at once: they are kept from being taken again, and not for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOptions:
    """What to move, and how; times are seconds.

    Raises:
        InvalidArgumentsError: ``queues`` is no list of names.
        InvalidOptionError: a value outside what is allowed.
    """

    queues: Sequence[str] | None = None
    """None: every queue of the source that has something in it when the move begins."""
    limit: int | None = None
    """How many messages at most."""
    delayed: bool = True
    """Move what is not due yet, too."""
    dead_letters: bool = False
    """Move the dead letters of the queues, too: they are dead letters of the target then."""
    refused: Literal["leave", "dead-letter"] = "leave"
    """What becomes of messages that the target does not take: they stay where they are, or go to the source's dead
    letters."""
    patience: float = 300.0
    """How long source or target may be away until the move gives up."""
    linger: float | None = None
    """How long it waits at the end for messages that others hold; None: one lease of the source."""
    dry_run: bool = False
    """Look, and move nothing."""

    def __post_init__(self) -> None:
        if self.queues is not None:
            _check_names(self.queues)
        if self.limit is not None:
            whole("limit", self.limit)
        positive("patience", self.patience)
        if self.linger is not None:
            not_negative("linger", self.linger)
        one_of("refused", self.refused, ("leave", "dead-letter"))


class Move:
    """One move. Used once: :meth:`run` it, on any loop; :meth:`stop` it from anywhere.

    A message is removed at the source only after the target has confirmed it, and given back otherwise: whenever it
    ends, by a kill as well, another move with the same arguments goes on where it was.

    Args:
        source, target: settings of the two. The target's result store, if it has one of its own, is told of tasks
            there that a cancel of the source removes.
        options: what to move.
        needs: capabilities that the target must have.
        registry: where backends come from; None: everything that is installed.
        watcher: told how far it has come, on the loop of the move.
    """

    def __init__(
        self,
        source: Settings,
        target: Settings,
        options: MoveOptions | None = None,
        *,
        needs: Collection[Capability] = (),
        registry: Registry | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._needs = needs
        self._urls = source.broker(), target.broker()
        self._results = target.results()
        self._options = options or MoveOptions()
        self._registry = registry or Registry()
        self._watcher = watcher
        self._stop = Stop()
        self._tally = Tally({})
        self._expected: int | None = None
        self._taken = 0

    def stop(self) -> None:
        """End it soon, in order: what is under way is finished, the rest given back. Any thread; idempotent."""
        self._stop.request()

    async def run(self) -> MoveReport:
        """Move, and say what became of it.

        What ends a move that has begun is in :attr:`MoveReport.error`.

        Raises:
            ConfigurationError: source and target are one, one of them cannot be opened as it is, or lacks something.
            BrokerUnreachable, BrokerRefused: one of them cannot be opened.
        """
        self._stop.bind()
        begun = time.monotonic()
        async with self._opened(self._urls[0]) as source, self._opened(self._urls[1]) as target:
            _check_needs(target, self._needs)
            cancels = Cancels(source, target, self._answer)
            error = await self._surveyed(source, target, cancels)
            if error is None and self._tally.queues and not self._options.dry_run:
                error = await self._move(source, target, cancels)
            return self._report(source, target, error, time.monotonic() - begun)

    async def _answer(self, removed: Sequence[str]) -> None:
        """The target has answered for them in its own store; those who wait may look in another one."""
        if self._results is None or self._results == self._urls[1]:
            return
        async with self._opened(self._results) as backend:
            backend.capabilities.check_keeps_results(backend.name)
            content_type = backend.capabilities.result_type
            await backend.results().put([cancelled_result(task_id, content_type) for task_id in removed])

    async def _surveyed(self, source: Backend, target: Backend, cancels: Cancels) -> TranshipError | None:
        """Look at both. They have been reached: from here on one that is away is waited for."""
        options, patience = self._options, self._patience(f"source {source.url} or target {target.url}")
        try:
            if not options.dry_run:
                # First of all: nothing is taken before it is known what is cancelled.
                await patience.insist(cancels.listen)
            await patience.insist(partial(check_apart, source, target))
            queues, hints = await patience.insist(partial(survey, source, options.queues))
            early = not (options.delayed and queues) or await patience.insist(partial(gives_early, source, queues))
        except Stopped:
            return None
        except GaveUp as given:
            if isinstance(given.error, ConfigurationError):
                raise given.error from None
            return given.error
        self._tally = Tally({queue.name: queue for queue in queues})
        self._tally.warnings += [*hints, *warnings(source, target)]
        self._tally.warnings += [] if early else [f"{source.name} {LATER}"]
        return None

    def run_blocking(self) -> MoveReport:
        """The same without a loop. An interrupt ends it in order, and is raised then; one that comes when it was asked
        to stop already ends it at once.
        """
        portal = Portal("tranship-move")
        try:
            running = portal.call(self.run())
            try:
                return running.result()
            except BaseException:
                if not running.done() and not self._stop.requested:
                    self.stop()
                    running.result()
                raise
        finally:
            portal.stop()

    @contextlib.asynccontextmanager
    async def _opened(self, url: BrokerURL) -> AsyncIterator[Backend]:
        backend = self._registry.create(url, shared=process_table().shared)
        try:
            await backend.open()
            yield backend
        finally:
            await backend.aclose()

    async def _move(self, source: Backend, target: Backend, cancels: Cancels) -> TranshipError | None:
        self._expected = self._total()
        error: TranshipError | None = None
        try:
            patience = self._patience(f"source {source.url} or target {target.url}")
            await patience.insist(lambda: _ensure(target, list(self._tally.queues)))
            await self._move_tasks(source, target, cancels)
            if self._options.dead_letters:
                await DeadMove(source, target, patience, self._stop, self._tally).run()
        except Stopped:
            pass
        except GaveUp as given:
            error = given.error
        except TranshipError as other:
            error = other
        left = await self._recount(source)
        return error or left

    async def _recount(self, source: Backend) -> TranshipError | None:
        try:
            await count(source, list(self._tally.queues.values()))
        except TranshipError as error:
            return error
        return None

    async def _move_tasks(self, source: Backend, target: Backend, cancels: Cancels) -> None:
        options, tally = self._options, self._tally
        taking = Source(
            source,
            list(tally.queues),
            patience=self._patience(f"source {source.url}"),
            stop=self._stop,
            delayed=options.delayed,
            linger=options.linger,
        )
        putting = Target(target, cancels, self._patience(f"target {target.url}"), self._stop, tally)
        endings = Endings(taking, tally, bury=options.refused == "dead-letter")
        keeper = asyncio.create_task(taking.keep())
        try:
            await self._carry(taking, putting, endings)
        finally:
            await endings.give_back()
            keeper.cancel()
            tally.cancels = cancels.repeated

    async def _carry(self, source: Source, target: Target, endings: Endings) -> None:
        """Take the next messages and let go of the last ones while some are at the target's door."""
        following = ending = None
        try:
            batch = await self._take(source, endings)
            while batch:
                await endings.unmark(batch)
                following = asyncio.create_task(self._take(source, endings))
                trouble = await _trouble(target.put(batch))
                if ending is not None:
                    await ending
                ending = asyncio.create_task(self._end(endings, batch))
                batch = await following
                if trouble is not None:
                    raise trouble
        finally:
            if following is not None:
                following.cancel()
            if ending is not None:
                await ending

    async def _take(self, source: Source, endings: Endings) -> list[Item]:
        if endings.stranded > STRANDED:
            text = f"the target refuses more than {STRANDED} messages; see why, and name other queues, or have them"
            raise GaveUp(TranshipError(f"{text} go to the dead letters (--refused dead-letter)"))
        room = self._room()
        batch = await source.take(room) if room else []
        self._taken += len(batch)
        return batch

    async def _end(self, endings: Endings, batch: Sequence[Item]) -> None:
        await endings.finish(batch)
        self._say("")

    def _room(self) -> int:
        """How many may be taken now."""
        if self._options.limit is None:
            return BATCH
        refused = sum(queue.refused for queue in self._tally.queues.values())
        return max(0, min(BATCH, self._options.limit + refused - self._taken))

    def _total(self) -> int | None:
        befores = [queue.before for queue in self._tally.queues.values()]
        known = [before for before in befores if before is not None]
        expected = sum(known) if len(known) == len(befores) else None
        limit = self._options.limit
        return expected if limit is None else min(limit, expected) if expected is not None else limit

    def _patience(self, place: str) -> Patience:
        return Patience(place, self._options.patience, self._stop, self._say)

    def _say(self, note: str) -> None:
        if self._watcher is not None:
            self._watcher(self._tally.progress(self._expected, note))

    def _report(self, source: Backend, target: Backend, error: TranshipError | None, seconds: float) -> MoveReport:
        tally = self._tally
        return MoveReport(
            source=source.url,
            target=target.url,
            queues=list(tally.queues.values()),
            refusals=tuple(tally.refusals),
            repeated=tally.repeated,
            contested=tally.contested,
            reappeared=tally.reappeared,
            cancels=tally.cancels,
            warnings=tuple(tally.warnings),
            dry_run=self._options.dry_run,
            stopped=self._stop.requested,
            error=error,
            seconds=seconds,
        )


def _check_names(queues: Any) -> None:
    if isinstance(queues, str):
        raise InvalidArgumentsError(f"queues is the text {queues!r}; expected a list of names")
    if not isinstance(queues, Collection) or not all(isinstance(one, str) and one for one in queues):
        raise InvalidArgumentsError(f"queues is {queues!r}; expected a list of names")


def _check_needs(target: Backend, needs: Collection[Capability]) -> None:
    lacking = sorted(capability.value for capability in needs if not target.capabilities.has(capability))
    if lacking:
        raise UnsupportedError(f"the target {target.url} lacks {', '.join(lacking)}; choose another one")


async def _ensure(backend: Backend, queues: Sequence[str]) -> None:
    await backend.ensure(queues)


async def _trouble(putting: Coroutine[Any, Any, None]) -> GaveUp | Stopped | None:
    """What keeps the target from taking more; what it has taken is to be finished all the same."""
    try:
        await putting
    except (GaveUp, Stopped) as error:
        return error
    return None
