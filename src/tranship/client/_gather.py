"""Waiting for many tasks within one budget: what ``collect`` and ``as_completed`` share, blocking and not."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from tranship.client._through import Passage, Passed
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import ClosedError, InvalidArgumentsError, ResultsDisabled, ResultTimeout
from tranship.guards import check_may_block

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship._portal import Portal
    from tranship.client._link import ClientLink
    from tranship.client._shape import Shape
    from tranship.middleware import Chain
    from tranship.waiting import Found

__all__ = [
    "Arrivals",
    "Budget",
    "check_stored",
    "ended",
    "terminal",
    "unfinished",
    "wait_blocking",
    "wait_for_end",
    "wait_timeout",
]


LONGEST: Final = 1e9
"""Seconds; a thread cannot wait for much longer."""


class Followed(Protocol):
    """What is waited for: a handle of either facade."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def submitted(self) -> bool:
        """Whether it comes from a submit, so that there is such a task."""

    final: TaskResult | None
    """Its terminal result, once known."""

    @property
    def _shape(self) -> Shape | None:
        """The workflow; None: it is a single task."""

    def _typed(self, result: TaskResult) -> TaskResult:
        """Return ``result`` with its value as the task is annotated to return it."""


H = TypeVar("H", bound=Followed)


class Budget:
    """One absolute deadline for any number of waits, on the monotonic clock."""

    def __init__(self, timeout: float | None, *, unknown: float | None = None) -> None:
        self.timeout = timeout
        self.unknown = unknown
        """Without a timeout: how long to wait on for nothing but ids that may be nobody's; None: no bound."""
        self._end = None if timeout is None else time.monotonic() + min(timeout, LONGEST)

    def left(self) -> float | None:
        """Seconds left, 0.0 when it is used up; None: no bound."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Arrivals(Generic[H]):
    """Handles that are waited for together; the same id may be there several times."""

    def __init__(self, handles: Iterable[H]) -> None:
        self.handles: list[H] = [_checked(handle) for handle in _several(handles)]
        self._found: dict[str, TaskResult] = {}
        self._waiting: dict[str, list[H]] = {}
        self._given_up: ResultTimeout | None = None
        self._shapes: dict[str, Shape] = {}
        for handle in self.handles:
            if handle.final is None:
                self._waiting.setdefault(handle.id, []).append(handle)
                if (shape := handle._shape) is not None:  # noqa: SLF001 - a handle is half of what follows it
                    self._shapes[handle.id] = shape
        self._submitted = sum(any(map(_is_submitted, same)) for same in self._waiting.values())

    @property
    def finished(self) -> list[H]:
        """Those that had ended before."""
        return [handle for handle in self.handles if handle.final is not None]

    @property
    def ids(self) -> Sequence[str]:
        """The ids that are still waited for."""
        return list(self._waiting)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The workflows that are still waited for, by the ids of their handles."""
        return {one: shape for one, shape in self._shapes.items() if one in self._waiting}

    @property
    def single_ids(self) -> Sequence[str]:
        """The ids of single tasks that are still waited for."""
        return [one for one in self._waiting if one not in self._shapes]

    def __len__(self) -> int:
        return len(self._waiting)

    def arrived(self, task_id: str, found: Passed) -> list[H]:
        """Note what became of ``task_id`` and return its handles; they are not waited for any more.

        Raises:
            What the store raised, or a middleware.
        """
        result = self._found[task_id] = terminal(found)
        handles = self._waiting.pop(task_id, [])
        self._submitted -= any(map(_is_submitted, handles))
        if result.state.terminal:
            # An id that is unknown today may be submitted tomorrow: its handles do not keep that.
            for handle in handles:
                handle.final = result
        return handles

    def known(self, found: TaskResult) -> list[H]:
        """The same for what a read brought, if the task has ended."""
        return self.arrived(found.id, found) if found.state.terminal else []

    def results(self, timeout: float | None) -> list[TaskResult]:
        """What is known of each handle, in order; whoever has not ended says so."""
        why = str(self._given_up) if timeout is None else f"it had not ended within {timeout:g} s"
        return [
            one._typed(one.final or self._found.get(one.id) or unfinished(one.id, why))  # noqa: SLF001
            for one in self.handles
        ]

    def left(self, budget: Budget) -> float | None:
        """Seconds until this waiting is given up, if nothing comes; None: never."""
        return budget.unknown if budget.timeout is None and not self._submitted else budget.left()

    def watch(
        self,
        link: ClientLink,
        sink: Callable[[str, Passed], None],
        chain: Chain[TaskResult, TaskResult] | None,
    ) -> Callable[[], None]:
        """Have ``sink`` called on the link's loop for each id; return what ends it. Any thread.

        Args:
            link: where results come.
            sink: is called with what they are, or why they are not to be had.
            chain: the middleware that they pass through before.
        """
        ids = self.single_ids
        first = sink if chain is None else Passage(chain, sink)
        stops: list[Callable[[], None]] = []
        try:
            link.loop.call_soon_threadsafe(link.waiting.watch, ids, first)
            if shapes := self.shapes:
                from tranship.client._following import Followers

                followers = Followers(link, shapes, sink, chain)
                stops.append(followers.stop)
                link.loop.call_soon_threadsafe(followers.start)
        except RuntimeError as error:
            raise ClosedError("this client has been closed; create a new one") from error
        return lambda: _unwatch(link, ids, first, stops)

    def timeout(self, budget: Budget) -> ResultTimeout:
        """The error when the time is up."""
        if budget.timeout is None:
            what = f"{len(self)} of {len(self.handles)} tasks"
            self._given_up = unknown_timeout(what, "the result store", budget.unknown)
        else:
            self._given_up = ResultTimeout(
                f"{len(self)} of {len(self.handles)} tasks had not ended within {budget.timeout:g} s"
            )
        return self._given_up


