"""A backend whose verbs go wrong on purpose: they raise, hang, or lose their answer, as often as was asked for.

::

    faults = Faults()
    backend = faults.wrap(Registry().create(url))
    faults.fail("submit", BrokerUnreachable, times=3)      # not done
    faults.fail("submit", SubmitUnknown, after=True)       # done, but the answer is lost
    faults.stall("receive")                                # hangs until faults.release("receive")

Everything else is the real backend's; nothing is simulated.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable, ClosedError, InvalidOptionError, TranshipError
from tranship.ports import Backend, Received
from tranship.protocol import Message
from tranship.registry import Registry
from tranship.settings import BrokerURL, SharedState

__all__ = ["VERBS", "Faults", "FaultyBackend", "FaultyRegistry"]

VERBS: Final = frozenset(
    {"open", "ping", "ensure", "submit", "receive", "release", "extend", "settle", "put", "get_many", "forget_many"}
    | {"keep_ids", "drop_ids", "listen", "cancel", "send", "beat", "take_name", "free_name"}
    | {"queues", "workers", "dead", "dead_get", "dead_replay", "dead_purge"}
)
"""The awaitable methods of all ports; their names are unique."""

Verb = Callable[..., Awaitable[Any]]


def _nothing(_message: Message) -> None:
    """Refuse nothing."""


ALWAYS: Final = -1


@dataclass(slots=True)
class _Fault:
    """One thing that goes wrong, ``left`` more times."""

    error: type[TranshipError] | None
    """None: it hangs."""
    after: bool
    left: int


class Faults:
    """What is to go wrong, by verb. One object may serve several backends; any thread.

    Mutable state: the faults to come, the calls counted so far and who hangs; changed only under the lock.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """How often each verb was called."""
        self.hit: Counter[str] = Counter()
        """How often each verb went wrong."""
        self.refused: Callable[[Message], TranshipError | None] = _nothing
        """Which messages ``submit`` answers with a definite error while it stores the others."""
        self.deafened: int = 0
        """How often consumers were made deaf; one that was made before the last time hears nothing."""
        self._lock = threading.Lock()
        self._faults: dict[str, deque[_Fault]] = {}
        self._stalled: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    def wrap(self, backend: Backend) -> FaultyBackend:
        """Return ``backend`` with these faults; not opened."""
        return FaultyBackend(backend, self)

    def fail(
        self,
        verb: str,
        error: type[TranshipError] = BrokerUnreachable,
        *,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let the next ``times`` calls of ``verb`` raise ``error``.

        Args:
            verb: one of :data:`VERBS`.
            error: what is raised.
            times: how often; -1: until :meth:`clear`.
            after: do it first, then raise: the answer is lost.

        Raises:
            InvalidOptionError: there is no such verb.
        """
        self._add(verb, _Fault(error, after, times))

    def stall(self, verb: str, *, times: int = 1, after: bool = False) -> None:
        """Let the next ``times`` calls of ``verb`` hang until :meth:`release`, or until the backend is closed.

        Before they do anything; with ``after`` once everything is done.
        """
        self._add(verb, _Fault(None, after, times))

    def deafen(self) -> None:
        """From now on the consumers that there are get nothing, and say each time that there is nothing."""
        with self._lock:
            self.deafened += 1

    def clear(self, verb: str) -> None:
        """From now on ``verb`` works; calls that hang go on hanging."""
        with self._lock:
            self._faults.pop(verb, None)

    def release(self, verb: str) -> None:
        """Let the calls of ``verb`` that hang go on, and the next ones work."""
        self.clear(verb)
        with self._lock:
            stalled = self._stalled.pop(verb, set())
        for loop, event in stalled:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def _add(self, verb: str, fault: _Fault) -> None:
        if verb not in VERBS:
            raise InvalidOptionError(f"verb {verb!r} is unknown; use one of {', '.join(sorted(VERBS))}")
        with self._lock:
            self._faults.setdefault(verb, deque()).append(fault)

    def pending(self, verb: str) -> bool:
        """Whether something may go wrong with the next call of ``verb``."""
        with self._lock:
            return bool(self._faults.get(verb)) or (verb == "submit" and self.refused is not _nothing)

    def next(self, verb: str) -> _Fault | None:
        """Count a call and take what is to go wrong with it."""
        with self._lock:
            self.calls[verb] += 1
            waiting = self._faults.get(verb)
            while waiting and waiting[0].left == 0:
                waiting.popleft()
            if not waiting:
                return None
            if waiting[0].left > 0:
                waiting[0].left -= 1
            self.hit[verb] += 1
            return waiting[0]

    async def happen(self, verb: str, fault: _Fault, closed: asyncio.Event) -> None:
        """Raise or hang, as ``fault`` says."""
        if fault.error is not None:
            raise fault.error(f"{verb} fails on purpose")
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._stalled.setdefault(verb, set()).add(entry)
        ends = [asyncio.ensure_future(event.wait()) for event in (entry[1], closed)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            with self._lock:
                self._stalled.get(verb, set()).discard(entry)
        if closed.is_set():
            raise ClosedError(f"{verb} was hanging on purpose when its backend was closed")


class _Port:
    """One port with its verbs guarded; everything else is the port's own."""

    def __init__(self, port: Any, faults: Faults, closed: asyncio.Event) -> None:
        self._port = port
        self._faults = faults
        self._closed = closed

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if name == "post":
            return _posting(value, self.submit, self._faults)
        if name not in VERBS:
            return value
        return _guarded(name, _refusing(value, self._faults) if name == "submit" else value, self._faults, self._closed)


class FaultyBackend(_Port):
    """A backend, and ports, that fail as their :class:`Faults` say. Made by :meth:`Faults.wrap`."""

    def __init__(self, backend: Backend, faults: Faults) -> None:
        super().__init__(backend, faults, asyncio.Event())
        self._consumers: list[asyncio.Event] = []

    def submitter(self) -> Any:
        """The real submitter, with faults."""
        return self._with_faults(self._port.submitter())

    def consumer(self, queues: Sequence[str]) -> Any:
        """A real consumer, with faults."""
        closed = asyncio.Event()
        self._consumers.append(closed)
        return _FaultyConsumer(self._port.consumer(queues), self._faults, closed)

    def results(self) -> Any:
        """The real result store, with faults."""
        return self._with_faults(self._port.results())

    def control(self) -> Any:
        """The real control channel, with faults."""
        return self._with_faults(self._port.control())

    def inspector(self) -> Any:
        """The real inspector, with faults."""
        return self._with_faults(self._port.inspector())

    async def aclose(self) -> None:
        """Let calls that hang raise ClosedError, and close the real backend."""
        for closed in (self._closed, *self._consumers):
            closed.set()
        await self._port.aclose()

    def _with_faults(self, port: Any) -> _Port:
        return _Port(port, self._faults, self._closed)


class _FaultyConsumer(_Port):
    """A consumer: closed by itself, not only with its backend."""

    def __init__(self, port: Any, faults: Faults, closed: asyncio.Event) -> None:
        super().__init__(port, faults, closed)
        self._hears_until = faults.deafened

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Any:
        """The real one's, as long as it hears anything."""
        if self._faults.deafened == self._hears_until:
            return await self.__getattr__("receive")(limit, wait, skip=skip)
        self._faults.next("receive")
        await asyncio.sleep(wait)
        return Received((), confirmed=True)

    async def aclose(self) -> None:
        self._closed.set()
        await self._port.aclose()


class FaultyRegistry(Registry):
    """Opens whatever ``make`` makes of a URL, with faults.

    Args:
        make: returns a backend for the full text of a URL, not opened.
        faults: what is to go wrong with it.
    """

    def __init__(self, make: Callable[[str], Backend], faults: Faults) -> None:
        super().__init__(entry_points=False, environ={})
        self._make = make
        self._faults = faults

    def create(self, url: str | BrokerURL, *, shared: SharedState | None = None, results: bool = False) -> Backend:  # noqa: ARG002 - as its base
        """Return a backend for ``url``, not opened."""
        text = url.reveal() if isinstance(url, BrokerURL) else url
        backend: Any = self._faults.wrap(self._make(text))
        return backend  # type: ignore[no-any-return]  # a stand-in for every port


def _guarded(name: str, verb: Verb, faults: Faults, closed: asyncio.Event) -> Verb:
    async def call(*args: Any, **kwargs: Any) -> Any:
        fault = faults.next(name)
        if fault is not None and not fault.after:
            await faults.happen(name, fault, closed)
        value = await verb(*args, **kwargs)
        if fault is not None and fault.after:
            await faults.happen(name, fault, closed)
        return value

    return call


def _refusing(submit: Verb, faults: Faults) -> Verb:
    async def call(messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        refused = {index: error for index, message in enumerate(messages) if (error := faults.refused(message))}
        taken = iter(await submit([message for index, message in enumerate(messages) if index not in refused]))
        return [refused.get(index) or next(taken) for index in range(len(messages))]

    return call


def _posting(post: Verb, submit: Verb, faults: Faults) -> Callable[..., None]:
    """Post as the real submitter does, as long as nothing is to go wrong; else through the guarded submit."""
    tasks: set[asyncio.Task[Any]] = set()

    def call(messages: Sequence[Message], answered: Callable[[Sequence[Receipt | TranshipError]], None]) -> None:
        if not faults.pending("submit"):
            faults.next("submit")
            post(messages, answered)
            return

        async def guarded() -> None:
            try:
                answers = await submit(messages)
            except TranshipError as error:
                answers = [error] * len(messages)
            answered(answers)

        task = asyncio.get_running_loop().create_task(guarded())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return call
