"""From a decided record to its settlement: one clause per outcome. Nothing else in the worker settles."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from textwrap import indent
from typing import Any, Final

from tranship import codec
from tranship.envelope import Ending, Envelope, ErrorInfo, TaskResult, TaskState
from tranship.errors import EncodeError, MessageTooLarge, SubmitError
from tranship.ports import Settlement, StoredResult, Verdict
from tranship.protocol import TERMINATED, Encoder, decode_result, encode_result
from tranship.worker._canvas import ENDS, Canvas
from tranship.worker._describe import describe
from tranship.worker._record import Run
from tranship.worker._shorten import beginning, ending, shortened

__all__ = ["Reporter", "log_end", "log_too_late"]

log = logging.getLogger("tranship.worker")

_LINE: Final = 1000
_LINES: Final = 10_000
"""Characters of a message, and of a traceback, in the log."""
_STATES: Final = {
    Ending.SUCCEEDED: TaskState.SUCCESS,
    Ending.FAILED: TaskState.FAILURE,
    Ending.CANCELLED: TaskState.CANCELLED,
    Ending.EXPIRED: TaskState.EXPIRED,
    Ending.DEAD: TaskState.DEAD_LETTERED,
}


class Reporter:
    """Writes down how deliveries ended.

    Args:
        worker: this worker's name, kept with each result.
        max_size: the largest result document, in bytes.
        content_type: what result documents are written in.
    """

    def __init__(self, *, worker: str, max_size: int, content_type: str = codec.JSON) -> None:
        self._worker = worker
        self._content_type = content_type
        self._max_size = max_size
        self._encoder = Encoder()
        self.canvas: Canvas | None = None
        """Plans what follows a task; None: nothing does."""

    def settlement(self, run: Run) -> Settlement | None:
        """The settlement of a decided record; None where nothing is to be settled: released, or lost."""
        if run.sequel is not None and self.canvas is not None:
            self._follow(self.canvas, run)
        return self._settlement(run)

    def _settlement(self, run: Run) -> Settlement | None:
        match run.outcome:
            case Ending.SUCCEEDED | Ending.FAILED | Ending.CANCELLED | Ending.EXPIRED:
                # The result first: encoding it may still turn a success into a failure.
                return Settlement(run.delivery, Verdict.ACK, result=self._result(run))
            case Ending.ANSWERED | Ending.HELD:
                # What is held back has no result yet.
                return Settlement(run.delivery, Verdict.ACK, result=run.answered)
            case Ending.DEAD:
                result = self._result(run)
                return Settlement(run.delivery, Verdict.REJECT, result=result, reason=run.reason, detail=run.detail)
            case Ending.RETRY:
                try:
                    return self._replacement(run)
                except SubmitError as error:
                    # What could be read but cannot be written again: there will be no next attempt.
                    run.end(Ending.FAILED, describe(error))
                    return self.settlement(run)
            case _:
                return None

    def failed(self, run: Run, error: ErrorInfo) -> Settlement | None:
        """The settlement of a run that went well, and cannot be followed as its sender wants."""
        run.end(Ending.FAILED, error)
        return self.settlement(run)

    def _follow(self, canvas: Canvas, run: Run) -> None:
        """Plan what follows: before the result is written, which says what that is."""
        envelope = run.envelope
        assert envelope is not None
        if run.outcome is Ending.ANSWERED:
            self._follow_answer(canvas, run)
        elif run.outcome in ENDS:
            try:
                state, value, error = _ending(run, envelope)
            except BaseException as problem:  # noqa: BLE001 - the value's own code may raise anything
                run.end(Ending.FAILED, _not_written(envelope, problem))
                state, value, error = _ending(run, envelope)
            canvas.follow(run, state, value, error)

    def _follow_answer(self, canvas: Canvas, run: Run) -> None:
        """What failed elsewhere, cancelled in its queue for example, has been followed by nobody."""
        assert run.answered is not None
        found = decode_result(run.answered.document)
        if found.state is TaskState.SUCCESS:
            canvas.count_again(run, found.value)
        elif found.state.terminal:
            canvas.follow(run, found.state, None, found.error)

    def _replacement(self, run: Run) -> Settlement:
        envelope = run.envelope
        assert envelope is not None
        # A task that came too early was not attempted; one that snoozes goes on with the same attempt.
        attempt = envelope.attempt + 1 if run.started and not run.snoozed else envelope.attempt
        following = replace(envelope, attempt=attempt, not_before=time.time() + run.ahead + run.delay)
        return Settlement(run.delivery, Verdict.REPLACE, replacement=self._encoder.encode(following))

    def _result(self, run: Run) -> StoredResult | None:
        envelope = run.envelope
        if envelope is None:
            return self._unreadable(run, run.unreadable) if run.unreadable else None
        if not envelope.keeps_result:
            return None
        try:
            state, document = self._document(run, envelope)
        except BaseException as error:  # noqa: BLE001 - the value's own code may raise anything
            if run.outcome is Ending.SUCCEEDED:
                run.outcome, run.error = Ending.FAILED, None
            run.error = run.error or _not_written(envelope, error)
            if run.sequel is not None and self.canvas is not None:
                # It was planned as a success, and nothing of that has been done yet.
                self._follow(self.canvas, run)
            state, document = self._shorter(run, envelope, run.error)
        return StoredResult(
            id=envelope.id,
            state=state,
            document=document,
            ttl=envelope.result_ttl,
            reply_to=envelope.reply_to,
        )

    def _shorter(self, run: Run, envelope: Envelope, error: ErrorInfo) -> tuple[TaskState, bytes]:
        """A failure stays the failure it was, with as much of its error as can be stored [large_error_is_shortened]."""
        for shorter in shortened(error, self._max_size):
            run.error = shorter
            with contextlib.suppress(EncodeError, MessageTooLarge):
                return self._document(run, envelope)
        return self._document(run, envelope)

    def _unreadable(self, run: Run, task_id: str) -> StoredResult:
        """Whoever waits for a task that could not be decoded is told, if it can be known who."""
        state = TaskState.DEAD_LETTERED
        result = TaskResult(id=task_id, state=state, error=run.error, finished_at=time.time(), worker=self._worker)
        reply_to = run.delivery.message.properties.get("reply_to")
        return StoredResult(
            id=task_id,
            state=state,
            document=encode_result(result, content_type=self._content_type),
            reply_to=reply_to if isinstance(reply_to, str) else None,
        )

    def _document(self, run: Run, envelope: Envelope) -> tuple[TaskState, bytes]:
        state, value, error = _ending(run, envelope)
        result = TaskResult(
            id=envelope.id,
            state=state,
            value=value,
            error=error,
            attempt=envelope.attempt,
            finished_at=time.time(),
            worker=self._worker,
            status=run.status if run.outcome is Ending.SUCCEEDED else None,
        )
        document = self._encoded(run, envelope, result)
        if len(document) > self._max_size:
            raise MessageTooLarge(
                f"the result of task {envelope.task!r} is {len(document):,} bytes, the limit is {self._max_size:,}; "
                "return a reference (a path, a URL) instead of the data, or raise max_message_size",
                size=len(document),
                limit=self._max_size,
                task_id=envelope.id,
            )
        return state, document

    def _encoded(self, run: Run, envelope: Envelope, result: TaskResult) -> bytes:
        if run.sequel is None:
            return encode_result(result, content_type=self._content_type)
        return encode_result(
            result,
            content_type=self._content_type,
            group_id=envelope.group_id,
            parent_id=envelope.parent_id,
            children=() if run.sequel.plan is None else run.sequel.plan.children,
        )


def _ending(run: Run, envelope: Envelope) -> tuple[TaskState, Any, ErrorInfo | None]:
    """State, value and error as those who wait see them."""
    assert run.outcome is not None
    if run.outcome is Ending.SUCCEEDED:
        return TaskState.SUCCESS, run.task.write_result(run.value) if run.task else run.value, None
    error = _explained(run, envelope)
    dialect = None if run.task is None else run.task.dialect
    if dialect is not None and error is not None:
        value = dialect.conclude(envelope, run.outcome, error)
        if value is not None:
            return TaskState.SUCCESS, value, None
    return _STATES[run.outcome], None, error


def _not_written(envelope: Envelope, error: BaseException) -> ErrorInfo:
    """A result that cannot be stored: a failure that running again would only repeat."""
    info = describe(error)
    message = info.message
    if not isinstance(error, MessageTooLarge):
        message = f"task {envelope.task!r} returned what cannot be stored: {message}"
    return ErrorInfo(type=info.type, message=beginning(message, 2000), code=info.code, retryable=False)


def _explained(run: Run, envelope: Envelope) -> ErrorInfo | None:
    """The error as those who wait see it; a dead letter's says why it is one."""
    if run.outcome is not Ending.DEAD:
        return run.error or _plain(run, envelope)
    error = run.error or ErrorInfo(type="tranship.errors.TaskDeadLettered", message=run.detail, code="DEAD_LETTERED")
    return replace(error, details={**error.details, "reason": run.reason})


