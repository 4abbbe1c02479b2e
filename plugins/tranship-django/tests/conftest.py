"""The project ``shop``, set up once in a process, with a folder of its own; and its worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import django
import pytest
from django.core.management import call_command
from django.db import connections

from tranship import Worker
from tranship_django.workers import worker_of


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the database and of the broker; the tables are there."""
    folder = tmp_path_factory.mktemp("shop")
    # For no longer than that: Celery, in other tests of this process, goes by it too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_FOLDER", str(folder))
        patch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    connections.close_all()
    return folder


@pytest.fixture
def make_worker(project: Path) -> Iterator[Callable[..., Worker]]:
    """Make the project's worker anew: one that has worked is not used twice."""

    def make(alias: str = "default") -> Worker:
        worker_of.cache_clear()
        return worker_of(alias).replace(max_concurrent_tasks=1)

    yield make
    worker_of.cache_clear()
    connections.close_all()
