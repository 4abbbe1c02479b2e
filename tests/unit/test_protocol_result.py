"""Results to documents and back: Celery's part, and ours beside it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import JSON, NAMES

from tranship import codec
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import EncodeError, InvalidOptionError, MalformedMessage, TaskFailed, TaskTimedOut
from tranship.protocol import decode_result, encode_result

BOOM = ErrorInfo(
    type="shop.errors.OutOfStock",
    message="none left",
    code="NO_STOCK",
    retryable=True,
    details={"sku": 7},
    traceback="T",
)


def written(result: TaskResult, **more: Any) -> dict[str, Any]:
    return json.loads(encode_result(result, **more))


def read(**document: Any) -> TaskResult:
    return decode_result(json.dumps({"task_id": "i", "result": None, **document}).encode())


def raised(kind: str, args: Any, module: str | None = "builtins") -> dict[str, Any]:
    return {"exc_type": kind, "exc_message": args, "exc_module": module}


def test_a_success_is_celerys_document_with_one_key_more() -> None:
    result = TaskResult(id="i", state=TaskState.SUCCESS, value={"n": 1}, finished_at=60.5, worker="w@h", attempt=1)
    assert written(result) == {
        "status": "SUCCESS",
        "result": {"n": 1},
        "traceback": None,
        "children": [],
        "date_done": "1970-01-01T00:01:00.500000+00:00",
        "task_id": "i",
        "tranship": {"state": "SUCCESS", "attempt": 1, "worker": "w@h", "finished_at": 60.5},
    }
    assert decode_result(encode_result(result)) == result


def test_a_failure_is_celerys_exception_map() -> None:
    document = written(TaskResult(id="i", state=TaskState.FAILURE, error=BOOM), group_id="g", parent_id="p")
    assert document["status"] == "FAILURE"
    assert document["result"] == raised("OutOfStock", ["none left"], "shop.errors")
    assert document["traceback"] == "T"
    assert (document["group_id"], document["parent_id"]) == ("g", "p")
    assert document["tranship"]["error"] == {"code": "NO_STOCK", "retryable": True, "details": {"sku": 7}}


@pytest.mark.parametrize(
    ("state", "status", "word"),
    [
        (TaskState.CANCELLED, "REVOKED", ["revoked"]),
        (TaskState.EXPIRED, "REVOKED", ["expired"]),
        (TaskState.DEAD_LETTERED, "FAILURE", ["none left"]),
        (TaskState.FAILURE, "FAILURE", ["none left"]),
    ],
)
def test_our_states_in_celerys_words(state: TaskState, status: str, word: list[str]) -> None:
    result = TaskResult(id="i", state=state, error=BOOM, finished_at=1.5, attempt=2)
    document = written(result)
    assert (document["status"], document["result"]["exc_message"]) == (status, word)
    if status == "REVOKED":
        assert document["result"] == raised("TaskRevokedError", word, "celery.exceptions")
    assert decode_result(encode_result(result)) == result
    silent = TaskResult(id="i", state=state)
    assert decode_result(encode_result(silent)) == silent


CELERYS = {
    "tranship.errors.UnknownTask": "celery.exceptions.NotRegistered",
    "tranship.errors.InvalidArgumentsError": "builtins.TypeError",
    "tranship.errors.TaskTimedOut": "billiard.exceptions.TimeLimitExceeded",
    "tranship.errors.ProcessDied": "billiard.exceptions.WorkerLostError",
    "tranship.errors.Reject": "celery.exceptions.Reject",
    "tranship.errors.Retry": "celery.exceptions.MaxRetriesExceededError",
}


@pytest.mark.parametrize("ours", CELERYS)
def test_what_celery_has_a_name_for_has_that_name(ours: str) -> None:
    result = TaskResult(id="i", state=TaskState.FAILURE, error=ErrorInfo(type=ours, message="m", arguments=[3, "x"]))
    module, _, name = CELERYS[ours].rpartition(".")
    assert written(result)["result"] == raised(name, [3, "x"], module)
    assert decode_result(encode_result(result)) == result


def test_what_kills_its_workers_is_celerys_lost_worker_and_nothing_else_given_up_is() -> None:
    kind = "tranship.errors.TaskDeadLettered"
    for code, name in (("DELIVERY_LIMIT", "WorkerLostError"), ("DEAD_LETTERED", "TaskDeadLettered")):
        error = ErrorInfo(type=kind, message="m", code=code)
        result = TaskResult(id="i", state=TaskState.DEAD_LETTERED, error=error)
        assert written(result)["result"]["exc_type"] == name
        assert decode_result(encode_result(result)) == result


def test_a_task_that_was_cancelled_while_it_ran_was_terminated() -> None:
    kind = "tranship.errors.TaskCancelled"
    error = ErrorInfo(type=kind, message="task i was cancelled", code="TASK_CANCELLED", arguments=["terminated"])
    result = TaskResult(id="i", state=TaskState.CANCELLED, error=error)
    assert written(result)["result"] == raised("TaskRevokedError", ["terminated"], "celery.exceptions")
    assert decode_result(encode_result(result)) == result


def test_the_arguments_of_an_exception_stay_apart() -> None:
    error = ErrorInfo(type="builtins.KeyError", message="('user', 7)", arguments=("user", 7))
    result = TaskResult(id="i", state=TaskState.FAILURE, error=error)
    document = written(result)
    assert document["result"] == raised("KeyError", ["user", 7])
    assert document["tranship"]["error"] == {"code": "TASK_FAILED", "retryable": False}
    again = decode_result(encode_result(result))
    assert again == result
    failed = again.exception()
    assert isinstance(failed, TaskFailed)
    assert (failed.arguments, str(failed)) == (("user", 7), "('user', 7)")
    alone = TaskResult(id="i", state=TaskState.FAILURE, error=BOOM).exception()
    assert isinstance(alone, TaskFailed)
    assert alone.arguments == ("none left",)


def test_a_nested_class_keeps_its_module() -> None:
    error = ErrorInfo(type="shop.Api.Refused", message="m", module="shop")
    result = TaskResult(id="i", state=TaskState.FAILURE, error=error)
    assert written(result)["result"] == raised("Api.Refused", ["m"], "shop")
    assert decode_result(encode_result(result)) == result


def test_arguments_that_cannot_be_written_become_their_repr() -> None:
    error = ErrorInfo(type="a.B", message="m", arguments=[{2}, "\ud800", 7])
    document = written(TaskResult(id="i", state=TaskState.FAILURE, error=error))
    assert document["result"]["exc_message"] == ["{2}", "\\ud800", 7]


STATES = st.sampled_from([state for state in TaskState if state is not TaskState.UNKNOWN])
ERRORS = st.builds(
    ErrorInfo,
    type=st.just("") | NAMES | st.sampled_from(["a.b.C", "celery.exceptions.TaskRevokedError", *CELERYS]),
    message=st.text(max_size=9),
    code=NAMES,
    retryable=st.booleans(),
    details=st.dictionaries(st.sampled_from(["args", "reason"]), JSON),
    traceback=st.none() | st.text(max_size=9),
    arguments=st.none() | st.lists(JSON, max_size=3) | st.just(["terminated"]),
    module=st.just("") | st.just("a") | NAMES,
)


@given(
    STATES, JSON, ERRORS, st.none() | NAMES, st.none() | st.floats(0, 4e9), st.sampled_from([codec.JSON, codec.MSGPACK])
)
def test_every_result_comes_back(
    state: TaskState, value: Any, error: ErrorInfo, worker: Any, at: Any, content_type: str
) -> None:
    failed = state not in (TaskState.SUCCESS, TaskState.PENDING, TaskState.SCHEDULED, TaskState.STARTED)
    result = TaskResult(
        id="i",
        state=state,
        value=None if failed else value,
        error=error if failed else None,
        worker=worker,
        finished_at=at,
    )
    try:
        document = encode_result(result, content_type=content_type)
    except EncodeError:
        assert content_type == codec.MSGPACK  # an integer beyond 64 bits
        return
    if not (state is TaskState.STARTED and value == {"hostname": worker}):
        assert decode_result(document) == result


def test_a_value_that_cannot_be_written_is_named() -> None:
    with pytest.raises(EncodeError, match=r"result\['a'\] is of type set"):
        encode_result(TaskResult(id="i", state=TaskState.SUCCESS, value={"a": {1}}))
    with pytest.raises(InvalidOptionError, match="finished_at"):
        encode_result(TaskResult(id="i", state=TaskState.SUCCESS, finished_at=1e300))


def test_details_that_cannot_be_written_become_their_repr() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    error = ErrorInfo(type="a.B", message="m", details={"ok": 1, "bad": {2}, "deep": deep})
    result = decode_result(encode_result(TaskResult(id="i", state=TaskState.FAILURE, error=error)))
    assert result.error is not None
    assert result.error.details == {"ok": 1, "bad": "{2}", "deep": "[[[[[[[...]]]]]]]"}


def test_a_value_that_is_no_number_is_written_as_kombu_does() -> None:
    document = encode_result(TaskResult(id="i", state=TaskState.SUCCESS, value=float("inf")))
    assert decode_result(document).value == float("inf")


# --- documents of others --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "kind", "message", "arguments"),
    [
        (raised("ValueError", ["boom"]), "builtins.ValueError", "boom", None),
        (raised("PeerError", ["boom", 7], "peers"), "peers.PeerError", "('boom', 7)", ("boom", 7)),
        (raised("KeyError", [], None), "KeyError", "", ()),
        (raised("ValueError", "text"), "builtins.ValueError", "text", None),
        (raised("ValueError", None), "builtins.ValueError", "", ()),
        ({"exc_type": 5}, "", "", ()),
        ("only text", "", "only text", None),
        (5, "", "5", (5,)),
    ],
)
def test_exceptions_of_others(found: Any, kind: str, message: str, arguments: Any) -> None:
    result = read(status="FAILURE", result=found)
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.arguments) == (kind, message, arguments)


def test_an_exception_that_is_nested_deeply_is_read() -> None:
    found = b"[" * 1000 + b"]" * 1000
    result = decode_result(b'{"task_id":"i","status":"FAILURE","result":%b}' % found)
    assert result.error is not None
    assert result.error.message  # what it is depends on how deeply this Python's repr() goes


def test_known_types_have_their_code() -> None:
    late = read(status="FAILURE", result=raised("TimeLimitExceeded", [1], "billiard.exceptions"))
    assert isinstance(late.exception(), TaskTimedOut)
    lost = read(status="FAILURE", result=raised("WorkerLostError", ["x"], "billiard.exceptions"))
    assert lost.error is not None
    assert lost.error.code == "WORKER_LOST"


def test_states_of_others() -> None:
    assert read(status="PROGRESS", result={"step": 1}).state is TaskState.STARTED
    assert read(status="PROGRESS", result={"step": 1}).value == {"step": 1}
    assert read(status="RECEIVED").state is TaskState.PENDING
    assert read(status="REVOKED").state is TaskState.CANCELLED
    assert read(status="FAILURE").error is None
    assert read(status="RETRY").error is None
    assert read(status="STARTED", result={"pid": 1, "hostname": "w@h"}).worker == "w@h"
    extended = read(status="SUCCESS", retries=2, worker="w@h", date_done="1970-01-01T00:01:00+00:00")
    assert (extended.attempt, extended.worker, extended.finished_at) == (2, "w@h", 60.0)


def test_our_part_counts_only_where_it_fits_the_rest() -> None:
    ours = {"state": "CANCELLED", "attempt": 5}
    assert read(status="SUCCESS", tranship=ours).state is TaskState.SUCCESS
    assert read(status="REVOKED", tranship=ours).attempt == 5
    for junk in (5, [], {}, {"state": "X"}, {"state": []}, {"state": "UNKNOWN"}):
        assert read(status="REVOKED", tranship=junk).state is TaskState.CANCELLED


def test_the_id_it_was_looked_up_by_counts() -> None:
    assert decode_result(b'{"status":"SUCCESS","result":1}', task_id="i").id == "i"
    with pytest.raises(MalformedMessage, match="'task_id' is missing"):
        decode_result(b'{"status":"SUCCESS","result":1}')


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "result document: the data is not JSON"),
        (b"{", "result document: the data is not JSON"),
        (b"[]", "result document"),
        (b"{}", "result document's 'status' is missing"),
        (b'{"status": 5}', "result document's 'status' is a number"),
        (b"\xc1", "not msgpack"),
        (b"\x90", "result document is a list of 0"),
    ],
)
def test_a_bad_document_is_malformed(document: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        decode_result(document, task_id="i")
    assert caught.value.task_id == "i"


@pytest.mark.parametrize("value", [None, 3, "x", [1, {"a": None}], {"at": 1.5}, float("inf")])
def test_usual_successes_read_like_all_others(value: Any) -> None:
    result = TaskResult(id="i", state=TaskState.SUCCESS, value=value, attempt=2, finished_at=1.7e9, worker="w")
    usual = encode_result(result)
    general = encode_result(replace(result, worker="wé")).replace("wé".encode(), b"w")
    assert usual == general
    assert decode_result(usual) == result


@given(st.floats(min_value=-6e10, max_value=2.5e11))
def test_dates_are_written_as_datetime_writes_them(epoch: float) -> None:
    written = json.loads(encode_result(TaskResult(id="i", state=TaskState.SUCCESS, finished_at=epoch, worker="w")))
    expected = datetime.fromtimestamp(epoch, UTC)
    assert abs(datetime.fromisoformat(written["date_done"]) - expected) <= timedelta(microseconds=1)
    assert written["date_done"].endswith("+00:00")
