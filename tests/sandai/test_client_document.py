"""The document's code runs as it stands, with only the import changed; what it names is there, as it says."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tranship.compat.sandai as ours
from documents._blocks import read_blocks, write_script
from tranship.compat.sandai import AsyncOperatorClient, AsyncTaskHandle, OperatorClient, exceptions
from tranship.errors import TranshipError

BLOCKS = read_blocks(Path(__file__).parent / "document_blocks.md")
RENAMED = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__"}


@pytest.mark.usefixtures("field_operator")
@pytest.mark.parametrize("block", BLOCKS.values(), ids=str)
def test_a_block_runs(block, field_url, tmp_path):
    changed = block.renamed("sandai.operator_client", "tranship.compat.sandai")
    # What comes behind the block only looks at what it has made.
    script = write_script(changed, tmp_path, after="print(globals().get('results'), globals().get('client'))")
    environ = {**os.environ, "SANDAI_OPERATOR_CELERY_BROKER_URL": field_url}
    done = subprocess.run(
        [sys.executable, script], env=environ, capture_output=True, text=True, timeout=40, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    if "sync(" in block.text:
        assert "'clip_duration': 10" in done.stdout
        assert "file:///tmp/input.mp4" in done.stdout


def test_all_blocks_are_here():
    assert [block.heading for block in BLOCKS.values()] == [
        "Quick Start",
        "Quick Start: async usage",
        "Debug Logging",
        "Key Limits",
    ]


METHODS = [
    "async_call",
    "batch_async",
    "batch_collect",
    "batch_submit",
    "batch_sync",
    "batch_sync_detailed",
    "cancel",
    "desc",
    "get_queue_info",
    "ping",
    "probe",
    "sync",
]


def test_both_clients_have_every_method():
    for client, closing in ((OperatorClient, "close"), (AsyncOperatorClient, "aclose")):
        for name in [*METHODS, closing]:
            assert hasattr(client, name), (client, name)
    assert isinstance(inspect.getattr_static(OperatorClient, "desc"), property)
    for name in set(METHODS) - {"get_queue_info"} | {"aclose"}:
        assert inspect.iscoroutinefunction(getattr(AsyncOperatorClient, name)), name
    for name in ("get", "ready", "state", "forget"):
        assert inspect.iscoroutinefunction(getattr(AsyncTaskHandle, name)), name


def parameters(function) -> list[tuple[str, object, object]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def test_both_clients_take_the_same_arguments():
    blocking = {name: value for name, value in vars(OperatorClient).items() if inspect.isfunction(value)}
    assert {RENAMED.get(name, name) for name in blocking} | {"desc"} == {
        name for name, value in vars(AsyncOperatorClient).items() if inspect.isfunction(value)
    }
    for name, method in blocking.items():
        if not name.startswith("_"):
            other = getattr(AsyncOperatorClient, RENAMED.get(name, name))
            assert parameters(method) == parameters(other), name
            assert inspect.getdoc(method) == inspect.getdoc(other), name


def test_the_arguments_come_in_the_order_that_callers_know():
    assert list(inspect.signature(OperatorClient).parameters)[:16] == [
        "operator_name",
        "operator_version",
        "broker_url",
        "result_backend",
        "timeout",
        "debug",
        "priority",
        "cancel_key",
        "auto_forget_result",
        "broker_pool_limit",
        "result_backend_max_connections",
        "backend_pool_limit",
        "backend_poll_concurrency",
        "pool_acquire_timeout",
        "thread_safe_mode",
        "shared_transport_scope",
    ]
    assert list(inspect.signature(OperatorClient.async_call).parameters)[1:] == [
        "input_artifacts",
        "options",
        "priority",
        "timeout",
        "cancel_key",
        "persistent_output",
    ]


@pytest.mark.parametrize("name", exceptions.__all__)
def test_every_error_is_of_the_core_s_tree(name):
    error = getattr(exceptions, name)
    assert issubclass(error, exceptions.OperatorError)
    assert issubclass(error, TranshipError)
    assert getattr(ours, name) is error


def test_errors_are_made_as_their_users_make_them():
    made = [
        exceptions.TaskTimeoutError("id", 3),
        exceptions.TaskExecutionError("id", "no good", {"a": 1}),
        exceptions.TaskDeadlineExceededError("id", 1.0, 2.0),
        exceptions.TaskCancelledError("id", "key"),
        exceptions.InvalidTaskStatusError("id", "done"),
        exceptions.InvalidResultFormatError("id", [1]),
        exceptions.InvalidPriorityError("urgent", ["high"]),
        exceptions.OperatorConnectionError("clipper", "v1", "no route"),
        exceptions.ClientPoolTimeoutError("broker", 10.0, 12),
        exceptions.BatchProcessingError([1, 2], 5),
        exceptions.OperatorClosedError("it is closed"),
        exceptions.OperatorSetupError("no plugin"),
        exceptions.StopException("enough"),
    ]
    assert {type(one).__name__ for one in made} == set(exceptions.__all__) - {"OperatorError"}
    assert all(str(one) and one.code != "ERROR" for one in made)
    assert [one.task_id for one in made[:6]] == ["id"] * 6
    assert (made[1].error_message, made[1].error_details) == ("no good", {"a": 1})
