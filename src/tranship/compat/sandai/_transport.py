"""The two connections behind a client, to the broker and to the result backend, each shared by a key of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tranship.client.shared import Connector
from tranship.compat.sandai._config import Config
from tranship.compat.sandai._debug import Debug, Where
from tranship.compat.sandai._limits import Slots, SlotTable
from tranship.compat.sandai.exceptions import (
    OperatorClosedError,
    OperatorConnectionError,
    OperatorError,
    OperatorSetupError,
)
from tranship.connections import process_table
from tranship.envelope import TaskResult
from tranship.errors import (
    BrokerUnreachable,
    ClosedError,
    ConfigurationError,
    MalformedMessage,
    SubmitTimeout,
    SubmitUnknown,
    TranshipError,
)
from tranship.settings import BrokerURL, Settings

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.protocol import Message
    from tranship.submission import Answer
    from tranship.waiting import Found

__all__ = ["Links", "Transport"]

T = TypeVar("T")

SUBMIT_TIMEOUT: Final = 10.0
"""Seconds until a submit that the broker does not take is given up."""
LEAST: Final = 1.0
"""Seconds that opening a connection or handing a task over may take, however little time a caller has left."""


@dataclass(frozen=True, slots=True)
class Links:
    """The opened connections for one caller."""

    broker: ClientLink
    backend: ClientLink


class Transport:
    """What the clients need of the core, written for any event loop.

    Args:
        config: the client's.
        debug: where it says what it does.
        where: the name of the client's own logger.
    """

    def __init__(self, config: Config, debug: Debug, where: Where) -> None:
        self._config = config
        self._debug = debug
        self._where: Where = where
        self._elsewhere = not _same(config)
        self._broker = Connector(_settings(config.broker), None, share=config.broker_share)
        self._backend = Connector(
            _settings(config.results), None, share=config.backend_share, queued_elsewhere=self._elsewhere
        )
        self._one_for_both = False
        self._table = process_table()
        self._slots = self._share_slots()

    # Opening and closing.

    async def links(self, patience: float | None) -> Links:
        """The connections for callers on the running loop, opened within ``patience`` seconds.

        Raises:
            OperatorConnectionError: one of them cannot be reached.
            OperatorClosedError, OperatorSetupError, BrokerRefused.
        """
        loop = asyncio.get_running_loop()
        broker = self._broker.opened(loop)
        backend = broker if self._one_for_both else self._backend.opened(loop)
        if broker is None or backend is None:
            with self._reaching():
                async with asyncio.timeout(patience):
                    broker = await self._broker.link()
                    backend = broker if self._answers(broker) else await self._backend.link()
        return Links(broker, backend)

    def blocking_links(self, patience: float | None) -> Links:
        """The same for callers without a loop: on the process's I/O loop thread."""
        broker = self._broker.opened(None)
        backend = broker if self._one_for_both else self._backend.opened(None)
        if broker is None or backend is None:
            with self._reaching():
                broker = self._broker.blocking_link(patience)
                backend = broker if self._answers(broker) else self._backend.blocking_link(patience)
        return Links(broker, backend)

    async def aclose(self) -> None:
        """Give both connections back; the last client of each closes it. Idempotent."""
        self._debug.detail("shared_transport", "release broker and backend of %s", self._config.operator_name)
        try:
            await self._broker.aclose()
        finally:
            await self._backend.aclose()

    def close(self) -> None:
        """The same, from a thread without a loop."""
        self._debug.detail("shared_transport", "release broker and backend of %s", self._config.operator_name)
        try:
            self._broker.close()
        finally:
            self._backend.close()

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._broker.closed

    # What is done over them.

    async def submit(self, links: Links, messages: Sequence[Message], patience: float | None) -> list[Answer]:
        """Hand ``messages`` over in one slot; whoever is cancelled meanwhile changes nothing for them.

        Args:
            links: over these connections.
            messages: one task, or a whole batch.
            patience: seconds for the slot and the answers together; None: the slots' and the core's own.

        Raises:
            ClientPoolTimeoutError: there was no slot; nothing was sent.
            OperatorConnectionError: there was no answer within ``patience`` seconds.
        """
        slots, begun = self._limits()[0], time.monotonic()
        await self._acquire(slots, patience)
        submission = links.broker.submission
        answers = _Answers(links.broker.loop, self._release_of(slots))
        (submission.put if answers.is_home else submission.post)(messages, answers)
        if patience is None:
            return await answers.future
        try:
            async with asyncio.timeout(max(LEAST, patience - (time.monotonic() - begun))):
                return await answers.future
        except TimeoutError:
            raise self.unreachable(f"the broker did not confirm the task within {patience:g} s") from None

    async def gather(self, links: Links, ids: Collection[str], seconds: float | None) -> dict[str, Found]:
        """Wait at most ``seconds`` for the ends of ``ids``; who is missing in the answer has not ended."""
        return await _on(links.backend, lambda link: _gather(link, ids, seconds, self._came))

    async def states(self, links: Links, ids: Sequence[str]) -> list[TaskResult]:
        """Read what is known of ``ids`` now, in one backend slot."""
        slots = self._limits()[1]
        await self._acquire(slots, None)
        try:
            return await _on(links.backend, lambda link: link.waiting.states(ids))
        finally:
            self._release_of(slots)()

    async def forget(self, links: Links, ids: Sequence[str]) -> None:
        """Delete the results of ``ids``, in one backend slot."""
        slots = self._limits()[1]
        await self._acquire(slots, None)
        try:
            await _on(links.backend, lambda link: link.forget(ids))
        finally:
            self._release_of(slots)()

    async def cancel(self, links: Links, kind: str, value: str, ttl: float) -> None:
        """Cancel, at the broker and, where that is another place, where operators look for cancel keys, too.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        report = await _on(links.broker, lambda link: link.cancel(kind, [value], ttl))
        if not self._elsewhere:
            return
        # What was removed at once is nobody's to answer for any more.
        await _on(links.backend, lambda link: link.answer_removed(report.removed))
        if links.backend.can_cancel:
            await _on(links.backend, lambda link: link.cancel(kind, [value], ttl))

    async def ping(self, links: Links) -> None:
        """Make one round trip to the broker, on the way a submit takes."""
        await _on(links.broker, lambda link: link.ping())

    def unreachable(self, reason: str, task_id: str | None = None) -> OperatorConnectionError:
        """The error of this operator."""
        return OperatorConnectionError(
            self._config.operator_name, self._config.operator_version, reason, task_id=task_id
        )

    def translated(self, error: TranshipError) -> TranshipError:
        """The error that callers of an operator know, for one of the core's."""
        translated: TranshipError
        if isinstance(error, OperatorError):
            return error
        if isinstance(error, BrokerUnreachable | SubmitTimeout | SubmitUnknown):
            translated = self.unreachable(str(error), error.task_id)
        elif isinstance(error, ClosedError | ConfigurationError):
            kind = OperatorClosedError if isinstance(error, ClosedError) else OperatorSetupError
            translated = kind(str(error), task_id=error.task_id)
        else:
            return error
        translated.__cause__ = error
        return translated

    # Steps.

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (BrokerUnreachable, ClosedError, ConfigurationError) as error:
            raise self.translated(error) from error
        except TimeoutError as error:
            raise self.unreachable("no connection was made in time") from error

    async def _acquire(self, slots: Slots, patience: float | None) -> None:
        limit = self._config.pool_acquire_timeout
        self._debug.detail(
            self._where, "acquire %s slot: %d of %d taken, %d wait", slots.name, slots.taken, slots.limit, slots.waiting
        )
        try:
            await slots.acquire(limit if patience is None else min(limit, patience))
        except TimeoutError:
            self._debug.detail(self._where, "no %s slot within %g s", slots.name, limit)
            raise

    def _release_of(self, slots: Slots) -> Callable[[], None]:
        """What gives one of ``slots`` back; it says so where slots are told of."""
        if not self._debug.detailed:
            return slots.release

        def release() -> None:
            slots.release()
            self._debug.detail(self._where, "release %s slot: %d of %d taken", slots.name, slots.taken, slots.limit)

        return release

    def _came(self, task_id: str, left: int) -> None:
        self._debug.detail(self._where, "result of task %s came, %d to go", task_id, left)

    def _answers(self, broker: ClientLink) -> bool:
        """Whether results come over the broker's own connection: where nobody but who submits can get them."""
        config = self._config
        self._one_for_both = not self._elsewhere and broker.answers_submits_only
        self._debug.detail(
            "shared_transport",
            "use broker %s and backend %s, scope %s",
            config.broker,
            config.results,
            config.shared_transport_scope,
        )
        return self._one_for_both

    def _limits(self) -> tuple[Slots, Slots]:
        if self._table is not process_table():
            # A forked child counts for itself.
            self._table = process_table()
            self._slots = self._share_slots()
        return self._slots

    def _share_slots(self) -> tuple[Slots, Slots]:
        table: Any = self._table.shared("tranship.compat.sandai", SlotTable)
        config = self._config
        return (
            table.get((config.broker_share, config.broker.reveal()), "broker", config.broker_pool_limit),
            table.get((config.backend_share, config.results.reveal()), "backend", config.backend_slots),
        )


