"""The document's blocks run as they stand, with imports and broker settings changed, and do what its prose says."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tranship.compat.azolla as ours
from documents._blocks import read_blocks, run_block
from tranship import Client as PlainClient
from tranship.compat.azolla import azolla_task, exceptions
from tranship.compat.azolla.types import result_of
from tranship.errors import TranshipError
from tranship.retry import exception_names

BLOCKS = read_blocks(Path(__file__).parent / "document.md")
RUN = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17}
NOT_RUN = {
    1: "installs Azolla itself",
    2: "installs Azolla itself",
    15: "installs Azolla's own checkout",
    16: "runs Azolla's own tests",
    18: "checks Azolla's own code",
    19: "releases Azolla",
}
MAIL = {"to": "user@example.com", "subject": "Welcome!", "body": "Welcome to our platform!"}
SENT = {"message_id": "msg_123", "sent_to": "user@example.com", "status": "delivered"}
ROOT = Path(__file__).parents[2]


def test_every_block_is_run_or_has_a_reason():
    assert set(BLOCKS) == RUN | set(NOT_RUN)
    assert not RUN & set(NOT_RUN)
    assert {number for number, one in BLOCKS.items() if one.language == "python"} <= RUN
    source = Path(__file__).read_text()
    assert {int(number) for number in re.findall(r"block\((\d+)\)", source)} == RUN


def failure(url, name, *args, **kwargs):
    """How such a task failed, as a client sees it."""
    with PlainClient(url, result_url=url) as client:
        result = result_of(client.submit(name, *args, **kwargs).wait(20))
    assert not result.success
    assert result.value is None
    return result.error


def test_a_function_is_a_task(block, serve, tranship_client):
    send_email = run_block(block(3))["send_email"]
    assert asyncio.run(send_email(**MAIL)) == SENT
    serve(send_email)
    assert tranship_client.submit("send_email", **MAIL).result(20) == SENT


def test_a_class_is_a_task(block, serve, tranship_client):
    kind = run_block(block(4))["SendEmailTask"]
    assert kind().name() == "sendemail"
    serve(kind())
    assert tranship_client.submit("sendemail", **MAIL).result(20) == SENT
    # By position, as invocations may have them.
    assert tranship_client.submit("sendemail", *MAIL.values()).result(20) == SENT


def test_arguments_are_validated(block, serve, tranship_url):
    """Type Safe: by the annotations of the function, by the fields of ``Args``."""
    serve(run_block(block(3))["send_email"], run_block(block(4))["SendEmailTask"]())
    for name in ("send_email", "sendemail"):
        error = failure(tranship_url, name, **{**MAIL, "to": ["no text"]})
        assert (error.error_type, error.retriable) == ("TaskValidationError", False)
        assert error.data["code"] == "VALIDATION_ERROR"
        assert "to" in error.message
        assert failure(tranship_url, name, to="a").data["code"] == "VALIDATION_ERROR"


def test_tasks_are_submitted_and_waited_for(block, serve, tranship_url, capsys):
    send_email = run_block(block(3))["send_email"]
    serve(send_email)
    run_block(block(5).replaced({"http://localhost:52710": tranship_url}), {"send_email": send_email})
    assert capsys.readouterr().out == f"✅ Email sent: {SENT}\n"


def test_a_failure_is_a_result(block, serve, tranship_url, capsys):
    @azolla_task
    async def send_email(to: str, subject: str, body: str) -> dict:
        raise exceptions.TaskError("mailbox full", error_code="FULL", retryable=False)

    serve(send_email)
    run_block(block(5).replaced({"http://localhost:52710": tranship_url}), {"send_email": send_email})
    out = capsys.readouterr().out
    assert out.startswith("❌ Failed: ")
    assert "mailbox full" in out


def test_a_worker_executes_an_invocation(block, capsys):
    run_block(block(6), {"send_email": run_block(block(3))["send_email"]})
    assert capsys.readouterr().out == f"{SENT}\n"


@pytest.fixture
def command(tmp_path):
    """An environment in which the installed ``azolla-worker`` is found first."""
    found = shutil.which("azolla-worker", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("the distribution tranship-azolla is not installed: pip install -e plugins/tranship-azolla")
    return {**os.environ, "PATH": f"{Path(found).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_command_runs_a_task_and_reports_it(block, command, tmp_path):
    package = tmp_path / "my_app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(block(3).text)
    (package / "notifications.py").write_text(f"{block(4).text}\nsend = SendEmailTask()\n")
    url = f"sqlite:///{tmp_path}/jobs.db"
    with PlainClient(url, result_url=url) as client:
        for name in ("send_email", "sendemail"):
            handle = client.submit(name, **MAIL)
            invocation = {
                "TASK_ID": handle.id,
                "TASK_NAME": name,
                "TASK_ARGS_JSON": '["user@example.com", "Welcome!"]',
                "TASK_KWARGS_JSON": '{"body": "Welcome to our platform!"}',
                "SHEPHERD_URL": url,
            }
            done = subprocess.run(
                ["bash", "-euc", block(7).text],
                cwd=tmp_path,
                env=command | invocation,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert f"task {handle.id} completed successfully" in done.stderr
            assert "registered 2 tasks of my_app.tasks, my_app.notifications" in done.stderr
            assert handle.result(20) == SENT


def test_retry_policies_are_as_written(block):
    left = run_block(block(8), {"TaskTimeoutError": exceptions.TaskTimeoutError})
    exponential, linear = left["exponential_retry"], left["linear_retry"]

    def delay(policy, attempt, error, code="TASK_ERROR"):
        names = exception_names(error)
        return policy.decide(attempt, names=names, code=code, retryable=True, random=lambda: 0.5)

    lost = ConnectionError("lost")
    assert [delay(exponential, attempt, lost) for attempt in range(5)] == [1.0, 2.0, 4.0, 8.0, None]
    assert delay(exponential, 0, exceptions.TaskTimeoutError("slow")) == 1.0
    assert delay(exponential, 0, ValueError("other")) is None
    assert delay(exponential, 0, lost, code="INVALID_EMAIL") is None
    # Azolla's jitter: a quarter less or more.
    for at, wanted in ((0.0, 1.5), (1.0, 2.5)):
        names = exception_names(lost)
        assert exponential.decide(1, names=names, code="", retryable=True, random=lambda at=at: at) == wanted
    assert exponential.backoff.max_delay == 60.0
    assert [delay(linear, attempt, lost) for attempt in range(3)] == [2.0, 3.0, None]


@pytest.mark.parametrize(
    ("data", "happens", "expected"),
    [
        ({}, "", ("TaskValidationError", False, "VALIDATION_ERROR", "Email is required")),
        ({"email": "a"}, "down", ("ServiceUnavailable", True, "SERVICE_DOWN", "External service unavailable")),
        ({"email": "a"}, "slow", ("TaskTimeoutError", True, "TIMEOUT_ERROR", "Data processing took too long")),
    ],
)
def test_errors_arrive_as_they_were_raised(block, serve, tranship_url, data, happens, expected):
    names = {
        "azolla_task": azolla_task,
        "external_service_down": lambda: happens == "down",
        "processing_time_exceeded": lambda: happens == "slow",
    }
    serve(run_block(block(9), names)["validate_data"])
    error = failure(tranship_url, "validate_data", data=data)
    assert (error.error_type, error.retriable, error.data["code"], error.message) == expected


def test_valid_data_is_valid(block, serve, tranship_client):
    no = dict.fromkeys(("external_service_down", "processing_time_exceeded"), lambda: False)
    serve(run_block(block(9), {"azolla_task": azolla_task, **no})["validate_data"])
    answer = tranship_client.submit("validate_data", data={"email": "a"}).result(20)
    assert answer == {"status": "valid", "data": {"email": "a"}}


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        ("invalid_input", ("ValueError", True, "TASK_ERROR", "Invalid input data")),
        ("network_issue", ("ConnectionError", True, "TASK_ERROR", "Network unavailable")),
        ("business_logic_error", ("TaskError", False, "TASK_ERROR", "Business rule violation")),
    ],
)
def test_exceptions_are_wrapped(block, serve, tranship_url, happens, expected):
    """The table of the document: what is no TaskError is wrapped in one that is retryable."""
    causes = ("invalid_input", "network_issue", "business_logic_error")
    names = {cause: lambda cause=cause: cause == happens for cause in causes}
    task = run_block(block(10), {"azolla_task": azolla_task, "TaskError": exceptions.TaskError, **names})
    serve(task["risky_operation"])
    error = failure(tranship_url, "risky_operation")
    assert (error.error_type, error.retriable, error.data["code"], error.message) == expected


def test_an_error_of_your_own_brings_its_data(block, serve, tranship_url):
    class DatabaseConnectionTimeout(Exception):
        pass

    class Database:
        async def query(self, _text):
            raise DatabaseConnectionTimeout

    names = {"azolla_task": azolla_task, "db": Database(), "DatabaseConnectionTimeout": DatabaseConnectionTimeout}
    serve(run_block(block(11), names)["query_database"])
    error = failure(tranship_url, "query_database")
    assert (error.error_type, error.message, error.retriable) == ("DatabaseError", "Database connection timeout", True)
    assert error.data == {"code": "DATABASE_ERROR", "database": "users_db", "retry_count": 3}


def test_logging_is_set_up(block):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        run_block(block(12))
        (handler,) = root.handlers
        assert root.level == logging.INFO
        record = logging.makeLogRecord({"name": "tranship.worker", "levelname": "INFO", "msg": "started"})
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - tranship\.worker - INFO - started", handler.format(record)
        )
    finally:
        root.handlers[:], root.level = handlers, level


async def test_a_client_is_configured(block, tranship_url):
    left = run_block(block(13).replaced({"http://production-orchestrator:52710": tranship_url}))
    async with left["client"] as client:
        settings = client.core.settings
        assert (settings.namespace, settings.submit_timeout) == ("production", 60.0)
        handle = await client.submit_task("elsewhere", "x" * 2**20).submit()
        assert await handle.try_result() is None
        with pytest.raises(exceptions.SerializationError, match="16,777,216"):
            await client.submit_task("elsewhere", "x" * (16 * 2**20)).submit()


def test_a_worker_is_built_of_both_kinds_of_tasks(block, capsys):
    @azolla_task
    async def greet_user(name: str, language: str = "en") -> str:
        return f"{'Bonjour' if language == 'fr' else 'Hello'}, {name}!"

    names = {"greet_user": greet_user, "SendEmailTask": run_block(block(4))["SendEmailTask"]}
    left = run_block(block(14), names)
    assert capsys.readouterr().out == "Bonjour, Alice!\n"
    assert left["execution"].is_success()
    assert left["execution"].task_id == "demo-123"
    assert left["worker"].task_count() == 2


def test_tasks_are_tested_by_calling_them(block, pytester):
    pytester.makepyfile(test_block=f"{block(3).text}\n{block(17).text}")
    pytester.runpytest("-o", "asyncio_default_fixture_loop_scope=function").assert_outcomes(passed=1)


CLASSES = ["Client", "Worker", "Task", "TaskHandle", "TaskResult", "azolla_task"]
EXCEPTIONS = [
    "TaskError",
    "TaskValidationError",
    "TaskTimeoutError",
    "ConnectionError",
    "WorkerError",
    "SerializationError",
]
POLICIES = ["RetryPolicy", "ExponentialBackoff", "LinearBackoff", "FixedBackoff"]


def test_the_reference_s_names_are_there():
    assert set(CLASSES + EXCEPTIONS + POLICIES) <= set(ours.__all__)
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        assert issubclass(kind, exceptions.AzollaError)
        assert issubclass(kind, TranshipError)
        assert str(kind("what went wrong")) == "what went wrong"
    for name in POLICIES:
        assert getattr(ours, name) is getattr(ours.retry, name)
    verdicts = {kind: kind("x").retryable for kind in (exceptions.TaskError, exceptions.TaskTimeoutError)}
    assert set(verdicts.values()) == {True}
    assert exceptions.TaskValidationError("x").retryable is False


def test_each_row_of_the_reference_names_a_test_that_exists():
    page = (ROOT / "docs/reference/azolla.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`test_" in line]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    folders = [Path(__file__).parent, ROOT / "plugins" / "tranship-azolla" / "tests"]
    sources = [path.read_text("utf-8") for folder in folders for path in folder.glob("test_*.py")]
    assert len(named) >= 20
    assert {one for one in named if not any(f"def {one}(" in source for source in sources)} == set()
    for number, why in NOT_RUN.items():
        assert f"| {number} | {why} |" in page