def _plain(run: Run, envelope: Envelope) -> ErrorInfo | None:
    """What there is to say of an outcome that no exception explains."""
    if run.outcome is Ending.CANCELLED:
        return ErrorInfo(
            type="tranship.errors.TaskCancelled",
            message=f"task {envelope.id} was cancelled",
            code="TASK_CANCELLED",
            arguments=(TERMINATED,) if run.started else None,
        )
    if run.outcome is Ending.EXPIRED:
        message = f"task {envelope.id} had not finished by its deadline"
        return ErrorInfo(type="tranship.errors.DeadlineExceeded", message=message, code="DEADLINE_EXCEEDED")
    return None


def log_too_late(run: Run, *, fused: bool) -> None:
    """Say what was written of a task whose delivery was lost before it was settled; ``fused``: all in one step."""
    if fused:
        written = "nothing was written"
    elif run.outcome is Ending.RETRY:
        written = "its next attempt may have been sent before that"
    elif run.outcome is Ending.DEAD:
        written = "its dead letter may have been written before that"
    elif run.envelope is not None and run.envelope.keeps_result:
        written = "its result was sent to the store before that, where the first one counts"
    else:
        written = "there was nothing else to write"
    log.warning("task %s was settled too late: its delivery was lost, and it comes again; %s", run.id, written)


