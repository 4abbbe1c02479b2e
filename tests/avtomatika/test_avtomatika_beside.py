"""One worker's code under the published SDK and under ours, at one orchestrator: it hears the same of both.

The SDK and the orchestrator want different versions of orjson, and have an environment each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from documents._published import UNREACHABLE
from servers.orchestrator import (
    WORKER_TOKEN,
    base,
    ended,
    orchestrator_service,  # noqa: F401 - a fixture
    submit_job,
    until,
    workers,
)
from tranship.testing.services import Service

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

PACKAGE = "avtomatika-worker==1.0b20"
CODE = """
import sys
from {package} import Worker

worker = Worker(worker_type="same", max_concurrent_tasks=1, skill_dependencies={{"good": ["model"]}})
runs = []

@worker.skill("good")
async def good(params: dict, **kwargs):
    kwargs["add_to_hot_skills"]("model")
    assert kwargs["task_id"] and kwargs["job_id"]
    return {{"status": "success", "data": {{"doubled": params["n"] * 2}}}}

@worker.skill("review")
async def review(params: dict):
    return {{"status": "needs_review", "data": {{"n": params["n"]}}}}

@worker.skill("permanent")
async def permanent(params: dict):
    return {{"status": "failure", "error": {{"code": "PERMANENT_ERROR", "message": "never"}}}}

@worker.skill("flaky")
async def flaky(params: dict):
    runs.append(params)
    if len(runs) < 3:
        return {{"status": "failure", "error": {{"code": "TRANSIENT_ERROR", "message": "not yet"}}}}
    return {{"status": "success", "data": {{"runs": len(runs)}}}}

@worker.skill("unhandled")
def unhandled(params: dict):
    return {{"status": "nobody-has-this", "data": {{}}}}

worker.run()
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the SDK."""
    place = tmp_path_factory.mktemp("sdk")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = place / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1", PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode and UNREACHABLE in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip()[-200:]}")
    assert not done.returncode, done.stderr
    return str(python)


@contextmanager
def at_work(service: Service, python: str, package: str, folder: Path) -> Iterator[Any]:
    """The worker, as a process; yields what the orchestrator knows of it."""
    name = package.replace(".", "-")
    script = folder / f"of-{name}.py"
    script.write_text(CODE.format(package=package))
    told = {
        "ORCHESTRATOR_URL": base(service),
        "WORKER_TOKEN": WORKER_TOKEN,
        "WORKER_ID": name,
        "HEARTBEAT_INTERVAL": "1",
    }
    with subprocess.Popen([python, script], env={**os.environ, **told}, cwd=folder) as process:
        try:
            yield until(lambda: one if (one := workers(service).get(name, {})).get("status") == "idle" else None)
        finally:
            process.terminate()
            process.wait(60)


def outcomes(service: Service) -> dict[str, Any]:
    """Return how a job of each kind ends, one after the other."""
    found = {}
    for skill in ("good", "review", "permanent", "flaky", "unhandled"):
        one = ended(service, submit_job(service, skill, {"n": 21}))
        found[skill] = one["status"], one.get("result")
    return found


def test_the_orchestrator_hears_the_same(
    orchestrator_service: Service,  # noqa: F811
    published: str,
    tmp_path: Path,
) -> None:
    with at_work(orchestrator_service, published, "avtomatika_worker", tmp_path) as theirs:
        expected = outcomes(orchestrator_service)
        hot = until(lambda: workers(orchestrator_service)["avtomatika_worker"].get("hot_skills"))
    with at_work(orchestrator_service, sys.executable, "tranship.compat.avtomatika", tmp_path) as ours:
        assert outcomes(orchestrator_service) == expected
        assert until(lambda: workers(orchestrator_service)["tranship-compat-avtomatika"].get("hot_skills")) == hot
    assert expected["good"] == ("finished", {"doubled": 42})
    assert expected["flaky"] == ("finished", {"runs": 3})
    for part in ("worker_type", "status"):
        assert ours[part] == theirs[part]
    for part in ("supported_skills", "available_skills"):
        names = [sorted(one["name"] if isinstance(one, dict) else one for one in side[part]) for side in (ours, theirs)]
        assert names[0] == names[1]
