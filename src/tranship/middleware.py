"""Middleware: what is to happen around every message of a client or a worker, written once.

A middleware is an object of a subclass of :class:`Middleware`. The first of a list is the outermost: it sees a call
first and its answer last. A verb that no middleware of a list overrides costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from tranship.envelope import Ending, Envelope, ErrorInfo, Receipt, TaskResult
from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.task import TaskContext

__all__ = [
    "Batch",
    "BatchRunCall",
    "Chain",
    "Middleware",
    "Next",
    "RunCall",
    "SettleCall",
    "chain_of",
    "checked",
    "current_batch",
    "submitted_together",
]

T = TypeVar("T")
R = TypeVar("R")

Next: TypeAlias = Callable[[T], Awaitable[R]]
Verb = Literal["submit", "run", "run_batch", "settle", "result"]


@dataclass(frozen=True, slots=True)
class RunCall:
    """A handler that is about to be called."""

    context: TaskContext
    """The task, as ``current()`` gives it to the handler."""
    args: Sequence[Any]
    """What the handler is called with by position: checked, models made."""
    kwargs: Mapping[str, Any]
    """What it is called with by name. Where arguments are kept elsewhere, ``args`` is a single
    :class:`~tranship.envelope.Claim`: hand on what it stands for, as it is decoded; that is checked then."""


@dataclass(frozen=True, slots=True)
class BatchRunCall:
    """The handler of a task that takes many calls at once, about to be called for these."""

    task: str
    """The task's name."""
    contexts: Sequence[TaskContext]
    """The tasks, in the order in which the handler is given their calls."""


@dataclass(frozen=True, slots=True)
class SettleCall:
    """How a delivery ends, before it is written."""

    envelope: Envelope
    """The task as it was delivered."""
    ending: Ending
    """Decided, and not to be changed."""
    value: Any
    """What the handler returned, for SUCCEEDED."""
    error: ErrorInfo | None
    """Why not, for the others."""
    delay: float
    """For RETRY: seconds until the next attempt."""
    duration: float | None
    """Seconds since the handler was called; None: it was not."""
    status: str | None = None
    """For SUCCEEDED: what the handler calls it (``Outcome(status, data)``); None: nothing."""
    snoozed: bool = False
    """For RETRY: it comes again as the same attempt, as the handler asked (``Snooze(delay)``)."""