def _is_submitted(handle: Followed) -> bool:
    return handle.submitted


def _several(handles: Any) -> Iterable[Any]:
    if isinstance(handles, Iterable) and not isinstance(handles, str):
        return handles
    raise InvalidArgumentsError(f"expected several handles, got {handles!r}")


def _checked(handle: H) -> H:
    if not hasattr(handle, "final"):
        raise InvalidArgumentsError(f"{handle!r} is no handle; get one from submit, submit_many or client.handle(id)")
    return handle


def _unwatch(
    link: ClientLink, ids: Sequence[str], sink: Callable[[str, Found], None], stops: Sequence[Callable[[], None]]
) -> None:
    # A loop that has been closed has nobody to tell.
    with contextlib.suppress(RuntimeError):
        link.loop.call_soon_threadsafe(link.waiting.unwatch, ids, sink)
        for stop in (*stops, *([sink.stop] if isinstance(sink, Passage) else ())):
            link.loop.call_soon_threadsafe(stop)


def unfinished(task_id: str, why: str) -> TaskResult:
    """What ``collect`` returns for a task that had not ended within the budget; ``unwrap`` raises ResultTimeout."""
    error = ErrorInfo(
        type="tranship.errors.ResultTimeout",
        message=f"task {task_id}: {why}",
        code=ResultTimeout.code,
        retryable=True,
    )
    return TaskResult(id=task_id, state=TaskState.PENDING, error=error)


def terminal(found: Passed) -> TaskResult:
    """Return a result, raise an error."""
    if isinstance(found, BaseException):
        raise found
    return found


