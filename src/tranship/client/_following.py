"""Following a submitted workflow on its link's loop: submitting what begins it, waiting for its end, looking at it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tranship.client._gather import ended, wait_timeout
from tranship.client._planner import Planned, plan
from tranship.client._prepare import CANCEL_TTL
from tranship.client._shape import (
    NOT_BEGUN,
    Shape,
    ends,
    lacks_cause,
    leaves,
    outcome,
    state_of,
    steps_of,
    typed,
    without_foretold,
)
from tranship.client._through import Chains, Passed, states_through, submit_many_through
from tranship.envelope import Receipt, TaskResult, TaskState, WorkflowResult
from tranship.errors import BatchSubmitError, ResultTimeout, TranshipError
from tranship.settings import TaskRoutes
from tranship.task import Workflow, current_or_none

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.middleware import Chain
    from tranship.protocol import Message
    from tranship.submission import Answer
    from tranship.waiting import Found

__all__ = ["Followers", "cancel_all", "ends_of", "follow", "planned", "snapshot", "submit_planned"]

log = logging.getLogger("tranship.client")

CAUSE_COMES_WITHIN: Final = 5.0
"""Seconds: a worker stores the result of a task right after those of the tasks that it keeps from running."""


def planned(link: ClientLink, workflow: Workflow[Any], routes: TaskRoutes) -> Planned:
    """Return what is to be sent of ``workflow``; any thread, nothing is sent.

    Raises:
        InvalidArgumentsError, InvalidOptionError: it cannot be submitted.
        UnsupportedError: the broker, or its result store, cannot do what it takes.
    """
    found = plan(
        workflow,
        now=link.clock.now(),
        reply_to=link.reply_to,
        parent=current_or_none(),
        routes=routes,
        numbers=link.numbers,
    )
    if found.needs_chords:
        link.check_counts()
    return found


async def submit_planned(link: ClientLink, found: Planned, chains: Chains) -> None:
    """Hand over what begins a workflow, all of it or nothing.

    Raises:
        EncodeError, MessageTooLarge: nothing was sent.
        SubmitTimeout, SubmitUnknown, StorageFull: it is not complete; what had been sent is cancelled.
    """
    if not found.envelopes:
        return
    messages = [] if chains.submits is not None else [link.encode(one) for one in found.envelopes]
    link.expect_later(found.ids)
    await link.begin_chords(found.chords)
    answers: Sequence[Answer]
    if chains.submits is not None:
        pairs = [(one, one.id in found.own_ids) for one in found.envelopes]
        answers = [answer for _, answer in await submit_many_through(link, chains.submits, pairs)]
    else:
        answers = await link.submission.submit(_marked(messages, found))
    await _check_answers(link, found, answers)


def _marked(messages: Sequence[Message], found: Planned) -> Sequence[Message]:
    for one in messages:
        one.check_id = one.envelope.id in found.own_ids
    return messages


async def _check_answers(link: ClientLink, found: Planned, answers: Sequence[Answer]) -> None:
    errors = {at: one for at, one in enumerate(answers) if not isinstance(one, Receipt)}
    if not errors:
        return
    first = next(iter(errors.values()))
    if len(answers) == 1:
        raise first
    others = "nothing was sent" if len(errors) == len(answers) else await _take_back(link, found)
    raise BatchSubmitError(
        f"the workflow was not submitted: {len(errors)} of {len(answers)} messages were refused, and {others}; "
        f"the first one: {first}",
        handles=[None] * len(answers),
        errors=errors,
    )


async def _take_back(link: ClientLink, found: Planned) -> str:
    """Cancel what has been sent of a workflow that is not complete; say what became of it."""
    if not link.can_cancel:
        return f"the others run: {link.backend.name} has no control channel to cancel them"
    try:
        await link.cancel("id", found.ids, CANCEL_TTL)
    except TranshipError as error:
        return f"the others could not be cancelled: {error}"
    return "the others are cancelled"


async def cancel_all(link: ClientLink, shape: Shape) -> None:
    """Cancel every task of it, those included whose turn has not come.

    Raises:
        UnsupportedError: the broker has no control channel.
    """
    ids = [leaf.id for leaf in leaves(shape)]
    await link.cancel("id", ids, CANCEL_TTL)
    if link.keeps_results:
        # Nobody will ever take what has not been sent yet, and end it.
        known = await link.states(ids)
        await link.answer_removed([one.id for one in known if one.state in NOT_BEGUN])


async def follow(
    link: ClientLink, shape: Shape, seconds: float | None, chain: Chain[TaskResult, TaskResult] | None = None
) -> TaskResult:
    """Wait for the end of a workflow; with 0 seconds only what is there already is told.

    Args:
        link: where results come.
        shape: the workflow.
        seconds: how long; None: as long as it takes.
        chain: the middleware that results pass through.

    Raises:
        ResultTimeout: it had not ended.
        What the store raised, or a middleware.
    """
    known: Mapping[str, TaskResult]
    if seconds == 0:
        known = {one.id: one for one in await link.states([leaf.id for leaf in leaves(shape)])}
    else:
        known = await _known_at_end(link, shape, seconds)
    if chain is not None:
        known = {one.id: one for one in await states_through(chain, _same([*known.values()]))}
    found = outcome(shape, _explained(link, shape, known) if seconds == 0 else known)
    if found is None:
        raise wait_timeout(shape.id, seconds)
    return ended(found)


def _explained(link: ClientLink, shape: Shape, known: Mapping[str, TaskResult]) -> Mapping[str, TaskResult]:
    """Return what is known without failures whose reason is about to come."""
    return without_foretold(shape, known, link.clock.now() - CAUSE_COMES_WITHIN)


async def ends_of(
    link: ClientLink, shapes: Mapping[str, Shape], chain: Chain[TaskResult, TaskResult] | None
) -> list[TaskResult]:
    """Return the results of those workflows that have ended by now."""
    found = []
    for shape in shapes.values():
        with contextlib.suppress(ResultTimeout):
            found.append(await follow(link, shape, 0, chain))
    return found


async def _same(results: list[TaskResult]) -> list[TaskResult]:
    return results


async def _known_at_end(link: ClientLink, shape: Shape, seconds: float | None) -> dict[str, TaskResult]:
    """Return the results that have come when it is known how it ended, and why."""
    now = asyncio.get_running_loop().time
    until = None if seconds is None else now() + seconds
    decisive = {leaf.id for leaf in ends(shape)}
    known: dict[str, TaskResult] = {}
    found = outcome(shape, known)
    with _watched(link, [leaf.id for leaf in leaves(shape) if leaf.stored]) as come:
        while found is None or lacks_cause(shape, found, known):
            try:
                async with asyncio.timeout_at(until):
                    task_id, one = await come.get()
            except TimeoutError as error:
                if found is None:
                    raise wait_timeout(shape.id, seconds) from error
                log.debug("workflow %s failed for a reason that is not kept", shape.id)
                break
            if isinstance(one, TranshipError):
                raise one
            known[task_id] = one
            decisive.discard(task_id)
            if not decisive or not one.success:
                told, found = found, outcome(shape, known)
                if told is None and found is not None:
                    until = min(until or math.inf, now() + CAUSE_COMES_WITHIN)
    return known


@contextlib.contextmanager
def _watched(link: ClientLink, ids: Sequence[str]) -> Iterator[asyncio.Queue[tuple[str, Found]]]:
    """Provide the results of ``ids`` as they come; of those that are submitted later as well."""
    come: asyncio.Queue[tuple[str, Found]] = asyncio.Queue()

    def sink(task_id: str, found: Found) -> None:
        come.put_nowait((task_id, found))

    link.waiting.watch(ids, sink, later=True)
    try:
        yield come
    finally:
        link.waiting.unwatch(ids, sink)


async def snapshot(
    link: ClientLink, shape: Shape, chain: Chain[TaskResult, TaskResult] | None = None
) -> WorkflowResult[Any]:
    """Read what is known of a workflow now.

    Raises:
        ResultsDisabled, BrokerUnreachable: as reading a single result.
    """
    reading = link.states([leaf.id for leaf in leaves(shape)])
    results = await (reading if chain is None else states_through(chain, reading))
    known = _explained(link, shape, {one.id: one for one in results})
    found = outcome(shape, known)
    if found is None:
        found = TaskResult(id=shape.id, state=state_of(shape, known))
    whole = typed(shape, found)
    return WorkflowResult(
        id=whole.id,
        state=TaskState(whole.state),
        value=whole.value,
        error=whole.error,
        attempt=whole.attempt,
        finished_at=whole.finished_at,
        worker=whole.worker,
        status=whole.status,
        steps=steps_of(shape, known),
    )


class Followers:
    """Follows several workflows at once, and hands on how each ends. On the link's loop.

    Args:
        link: where results come.
        shapes: the workflows, by the ids of their handles.
        sink: is handed the result of each, or why there is none.
        chain: the middleware that results pass through.
    """

    def __init__(
        self,
        link: ClientLink,
        shapes: Mapping[str, Shape],
        sink: Callable[[str, Passed], None],
        chain: Chain[TaskResult, TaskResult] | None,
    ) -> None:
        self._link, self._shapes, self._sink, self._chain = link, shapes, sink, chain
        self._tasks: set[asyncio.Task[TaskResult]] = set()

    def start(self) -> None:
        """Begin."""
        for task_id, shape in self._shapes.items():
            following = asyncio.get_running_loop().create_task(follow(self._link, shape, None, self._chain))
            self._tasks.add(following)
            following.add_done_callback(partial(self._ended, task_id))

    def stop(self) -> None:
        """Nobody waits any more."""
        for following in self._tasks:
            following.cancel()

    def _ended(self, task_id: str, following: asyncio.Task[TaskResult]) -> None:
        self._tasks.discard(following)
        if not following.cancelled():
            self._sink(task_id, following.exception() or following.result())
