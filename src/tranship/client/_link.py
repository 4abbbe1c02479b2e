"""A link: one opened backend with what every client of it shares - the encoder, the submission buffer,
the hub of waiters. It lives on one loop; the methods that say *any thread* may be called from everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from tranship.client._delayed import Delayed
from tranship.client._pushed import Remembered
from tranship.client._readers import Readers
from tranship.clocks import Clock, clock_of, look
from tranship.connections import ConnectionTable
from tranship.envelope import Envelope, Priority, TaskResult, TaskState
from tranship.errors import ResultsDisabled, TranshipError, UnsupportedError
from tranship.ports import Backend, Capability, ConnectionEvent, ResultStore, StoredResult
from tranship.protocol import Encoder, Message, encode_cancelled
from tranship.registry import Registry
from tranship.settings import BrokerURL, Settings
from tranship.submission import Submission, submitter_of
from tranship.waiting import Waiting

if TYPE_CHECKING:
    from tranship.announcing import SentEvents
    from tranship.client._commanding import Commanding
    from tranship.client._elsewhere import CancelledElsewhere
    from tranship.client._onlooking import Onlooking
    from tranship.limits import LinedHandOver
    from tranship.ports import CancelReport, ChordStart, ChordStore, IdKeeper, KeepsRecords, Records
    from tranship.task import Task

__all__ = ["ClientLink", "LinkKey", "cancelled_result"]

log = logging.getLogger("tranship.client")

CHORDS_AT_ONCE: Final = 50
"""Gatherings that are noted side by side."""


class LinkKey(NamedTuple):
    """What two clients must have in common to share a link."""

    broker_url: BrokerURL
    result_url: BrokerURL | None
    submit_timeout: float
    share: Hashable = None
    """What else they must have in common."""
    queued_elsewhere: bool = False
    """Only results are read here: an id that is unknown may be queued at another broker."""
    sent_events: bool = False
    """Whether Celery's programs that look on are told what is submitted."""

    @classmethod
    def of(cls, settings: Settings) -> LinkKey:
        """The key that ``settings`` stand for."""
        broker, results = settings.broker(), settings.results()
        return cls(
            broker,
            None if results == broker else results,
            settings.submit_timeout,
            sent_events=settings.sent_events,
        )


