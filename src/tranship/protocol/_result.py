"""Results in Celery's document, with one key more for what Celery cannot say.

Celery's states are fewer than ours: cancelled and expired are REVOKED, dead-lettered is FAILURE. The exact
state, with code, details, attempt and worker, is in the extra key ``tranship``, which Celery's readers ignore.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tranship import codec
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import MalformedMessage, TaskCancelled
from tranship.protocol._failure import own_error, read_foreign, read_own, revoked_word, written
from tranship.protocol._fields import Fields, kind_of, moment
from tranship.protocol._headers import iso
from tranship.protocol._numbers import is_epoch, whole_of

__all__ = ["CANCELLED", "PURGED", "celery_words", "decode_result", "encode_cancelled", "encode_result"]

CANCELLED: Final = "was cancelled before it started"
PURGED: Final = "was purged from its queue before it started"
"""What became of a task that never ran."""

_EXTRA: Final = "tranship"
_STATUS: Final[Mapping[TaskState, str]] = {
    TaskState.UNKNOWN: "PENDING",
    TaskState.PENDING: "PENDING",
    TaskState.SCHEDULED: "PENDING",
    TaskState.STARTED: "STARTED",
    TaskState.RETRY: "RETRY",
    TaskState.SUCCESS: "SUCCESS",
    TaskState.FAILURE: "FAILURE",
    TaskState.CANCELLED: "REVOKED",
    TaskState.EXPIRED: "REVOKED",
    TaskState.DEAD_LETTERED: "FAILURE",
}
_STATES: Final[Mapping[str, TaskState]] = {
    "PENDING": TaskState.PENDING,
    "RECEIVED": TaskState.PENDING,
    "RETRY": TaskState.RETRY,
    "SUCCESS": TaskState.SUCCESS,
    "FAILURE": TaskState.FAILURE,
}
_OWN_STATES: Final[Mapping[str, TaskState]] = {state.value: state for state in TaskState}
_FAILED: Final = frozenset(
    {TaskState.FAILURE, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD_LETTERED, TaskState.RETRY}
)

_USUAL: Final = (
    b'{"status":"SUCCESS","result":%b,"traceback":null,"children":[],"date_done":"%b","task_id":%b,'
    b'"tranship":{"state":"SUCCESS","attempt":%d,"worker":%b,"finished_at":%b}}'
)


def encode_cancelled(task_id: str, how: str, *, attempt: int = 0, content_type: str = codec.JSON) -> bytes:
    """Return the document of a task that has ended before it started, now.

    Args:
        task_id: its id.
        how: what became of it, such as :data:`CANCELLED`.
        attempt: attempts before.
        content_type: what the store keeps.
    """
    error = ErrorInfo(type="tranship.errors.TaskCancelled", message=f"task {task_id} {how}", code=TaskCancelled.code)
    state, now = TaskState.CANCELLED, time.time()
    result = TaskResult(id=task_id, state=state, error=error, attempt=attempt, finished_at=now)
    return encode_result(result, content_type=content_type)


def encode_result(
    result: TaskResult,
    *,
    content_type: str = codec.JSON,
    group_id: str | None = None,
    parent_id: str | None = None,
    children: Sequence[Any] = (),
) -> bytes:
    """Return the document for ``result``.

    Args:
        result: what is known of the task.
        content_type: the store's serialisation; Celery readers know theirs by configuration.
        group_id: the task's group, if any.
        parent_id: the task's parent, if any.
        children: what the task was followed by, as Celery writes results.

    Raises:
        EncodeError: the value, or a detail of the error, cannot be written.
        InvalidOptionError: ``finished_at`` is no date.
    """
    plain = group_id is None and parent_id is None and not children
    if plain and content_type == codec.JSON and _is_usual(result):
        return _usual(result)
    value = _celery_result(result)
    rest: dict[str, Any] = {
        "traceback": result.error.traceback if result.error else None,
        "children": list(children),
        "date_done": iso(result.finished_at, "finished_at") if result.state.terminal else None,
        "group_id": group_id,
        "parent_id": parent_id,
        "task_id": result.id,
        _EXTRA: _extra(result, value),
    }
    rest = {name: part for name, part in rest.items() if part is not None or name not in ("group_id", "parent_id")}
    return _write(_STATUS[result.state], value, rest, content_type)


def celery_words(result: TaskResult) -> tuple[str, Any]:
    """Return what Celery calls the state of ``result``, and what stands for it: the value, or the exception's map."""
    return _STATUS[result.state], _celery_result(result)


def _is_usual(result: TaskResult) -> bool:
    """Whether it is what a worker writes for a task that went well."""
    return (
        result.state is TaskState.SUCCESS
        and result.error is None
        and result.status is None
        and result.finished_at is not None
        and result.worker is not None
        and result.worker.isascii()
        and result.id.isascii()
    )


def _usual(result: TaskResult) -> bytes:
    """The same document as the general way's, put together from parts: most results are successes."""
    return (
        b'{"status":"SUCCESS","result":%b,%b"date_done":"%b","task_id":%b,%b:{%b%d,"worker":%b,"finished_at":%b}}'
        % (
            codec.dumps(result.value, name="result"),
            b'"traceback":null,"children":[],',
            str(iso(result.finished_at, "finished_at")).encode(),
            orjson.dumps(result.id),
            b'"tranship"',
            b'"state":"SUCCESS","attempt":',
            result.attempt,
            orjson.dumps(result.worker),
            orjson.dumps(result.finished_at),
        )
    )