class Middleware:
    """Override what you need; each method does what it does around ``call_next``, and calls it once or not at all.

    One object may serve clients and workers, and many messages at once: keep what belongs to one message in local
    variables.
    """

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        """Around handing one task to the broker, on the client's I/O loop.

        Hand on another envelope to change it: ``dataclasses.replace(envelope, headers={**envelope.headers, ...})``.
        What is raised reaches the caller; of a batch, as the error of this call alone.
        """
        return await call_next(envelope)

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Around one call of a handler, on the loop that ``async def`` handlers run on; the result is what it returns.

        ``call_next`` raises what the handler raises. What this raises is the attempt's error, as a handler's would be.
        The ``run_timeout`` and the deadline hold for all of it; ``current()`` is the task's context.
        """
        return await call_next(call)

    async def run_batch(self, call: BatchRunCall, call_next: Next[BatchRunCall, Any]) -> Any:
        """Around the one call of a handler that takes many calls at once, inside the ``run`` of each of them.

        The result is what the handler returns for all; what is raised is the error of each. There is no ``current()``.
        """
        return await call_next(call)

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        """Around the end of one delivery, once it is decided and before it is written; handler or no handler.

        Hand on another call to change its value or its error. Its ending, envelope, status and delay stay as they are.
        What this raises is logged, and the delivery is settled as it was decided; so it is after 30 seconds.
        """
        await call_next(call)

    async def result(self, result: TaskResult, call_next: Next[TaskResult, TaskResult]) -> TaskResult:
        """Around a terminal result that came to a client, on the client's I/O loop; return what its handle is to have.

        What is raised reaches whoever waits.
        """
        return await call_next(result)


class Batch:
    """Several submits that were asked for at once: they pass through middleware one by one, all at the same time.

    Args:
        size: how many there are; from two on.
    """

    __slots__ = ("__weakref__", "_ends", "size")

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._ends: list[Callable[[], None]] = []

    def at_end(self, call: Callable[[], None]) -> None:
        """Have ``call`` called, which raises nothing, once the last of them has come back from the broker."""
        self._ends.append(call)

    def end(self) -> None:
        """Call what was to be called."""
        for call in self._ends:
            call()


_BATCH: Final[ContextVar[Batch | None]] = ContextVar("tranship_batch", default=None)


def current_batch() -> Batch | None:
    """Return what the submit that is passing through belongs to, for ``submit``; None: it is alone."""
    return _BATCH.get()


@contextmanager
def submitted_together(size: int) -> Iterator[None]:
    """Make what is submitted in the block one batch; a single submit is none."""
    batch = Batch(size) if size > 1 else None
    token = _BATCH.set(batch)
    try:
        yield
    finally:
        _BATCH.reset(token)
        if batch is not None:
            batch.end()


class Chain(Generic[T, R]):
    """The methods of one verb, ready to be called around something; made by :func:`chain_of`."""

    __slots__ = ("_inwards", "_verb")

    def __init__(self, methods: Sequence[Callable[[T, Next[T, R]], Awaitable[R]]], verb: Verb) -> None:
        self._inwards = tuple(reversed(methods))
        self._verb = verb

    def __call__(self, value: T, innermost: Next[T, R]) -> Awaitable[R]:
        """Call the first method with ``value``; the last one calls ``innermost``.

        Raises:
            ConfigurationError: one of them calls ``call_next`` with something else; and what they raise.
        """
        if not self._inwards:
            return innermost(value)
        call = _handed_on(innermost, self._verb)
        for method in self._inwards:
            call = _before(method, call)
        return call(value)


def _handed_on(innermost: Next[T, R], verb: Verb) -> Next[T, R]:
    """Return ``innermost`` behind a look at what it is called with."""
    kind = _KINDS[verb]

    def look(value: T) -> Awaitable[R]:
        if isinstance(value, kind):
            return innermost(value)
        raise ConfigurationError(
            f"the {verb} of a middleware called call_next with {value!r}; give it the {kind.__name__} it was given, "
            "or a changed copy (dataclasses.replace)"
        )

    return look


_KINDS: Mapping[Verb, type] = {
    "submit": Envelope,
    "run": RunCall,
    "run_batch": BatchRunCall,
    "settle": SettleCall,
    "result": TaskResult,
}


def _before(method: Callable[[T, Next[T, R]], Awaitable[R]], following: Next[T, R]) -> Next[T, R]:
    return lambda value: method(value, following)


def chain_of(middleware: Sequence[Middleware], verb: Verb) -> Chain[Any, Any] | None:
    """Return the chain of those that override ``verb``; None: nobody does."""
    default = getattr(Middleware, verb)
    methods = [getattr(one, verb) for one in middleware if getattr(type(one), verb) is not default]
    return Chain(methods, verb) if methods else None


def checked(middleware: Iterable[Middleware]) -> Sequence[Middleware]:
    """Return ``middleware`` as a tuple.

    Raises:
        InvalidOptionError: something else than objects of subclasses of :class:`Middleware`.
    """
    if isinstance(middleware, Middleware) or not isinstance(middleware, Iterable):
        raise InvalidOptionError(f"middleware is {middleware!r}; expected a list of Middleware objects")
    several = tuple(middleware)
    for one in several:
        if isinstance(one, type) and issubclass(one, Middleware):
            raise InvalidOptionError(f"middleware has the class {one.__name__}; give an object: {one.__name__}()")
        if not isinstance(one, Middleware):
            raise InvalidOptionError(f"middleware has {one!r}; expected objects of subclasses of tranship.Middleware")
    return several
