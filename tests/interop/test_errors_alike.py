"""An error looks the same to a Celery client, whichever kind of worker it comes from; and to a client of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from interop.celery_client import Answer, CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import TASKS, refuse
from interop.workers import CeleryWorker
from tranship.errors import TaskFailed
from tranship.testing.background import BackgroundWorker


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq-redis", marks=pytest.mark.campaign)])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    """Where anybody can read a result."""
    return make_site(request.param)


@pytest.fixture(scope="module", autouse=True)
def workers(site: Site, folder, runs) -> Iterator[None]:
    """One of each kind; only in processes of its own does Celery limit and terminate tasks."""
    theirs = CeleryWorker(site.url, folder, queue="theirs", pool="prefork", concurrency=4, **site.config)
    with theirs, BackgroundWorker(site.worker(TASKS, queues=["ours"], max_concurrent_tasks=10)):
        yield


@pytest.fixture
def both(celery: CeleryClient) -> Callable[..., list[str]]:
    """Send a task to both; return their ids, Celery's first."""
    return lambda name, *args, **options: [
        celery.send(name, *args, **options, queue=queue) for queue in ("theirs", "ours")
    ]


@pytest.fixture
def alike(celery: CeleryClient) -> Callable[[list[str]], Answer]:
    """Give what the client sees of both, which is the same."""

    def compare(ids: list[str]) -> Answer:
        theirs, ours = celery.get_many(ids)
        assert seen(ours) == seen(theirs)
        return ours

    return compare


def seen(answer: Answer) -> tuple[object, ...]:
    """All of it but where it was raised."""
    return answer.state, answer.error, answer.text, answer.args, answer.ours


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_arguments_arrive_apart(both, alike, serializer):
    answer = alike(both("refuse", "two", serializer=serializer))
    assert (answer.state, answer.error, answer.args) == ("FAILURE", "interop.problems.Refused", ("user", 7))
    assert answer.ours, "the client finds our class, which takes two arguments"


@pytest.mark.parametrize(
    ("how", "error", "args"),
    [
        ("key", "builtins.KeyError", ("user", 7)),
        ("nested", "interop.problems.Printer.Jam", ("tray", 2)),
        ("odd", "builtins.ValueError", ("{1}", None)),
        ("reject", "celery.exceptions.Reject", ("tray 2", False)),
    ],
)
def test_errors_of_many_kinds(both, alike, how, error, args):
    answer = alike(both("refuse", how))
    assert (answer.state, answer.error, answer.args) == ("FAILURE", error, args)


def test_a_cause_is_told(celery: CeleryClient, both):
    for answer in celery.get_many(both("refuse", "caused")):
        assert (answer.error, answer.args) == ("interop.problems.Refused", ("user", 7))
        assert "OutOfPaper: tray 2\n\nThe above exception was the direct cause" in (answer.traceback or "")


def test_what_the_last_attempt_failed_of(both, alike):
    answer = alike(both("doomed"))
    assert (answer.state, answer.error, answer.args) == ("FAILURE", "interop.problems.Refused", ("user", 1))


def test_an_unknown_task(celery: CeleryClient, alike):
    answer = alike([celery.send_unknown("interop.nowhere", queue=queue) for queue in ("theirs", "ours")])
    assert (answer.error, answer.args) == ("celery.exceptions.NotRegistered", ("interop.nowhere",))


def test_wrong_arguments(celery: CeleryClient, both):
    theirs, ours = celery.get_many(both("echo"))
    assert (ours.state, ours.error) == (theirs.state, theirs.error) == ("FAILURE", "builtins.TypeError")
    assert "'value'" in ours.text
    assert "'value'" in theirs.text


def test_a_time_limit(both, alike):
    answer = alike(both("slow", 30, time_limit=1))
    assert (answer.state, answer.error, answer.args) == ("FAILURE", "billiard.exceptions.TimeLimitExceeded", (1,))


def test_expired(both, alike):
    answer = alike(both("count", 1, countdown=0.5, expires=0.2))
    assert (answer.state, answer.error, answer.args) == ("REVOKED", "celery.exceptions.TaskRevokedError", ("expired",))


def test_revoked_before_it_starts(celery: CeleryClient, both, alike):
    ids = both("count", 1, countdown=0.8)
    for task_id in ids:
        celery.revoke(task_id)
    answer = alike(ids)
    assert (answer.state, answer.error, answer.args) == ("REVOKED", "celery.exceptions.TaskRevokedError", ("revoked",))


def test_terminated(celery: CeleryClient, both, alike, runs):
    ids = both("slow", 30)
    until(lambda: {run.id for run in read(runs)}.issuperset(ids), "both run")
    for task_id in ids:
        celery.revoke(task_id, terminate=True)
    answer = alike(ids)
    assert (answer.state, answer.error) == ("REVOKED", "celery.exceptions.TaskRevokedError")
    assert answer.args == ("terminated",)


@pytest.mark.parametrize("queue", ["theirs", "ours"])
def test_a_client_of_ours_has_the_arguments(site: Site, queue):
    with site.client() as client:
        handles = client.submit_many(refuse.options(queue=queue).call(how) for how in ("two", "key"))
        for handle, kind in zip(handles, ("interop.problems.Refused", "builtins.KeyError"), strict=True):
            with pytest.raises(TaskFailed) as failed:
                handle.result(timeout=10)
            assert (failed.value.type, failed.value.arguments) == (kind, ("user", 7))
            assert str(failed.value) == "('user', 7)"