def decode_result(document: bytes, *, task_id: str | None = None) -> TaskResult:
    """Return the result in ``document``, whoever wrote it, in JSON or msgpack.

    A state that is neither Celery's nor ours was set by a running task: it becomes STARTED, its data the value.

    Args:
        document: the bytes from the store.
        task_id: the id it was looked up by; None: the document's own.

    Raises:
        MalformedMessage: it is no result document. Nothing else, whatever the bytes.
    """
    fields = _load(document, task_id)
    status = fields.name("status")
    found, extra = fields.values.get("result"), _extra_of(fields.values, status)
    state = _state(status, found, extra)
    worker = _worker(fields.values, extra)
    return TaskResult(
        id=task_id or fields.name("task_id"),
        state=state,
        value=_value(state, found, worker),
        error=_error(state, found, extra, fields.values.get("traceback")) if state in _FAILED else None,
        attempt=_attempt(fields.values, extra),
        finished_at=_finished_at(fields.values, extra),
        worker=worker,
        status=_own_status(extra),
    )


def _celery_result(result: TaskResult) -> Any:
    if result.state in _FAILED:
        return written(result.state, result.error)
    if result.state is TaskState.STARTED and result.value is None:
        return {"hostname": result.worker}
    return result.value


def _extra(result: TaskResult, celery: Any) -> dict[str, Any]:
    extra: dict[str, Any] = {"state": result.state.value, "attempt": result.attempt}
    if result.worker is not None:
        extra["worker"] = result.worker
    if result.finished_at is not None:
        extra["finished_at"] = result.finished_at
    if result.status is not None:
        extra["status"] = result.status
    if result.error is not None:
        extra["error"] = own_error(result.error, celery)
    return extra


def _write(status: str, value: Any, rest: dict[str, Any], content_type: str) -> bytes:
    if content_type != codec.JSON:
        return codec.dumps({"status": status, "result": value, **rest}, content_type, name="document")
    # The value apart from the rest, because the rest always has nulls, which make the codec look twice.
    text = codec.dumps(value, name="result")
    return b'{"status":"%b","result":%b,%b' % (status.encode(), text, codec.dumps(rest, name="document")[1:])


def _load(document: bytes, task_id: str | None) -> Fields:
    # A JSON object begins with a brace; msgpack has no map that begins with that byte.
    if document[:1] == b"{" and type(usual := codec.fast_json(document)) is dict:
        return Fields("result document's", usual, task_id)
    is_json = document.lstrip()[:1] in (b"{", b"")
    try:
        values = codec.loads(document, codec.JSON if is_json else codec.MSGPACK)
    except MalformedMessage as error:
        raise MalformedMessage(f"result document: {error}", task_id=task_id) from error
    if not isinstance(values, dict):
        raise MalformedMessage(f"result document is {kind_of(values)}; expected a map", task_id=task_id)
    return Fields("result document's", values, task_id)


def _extra_of(values: Mapping[str, Any], status: str) -> dict[str, Any] | None:
    """Return our part of a document that is ours; None for one of Celery's."""
    extra = values.get(_EXTRA)
    if not isinstance(extra, dict):
        return None
    state = extra.get("state")
    # The states are texts themselves.
    known = isinstance(state, str) and _STATUS.get(state) == status  # type: ignore[call-overload]
    return extra if known else None


def _state(status: str, found: Any, extra: dict[str, Any] | None) -> TaskState:
    if extra is not None:
        return _OWN_STATES[extra["state"]]
    if status == "REVOKED":
        return TaskState.EXPIRED if revoked_word(found) == "expired" else TaskState.CANCELLED
    return _STATES.get(status, TaskState.STARTED)


def _value(state: TaskState, found: Any, worker: str | None) -> Any:
    if state is TaskState.STARTED and found == {"hostname": worker}:
        return None
    return None if state in _FAILED else found


def _error(state: TaskState, found: Any, extra: dict[str, Any] | None, traceback: Any) -> ErrorInfo | None:
    text = traceback if isinstance(traceback, str) else None
    if extra is not None:
        return read_own(extra.get("error"), found, text)
    return read_foreign(state, found, text)


def _own_status(extra: dict[str, Any] | None) -> str | None:
    status = None if extra is None else extra.get("status")
    return status if isinstance(status, str) else None


def _attempt(values: Mapping[str, Any], extra: dict[str, Any] | None) -> int:
    attempt = values.get("retries") if extra is None else extra.get("attempt")
    return whole_of(attempt) or 0


def _finished_at(values: Mapping[str, Any], extra: dict[str, Any] | None) -> float | None:
    exact: Any = None if extra is None else extra.get("finished_at")
    return exact if is_epoch(exact) else moment(values.get("date_done"))


def _worker(values: Mapping[str, Any], extra: dict[str, Any] | None) -> str | None:
    if extra is not None and type(own := extra.get("worker")) is str:
        return own
    started = values.get("result") if values.get("status") == "STARTED" else None
    hostname = started.get("hostname") if isinstance(started, dict) else None
    candidates = (values.get("worker"), hostname)
    return next((name for name in candidates if isinstance(name, str)), None)
