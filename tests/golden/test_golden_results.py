"""Every captured result document decodes, and is written again with the same fields for Celery."""

import json
from typing import Any

import msgpack
import pytest
from golden_vectors import Vector, vectors

from tranship.codec import JSON, MSGPACK
from tranship.envelope import TaskState
from tranship.protocol import decode_result, encode_result

RESULTS = vectors("result")
STATES = {
    "SUCCESS": TaskState.SUCCESS,
    "FAILURE": TaskState.FAILURE,
    "STARTED": TaskState.STARTED,
    "RETRY": TaskState.RETRY,
    "PROGRESS": TaskState.STARTED,
    "revoked": TaskState.CANCELLED,
    "terminated": TaskState.CANCELLED,
    "expired": TaskState.EXPIRED,
}


def document(vector: Vector) -> dict[str, Any]:
    expect = vector.expect
    return expect.get("document", expect.get("body"))


@pytest.mark.parametrize("vector", RESULTS, ids=str)
def test_a_result_decodes_to_what_it_holds(vector: Vector) -> None:
    told = document(vector)
    result = decode_result(vector.read())
    assert result.id == told["task_id"]
    word = told["result"]["exc_message"][0] if told["status"] == "REVOKED" else told["status"]
    assert result.state is STATES[word]
    if result.state in (TaskState.SUCCESS, TaskState.STARTED):
        assert (result.value, result.error) == (told["result"], None)
    else:
        assert result.value is None
        assert result.error is not None
        assert result.error.type == f"{told['result']['exc_module']}.{told['result']['exc_type']}"
        assert result.error.traceback == told["traceback"]
    assert (result.finished_at is None) == (told["date_done"] is None)


@pytest.mark.parametrize("vector", [v for v in RESULTS if v.about["case"] != "custom-state"], ids=str)
def test_a_result_is_written_again_with_the_same_fields(vector: Vector) -> None:
    told = document(vector)
    content_type = MSGPACK if vector.name.endswith(".msgpack") else JSON
    result = decode_result(vector.read())
    written = encode_result(result, content_type=content_type, group_id=told.get("group_id"))
    again = json.loads(written) if content_type == JSON else msgpack.unpackb(written)
    assert again.pop("tranship")["state"] == result.state
    # children are tasks that the task has sent: a task of ours is not asked about them.
    assert again.pop("children") == []
    assert again == {name: value for name, value in told.items() if name != "children"}


@pytest.mark.parametrize("vector", RESULTS, ids=str)
def test_a_result_survives_being_written_again(vector: Vector) -> None:
    once = decode_result(vector.read())
    assert decode_result(encode_result(once)) == once
