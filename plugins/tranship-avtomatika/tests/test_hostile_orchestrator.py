"""Orchestrators that answer badly, or not at all: a clear error, nothing lost, the worker alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest
from at_work import at_work, until
from hostile_orchestrator import TOKEN, HostileOrchestrator, half_a_body, nothing, status, text

from tranship import AsyncClient, Snooze, TaskError, Worker, named, task
from tranship.envelope import TaskState
from tranship.errors import BrokerRefused, BrokerUnreachable, EncodeError, SubmitError, SubmitUnknown, UnsupportedError
from tranship.operations import AsyncOperator
from tranship.registry import Registry
from tranship.settings import Settings


@task(name="double")
async def double(params: dict) -> dict:
    return {"doubled": params["n"] * 2}


@task(name="fail")
async def fail(params: dict) -> None:
    raise TaskError("not a PNG", code=params["code"])


@pytest.mark.parametrize("code", [401, 403])
async def test_a_worker_that_is_not_let_in_says_so_and_does_not_start(hostile: HostileOrchestrator, code: int) -> None:
    hostile.answers["register"].append(status(code, {"error": "Unauthorized: No valid token found"}))
    with pytest.raises(
        BrokerRefused, match=r"does not let worker 'worker-1' in .Unauthorized: No valid token"
    ) as caught:
        await asyncio.wait_for(Worker(hostile.url, tasks=[double], name="worker-1").serve(), 60)
    assert not hostile.said["poll"]
    assert TOKEN not in str(caught.value)


async def test_answers_to_the_question_for_a_task_that_are_none(
    hostile: HostileOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tranship")
    hostile.answers["poll"].extend(
        [
            status(500),
            status(401),
            half_a_body,
            nothing,
            text("<html>sign in</html>"),
            status(200, ["no task"]),
            status(200, {"task_id": "nameless"}),
            hostile.task("odd", "double", params="n=1"),
            hostile.task("late", "double", deadline="tomorrow"),
            hostile.task("typeless", None),
            hostile.task("stranger", "never-announced", {}),
            hostile.task("good", "double", {"n": 4}),
        ]
    )
    async with at_work(hostile.url, double):
        (good,) = await until(lambda: hostile.results("good"), within=30.0)
    assert good["status"] == "success"
    assert good["data"] == {"doubled": 8}
    for broken in ("odd", "late", "typeless"):
        (told,) = hostile.results(broken)
        assert told["error"]["code"] == "INVALID_INPUT_ERROR"
        assert broken in told["error"]["message"]
    (told,) = hostile.results("stranger")
    # Another worker may have it.
    assert told["error"]["code"] == "TRANSIENT_ERROR"
    assert "no task named 'never-announced'" in told["error"]["message"]
    for part in ("answered 500", "answered 401", "the answer was lost", "is no JSON", "handed over what is no task"):
        assert part in caplog.text
    assert TOKEN not in caplog.text


async def test_an_end_is_told_until_the_orchestrator_has_it(hostile: HostileOrchestrator) -> None:
    hostile.answers["poll"].append(hostile.task("t", "double", {"n": 1}))
    hostile.answers["result"].extend([status(500), half_a_body, nothing, status(503)])
    async with at_work(hostile.url, double):
        told = await until(lambda: len(found := hostile.results("t")) == 5 and found)
    assert {one["data"]["doubled"] for one in told} == {2}
    # What was heard before is taken for an attack.
    assert len({one["nonce"] for one in told}) == len({one["security"]["signature"] for one in told}) == 5


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("PERMANENT_ERROR", "PERMANENT_ERROR"),
        ("TRANSIENT_ERROR", "TRANSIENT_ERROR"),
        ("RESOURCE_EXHAUSTED_ERROR", "RESOURCE_EXHAUSTED_ERROR"),
        ("MINE", "TRANSIENT_ERROR"),
    ],
)
async def test_codes_of_failures(hostile: HostileOrchestrator, code: str, told: str) -> None:
    hostile.answers["poll"].append(hostile.task("t", "fail", {"code": code}))
    async with at_work(hostile.url, fail):
        (found,) = await until(lambda: hostile.results("t"))
    assert found["status"] == "failure"
    assert found["error"]["code"] == told
    assert found["error"]["message"] == "not a PNG"
    assert found["error"]["details"]["code"] == code


async def test_a_result_that_cannot_be_told_is_a_failure_that_says_why(hostile: HostileOrchestrator) -> None:
    @task(name="deep")
    async def deep(params: dict) -> dict:
        found: dict = {}
        for _ in range(params["levels"]):
            found = {"in": found}
        return found

    hostile.answers["poll"].append(hostile.task("t", "deep", {"levels": 40}))
    hostile.answers["poll"].append(hostile.task("u", "deep", {"levels": 2}))
    hostile.answers["result"].append(status(200, {"status": "accepted"}))
    hostile.answers["result"].append(status(400, {"error": "Invalid TaskResult payload: data"}))
    async with at_work(hostile.url, deep):
        (first,) = await until(lambda: hostile.results("t"))
        _, second = await until(lambda: len(found := hostile.results("u")) == 2 and found)
    assert first["error"]["code"] == second["error"]["code"] == "CONTRACT_VIOLATION_ERROR"
    assert "nested more than 30 levels deep" in first["error"]["message"]
    assert "Invalid TaskResult payload" in second["error"]["message"]


async def test_who_asks_too_often_asks_less(hostile: HostileOrchestrator) -> None:
    hostile.answers["poll"].append(status(429, **{"Retry-After": "0.4"}))
    hostile.answers["poll"].append(hostile.task("t", "double", {"n": 1}))
    async with at_work(hostile.url, double):
        await until(lambda: hostile.results("t"))
    first, second = hostile.times["poll"][:2]
    assert second - first >= 0.38


async def test_an_orchestrator_that_has_forgotten_the_worker_is_told_again(
    hostile: HostileOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tranship_avtomatika._member.LOOK", 0.0)
    async with at_work(hostile.url, double) as worker:
        await until(lambda: hostile.said["heartbeat"])
        known = len(hostile.said["register"])
        # Without a word of ours it says whether it knows us; `null` is no, and so is 404.
        for answers in ([text("null")], [status(404)], [status(200, {"status": "ok"}), status(404), status(404)]):
            hostile.answers["heartbeat"].extend(answers)
            while len(hostile.said["register"]) == known:
                worker.hot_cache.add(f"news {len(hostile.said['heartbeat'])}")
                await asyncio.sleep(0.02)
            known = len(hostile.said["register"])
    assert hostile.said["register"][-1]["supported_skills"] == [{"name": "double"}]


async def test_what_has_not_ended_in_time_is_given_back_once_nothing_more_is_given_to_the_worker(
    hostile: HostileOrchestrator,
) -> None:
    started = asyncio.Event()

    @task(name="endless")
    async def endless(params: dict) -> None:
        started.set()
        await asyncio.Event().wait()

    hostile.answers["poll"].append(hostile.task("t", "endless", {}))
    async with at_work(hostile.url, endless, max_concurrent_tasks=1, shutdown_timeout=0.1):
        await asyncio.wait_for(started.wait(), 20)
    (told,) = hostile.results("t")
    assert told["error"] == {"code": "TRANSIENT_ERROR", "message": "the worker has stopped, and gives the task back"}
    leaving = hostile.said["heartbeat"][-1]
    assert leaving["status"] == "offline"
    # What may wait for it, others can have.
    assert "supported_skills" not in leaving
    assert hostile.times["heartbeat"][-1] <= hostile.times["result"][-1]


async def test_a_worker_that_asks_and_leaves_has_no_skills_any_more(hostile: HostileOrchestrator) -> None:
    async with at_work(hostile.url, double):
        await until(lambda: hostile.said["poll"])
    leaving = hostile.said["heartbeat"][-1]
    assert leaving["status"] == "offline"
    assert leaving["supported_skills"] == []


async def test_a_worker_that_takes_nothing_is_busy(
    hostile: HostileOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tranship_avtomatika._inbox.UNWANTED", 0.2)
    started = asyncio.Event()

    @task(name="lasts")
    async def lasts(params: dict) -> None:
        started.set()
        await asyncio.Event().wait()

    hostile.answers["poll"].append(hostile.task("t", "lasts", {}))
    worker = Worker(
        settings=Settings.load(broker_url=hostile.url, heartbeat_interval=0.1),
        tasks=[lasts],
        name="stops",
        max_concurrent_tasks=2,
        shutdown_timeout=3.0,
    )
    serving = asyncio.create_task(worker.serve())
    await asyncio.wait_for(started.wait(), 20)
    assert hostile.said["heartbeat"][-1]["status"] == "idle"
    # It has room, and stops: what it is given now nobody would begin with.
    worker.stop()
    await until(lambda: hostile.said["heartbeat"][-1]["status"] == "busy")
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_a_task_that_snoozes_stays_with_its_worker(hostile: HostileOrchestrator) -> None:
    attempts: list[float] = []

    @task(name="sleepy")
    async def sleepy(params: dict) -> object:
        attempts.append(time.monotonic())
        return Snooze(0.3) if len(attempts) < 3 else {"attempts": len(attempts)}

    hostile.answers["poll"].append(hostile.task("t", "sleepy", {}))
    async with at_work(hostile.url, sleepy):
        (told,) = await until(lambda: hostile.results("t"))
    assert told["data"] == {"attempts": 3}
    assert attempts[2] - attempts[0] >= 0.55


async def test_short_lived_tokens(hostile: HostileOrchestrator) -> None:
    hostile.answers["poll"].append(status(403))
    async with at_work(f"{hostile.url}&sts=true", double):
        hostile.answers["poll"].append(hostile.task("t", "double", {"n": 1}))
        await until(lambda: hostile.results("t"))
    assert hostile.headers["token"][0]["X-Worker-Token"] == TOKEN
    shown = [
        one["X-Worker-Token"] for name in ("register", "heartbeat", "poll", "result") for one in hostile.headers[name]
    ]
    assert TOKEN not in shown
    assert hostile.said["refresh"], "a token that is refused is replaced by its refresh token"


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (status(401), BrokerRefused, "client_token"),
        (status(404), SubmitError, "no blueprint has its endpoint there"),
        (status(400, {"error": "Input validation failed"}), SubmitError, "Input validation failed"),
        (status(302, None, Location="http://127.0.0.1:1/steal"), SubmitError, "answered 302"),
        (status(500), SubmitUnknown, "not known"),
        (half_a_body, SubmitUnknown, "not known"),
        (nothing, SubmitUnknown, "not known"),
        (text("<html>"), SubmitUnknown, "no JSON"),
        (status(202, {"status": "accepted"}), SubmitUnknown, "no job_id"),
    ],
)
async def test_a_job_that_is_not_accepted(
    hostile: HostileOrchestrator, answer: object, error: type[Exception], said: str
) -> None:
    hostile.answers["job"].append(answer)  # type: ignore[arg-type]
    async with AsyncClient(hostile.url) as client:
        with pytest.raises(error, match=said):
            await client.submit(named("flow"), {"n": 1})
    assert len(hostile.said["job"]) == 1


async def test_arguments_that_no_job_takes(hostile: HostileOrchestrator) -> None:
    async with AsyncClient(hostile.url) as client:
        with pytest.raises(EncodeError, match="one dict, or keyword arguments"):
            await client.submit(named("flow"), 1, 2)
        with pytest.raises(SubmitError, match="names no blueprint's endpoint"):
            await client.submit(named("../admin/reload-workers"), {"n": 1})
        await client.submit(named("flow"), n=1)
    assert hostile.said["job"][0]["initial_data"] == {"n": 1}


async def test_a_job_that_nobody_knows_any_more_has_failed(hostile: HostileOrchestrator) -> None:
    hostile.answers["look"].extend([status(500), nothing, status(404)])
    async with AsyncClient(hostile.url) as client:
        result = await (await client.submit(named("flow"), {"n": 1})).wait(timeout=20)
    assert result.state is TaskState.FAILURE
    assert result.error is not None
    assert "does not know job job-1" in result.error.message


async def test_what_is_no_orchestrator_is_refused(hostile: HostileOrchestrator) -> None:
    registry = Registry()
    for answer, error, said in (
        (status(404), BrokerRefused, "is that an Avtomatika orchestrator"),
        (status(503), BrokerUnreachable, "answered 503"),
        (text("<html>"), BrokerUnreachable, "no JSON"),
        (status(200, {"status": "sick"}), BrokerUnreachable, "is not what an orchestrator says"),
    ):
        hostile.answers["status"].append(answer)
        backend = registry.create(hostile.url)
        with pytest.raises(error, match=said):
            await backend.open()


async def test_what_an_orchestrator_cannot_do_is_refused_at_once(hostile: HostileOrchestrator) -> None:
    without = hostile.url.replace("client_token=a-client&", "")
    async with AsyncClient(without) as client:
        with pytest.raises(UnsupportedError, match="no client_token"):
            await client.submit(named("flow"), {"n": 1})
    with pytest.raises(UnsupportedError, match="no client_token"):
        await AsyncClient(without.replace(f":{TOKEN}@", "")).open()
    async with AsyncClient(hostile.url) as client:
        with pytest.raises(UnsupportedError):
            await client.submit(named("flow").options(delay=5.0), {"n": 1})
        with pytest.raises(UnsupportedError, match="'elsewhere' is of no job that this process has submitted"):
            await client.cancel("elsewhere")
    assert not hostile.said["job"]
    async with AsyncOperator(hostile.url) as operator:
        with pytest.raises(UnsupportedError, match="cannot be handed on"):
            await operator.command("status")
