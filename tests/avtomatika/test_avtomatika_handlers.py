"""What handlers are given and what their dicts become, beyond what the document's blocks show."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from pathlib import Path

import pydantic
import pytest
from avtomatika_kit import answer, ask, until

from tranship import FixedBackoff, RetryPolicy, current
from tranship.compat.avtomatika import (
    DeviceUsage,
    OrchestratorClient,
    ResourcesUsage,
    SkillBlueprint,
    SkillInfo,
    TaskFiles,
    Worker,
    WorkerConfig,
)
from tranship.compat.avtomatika.types import ParamValidationError
from tranship.errors import ConfigurationError, InvalidOptionError, UnsupportedError
from tranship.operations import Operator
from tranship.testing.background import BackgroundWorker

TWICE = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))


@pytest.fixture
def worker(url):
    return Worker()


def run(worker, client, skill, params=None, **options):
    with BackgroundWorker(worker.worker()):
        return answer(client, skill, params, **options)


# What they are given.


def test_a_handler_is_given_what_is_known_of_the_task(worker, client):
    @worker.task("look")
    async def look(params, **kwargs):
        return {"status": "success", "data": {key: value for key, value in kwargs.items() if not callable(value)}}

    headers = {"job_id": "job-1", "traceparent": "00-a-b-01", "shop": "eu"}
    result = run(worker, client, "look", {"a": 1}, headers=headers, priority="high", deadline_in=60)
    given = result.value
    assert 0 < given.pop("deadline") - time.time() <= 60
    assert given == {
        "task_id": result.id,
        "job_id": "job-1",
        "priority": 1,
        "metadata": headers,
        "tracing_context": {"traceparent": "00-a-b-01"},
        "security": None,
    }


def test_a_job_is_what_everything_began_with_unless_it_is_named(worker, client):
    @worker.task("look")
    def look(job_id, priority):
        return {"data": [job_id, priority]}

    result = run(worker, client, "look")
    assert result.value == [result.id, 0]


def test_a_def_handler_runs_in_a_thread_and_may_be_called_as_before(worker, client):
    @worker.skill
    def nothing(): ...

    with pytest.raises(ConfigurationError, match="says nothing of a skill"):
        nothing(print)

    @worker.skill()
    def double(params):
        """Twice as much."""
        return {"data": [params["n"] * 2, threading.current_thread() is threading.main_thread()]}

    assert double({"n": 2})["data"][0] == 4
    assert run(worker, client, "double", {"n": 4}).value == [8, False]


@pytest.mark.parametrize("around", [False, True])
def test_an_async_handler_behind_a_plain_wrapper_is_awaited(around, worker, client):
    async def inner(params, files):
        await files.write("a", "text")
        return {"status": "inner", "data": await files.get_root()}

    async def through(context, call_next):
        return await call_next()

    @worker.task("wrapped")
    def wrapped(params, files: TaskFiles):
        return inner(params, files)

    if around:
        worker.add_middleware(through)
    result = run(worker, client, "wrapped")
    assert result.status == "inner"
    assert not Path(result.value).exists()


class Size(pydantic.BaseModel):
    width: int


@dataclasses.dataclass
class Name:
    name: str
    more: str = "-"


def test_params_become_what_they_are_annotated_with(worker, client):
    @worker.task("model")
    def model(params: Size):
        return params.width

    @worker.task("data")
    def data(params: Name):
        return f"{params.name}{params.more}"

    with BackgroundWorker(worker.worker()):
        assert answer(client, "model", {"width": "3"}).value == 3
        assert answer(client, "data", {"name": "n", "unknown": 1}).value == "n-"
        for skill, wrong, why in (
            ("model", {"width": "secret"}, "params do not fit: width: Input should be a valid integer"),
            ("data", {}, "missing 1 required positional argument: 'name'"),
            ("data", [1], "submitted with a value of type list; expected one dict"),
        ):
            result = answer(client, skill, wrong)
            assert (result.state, result.error.code) == ("FAILURE", "INVALID_INPUT_ERROR")
            assert why in result.error.message
            assert "secret" not in result.error.message


def test_files_are_the_task_s_own_and_gone_afterwards(worker, client, tmp_path):
    @worker.task("write")
    async def write(params, files: TaskFiles):
        await files.write("a/b.txt", "text")
        await files.write_json("c.json", {"x": 1})
        await files.write("d.bin", b"\0")
        async with files.open("a/b.txt", "a") as file:
            await file.write("\nmore\n")
        async with files.open("a/b.txt") as file:
            lines = [line async for line in file]
        with pytest.raises(PermissionError):
            await files.path_to("../outside")
        with pytest.raises(UnsupportedError, match="S3 is not set up"):
            await files.upload_file("c.json")
        seen = [
            await files.read_json("c.json"),
            await files.read("d.bin", "rb") == b"\0",
            await files.exists("nothing"),
        ]
        return {"data": [await files.get_root(), lines, await files.list(), seen]}

    root, lines, names, seen = run(worker, client, "write", task_id="../../evil").value
    assert Path(root).parent == tmp_path / "payloads"
    assert lines == ["text\n", "more\n"]
    assert names == ["a", "c.json", "d.bin"]
    assert seen == [{"x": 1}, True, False]
    assert not Path(root).exists()


def test_a_handler_calls_other_skills(worker, client):
    @worker.task("outer")
    async def outer(params, others: OrchestratorClient):
        return {"data": [await others.call_skill("inner", {"n": n}) for n in range(2)]}

    @worker.task("inner")
    async def inner(params):
        if params["n"]:
            return {"status": "failure", "error": {"code": "PERMANENT_ERROR", "message": "odd"}}
        return {"status": "even", "data": current().root_id}

    result = run(worker, client, "outer")
    assert result.value == [
        {"status": "even", "data": result.id},
        {"status": "failure", "error": {"code": "PERMANENT_ERROR", "message": "odd"}},
    ]


def test_progress_is_told_and_events_are_refused(worker, client, url):
    looked = threading.Event()

    @worker.task("slow")
    async def slow(params, send_progress, send_event, task_id, job_id):
        await send_progress(task_id, job_id, 0.25, "a quarter")
        await asyncio.to_thread(looked.wait, 20)
        with pytest.raises(UnsupportedError, match="'found' cannot be sent"):
            await send_event("found", {})

    worker.config.HEARTBEAT_INTERVAL = 0.1
    with Operator(url) as operator, BackgroundWorker(worker.worker()):
        handle = ask(client, "slow")
        told = until(lambda: [one for beat in operator.workers() for one in beat.running if one.progress is not None])
        assert (told[0].progress, told[0].note) == (0.25, "a quarter")
        looked.set()
        assert handle.wait(timeout=20).success


# What they return.


@pytest.mark.parametrize(
    ("returned", "status", "value"),
    [
        (None, "success", None),
        (7, "success", 7),
        ({"message": "hello"}, "success", {"message": "hello"}),
        ({"data": [1]}, "success", [1]),
        ({"status": "cancelled"}, "cancelled", None),
        ({"status": "success", "error": None, "data": 1}, "success", 1),
    ],
)
def test_what_is_no_failure(returned, status, value, worker, client):
    worker.task("work")(lambda params: returned)
    result = run(worker, client, "work")
    assert (result.success, result.status, result.value) == (True, status, value)


@pytest.mark.parametrize(
    ("returned", "code", "message", "details", "attempt"),
    [
        ({"status": "failure"}, "TRANSIENT_ERROR", "the handler returned a failure, and no message", {}, 1),
        ({"error": "broken"}, "TRANSIENT_ERROR", "broken", {}, 1),
        (
            {"status": "failure", "error": {"code": "SECURITY_ERROR", "message": "no", "who": "me"}, "data": 1},
            "SECURITY_ERROR",
            "no",
            {"who": "me", "data": 1},
            0,
        ),
        ({"status": "failure", "error": {"code": "OWN", "retryable": False}}, "OWN", None, {}, 0),
        ({"status": 3}, "CONTRACT_VIOLATION_ERROR", None, {}, 0),
        ({"status": ""}, "CONTRACT_VIOLATION_ERROR", None, {}, 0),
        (
            {"status": "failure", "error": {"code": "OWN", "retryable": "no"}},
            "CONTRACT_VIOLATION_ERROR",
            "the handler returned an error whose retryable is 'no'; expected True, False or None",
            {},
            0,
        ),
        (
            {"error": {"message": None}},
            "TRANSIENT_ERROR",
            "the handler returned a failure, and no message",
            {},
            1,
        ),
    ],
)
def test_failures(returned, code, message, details, attempt, worker, client):
    worker.task("work")(lambda params: returned)
    result = run(worker, client, "work", retry=TWICE)
    assert (result.success, result.error.code, result.attempt) == (False, code, attempt)
    assert message is None or result.error.message == message
    assert {key: value for key, value in result.error.details.items() if key != "reason"} == details


def test_wrong_params_found_by_the_handler_are_final(worker, client):
    @worker.task("work")
    def work(params):
        raise ParamValidationError("no width")

    result = run(worker, client, "work", retry=TWICE)
    assert (result.error.code, result.attempt, result.state) == ("INVALID_INPUT_ERROR", 0, "FAILURE")


def test_messages_without_a_policy_are_tried_four_times_and_the_worker_may_say_otherwise(url):
    assert _policy(Worker()).max_attempts == 4
    assert _policy(Worker(retry=None)) is None
    assert _policy(Worker(retry=TWICE)) == TWICE


def _policy(worker):
    worker.task("work")(lambda: None)
    return worker.worker().tasks["work"].options_set.retry


# Around them.


def test_middleware_is_called_in_order_and_may_change_what_the_handler_is_given(worker, client):
    seen = []

    async def outer(context, call_next):
        seen.append(f"outer {context['skill_name']}")
        return {"status": "wrapped", "data": await call_next()}

    async def inner(context, call_next):
        seen.append("inner")
        context["handler_kwargs"]["params"] = {"n": 2}
        return await call_next()

    worker.task("work")(lambda params: params["n"] * 10)
    worker.add_middleware(outer)
    worker.add_middleware(inner)
    result = run(worker, client, "work", {"n": 1})
    assert (result.status, result.value, seen) == ("wrapped", 20, ["outer work", "inner"])


def test_what_there_is_no_capacity_for_comes_again(url, client, monkeypatch):
    monkeypatch.setattr("tranship.compat.avtomatika._capacity.NO_ROOM", 0.05)
    asked = []
    worker = Worker(capacity_checker=lambda skill: asked.append(skill) or len(asked) > 1)
    worker.task("work")(lambda: "done")
    result = run(worker, client, "work")
    assert (result.value, result.attempt, asked) == ("done", 0, ["work", "work"])


def test_what_is_loaded_and_used_is_told(worker, client, url):
    worker.task("work")(lambda: sorted(worker.get_hot_skills_state()))
    worker.add_to_hot_skills("early")
    worker.add_to_hot_skills("gone")
    worker.remove_from_hot_cache("gone")
    usage = ResourcesUsage(12.5, 3.0, [DeviceUsage("gpu0", 50.0)])
    worker.set_usage_checker(lambda: usage)
    with Operator(url) as operator, BackgroundWorker(worker.worker()):
        assert answer(client, "work").value == ["early"]
        beat = until(lambda: [one for one in operator.workers() if "usage" in one.labels])[0]
        assert beat.labels["usage"] == dataclasses.asdict(usage)
        worker.add_to_hot_cache("late")
        until(lambda: [one for one in operator.workers() if "late" in one.hot_cache])
    assert worker.get_hot_skills_state() == {"early"}


# Skills, blueprints, and what cannot be.


def test_a_skill_says_more_and_blueprints_collect_them(url, client, tmp_path):
    blueprint = SkillBlueprint()

    @blueprint.skill(SkillInfo("from_blueprint"), type="gpu", price=3)
    async def work(params):
        """Does it."""
        return "blueprint"

    info = blueprint.skills[0].info
    assert (info.type, info.description, info.properties) == ("gpu", "Does it.", {"price": 3})
    (tmp_path / "more.py").write_text(
        "from tranship.compat.avtomatika import SkillBlueprint\n"
        "blueprint = SkillBlueprint()\n"
        "@blueprint.skill('from_file')\n"
        "def work():\n    return 'file'\n"
    )
    worker = Worker(skill_type_limits={"gpu": 1}, skills_dir=str(tmp_path))
    worker.include_blueprint(blueprint)
    worker.worker()
    with BackgroundWorker(worker.worker()):
        assert answer(client, "from_blueprint").value == "blueprint"
        assert answer(client, "from_file").value == "file"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: Worker(http_session=1), "no http_session"),
        (lambda: Worker(clients=[]), "no http_session and no clients"),
        (lambda: Worker().on_command("reboot"), "'reboot' cannot be heard"),
        (lambda: Worker().skill("a", input_schema={})(print), "has input_schema"),
        (lambda: Worker().task("a")(dict), "cannot be the handler of skill 'a'"),
        (lambda: Worker().task("a")(lambda parameters: 1), "wants parameters; a handler is given"),
        (lambda: Worker().task("a\n")(lambda: 1), "name of a skill"),
        (lambda: Worker(skill_type_limits={}, task_type_limits={}), "say the same thing"),
        (lambda: Worker().worker(), "has no skills"),
        (lambda: Worker(skills_dir="/nowhere").worker(), "no directory '/nowhere'"),
        (lambda: TaskFiles("a", observability=1), "no observability"),
    ],
)
def test_what_cannot_be_says_so(wrong, why):
    with pytest.raises(ConfigurationError, match=why):
        wrong()


def test_two_skills_of_one_name_are_refused(url):
    worker = Worker()
    worker.task("a")(lambda: 1)
    with pytest.raises(InvalidOptionError, match="two skills are named 'a'"):
        worker.task("a")(lambda: 2)


async def test_events_of_a_worker_are_refused(url):
    with pytest.raises(UnsupportedError):
        await Worker().emit_event({})


def test_a_config_shows_no_secrets(monkeypatch):
    monkeypatch.setenv("WORKER_TOKEN", "hush")
    assert "hush" not in repr(WorkerConfig())
