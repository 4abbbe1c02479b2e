"""Submits and results that pass through middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from tranship._defaults import default_registry
from tranship.connections import process_table
from tranship.envelope import Envelope, Receipt, TaskResult, new_ids
from tranship.errors import ClosedError, ConfigurationError, SubmitError, TranshipError
from tranship.task import Task, TaskCall, current_or_none

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.middleware import Chain, Middleware
    from tranship.protocol import Message
    from tranship.registry import Registry
    from tranship.submission import Answer
    from tranship.waiting import Found

__all__ = [
    "Chains",
    "Passage",
    "Passed",
    "chains_of",
    "end_through",
    "envelopes_of",
    "own_middleware",
    "states_through",
    "submit_many_through",
    "submit_through",
]

Passed: TypeAlias = TaskResult | BaseException
"""What a result became, or why it is not to be had: what the store or a middleware raised."""
AT_ONCE: Final = 64
"""Results of one call that are with the middleware together: enough for a store that is far away, and no flood."""


class Chains(NamedTuple):
    """What submits and results pass through; None: nothing is around them."""

    submits: Chain[Envelope, Receipt] | None
    results: Chain[TaskResult, TaskResult] | None


def own_middleware(given: Iterable[Middleware]) -> Sequence[Middleware]:
    """Return the middleware that a client was given.

    Raises:
        InvalidOptionError: something else than objects of subclasses of Middleware.
    """
    if given == ():
        return ()
    from tranship.middleware import checked

    return tuple(checked(given))


def chains_of(own: Sequence[Middleware], registry: Registry | None) -> Chains:
    """Return the chains of a client.

    Args:
        own: its own middleware; that of plugins is around it.
        registry: the plugins; None: those installed.

    Raises:
        PluginError: that of a plugin cannot be made.
    """
    plugged = (registry or default_registry(process_table())).middleware()
    if not plugged and not own:
        return Chains(None, None)
    from tranship.middleware import chain_of

    several = (*plugged, *own)
    return Chains(chain_of(several, "submit"), chain_of(several, "result"))


def envelopes_of(link: ClientLink, calls: Sequence[TaskCall[Any]]) -> list[tuple[Envelope, bool]]:
    """Return the envelope of each call, and whether its id is the caller's own; on the caller's thread.

    Raises:
        InvalidArgumentsError: a model that a worker would not read as it is written.
    """
    now, parent, reply_to = link.clock.now(), current_or_none(), link.reply_to
    made = []
    for call, fresh_id in zip(calls, new_ids(len(calls)), strict=True):
        envelope = call.task.envelope(
            call.args, call.kwargs, now=now, reply_to=reply_to, parent=parent, fresh_id=fresh_id
        )
        if call.task.limits is not None:
            link.hold_back(call.task)
        made.append((envelope, envelope.id is not fresh_id))
    return made


async def submit_through(
    link: ClientLink,
    chain: Chain[Envelope, Receipt] | None,
    envelope: Envelope,
    *,
    own_id: bool,
    awaited: bool,
    task: Task[..., Any] | None = None,
) -> tuple[Message, Receipt]:
    """Submit one task through ``chain``, on the link's loop; return the message that was sent.

    Args:
        link: where.
        chain: the middleware; None: there is none.
        envelope: the task's.
        own_id: whether its id is the caller's own.
        awaited: whether its result is likely to be waited for.
        task: what was submitted, of which there may be one at a time; None: it is a step of something larger.

    Raises:
        EncodeError, MessageTooLarge, SubmitTimeout, SubmitUnknown, StorageFull, and what the middleware raises.
        InvalidOptionError: a middleware has made an envelope that cannot be.
    """
    sent: list[Message] = []

    async def send(changed: Envelope) -> Receipt:
        if changed is not envelope:
            from tranship.client._changed import check_changed

            check_changed(changed)
        if task is not None and task.single is not None:
            key, changed = _singled(link, task, changed)
        message = link.encode(changed)
        message.check_id, message.awaited = own_id or changed.id != envelope.id, awaited
        sent[:] = [message]
        if task is not None and task.single is not None:
            from tranship.client._single import submit_single

            return await submit_single(link, task.single, key, message, hand_over)
        return await hand_over(message)

    async def hand_over(message: Message) -> Receipt:
        (answer,) = await link.submission.submit([message])
        if isinstance(answer, Receipt):
            return answer
        raise answer

    receipt = await (send(envelope) if chain is None else chain(envelope, send))
    if not sent or not isinstance(receipt, Receipt):
        raise SubmitError(
            f"a middleware did not hand task {envelope.id} ({envelope.task}) on: its submit returned {receipt!r}; "
            "return what call_next returns, or raise an error that says why not",
            task_id=envelope.id,
        )
    return sent[0], receipt


def _singled(link: ClientLink, task: Task[..., Any], envelope: Envelope) -> tuple[str, Envelope]:
    """Return the key that its submits share, and the envelope: delayed, where it has to be quiet."""
    single = task.single
    assert single is not None
    key = single.key(task, envelope.args, envelope.kwargs)
    if single.debounce is None:
        return key, envelope
    return key, replace(envelope, not_before=link.clock.now() + single.debounce)


async def submit_many_through(
    link: ClientLink,
    chain: Chain[Envelope, Receipt] | None,
    envelopes: Sequence[tuple[Envelope, bool]],
    tasks: Sequence[Task[..., Any]] | None = None,
) -> list[tuple[Any, Answer]]:
    """The same for many at once, which share round trips; message and answer of each, in order."""
    from tranship.middleware import submitted_together

    nothing: Sequence[Task[..., Any] | None] = [None] * len(envelopes)
    found = tasks or nothing
    with submitted_together(len(envelopes)):
        return await asyncio.gather(
            *(
                _answer(link, chain, envelope, own_id, task)
                for (envelope, own_id), task in zip(envelopes, found, strict=True)
            )
        )


async def _answer(
    link: ClientLink,
    chain: Chain[Envelope, Receipt] | None,
    envelope: Envelope,
    own_id: bool,
    task: Task[..., Any] | None,
) -> tuple[Any, Answer]:
    try:
        return await submit_through(link, chain, envelope, own_id=own_id, awaited=False, task=task)
    except TranshipError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - a middleware of the user's own may raise anything
        failure = SubmitError(f"a middleware raised {type(error).__name__}: {error}", task_id=envelope.id)
        failure.__cause__ = error
        return None, failure


async def end_through(chain: Chain[TaskResult, TaskResult], ending: Awaitable[TaskResult]) -> TaskResult:
    """Wait for ``ending`` and return what ``chain`` makes of it."""
    return await _result_through(chain, await ending)


async def states_through(
    chain: Chain[TaskResult, TaskResult], reading: Awaitable[Sequence[TaskResult]]
) -> list[TaskResult]:
    """The same of many at once, in order.

    Raises:
        What the middleware raises for the first of those that it refuses, once all have passed through.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def passed(result: TaskResult) -> TaskResult:
        async with gate:
            return await _result_through(chain, result)

    answers = await asyncio.gather(*map(passed, await reading), return_exceptions=True)
    results = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results