def log_end(run: Run) -> None:
    """One record per task: what ended well is of interest to few, the rest to somebody, with its traceback."""
    if run.outcome is Ending.SUCCEEDED:
        if log.isEnabledFor(logging.INFO):
            log.info("task %s (%s) succeeded", run.id, run.envelope and run.envelope.task, extra=_fields(run))
        return
    if run.outcome is Ending.ANSWERED:
        message = "task %s came again with its result there already: it does not run again"
        log.info(message, run.id, extra=_fields(run))
        return
    if run.outcome is Ending.RETRY and not run.started:
        log.debug("task %s goes back for %.3g s: %s", run.id, run.delay, run.detail or "it came before its time")
        return
    if run.outcome is Ending.HELD:
        log.debug("task %s does not run now: %s", run.id, run.detail)
        return
    if run.snoozed:
        log.info(
            "task %s (%s) snoozes, runs again in %.3g s",
            run.id,
            run.envelope and run.envelope.task,
            run.delay,
            extra=_fields(run),
        )
        return
    level = logging.INFO if run.outcome in (Ending.CANCELLED, Ending.EXPIRED) else logging.WARNING
    if log.isEnabledFor(level):
        log.log(level, "task %s (%s)%s: %s%s", run.id, *_who(run), _what(run), _why(run), extra=_fields(run))


def _fields(run: Run) -> dict[str, Any]:
    """What a record says of a task beside its text, for formatters that show it."""
    envelope = run.envelope
    return {
        "task": None if envelope is None else envelope.task,
        "id": run.id or run.unreadable,
        "attempt": None if envelope is None else envelope.attempt,
        "queue": run.delivery.queue,
        "outcome": None if run.outcome is None else run.outcome.value,
        "duration": round(time.monotonic() - run.began, 6) if run.started else None,
    }


def _who(run: Run) -> tuple[str, str]:
    """Return the task's name, and which attempt it was."""
    envelope = run.envelope
    if envelope is None:
        return "undecodable", ""
    of = f" of {envelope.retry.max_attempts}" if envelope.retry is not None else ""
    return envelope.task, f", attempt {envelope.attempt + 1}{of}" if run.started else ""


def _what(run: Run) -> str:
    if run.outcome is Ending.RETRY:
        return f"failed, runs again in {run.delay:.3g} s"
    return run.reason or (run.outcome.value if run.outcome else "undecided")


def _why(run: Run) -> str:
    """Return type and message of the error in one line, and its traceback in lines that are indented."""
    error = run.error
    if error is None:
        return f": {run.detail}" if run.detail else ""
    line = f": {error.type.removeprefix('builtins.')}: {beginning(' '.join(error.message.split()), _LINE)}"
    if error.traceback is None or error.traceback.count("\n") < 2:
        return line
    return f"{line}\n{indent(ending(error.traceback, _LINES).rstrip(), '  ')}"
