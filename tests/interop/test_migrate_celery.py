"""``tranship migrate celery`` reads a real Celery app, and the skeleton it prints runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

APP = """
from celery import Celery, Task
from celery.schedules import BaseSchedule, crontab
from celery.signals import task_prerun


class Tide(BaseSchedule):
    pass


app = Celery("shop", broker="redis://:secret@localhost:1/0", backend="redis://localhost:1/1", include=["shop_more"])
app.conf.update(
    task_routes={"shop.resize": {"queue": "media"}, "shop.sent": {"exchange": "x"}},
    accept_content=["json", "pickle"],
    task_queue_max_priority=10,
    worker_concurrency=4,
    task_annotations={"shop.class": {"rate_limit": "1/s"}},
    timezone="Europe/Berlin",
    beat_schedule={
        "nightly": {"task": "shop.add", "schedule": crontab(minute=0, hour="3,4"), "args": (1,), "kwargs": {"b": 2}},
        "often": {"task": "shop.add", "schedule": 30.0},
        "sunset": {"task": "shop.add", "schedule": Tide()},
    },
)


@task_prerun.connect
def prerun(**_):
    pass


class Noisy(Task):
    def on_failure(self, *args):
        pass


@app.task(name="shop.add", acks_late=True, reject_on_worker_lost=True)
def add(a, b=2, *rest, c=None, **more):
    return [a, b, *rest, c, more]


@app.task(bind=True, name="shop.resize", time_limit=30, autoretry_for=(ConnectionError,), retry_backoff=2, max_retries=5)
def resize(self, uri, *, size=()):
    return self.update_state(state=self.request.retries)


@app.task(bind=True, name="shop.charge", max_retries=None, base=Noisy, rate_limit="10/m", queue="money")
def charge(self, order):
    raise self.retry(countdown=3)


@app.task(name="shop.class", ignore_result=True, serializer="pickle", expires=60, soft_time_limit=5)
def klass(x: int = 3):
    return x
"""
MORE = """
from celery import shared_task


@shared_task(name="more.add")
def add():
    return "more"
"""
RUN = """
import shop_tasks
from tranship import Client, Worker
from tranship.task import Task

tasks = [one for one in vars(shop_tasks).values() if isinstance(one, Task)]
with Client("memory://") as client:
    handles = [client.submit(shop_tasks.shop_add, 1, 2, 3, c=4, d=5), client.submit(shop_tasks.more_add)]
    failed = client.submit(shop_tasks.charge, "A1")
    Worker("memory://", tasks=tasks).run_until_idle()
    print([handle.result(timeout=10) for handle in handles], failed.wait(timeout=10).error.message)
    print(shop_tasks.resize.options_set.retry)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an app, where commands run."""
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(APP)
    (directory / "shop_more.py").write_text(MORE)
    (directory / "number.py").write_text("app = 7\n")
    (directory / "broken.py").write_text("import nowhere_to_be_found\n")
    return directory


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60, check=False)


def migrate(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(place, sys.executable, "-m", "tranship", "migrate", "celery", *words)


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    done = migrate(place, "shop:app", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def notes(found: dict[str, Any], which: str) -> dict[str, str]:
    return {note["text"]: note["about"] for note in found[which]}


def test_the_tasks_are_those_of_all_modules_with_their_queues(found):
    queues = {task["name"]: task["queue"] for task in found["tasks"]}
    expected = {"shop.add": "celery", "shop.resize": "media", "shop.charge": "money", "shop.class": "celery"}
    assert queues == {**expected, "more.add": "celery"}


def test_what_works_is_said(found):
    said = notes(found, "works")
    assert said["runs as it is, on queue 'celery'"] == "shop.add"
    assert "tranship worker MODULE --queues celery,media,money --concurrency 4" in said
    assert "the same for tasks that are submitted by name: task_routes = 'shop.resize=media'" in said
    assert any("every 30 s" in text for text in said)
    assert any("cron 0 3,4 * * * (Europe/Berlin)" in text for text in said)


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ("accept_content", "pickle is never read here"),
        ("task_routes", "functions, regular expressions and exchanges"),
        ("task_queue_max_priority", "max_priority=10"),
        ("shop.class", "rate_limit '1/s'"),
        ("signals", "task_prerun"),
        ("schedule sunset", "by a Tide"),
        ("shop.resize", "self.update_state has no equal"),
        ("shop.resize", "self.request.retries is current().attempt"),
        ("shop.charge", "self.retry is raise Retry"),
        ("shop.charge", "retried without end"),
        ("shop.charge", "on_failure of its class"),
        ("shop.charge", "rate_limit '10/m'"),
        ("shop.class", "serializer 'pickle'"),
        ("shop.class", "soft_time_limit"),
        ("more.add, shop.charge, shop.class, shop.resize", "acks_late is off"),
    ],
)
def test_what_differs_is_said(found, about, text):
    assert [note for note in found["differs"] if note["about"] == about and text in note["text"]]


def test_no_password_is_shown(found):
    assert "secret" not in json.dumps(found)


def test_the_skeleton_runs(place, found):
    done = migrate(place, "shop", "--output", "shop_tasks.py")
    assert done.returncode == 0, done.stderr
    assert (place / "shop_tasks.py").read_text() == found["skeleton"]
    assert "differs" in done.stdout
    assert "tranship worker shop_tasks" in done.stderr
    ran = run(place, sys.executable, "-c", RUN)
    assert ran.returncode == 0, ran.stderr
    values, policy = ran.stdout.splitlines()
    assert values.startswith("[[1, 2, 3, 4, {'d': 5}], 'more'] move the body from shop here"), ran.stderr
    assert "max_attempts=6" in policy
    assert "initial=2" in policy
    again = migrate(place, "shop:app", "-o", "shop_tasks.py")
    assert (again.returncode, again.stdout) == (2, "")
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("number:app", "number:app is 7; expected a Celery app"),
        ("shop:nothing", "'shop' has no 'nothing'"),
        ("nowhere:app", "nowhere"),
        ("broken:app", "nowhere_to_be_found"),
    ],
)
def test_what_is_no_app_is_an_error_in_one_line(place, target, said):
    done = migrate(place, target)
    assert (done.returncode in (1, 2), done.stdout) == (True, "")
    assert said in done.stderr
    assert done.stderr.startswith("error: ")


def test_without_celery_it_is_said_where_to_run_it(place):
    hidden = "import sys; sys.modules['celery'] = None; from tranship.cli import main; main()"
    done = run(place, sys.executable, "-c", hidden, "migrate", "celery", "shop:app")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Celery is not installed here" in done.stderr