class _Answers:
    """Waits for the broker's answers: gives the slot back when they come, whether or not somebody still listens."""

    __slots__ = ("_loop", "_release", "future", "is_home")

    def __init__(self, home: asyncio.AbstractEventLoop, release: Callable[[], None]) -> None:
        self._release = release
        self._loop = asyncio.get_running_loop()
        self.is_home = home is self._loop
        self.future: asyncio.Future[list[Answer]] = self._loop.create_future()

    def done(self) -> bool:
        """Never before the answers: the slot is held until they are here."""
        return False

    def set_result(self, answers: list[Answer], /) -> None:
        """The broker has answered; on its link's loop, or where the messages were posted."""
        self._release()
        if self.is_home:
            self._deliver(answers)
            return
        # A loop that has been closed has nobody to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, answers)

    def _deliver(self, answers: list[Answer]) -> None:
        if not self.future.done():
            self.future.set_result(answers)


async def _on(link: ClientLink, work: Callable[[ClientLink], Coroutine[Any, Any, T]]) -> T:
    """Run ``work`` on the link's own loop, wherever we are."""
    if link.loop is asyncio.get_running_loop():
        return await work(link)
    return await asyncio.wrap_future(process_table().portal_of(link.loop).call(work(link)))


async def _gather(
    link: ClientLink, ids: Collection[str], seconds: float | None, came: Callable[[str, int], None]
) -> dict[str, Found]:
    if seconds == 0:
        return await _look(link, list(ids))
    found: dict[str, Found] = {}
    left = set(ids)
    complete: asyncio.Future[None] = link.loop.create_future()

    def sink(task_id: str, what: Found) -> None:
        found[task_id] = what
        left.discard(task_id)
        came(task_id, len(left))
        if not left and not complete.done():
            complete.set_result(None)

    link.waiting.watch(left.copy(), sink)
    try:
        async with asyncio.timeout(seconds):
            await complete
    except TimeoutError:
        pass  # said by what is missing
    finally:
        link.waiting.unwatch(left, sink)
    return found


async def _look(link: ClientLink, ids: Sequence[str]) -> dict[str, Found]:
    """No waiting, but what is there already is told."""
    try:
        known = await link.waiting.states(ids)
    except MalformedMessage as error:
        if len(ids) == 1:
            return {ids[0]: error}
        # One unreadable answer is its own task's business.
        return {task_id: what for one in ids for task_id, what in (await _look(link, [one])).items()}
    return {one.id: one for one in known if one.state.terminal}


def _same(config: Config) -> bool:
    return config.result_backend == config.broker_url or config.result_backend.startswith("rpc:")


def _settings(url: BrokerURL) -> Settings:
    # Not loaded: what other programs of this environment are told is not about operators.
    return Settings(broker_url=url, submit_timeout=SUBMIT_TIMEOUT, origins={"broker_url": "argument"})
