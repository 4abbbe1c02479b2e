"""What follows a task, planned where its handler ran: it is the handler's value that is encoded.

The plan is carried out by ``_following``, before the task is settled.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tranship.canvas import After, Embed, Failed, Plan, after_failure, after_success
from tranship.envelope import Ending, Envelope, ErrorInfo, TaskResult, TaskState
from tranship.errors import MalformedMessage, MessageTooLarge, TranshipError
from tranship.protocol import NO_ROUTING, Encoder, Message, Routing, Signature, celery_words
from tranship.task import Task
from tranship.worker._describe import describe_final
from tranship.worker._record import Run, Sequel

__all__ = ["ENDS", "Canvas", "refusal"]

log = logging.getLogger("tranship.worker")

ENDS: Final = frozenset({Ending.SUCCEEDED, Ending.FAILED, Ending.CANCELLED, Ending.EXPIRED, Ending.DEAD})
"""Endings that something follows."""
_LONGEST: Final = 60.0
"""Seconds that an errback may take which has no limit of its own."""

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


def refusal(embed: Embed, envelope: Envelope, *, counts: bool) -> ErrorInfo | None:
    """Return why a task is not run with what is to follow it; None: it can be.

    Args:
        embed: what is to follow.
        envelope: the task.
        counts: whether there is anything that counts the parts of a chord.
    """
    if embed.problem is not None:
        message = f"what is to follow task {envelope.id} cannot be read: {embed.problem}"
        return ErrorInfo(type="tranship.errors.MalformedMessage", message=message, code=MalformedMessage.code)
    if embed.chord is not None and not counts:
        message = f"task {envelope.id} counts for a Celery chord, {_NO_CHORDS}"
        return ErrorInfo(type="tranship.errors.UnsupportedError", message=message, code="CANVAS")
    return None


_NO_CHORDS: Final = (
    "and nothing here counts its parts: give the worker a result store that keeps records, such as "
    "redis://... or sqlite:///... (result_url)"
)


class Canvas:
    """Plans of one worker; on the handlers' loop, or the I/O loop where no handler ran.

    Args:
        tasks: the handlers by task name.
        max_size: the largest message in bytes.
        counts: whether there is anything that counts the parts of a chord.
        in_thread: runs a function in a thread.
        routing: what is known of where tasks go.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        *,
        max_size: int,
        counts: bool,
        in_thread: InThread,
        routing: Routing = NO_ROUTING,
    ) -> None:
        self.routing = routing
        self._tasks, self._max_size, self._counts, self._in_thread = tasks, max_size, counts, in_thread
        self._encoder = Encoder()

    def follow(self, run: Run, state: TaskState, value: Any, error: ErrorInfo | None) -> None:
        """Plan what follows a run that has ended; who cannot be followed has failed.

        Args:
            run: decided.
            state: as those who wait will see it.
            value: likewise, in the form that is sent.
            error: likewise.
        """
        sequel = run.sequel
        assert run.envelope is not None
        assert sequel is not None
        after = self._after(run, run.envelope, sequel.embed)
        if state is TaskState.SUCCESS:
            try:
                plan = after_success(after, value)
                self._check(plan)
                sequel.messages = self.encoded(plan.envelopes)
                sequel.plan = plan
                return
            except TranshipError as problem:
                failure = describe_final(problem)
                message = f"task {run.envelope.task!r} went well, and cannot be followed: {failure.message}"
                error = ErrorInfo(type=failure.type, message=message, code=failure.code)
                state = TaskState.FAILURE
                run.end(Ending.FAILED, error)
        self._give_up(sequel, after, state, error)

    def count_again(self, run: Run, value: Any) -> None:
        """Plan that a run whose success is stored counts for its chord [canvas_answered_member_counts].

        A Celery worker counts after it has stored, and may have died in between; what is counted again is counted once.
        Everything else that follows was done before.
        """
        assert run.envelope is not None
        assert run.sequel is not None
        if run.sequel.embed.chord is None:
            return
        after = self._after(run, run.envelope, run.sequel.embed)
        try:
            run.sequel.plan = Plan(parts=after_success(after, value).parts)
        except TranshipError as problem:
            log.warning("task %s came again, and cannot be counted for its chord: %s", run.envelope.id, problem)

    def _after(self, run: Run, envelope: Envelope, embed: Embed) -> After:
        return After(envelope=envelope, embed=embed, now=time.time() + run.ahead, routing=self.routing)

    def _give_up(self, sequel: Sequel, after: After, state: TaskState, error: ErrorInfo | None) -> None:
        task_id = after.envelope.id
        error = error or ErrorInfo(type="builtins.Exception", message=f"task {task_id} is {state}")
        status, shown = celery_words(TaskResult(id=task_id, state=state, error=error))
        failed = Failed(state=state, error=error, status=status, value=shown)
        try:
            plan = after_failure(after, failed, wants_error=[self._wants_error(one) for one in after.embed.errbacks])
            following = self.encoded(plan.envelopes)
        except TranshipError as problem:
            log.warning("task %s failed, and its errbacks cannot be sent: %s", task_id, problem)
            bare = replace(after, embed=_without_errbacks(after.embed))
            plan, following = after_failure(bare, failed), []
        if not self._counts:
            plan.parts.clear()
        sequel.plan, sequel.messages = plan, following

    def encoded(self, envelopes: Sequence[Envelope]) -> list[Message]:
        """Return the messages for ``envelopes``, each to be recognised when it is sent again.

        Raises:
            EncodeError, InvalidOptionError, MessageTooLarge: one of them cannot travel.
        """
        messages = list(map(self._encoder.encode, envelopes))
        for one in messages:
            one.check_id = True
            if one.size > self._max_size:
                raise MessageTooLarge(
                    f"what follows, task {one.envelope.task!r}, is {one.size:,} bytes with its headers, the limit is "
                    f"{self._max_size:,}; pass references instead of the data, or raise max_message_size",
                    size=one.size,
                    limit=self._max_size,
                    task_id=one.envelope.id,
                )
        return messages

    def _check(self, plan: Plan) -> None:
        if plan.chords and not self._counts:
            raise MalformedMessage(f"it is followed by a Celery chord, {_NO_CHORDS}")

    # Errbacks.

    def _wants_error(self, errback: Signature) -> bool:
        """Whether an errback takes the error itself: a task of this worker with more than one argument left."""
        handler = self._tasks.get(errback.task) if errback.kind is None and not errback.immutable else None
        if handler is None or handler.function is None or handler.batching is not None:
            return False
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(handler.function).parameters.values()
        if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
            return True
        taken = len(errback.args) + sum(one.name in errback.kwargs for one in parameters)
        return sum(one.kind in kinds for one in parameters) - taken > 1

    async def call_errbacks(self, run: Run, sequel: Sequel) -> None:
        """Call the errbacks that take the error itself, here and now; what they raise is logged."""
        for errback, error in sequel.plan.calls if sequel.plan is not None else ():
            handler = self._tasks[errback.task]
            limit = handler.options_set.run_seconds or _LONGEST
            try:
                async with asyncio.timeout(limit):
                    await self._call(handler, errback, run, sequel, error)
            except Exception:
                log.exception("errback %s of task %s failed", errback.task, run.id)

    async def _call(
        self, handler: Task[..., Any], errback: Signature, run: Run, sequel: Sequel, error: ErrorInfo
    ) -> None:
        function = handler.function
        assert function is not None
        assert run.envelope is not None
        raised = sequel.raised or TaskResult(id=run.envelope.id, state=TaskState.FAILURE, error=error).exception()
        args = (_request(run.envelope, sequel.embed), raised, error.traceback, *errback.args)
        if handler.is_async:
            await function(*args, **errback.kwargs)
        else:
            await self._in_thread(lambda: function(*args, **errback.kwargs))


def _request(envelope: Envelope, embed: Embed) -> types.SimpleNamespace:
    """Return what an errback is told of the task that failed, by Celery's names."""
    return types.SimpleNamespace(
        id=envelope.id,
        task=envelope.task,
        args=list(envelope.args),
        kwargs=dict(envelope.kwargs),
        retries=envelope.attempt,
        group=envelope.group_id,
        parent_id=envelope.parent_id,
        root_id=envelope.root_id or envelope.id,
        reply_to=envelope.reply_to,
        delivery_info={"exchange": "", "routing_key": envelope.queue},
        errbacks=[one.encode() for one in embed.errbacks],
    )


def _without_errbacks(embed: Embed) -> Embed:
    return Embed(embed.callbacks, [], embed.next, embed.later, embed.chord)
