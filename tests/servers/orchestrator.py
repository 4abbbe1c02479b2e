"""A real Avtomatika orchestrator: fixtures to import in a conftest, and what a test asks of it by HTTP."""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tranship.testing.services import Launch, Place, ProcessService, Recipe, Service

APP = Path(__file__).with_name("orchestrator_app.py")
CLIENT_TOKEN, WORKER_TOKEN = "a-client", "the-workers"
USUAL = {
    "CLIENT_TOKEN": CLIENT_TOKEN,
    "GLOBAL_WORKER_TOKEN": WORKER_TOKEN,
    "ORCHESTRATOR_SECRET_KEY": "signs-tasks",
    "RATE_LIMITING_ENABLED": "false",
    "WORKER_POLL_TIMEOUT_SECONDS": "2",
    "WORKER_HEALTH_CHECK_INTERVAL_SECONDS": "15",
    "WATCHER_INTERVAL_SECONDS": "1",
    "LOG_FORMAT": "text",
}


def orchestrator_recipe(**variables: str) -> Recipe:
    """Return how to start one, with variables that win over the usual ones."""

    scheme = "https" if "TLS_ENABLED" in variables else "http"

    def launch(binary: str, place: Place) -> Launch:
        own = {"API_HOST": place.host, "API_PORT": str(place.port), "TASK_FILES_DIR": str(place.directory)}
        return Launch(command=[binary, str(APP)], environ={**USUAL, **own, **variables})

    return Recipe(
        name="orchestrator",
        binaries=[sys.executable],
        url=lambda place: (
            f"avtomatika+{scheme}://:{WORKER_TOKEN}@{place.host}:{place.port}?client_token={CLIENT_TOKEN}"
        ),
        launch=launch,
        ready=lambda place: _ask(f"{scheme}://{place.host}:{place.port}/_public/status") == {"status": "ok"},
        start_timeout=60,
    )


@pytest.fixture(scope="session")
def orchestrator_service() -> Iterator[Service]:
    """One that tests share: it is neither harmed nor restarted."""
    with ProcessService(orchestrator_recipe()) as service:
        yield service


@pytest.fixture
def own_orchestrator() -> Iterator[Callable[..., ProcessService]]:
    """Start one for this test alone: ``own_orchestrator(WORKER_TIMEOUT_SECONDS="3")``."""
    started: list[ProcessService] = []

    def start(**variables: str) -> ProcessService:
        started.append(ProcessService(orchestrator_recipe(**variables)))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close()


def base(service: Service) -> str:
    """Return where it is, for who speaks HTTP."""
    scheme, _, rest = service.url.removeprefix("avtomatika+").partition("://")
    return f"{scheme}://{rest.partition('@')[2].partition('?')[0]}"


def submit_job(service: Service, skill: str, params: Mapping[str, Any] | None = None, **more: Any) -> str:
    """Submit a job of one task as any other client would; return its id."""
    body = {"initial_data": {"skill": skill, "params": params or {}, **more}}
    answer = _ask(f"{base(service)}/api/v1/jobs/flow", "POST", body)
    return str(answer["job_id"])


def job(service: Service, job_id: str) -> Any:
    """Return what the orchestrator says of a job."""
    return _ask(f"{base(service)}/api/v1/jobs/{job_id}")


def cancel_job(service: Service, job_id: str) -> None:
    _ask(f"{base(service)}/api/v1/jobs/{job_id}/cancel", "POST")


def workers(service: Service) -> dict[str, Any]:
    """Return the workers that it knows, by name."""
    return {one["worker_id"]: one for one in _ask(f"{base(service)}/api/v1/workers")}


def ended(service: Service, job_id: str, within: float = 60.0) -> Any:
    """Return what it says of a job that has ended."""
    return until(lambda: found if (found := job(service, job_id))["status"] in ENDED else None, within)


ENDED = ("finished", "failed", "error", "quarantined", "cancelled")


def until(look: Callable[[], Any], within: float = 60.0) -> Any:
    """Return the first of what ``look`` returns that is true."""
    give_up = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.05)
    return found


def _ask(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Client-Token": CLIENT_TOKEN}
    # Past any proxy of the environment, and whoever it says that it is: it is on this machine.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    https = urllib.request.HTTPSHandler(context=trusting)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
    try:
        with direct.open(urllib.request.Request(url, data=data, method=method, headers=headers), timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.code} {error.read().decode()}") from error
