"""``manage.py tranship``, typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MANAGE = Path(__file__).with_name("manage.py")


def manage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # From elsewhere: the project's modules are beside manage.py, and not here.
    command = [sys.executable, str(MANAGE), "tranship", *arguments]
    environ = {**os.environ, "SHOP_FOLDER": str(folder)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["one", "processes"])
def test_the_worker_runs_the_projects_tasks(project: Path, options: tuple[str, ...]) -> None:
    from shop.tasks import add, fail

    done, failed = add.enqueue(20, 22), fail.enqueue("no")
    ran = manage(project, "worker", "--burst", *options, "--settings", "shop.settings")
    assert ran.returncode == 0, ran.stderr
    assert add.get_result(done.id).return_value == 42
    assert fail.get_result(failed.id).errors[0].exception_class is ValueError


def test_other_commands_know_the_projects_broker(project: Path) -> None:
    from shop.tasks import add

    result = add.enqueue(1, 1)
    shown = manage(project, "result", result.id, "--json")
    assert "PENDING" in shown.stdout, shown.stderr
    assert manage(project, "worker", "--burst").returncode == 0


def test_a_backend_that_is_not_there_is_named(project: Path) -> None:
    refused = manage(project, "worker", "--backend", "nobody")
    assert refused.returncode == 1
    assert "TASKS['nobody'] is no backend of tranship_django.TranshipBackend" in refused.stderr
    assert "Traceback" not in refused.stderr
