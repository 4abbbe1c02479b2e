"""Two Celery workers and two tranship workers on the same queues while all are killed, beside four Celery workers."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interop.celery_config import celery_config
from interop.mixed.fleet import Place
from interop.mixed.report import Report, run_fleet
from interop.sites import Site

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(7200)]

VISIBILITY = 10.0
"""Celery's visibility timeout, which is an hour by default: short, for what died comes back after it."""
LEASE = 4.0
"""Seconds: tranship's, which has to be well below it."""
STALL = 60.0
"""Seconds without an end after which what is left is taken for lost, on RabbitMQ, which gives back at once."""
STALL_ON_REDIS = 330.0
"""There no Celery worker gives anything back for 300 s when the one is killed that was about to (``unacked_mutex``)."""
CONTROL = ("celery",) * 4
MIXED = ("celery", "celery", "tranship", "tranship")


@pytest.fixture
def amount() -> int:
    """How many canvases; the nox session ``mixed-fleet`` says it."""
    return int(os.environ.get("TRANSHIP_TEST_MIXED_FLEET") or 50)


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("TRANSHIP_TEST_MIXED_FLEET_SEED") or secrets.randbelow(10**9))


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print whatever pytest captures: the figures are what this is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return line


@pytest.fixture(scope="module", params=["redis", "rabbitmq-redis"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    """Redis; and RabbitMQ with results in Redis, where Celery can count the members of a chord."""
    return make_site(request.param)


def place(site: Site, name: str, folder: Path) -> Place:
    """What the workers of one fleet are told."""
    options: dict[str, Any] = {}
    url = site.url
    if site.on_redis:
        # Celery looks every second for what has come back, instead of every 100, so that the end is not waited for.
        often = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
        options = {"broker_transport_options": {"visibility_timeout": VISIBILITY, **often}}
        url = site.with_options(lease=f"{LEASE:g}", visibility_timeout=f"{VISIBILITY:g}")
    environ = {"TRANSHIP_BROKER_URL": url, **site.environ}
    return Place(name, folder, environ, celery_config(site.url, **site.config, **options))


def test_a_mixed_fleet_loses_nothing_and_ends_as_much_as_celery_alone(
    site: Site, amount: int, seed: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    def run(name: str, kinds: tuple[str, ...]) -> Report:
        site.redis.flushdb()
        where, stall = place(site, name, tmp_path), STALL_ON_REDIS if site.on_redis else STALL
        report = run_fleet(kinds, amount, where, site.left, seed=seed, pause=(1.5, 4.0), stall=stall)
        tell(str(report))
        return report

    tell(f"{amount:,} canvases, seed {seed}")
    control, mixed = run("control", CONTROL), run("mixed", MIXED)
    assert control.kills
    assert mixed.kills
    assert mixed.runs["tranship"]
    assert mixed.runs["celery"]
    assert not mixed.lost["tranship"], "what a tranship worker held was lost"
    # A Celery worker on Redis waits with BRPOP: killed meanwhile, it may take one message with it.
    assert mixed.lost["nobody"] <= (mixed.kills["celery"] if site.on_redis else 0), "what was sent was lost"
    assert not mixed.failures, "canvases have ended otherwise than they should"
    assert mixed.well >= control.well, "fewer canvases have ended well than with Celery alone"
    assert mixed.emptied is not None, "somebody holds messages after all has ended"
    assert not mixed.unexplained, "tasks ran again, and nothing says why"