class Passage:
    """A sink for results that hands them on once they have passed through middleware. On the link's loop.

    Args:
        chain: the middleware.
        sink: is handed what they became, or what the middleware raised, as they come.
    """

    def __init__(self, chain: Chain[TaskResult, TaskResult], sink: Callable[[str, Passed], None]) -> None:
        self._chain = chain
        self._sink = sink
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._inside: set[asyncio.Task[TaskResult]] = set()

    def __call__(self, task_id: str, found: Found) -> None:
        """Let ``found`` in."""
        if isinstance(found, TranshipError):
            self._sink(task_id, found)
            return
        passing = asyncio.get_running_loop().create_task(self._pass(found))
        self._inside.add(passing)
        passing.add_done_callback(partial(self._passed, task_id))

    def stop(self) -> None:
        """Nobody waits any more for what is inside."""
        for passing in self._inside:
            passing.cancel()

    async def _pass(self, found: TaskResult) -> TaskResult:
        async with self._gate:
            return await _result_through(self._chain, found)

    def _passed(self, task_id: str, passing: asyncio.Task[TaskResult]) -> None:
        self._inside.discard(passing)
        if passing.cancelled():
            # Whoever waits is told in any case: the loop may end before the middleware does.
            self._sink(task_id, ClosedError("the client was closed while a middleware had the result", task_id=task_id))
        else:
            self._sink(task_id, passing.exception() or passing.result())


async def _result_through(chain: Chain[TaskResult, TaskResult], result: TaskResult) -> TaskResult:
    """Return what ``chain`` makes of a terminal result; another one is not its affair.

    Raises:
        ConfigurationError: it makes something else of it; and what the middleware raises.
    """
    if not result.state.terminal:
        return result
    changed: Any = await chain(result, _same)
    if isinstance(changed, TaskResult):
        return changed
    raise ConfigurationError(
        f"the result of a middleware is {changed!r} for task {result.id}; return a TaskResult, as call_next does"
    )


async def _same(result: TaskResult) -> TaskResult:
    return result
