"""Workers that were written for the SDK, with a real orchestrator: nothing but the import is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_avtomatika_document import BLOCKS, QUICK_START, TRANSIENT, handler_of

from documents._blocks import write_script
from servers.orchestrator import (  # the first two are fixtures
    WORKER_TOKEN,
    base,
    ended,
    orchestrator_service,  # noqa: F401
    own_orchestrator,  # noqa: F401
    submit_job,
    until,
    workers,
)
from tranship.compat.avtomatika import Worker
from tranship.testing.background import BackgroundWorker
from tranship.testing.services import ProcessService, Service

pytestmark = pytest.mark.xdist_group("orchestrator-of-the-sdk")


@pytest.fixture
def environ(orchestrator_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What the SDK's users set."""
    monkeypatch.setenv("ORCHESTRATOR_URL", base(orchestrator_service))
    monkeypatch.setenv("WORKER_TOKEN", WORKER_TOKEN)
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEY", "signs-tasks")
    monkeypatch.setenv("HEARTBEAT_INTERVAL", "1")


def known(service: Service, name: str) -> None:
    until(lambda: workers(service).get(name, {}).get("status") == "idle")


@pytest.mark.usefixtures("environ")
def test_the_document_s_worker_does_an_orchestrator_s_job(tmp_path: Path, orchestrator_service: Service) -> None:  # noqa: F811
    script = write_script(BLOCKS[QUICK_START], tmp_path)
    own = {**os.environ, "WORKER_ID": "resizer-1", "WORKER_PORT": "0"}
    with subprocess.Popen([sys.executable, script], env=own, stdout=subprocess.PIPE, text=True) as process:
        try:
            known(orchestrator_service, "resizer-1")
            job_id = submit_job(orchestrator_service, "resize_image", {"filename": "a.png"})
            found = ended(orchestrator_service, job_id)
            process.terminate()
            printed, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert found["status"] == "finished"
    assert found["result"] == {"resized_path": "/path/to/resized_a.png"}
    assert f"(Job: {job_id}): resizing image..." in printed
    assert "Parameters: {'filename': 'a.png'}" in printed


@pytest.mark.usefixtures("environ")
def test_statuses_errors_and_capacity(
    orchestrator_service: Service,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_ID", "several")
    calls: list[str] = []
    worker = Worker(capacity_checker=lambda _skill: calls.append("asked") or len(calls) > 1)
    worker.task("transient")(handler_of(TRANSIENT))

    @worker.task("review")
    async def review(params: dict, **kwargs):
        await kwargs["send_progress"](kwargs["task_id"], kwargs["job_id"], 0.5, "half")
        return {"status": "needs_review", "data": {"checked": params["n"]}}

    with BackgroundWorker(worker.worker()):
        known(orchestrator_service, "several")
        # There is no capacity the first time: the task stays here, and comes again.
        found = ended(orchestrator_service, submit_job(orchestrator_service, "review", {"n": 7}))
        assert (found["status"], found["result"]) == ("finished", {"checked": 7, "reviewed": True})
        assert len(calls) >= 2
        # Tried four times by the orchestrator, then put aside for people.
        assert ended(orchestrator_service, submit_job(orchestrator_service, "transient"))["status"] == "quarantined"


def test_several_orchestrators_by_the_sdk_s_variable(
    orchestrator_service: Service,  # noqa: F811
    own_orchestrator: Callable[..., ProcessService],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = own_orchestrator(GLOBAL_WORKER_TOKEN="of the other", WORKER_POLL_TIMEOUT_SECONDS="1")
    listed = [
        {"url": base(orchestrator_service), "weight": 100},
        {"url": base(other), "weight": 100, "token": "of the other"},
    ]
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", json.dumps(listed))
    monkeypatch.setenv("MULTI_ORCHESTRATOR_MODE", "ROUND_ROBIN")
    monkeypatch.setenv("WORKER_TOKEN", WORKER_TOKEN)
    monkeypatch.setenv("WORKER_ID", "of-two")
    monkeypatch.setenv("HEARTBEAT_INTERVAL", "1")
    worker = Worker()
    worker.task("double")(lambda params: {"status": "success", "data": {"doubled": params["n"] * 2}})
    with BackgroundWorker(worker.worker()):
        for service in (orchestrator_service, other):
            known(service, "of-two")
            assert ended(service, submit_job(service, "double", {"n": 4}))["result"] == {"doubled": 8}