async def wait_for_end(
    link: ClientLink, task_id: str, seconds: float | None, *, unknown: float | None = None
) -> TaskResult:
    """Wait for a task on the link's own loop; with 0 seconds only what is there already is told.

    Args:
        link: where results come.
        task_id: the task.
        seconds: how long; None: as long as it takes.
        unknown: how long at most, without ``seconds``, if it may be that there is no such task.

    Raises:
        ResultTimeout: it had not ended.
        TaskNotFound: the store does not know it.
    """
    if seconds == 0:
        (found,) = await link.waiting.states([task_id])
        if found.state.terminal:
            return found
        raise wait_timeout(task_id, seconds)
    bound = unknown if seconds is None and not link.can_tell else seconds
    come = await link.waiting.wait(task_id, bound)
    if come is not None:
        return ended(come)
    return await _wait_on(link, task_id, seconds, bound)


async def _wait_on(link: ClientLink, task_id: str, seconds: float | None, bound: float | None) -> TaskResult:
    """Go on when the time is up: of an id that may be nobody's, with a look whether anything has become known."""
    if seconds is not None:
        raise wait_timeout(task_id, seconds)
    (known,) = await link.states([task_id])
    if known.state in _NOTHING_KNOWN:
        raise unknown_timeout(f"task {task_id}", link.store_name, bound)
    return await wait_for_end(link, task_id, None)


def wait_blocking(
    link: ClientLink, portal: Portal, task_id: str, seconds: float | None, *, unknown: float | None = None
) -> TaskResult:
    """The same for a thread without a loop, which is blocked meanwhile.

    It has the hub call it back, without a coroutine on the loop of the link and the two futures of one: that costs more
    than the wait.

    Args:
        link: where results come.
        portal: the thread of its loop.
        task_id, seconds, unknown: as for :func:`wait_for_end`.

    Raises:
        BusyError: this is a thread that others wait for.
        ClosedError: the link has been closed.
        ResultTimeout, TaskNotFound: as :func:`wait_for_end`.
    """
    if seconds == 0:
        return portal.run(wait_for_end(link, task_id, seconds))
    check_may_block()
    bound = unknown if seconds is None and not link.can_tell else seconds
    found: queue.SimpleQueue[Found] = queue.SimpleQueue()

    def sink(_task_id: str, what: Found) -> None:
        found.put(what)

    portal.post(link.waiting.watch, (task_id,), sink)
    try:
        what = found.get(timeout=None if bound is None else min(bound, LONGEST))
    except BaseException as error:
        # A signal's handler may raise, too.
        _unwatch(link, (task_id,), sink, ())
        if not isinstance(error, queue.Empty):
            raise
    else:
        return ended(terminal(what))
    return portal.run(_wait_on(link, task_id, seconds, bound))


_NOTHING_KNOWN: Final = (TaskState.PENDING, TaskState.UNKNOWN)


def unknown_timeout(what: str, store: str, seconds: float | None) -> ResultTimeout:
    """The error when nothing has become known of an id that was not submitted here."""
    return ResultTimeout(
        f"nothing is known of {what} after {seconds or 0:g} s: it may be queued, or nobody has ever submitted it, and "
        f"{store} cannot tell. To wait longer, give a timeout, or set TRANSHIP_UNKNOWN_ID_TIMEOUT"
    )


def check_stored(task_id: str, *, stored: bool) -> None:
    """Refuse to wait for a result that is not kept.

    Raises:
        ResultsDisabled: the task was submitted with ``store_result=False``.
    """
    if not stored:
        raise ResultsDisabled(
            f"task {task_id} was submitted with store_result=False, so there is no result to wait for",
            task_id=task_id,
        )


def ended(result: TaskResult) -> TaskResult:
    """Return the end of a task that was waited for.

    Raises:
        TaskNotFound: there is no such task.
    """
    if not result.state.terminal:
        raise result.exception()
    return result


def wait_timeout(task_id: str, timeout: float | None) -> ResultTimeout:
    """The error when a caller has waited long enough."""
    return ResultTimeout(
        f"task {task_id} had not ended within {timeout or 0:g} s; it goes on without this caller", task_id=task_id
    )