class ClientLink:
    """Everything behind a client; made by :meth:`open`, closed by the connection table."""

    def __init__(
        self,
        backend: Backend,
        result_backend: Backend | None,
        *,
        submit_timeout: float,
        store_url: BrokerURL | None = None,
        queued_elsewhere: bool = False,
        sent_events: bool = False,
    ) -> None:
        self.backend = backend
        self.clock: Clock = clock_of(backend)
        store = result_backend or backend
        self._is_told = store.capabilities.told_of_ids
        # A store of its own has never heard of tasks that are only queued, unless it is told.
        self._knows_ids = self._is_told or not (queued_elsewhere or result_backend is not None)
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.reply_to: str | None = (result_backend or backend).address
        self.encoder: Encoder = Encoder()
        self.delayed: Delayed = Delayed()
        self._elsewhere: CancelledElsewhere | None = None
        """Ends delayed tasks of our own when others cancel them; None: there were none, or the broker does it."""
        self._closed = False
        self.readers: Readers = Readers(backend)
        self._result_backend = result_backend
        self._store_url = store_url
        self._store, self._waiting = self._open_results(store)
        self._sent_events = _sent_events(backend) if sent_events else None
        self.submission: Submission = Submission(
            submitter_of(backend, store),
            loop=self.loop,
            timeout=submit_timeout,
            retry_safe=backend.capabilities.has(Capability.RETRY_SAFE),
            announce=self._announcer(),
            sent=None if self._sent_events is None else self._sent_events.sent,
        )

    @classmethod
    async def open(cls, key: LinkKey, registry: Registry, table: ConnectionTable) -> ClientLink:
        """Connect to broker and result store.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageCorrupt, UnsupportedError, PluginError, UnknownSchemeError.
        """
        backend = registry.create(key.broker_url, shared=table.shared)
        result_backend = registry.create(key.result_url, shared=table.shared, results=True) if key.result_url else None
        try:
            await backend.open()
            if result_backend is not None:
                await result_backend.open()
                result_backend.capabilities.check_keeps_results(result_backend.name)
            await look(backend, backend.url)
            return cls(
                backend,
                result_backend,
                submit_timeout=key.submit_timeout,
                store_url=key.result_url or key.broker_url,
                queued_elsewhere=key.queued_elsewhere,
                sent_events=key.sent_events,
            )
        except BaseException:
            await backend.aclose()
            if result_backend is not None:
                await result_backend.aclose()
            raise

    def _open_results(self, backend: Backend) -> tuple[ResultStore | None, Waiting | None]:
        if not backend.capabilities.answers:
            return None, None
        store: ResultStore = backend.results()
        if not backend.capabilities.has(Capability.RESULTS):
            store = Remembered(store, backend.name)
        waiting = Waiting(
            store,
            loop=self.loop,
            push=backend.capabilities.has(Capability.RESULT_PUSH),
            knows_ids=self._knows_ids and backend.capabilities.has(Capability.KNOWS_IDS),
            held=self._held if self._may_hold_back() else None,
        )

        def on_event(event: ConnectionEvent, _generation: int) -> None:
            if event is ConnectionEvent.RESTORED:
                waiting.restored()

        backend.on_event(on_event)
        return store, waiting

    def _announcer(self) -> Callable[[Sequence[Message]], None] | None:
        """Who is to hear of messages right before they are submitted."""
        if self._result_backend is not None:
            # A store of its own is another connection: it might expect too late.
            return None
        if isinstance(self._store, Remembered):
            return self._remember
        push = self.backend.capabilities[Capability.RESULT_PUSH].properties
        return self._anticipate if push.get("with_submit") else None

    def _remember(self, messages: Sequence[Message]) -> None:
        """Note whose results will be pushed here."""
        if isinstance(self._store, Remembered):
            self._store.submitted([one.envelope.id for one in messages if one.envelope.keeps_result])

    def expect_later(self, ids: Sequence[str]) -> None:
        """Note the ids of a workflow's tasks: results of those that workers submit will be pushed here as well."""
        if isinstance(self._store, Remembered):
            self._store.submitted(ids)

    def check_counts(self) -> None:
        """Do nothing, if members of a gathering can be counted.

        Raises:
            UnsupportedError: nothing counts them.
        """
        if self._chords is None:
            name = self.store_name
            raise UnsupportedError(
                f"{name} cannot count the members of a gathering, so nothing can follow one: give a result store that "
                "can, such as redis://... or sqlite:///... (result_url, or TRANSHIP_RESULT_URL, for clients and for "
                "workers), or collect the members' results yourself"
            )

    async def begin_chords(self, chords: Sequence[ChordStart]) -> None:
        """Note gatherings whose members are about to be submitted.

        Raises:
            BrokerUnreachable, StorageFull.
        """
        if not chords:
            return
        self.check_counts()
        store = self._chords
        assert store is not None
        for start in range(0, len(chords), CHORDS_AT_ONCE):
            await asyncio.gather(*map(store.start, chords[start : start + CHORDS_AT_ONCE]))

    @cached_property
    def _chords(self) -> ChordStore | None:
        """What counts the members of gatherings; loaded by the first workflow that needs it."""
        from tranship.canvas import chords_of

        return chords_of(self._result_backend or self.backend)

    def _anticipate(self, messages: Sequence[Message]) -> None:
        """Expect the results of tasks that cannot have one yet."""
        ids = [one.envelope.id for one in messages if one.awaited and _is_fresh(one)]
        if not ids or self._waiting is None:
            return
        try:
            self._waiting.anticipate(ids)
        except Exception:
            # Expecting saves a read later; it must never keep a task from being submitted.
            log.exception("the backend's expect failed in an unexpected way")

    def encode(self, envelope: Envelope, kind: object = None) -> Message:
        """Turn ``envelope`` into bytes and check their size; any thread.

        Args:
            envelope: what to encode.
            kind: as :meth:`tranship.protocol.Encoder.encode` takes it.

        Raises:
            EncodeError, MessageTooLarge, InvalidOptionError.
        """
        message = self.encoder.encode(envelope, kind)
        self.submission.check(message)
        return message

    @cached_property
    def commanding(self) -> Commanding:
        """What sends commands to workers.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        from tranship.client._commanding import Commanding

        if not self.can_cancel:
            raise UnsupportedError(
                f"{self.backend.name} has no control channel, so workers there hear no commands; give them signals, or "
                "start them with other options"
            )
        return Commanding(self.backend, self._onlooking)

    @cached_property
    def _onlooking(self) -> Onlooking:
        from tranship.client._onlooking import Onlooking

        return Onlooking(self.backend.control())

    def hold_back(self, task: Task[..., Any]) -> None:
        """Have what is submitted of a task with limits wait in the line of its key; any thread.

        Raises:
            UnsupportedError: nothing here keeps records.
        """
        if task.limits is not None:
            self._lined.know(task.name, task.limits)

    def _may_hold_back(self) -> bool:
        """Whether tasks with limits may wait in lines: in records of the broker, or else of the result store."""
        return any(
            one is not None and one.capabilities.has(Capability.RECORDS) for one in (self.backend, self._result_backend)
        )

    async def _held(self, ids: Sequence[str]) -> Collection[str]:
        from tranship.client._holding import held_of

        return await held_of(self.backend, self._result_backend, ids)

    @cached_property
    def _lined(self) -> LinedHandOver:
        """What hands messages over, some of them to lines; made with the first task that has limits."""
        from tranship.client._holding import held_back

        results = self._store if self.keeps_results else None
        return held_back(
            self.backend, self._result_backend, self.submission, clock=self.clock, loop=self.loop, results=results
        )

    @property
    def waiting(self) -> Waiting:
        """The hub.

        Raises:
            ResultsDisabled: neither the broker nor a result store keeps results.
        """
        if self._waiting is None:
            raise ResultsDisabled(
                f"{self.backend.name} keeps no results; give a result store: Client(url, result_url=...) "
                "or TRANSHIP_RESULT_URL"
            )
        return self._waiting

    def records(self) -> Records:
        """Return where results' store keeps records.

        Raises:
            UnsupportedError: it keeps none.
        """
        found = self.records_or_none()
        if found is None:
            raise UnsupportedError(
                f"{self.store_name} keeps no records, and so nothing of what a task tells while it runs; give a result "
                "store that does: Client(url, result_url=...) or TRANSHIP_RESULT_URL, for workers as well"
            )
        return found

    @property
    def numbers(self) -> Sequence[Priority]:
        """The level of each of Celery's numbers for a priority; none: they mean nothing."""
        # Loaded by who submits workflows.
        from tranship.ports import numbers_of

        return numbers_of(self.backend)

    def records_or_none(self) -> Records | None:
        """Return them; None: it keeps none."""
        # Loaded by who asks what a task tells.
        from tranship.ports import records_of

        return records_of(self._result_backend or self.backend)

    @cached_property
    def result_ttl(self) -> float:
        """Seconds for which a result is kept, where its task does not say."""
        from tranship.settings import CommonOptions

        usual = CommonOptions.result_ttl
        told = None if self._store_url is None else self._store_url.options.get("result_ttl")
        try:
            return usual if told is None else float(told)
        except ValueError:
            return usual

    @property
    def store_name(self) -> str:
        """What keeps results, for errors."""
        return (self._result_backend or self.backend).name

    @property
    def can_tell(self) -> bool:
        """Whether an id that nobody has submitted is told from one that is queued."""
        return self.waiting.knows_ids or self.answers_submits_only

    async def states(self, ids: Sequence[str]) -> list[TaskResult]:
        """Read once what is known of ``ids``, in order; a delayed task that was submitted here is SCHEDULED.

        Of what is queued elsewhere the store knows nothing, and that is no news: it is PENDING.

        Raises:
            ResultsDisabled: results are kept nowhere.
            BrokerUnreachable: the store does not answer.
        """
        found = await self.waiting.states(ids)
        return [one if one.state.terminal else replace(one, state=self._state(one)) for one in found]

    def _state(self, found: TaskResult) -> TaskState:
        unknown = not self._knows_ids and found.state is TaskState.UNKNOWN
        state = TaskState.PENDING if unknown else found.state
        return TaskState.SCHEDULED if state is TaskState.PENDING and self.delayed.is_waiting(found.id) else state

    async def forget(self, ids: Sequence[str]) -> None:
        """Delete the results of ``ids``."""
        waiting = self.waiting
        assert self._store is not None
        await self._store.forget_many(ids)
        waiting.forget(ids)

    async def replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again; their old results make room for new ones, wherever results are kept."""
        inspector = self.backend.inspector()
        if self._store is not None and (self._is_told or self._result_backend is not None):
            letters = await inspector.dead_get(ids)
            await self._begin_again(self._store, [letter.task_id for letter in letters if letter.task_id])
        return await inspector.dead_replay(ids)

    async def _begin_again(self, store: ResultStore, ids: Sequence[str]) -> None:
        """Let the store forget results, and know the ids all the same."""
        if self._result_backend is not None:
            await store.forget_many(ids)
        if self._is_told:
            # Loaded by operators.
            from tranship.ports import KnownId

            await cast("IdKeeper", store).keep_ids([KnownId(one) for one in ids])

    def record_keeper(self) -> KeepsRecords:
        """What keeps records: the broker, or else the result store.

        Raises:
            UnsupportedError: neither does.
        """
        # Loaded by schedulers and by who looks at them.
        from tranship.ports import keeps_records

        for one in (self.backend, self._result_backend):
            if one is not None and keeps_records(one):
                return one
        raise UnsupportedError(
            f"{self.backend.url} keeps no records, by which schedulers agree on who sends what; give a result store "
            "that keeps some (result_url, or TRANSHIP_RESULT_URL), such as redis://... or sqlite:///..."
        )

    @property
    def answers_submits_only(self) -> bool:
        """Whether results come only here, and only of what was submitted here: they are kept nowhere."""
        return isinstance(self._store, Remembered)

    @property
    def keeps_results(self) -> bool:
        """Whether results are kept where others can read them."""
        return self._store is not None and not self.answers_submits_only

    @property
    def can_cancel(self) -> bool:
        """Whether :meth:`cancel` is supported."""
        return self.backend.capabilities.has(Capability.CONTROL)

    async def cancel(self, kind: str, values: Sequence[str], ttl: float) -> CancelReport:
        """Cancel by ``kind`` (``"id"`` or ``"key"``) for ``ttl`` seconds.

        Delayed tasks that were submitted here end now, also where the broker keeps their messages until they are due:
        the cancel it has recorded keeps them from being run.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        # Loaded by the first cancel: a client that only submits has no use for it.
        from tranship.ports import Tombstone

        if not self.can_cancel:
            raise UnsupportedError(f"{self.backend.name} has no control channel: tasks cannot be cancelled there")
        expires = time.time() + ttl
        with self._elsewhere.cancelling(kind, values) if self._elsewhere is not None else contextlib.nullcontext():
            report = await self.backend.control().cancel(
                [Tombstone(kind=kind, value=value, expires=expires) for value in values]
            )
            await self.answer_elsewhere(report.removed)
            ended = [one for one in self.delayed.take_cancelled(kind, values, expires) if one not in report.removed]
        if ended:
            await self._end_delayed(ended)
        return replace(report, removed=[*report.removed, *ended])

    def delayed_submitted(self, envelope: Envelope) -> None:
        """Remember a delayed task that the broker has, and have it end as soon as anybody cancels it; any thread."""
        self.delayed.submitted(envelope)
        removes = self.backend.capabilities.has(Capability.DELAY_CANCEL)
        if self._elsewhere is None and self.can_cancel and not removes and self._store is not None:
            # Closed in this moment: nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._look_elsewhere)

    def _look_elsewhere(self) -> None:
        from tranship.client._elsewhere import CancelledElsewhere

        if self._elsewhere is None and not self._closed:
            self._elsewhere = CancelledElsewhere(self.delayed, self._onlooking, self._end_delayed)

    async def _end_delayed(self, ids: Sequence[str]) -> None:
        """Give delayed tasks of our own the results that a worker would give them when they are due."""
        content_type = (self._result_backend or self.backend).capabilities.result_type
        results = [replace(cancelled_result(task_id, content_type), reply_to=self.reply_to) for task_id in ids]
        try:
            if isinstance(self._store, Remembered):
                self._store.come(results)
            elif self._store is not None:
                await self._store.put(results)
        except TranshipError as error:
            # The cancel itself is recorded: a worker answers when they are due.
            log.warning("the results of %d cancelled tasks could not be stored yet: %s", len(ids), error)

    async def answer_elsewhere(self, ids: Sequence[str], how: str = "was cancelled") -> None:
        """Give ``ids``, which the broker has removed and answered in its own store, their results where those who wait
        look in another one.
        """
        if self._result_backend is not None:
            await self.answer_removed(ids, how)

    async def answer_removed(self, ids: Sequence[str], how: str = "was cancelled") -> None:
        """Give ``ids``, which a broker with another store has removed, their results."""
        if ids and self._store is not None and not self.answers_submits_only:
            content_type = (self._result_backend or self.backend).capabilities.result_type
            await self._store.put([cancelled_result(task_id, content_type, how) for task_id in ids])

    async def ping(self) -> float:
        """Make one round trip to the broker; return its seconds."""
        begun = time.perf_counter()
        await self.backend.ping()
        return time.perf_counter() - begun

    async def aclose(self) -> None:
        """Flush what is queued, then close both backends."""
        self._closed = True
        try:
            await self.submission.aclose()
            if self._elsewhere is not None:
                await self._elsewhere.aclose()
            if self._sent_events is not None:
                await self._sent_events.aclose()
            if self._waiting is not None:
                await self._waiting.aclose()
        finally:
            await _close_all([self.backend, self._result_backend])


def _sent_events(backend: Backend) -> SentEvents:
    # Loaded by who asks for it.
    from tranship.announcing import SentEvents

    return SentEvents(backend)


def _is_fresh(message: Message) -> bool:
    """Whether it is sent for the first time, under an id that is new, to be run at once and its result kept."""
    envelope = message.envelope
    return (
        not message.check_id
        and not message.tries
        and envelope.keeps_result
        and envelope.dedup_key is None
        and envelope.not_before is None
    )


def cancelled_result(task_id: str, content_type: str, how: str = "was cancelled") -> StoredResult:
    """The result of a task that a broker has removed."""
    document = encode_cancelled(task_id, how, content_type=content_type)
    return StoredResult(id=task_id, state=TaskState.CANCELLED, document=document)


async def _close_all(backends: Sequence[Any]) -> None:
    for backend in backends:
        if backend is not None:
            await backend.aclose()
