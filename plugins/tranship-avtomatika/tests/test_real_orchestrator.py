"""With a real orchestrator: the published package, in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from at_work import asked, at_work, until
from certificates import Authority

from servers.orchestrator import WORKER_TOKEN, cancel_job, ended, submit_job, workers
from servers.orchestrator import until as seen_by
from tranship import AsyncClient, Outcome, TaskError, Worker, current, named, task
from tranship.envelope import TaskState
from tranship.errors import BrokerError, BrokerRefused, TaskCancelled, TaskFailed
from tranship.routing import failover, round_robin
from tranship.testing.services import ProcessService, Service

# One orchestrator for all of them, and not one for each process of the tests.
pytestmark = pytest.mark.xdist_group("orchestrator")

STUCK = Path(__file__).with_name("stuck_worker.py")


@task(name="double")
async def double(params: dict) -> int:
    return params["n"] * 2


@task(name="review")
def review(params: dict) -> Outcome:
    return Outcome("needs_review", {"checked": params["n"]})


async def known(service: Service, name: str) -> Any:
    """Wait until the orchestrator would give a worker something to do, and return what it knows of it."""

    def look() -> Any:
        found = workers(service).get(name)
        return found if found and found["supported_skills"] and found.get("status") == "idle" else None

    async with asyncio.timeout(40):
        while (found := await asked(look)) is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        return found


async def test_a_job_from_beginning_to_end(orchestrator_service: Service) -> None:
    async with (
        at_work(orchestrator_service.url, double, review, name="ends"),
        AsyncClient(orchestrator_service.url) as client,
    ):
        await known(orchestrator_service, "ends")
        job_id = await asked(submit_job, orchestrator_service, "double", {"n": 4})
        found = await asked(ended, orchestrator_service, job_id)
        # The same by a client of ours; what a task returns is named for the job's next steps.
        handle = await client.submit(named("flow"), {"skill": "double", "params": {"n": 5}})
        reviewed = await client.submit(named("flow"), skill="review", params={"n": 6})
        assert await handle.result(timeout=40) == {"result": 10}
        assert await reviewed.result(timeout=40) == {"checked": 6, "reviewed": True}
        three = [{"type": "double", "params": {"n": number}} for number in (1, 2, 3)]
        assert await (await client.submit(named("both"), {"tasks": three})).result(timeout=40) == [2, 4, 6]
    assert found["status"] == "finished"
    assert found["result"] == {"result": 8}


async def test_a_transient_failure_is_tried_again_and_a_permanent_one_is_not(orchestrator_service: Service) -> None:
    attempts: dict[str, int] = {}

    @task(name="flaky")
    async def flaky(params: dict) -> str:
        attempts[params["code"]] = attempts.get(params["code"], 0) + 1
        if attempts[params["code"]] < 3:
            raise TaskError("not yet", code=params["code"])
        return "done"

    # One at a time: an orchestrator gives a busy worker nothing, not even what it has just failed to do.
    async with (
        at_work(orchestrator_service.url, flaky, name="flaky", max_concurrent_tasks=1),
        AsyncClient(orchestrator_service.url) as client,
    ):
        await known(orchestrator_service, "flaky")
        for code in ("TRANSIENT_ERROR", "PERMANENT_ERROR"):
            result = await (await client.submit(named("flow"), skill="flaky", params={"code": code})).wait(timeout=30)
            if code == "TRANSIENT_ERROR":
                assert result.value == {"result": "done"}
            else:
                assert result.error is not None
                assert result.error.code == "JOB_QUARANTINED"
    assert attempts == {"TRANSIENT_ERROR": 3, "PERMANENT_ERROR": 1}


@pytest.mark.parametrize("websocket", [True, False])
async def test_a_cancel_reaches_what_runs(orchestrator_service: Service, websocket: bool) -> None:
    told: list[Any] = []

    @task(name="endless")
    async def endless(params: dict) -> None:
        context = current()
        context.progress(0.5, message="half")
        told.append(context.headers["job_id"])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append(time.monotonic())
            raise

    url = f"{orchestrator_service.url}&websocket={str(websocket).lower()}"
    name = f"cancels-{websocket}"
    async with at_work(url, endless, name=name, every=0.5), AsyncClient(url) as client:
        await known(orchestrator_service, name)
        handle = await client.submit(named("flow"), skill="endless")
        await until(lambda: told)
        # With it, cancels come over the WebSocket; the next heartbeat has them anyhow.
        await asked(cancel_job, orchestrator_service, told[0])
        await until(lambda: len(told) == 2)
        with pytest.raises(TaskCancelled):
            await handle.result(timeout=40)
        # The same by the client.
        handle = await client.submit(named("flow"), skill="endless")
        await until(lambda: len(told) == 3)
        await handle.cancel()
        await until(lambda: len(told) == 4)
        with pytest.raises(TaskCancelled):
            await handle.result(timeout=40)


async def test_what_heartbeats_tell(orchestrator_service: Service) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @task(name="held", task_type="gpu")
    async def held(params: dict) -> None:
        begun.set()
        await go_on.wait()

    async with at_work(
        orchestrator_service.url,
        held,
        name="tells",
        max_concurrent_tasks=1,
        skill_dependencies={"held": ["model"]},
        labels={"worker_type": "gpu-worker", "zone": "b"},
    ) as worker:
        before = await known(orchestrator_service, "tells")
        worker.hot_cache.add("model")

        async def seen(check: Callable[[Any], bool]) -> Any:
            def look() -> Any:
                return found if check(found := workers(orchestrator_service)["tells"]) else None

            return await asked(seen_by, look)

        await seen(lambda one: one.get("hot_skills") == ["held"])
        job_id = await asked(submit_job, orchestrator_service, "held")
        await asyncio.wait_for(begun.wait(), 40)
        worker.hot_cache.add("more")  # news, which is told soon
        busy = await seen(lambda one: one["status"] == "busy")
        go_on.set()
        await asked(ended, orchestrator_service, job_id)
    assert before["worker_type"] == "gpu-worker"
    assert before["capabilities"]["extra"]["zone"] == "b"
    assert before["available_skills"] == ["held"]
    assert job_id in busy["current_tasks"]
    assert busy.get("available_skills", []) == []


async def test_the_task_of_a_killed_worker_is_done_by_another(
    own_orchestrator: Callable[..., ProcessService],
) -> None:
    service = own_orchestrator(WORKER_POLL_TIMEOUT_SECONDS="1", JOB_MAX_RETRIES="20")
    victim = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment
        [sys.executable, str(STUCK), service.url, "victim"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        await known(service, "victim")
        job_id = await asked(submit_job, service, "once", {"n": 7}, seconds=1)
        assert victim.stdout is not None
        assert (await asked(victim.stdout.readline)).strip() == "has it"
        # The orchestrator does not think that it could do more.
        await asked(seen_by, lambda: workers(service)["victim"]["status"] == "busy")
    finally:
        victim.kill()
        victim.communicate()

    @task(name="once")
    async def once(params: dict) -> dict:
        return {"by": "the second", **params}

    async with at_work(service.url, once, name="second"):
        found = await asked(ended, service, job_id)
    assert found["status"] == "finished"
    assert found["result"] == {"by": "the second", "n": 7}


async def test_a_worker_that_stops_leaves_nothing_behind(own_orchestrator: Callable[..., ProcessService]) -> None:
    service = own_orchestrator(WORKER_POLL_TIMEOUT_SECONDS="1", JOB_MAX_RETRIES="20")
    begun = asyncio.Event()

    @task(name="left")
    async def never_done(params: dict) -> None:
        begun.set()
        await asyncio.Event().wait()

    @task(name="left")
    async def done(params: dict) -> int:
        return params["n"]

    async with at_work(service.url, done, name="stays", max_concurrent_tasks=1) as second:
        once = {"max_concurrent_tasks": 1, "shutdown_timeout": 0.1, "skill_dependencies": {"left": ["model"]}}
        async with at_work(service.url, never_done, name="stops", **once) as first:
            await known(service, "stops")
            # The orchestrator has them wait for this worker, which is the only one that has it loaded.
            first.hot_cache.add("model")
            async with asyncio.timeout(40):
                while (await asked(workers, service))["stops"].get("hot_skills") != ["left"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            jobs = [await asked(submit_job, service, "left", {"n": number}) for number in range(3)]
            await asyncio.wait_for(begun.wait(), 40)
        assert not second.status().running
        found = [await asked(ended, service, one) for one in jobs]
    assert [one["result"] for one in found] == [{"result": number} for number in range(3)]


async def test_an_orchestrator_that_was_restarted_gets_to_know_its_worker_again(
    own_orchestrator: Callable[..., ProcessService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tranship_avtomatika._member.LOOK", 0.2)
    service = own_orchestrator(WORKER_POLL_TIMEOUT_SECONDS="1")
    async with at_work(service.url, double, name="stays", every=0.3):
        await known(service, "stays")
        await asked(service.kill)
        await asked(service.start)
        await known(service, "stays")
        job_id = await asked(submit_job, service, "double", {"n": 1})
        assert (await asked(ended, service, job_id))["status"] == "finished"


@pytest.mark.parametrize("several", [failover, round_robin])
async def test_several_orchestrators(
    orchestrator_service: Service, own_orchestrator: Callable[..., ProcessService], several: Callable[..., str]
) -> None:
    other = own_orchestrator(WORKER_POLL_TIMEOUT_SECONDS="1")
    # Workers' URLs: nothing can be submitted to these.
    urls = [one.url.partition("?")[0] for one in (orchestrator_service, other)]
    async with at_work(several(*urls), double, name=several.__name__):
        for service in (orchestrator_service, other):
            await known(service, several.__name__)
            job_id = await asked(submit_job, service, "double", {"n": 3})
            assert (await asked(ended, service, job_id))["result"] == {"result": 6}
        # One of them goes; the worker goes on with the other.
        await asked(other.kill)
        job_id = await asked(submit_job, orchestrator_service, "double", {"n": 4})
        assert (await asked(ended, orchestrator_service, job_id))["result"] == {"result": 8}


async def test_individual_and_short_lived_tokens(
    own_orchestrator: Callable[..., ProcessService], tmp_path: Path
) -> None:
    (tmp_path / "workers.toml").write_text('["mine"]\ntoken = "my-own"\n["hourly"]\ntoken = "my-own"\n')
    service = own_orchestrator(WORKERS_CONFIG_PATH=str(tmp_path / "workers.toml"), WORKER_POLL_TIMEOUT_SECONDS="1")
    own = service.url.replace(WORKER_TOKEN, "my-own")
    with pytest.raises(BrokerRefused, match="does not let worker 'mine' in"):
        await asyncio.wait_for(Worker(service.url, tasks=[double], name="mine").serve(), 60)
    for name, url in (("mine", own), ("hourly", f"{own}&sts=true&secret_key=signs-tasks")):
        async with at_work(url, double, name=name):
            await known(service, name)
            job_id = await asked(submit_job, service, "double", {"n": 1})
            assert (await asked(ended, service, job_id))["status"] == "finished"


async def test_tls_and_workers_that_are_known_by_their_certificates(
    own_orchestrator: Callable[..., ProcessService], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    (own, key), (certificate, secret) = authority.issue("orchestrator"), authority.issue("mine")
    service = own_orchestrator(
        TLS_ENABLED="true",
        TLS_CERT_PATH=str(own),
        TLS_KEY_PATH=str(key),
        TLS_CA_PATH=str(authority.certificate),
        WORKER_AUTH_MODE="mtls-only",
        WORKER_POLL_TIMEOUT_SECONDS="1",
    )
    url = f"{service.url}&ca_certs={authority.certificate}"
    for wrong, said in (
        (service.url, "set ca_certs"),
        (url, "does not let worker 'mine' in"),
    ):
        with pytest.raises(BrokerError, match=said):
            await asyncio.wait_for(Worker(wrong, tasks=[double], name="mine").serve(), 60)
    # What it says is signed with its token all the same.
    async with (
        at_work(f"{url}&certfile={certificate}&keyfile={secret}", double, name="mine"),
        AsyncClient(url) as client,
    ):
        await known(service, "mine")
        result = await (await client.submit(named("flow"), skill="double", params={"n": 2})).result(timeout=40)
    assert result == {"result": 4}


async def test_tasks_that_are_not_signed_as_they_should_be_are_not_run(orchestrator_service: Service) -> None:
    runs: list[int] = []

    @task(name="guarded")
    async def guarded(params: dict) -> None:
        runs.append(params["n"])

    async with (
        at_work(f"{orchestrator_service.url}&secret_key=another", guarded, name="guards"),
        AsyncClient(orchestrator_service.url) as client,
    ):
        await known(orchestrator_service, "guards")
        with pytest.raises(TaskFailed) as caught:
            await (await client.submit(named("flow"), skill="guarded", params={"n": 1})).result(timeout=40)
    assert caught.value.code == "JOB_QUARANTINED"
    assert not runs


async def test_a_deadline_is_the_task_s(orchestrator_service: Service) -> None:
    found: list[float | None] = []

    @task(name="dated")
    async def dated(params: dict) -> None:
        found.append(current().deadline)

    async with (
        at_work(orchestrator_service.url, dated, name="dated"),
        AsyncClient(orchestrator_service.url) as client,
    ):
        await known(orchestrator_service, "dated")
        handle = await client.submit(named("flow").options(deadline_in=60), skill="dated")
        assert (await handle.wait(timeout=40)).state is TaskState.SUCCESS
    assert found[0] is not None
    assert 50 < found[0] - time.time() < 62
