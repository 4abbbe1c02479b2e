"""One port for `--processes N`: what each process counts, with its number; alive and ready as they all are."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import finish, ran, started, until, url_of
from prometheus_client.parser import text_string_to_metric_families

from tranship import Client, named
from tranship.cli._family_health import together

APP = """
import os
from tranship import Worker, task

@task
def pid() -> int:
    return os.getpid()

worker = Worker(tasks=[pid])
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def ready(port: int) -> dict[str, dict]:
    """The processes that are ready, by number."""
    try:
        facts = json.loads(get(port, "/ready")[1])
    except OSError:
        return {}
    return {number: one for number, one in facts["processes"].items() if one["ready"]}


def counted(port: int) -> dict[str, float]:
    """Tasks that succeeded, by process."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {
        one.labels["process"]: one.value
        for family in families
        for one in family.samples
        if one.name == "tranship_tasks_total"
        and one.labels["outcome"] == "succeeded"
        and one.labels["task"] == "app.pid"
    }


def test_what_all_processes_count_is_on_one_port(tmp_path: Path, port: int) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = ["worker", "app", "--processes", "2", "-c", "1", "--health-port", str(port)]
    with Client(url_of(tmp_path)) as client, started(command, tmp_path) as process:
        until(lambda: len(ready(port)) == 2, 40)
        assert get(port, "/live")[0] == 200
        handles = client.submit_many(named("app.pid").call() for _ in range(40))
        victim = {handle.result(timeout=20) for handle in handles}.pop()
        until(lambda: sum(counted(port).values()) == 40)
        text = get(port, "/metrics")[1]
        assert text.count("# TYPE tranship_tasks_total counter") == 1
        assert "tranship_worker_processes 2" in text

        os.kill(victim, signal.SIGSTOP)
        code, said = get(port, "/live")
        assert code == 503
        assert sorted(json.loads(said)["processes"].values()) == [False, True]
        assert get(port, "/ready")[0] == 200  # the other one works
        os.kill(victim, signal.SIGKILL)
        # What it had counted ends with it.
        until(lambda: len(json.loads(get(port, "/live")[1])["processes"]) == 1 or len(ready(port)) == 2, 40)
        assert sum(counted(port).values()) < 40
        process.terminate()
        code, _, err = finish(process)
    assert code == 0, err
    assert err.count(f"health checks are answered on http://127.0.0.1:{port}") == 1


def test_a_port_that_is_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        code, out, err = ran(["worker", "app", "--processes", "2", "--health-port", number], tmp_path)
        assert (code, out) == (2, "")
        assert "error: health checks cannot be answered on port" in err
        # The worker's module alone knows of it.
        text = APP.replace("Worker(tasks", f"Worker(settings=Settings.load(health_port={number}), tasks")
        (tmp_path / "app.py").write_text("from tranship.settings import Settings\n" + text)
        code, out, err = ran(["worker", "app:worker", "--processes", "2"], tmp_path)
        assert (code, out) == (2, "")
        assert "error: health checks cannot be answered on port" in err


def test_families_are_told_once_with_the_samples_of_all() -> None:
    one = '# HELP a A.\n# TYPE a counter\na{task="x{y} z"} 1\na{task="b"} 2\n# HELP c C.\n# TYPE c gauge\nc 1.0\n'
    two = '# HELP c C.\n# TYPE c gauge\nc 0.0\n# HELP a A.\n# TYPE a counter\na{task="b"} 3\n'
    assert together({1: one, 3: two}).splitlines() == [
        "# HELP a A.",
        "# TYPE a counter",
        'a{process="1",task="x{y} z"} 1',
        'a{process="1",task="b"} 2',
        'a{process="3",task="b"} 3',
        "# HELP c C.",
        "# TYPE c gauge",
        'c{process="1"} 1.0',
        'c{process="3"} 0.0',
    ]
