"""Workflows of ours run on a real Celery worker, alone and beside one of ours, and end as Celery's own do.

Each is sent twice to the same queue: by our client, and as Celery's canvas by a Celery client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop import tranship_app as ours
from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import SITES, Site
from interop.workers import CeleryWorker
from tranship import Client, TaskState, Workflow, gather, named
from tranship.errors import TaskCancelled, TaskFailed, UnsupportedError
from tranship.task import Task
from tranship.testing.background import BackgroundWorker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ALONE, MIXED = "alone", "mixed"
PATIENCE = 20

Make = Callable[[str], Workflow[Any]]


@pytest.fixture(scope="module", params=[*SITES[:2], pytest.param(SITES[2], marks=pytest.mark.campaign)])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture(scope="module", autouse=True)
def theirs(site: Site, folder) -> Iterator[CeleryWorker]:
    with CeleryWorker(site.url, folder, queue=f"{ALONE},{MIXED}", **site.config) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def beside(site: Site, runs) -> Iterator[None]:
    with BackgroundWorker(site.worker(ours.TASKS, queues=[MIXED], max_concurrent_tasks=10)):
        yield


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Client]:
    with site.client() as client:
        yield client


def on(queue: str, task: Task[..., Any]) -> Task[..., Any]:
    """The task on a queue, known by its name alone: its arguments are Celery's business."""
    return named(task.name, queue=queue)


def two_steps(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    return add.call(1, 2).then(add, 3)


def immutable(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    return add.call(1, 2).then(add.call(5, 5)).then(add, 1)


def ends_in_a_group(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    return add.call(1, 1).then(gather([add.step(1), add.step(2)]))


def a_step_that_retries(queue: str) -> Workflow[Any]:
    return on(queue, ours.flaky).call(2).then(on(queue, ours.add), 3)


def failing_step(queue: str) -> Workflow[Any]:
    add, fail = on(queue, ours.add), on(queue, ours.fail)
    return add.call(1, 2).then(fail.call("tray 2")).then(add, 3).then(add, 4)


def a_chord(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    return gather(add.call(at, at) for at in range(10)).then(on(queue, ours.echo))


def chord_in_a_chain(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    members = gather([add.step(1), add.step(2)])
    return add.call(1, 1).then(members).then(on(queue, ours.total)).then(add, 100)


def two_chords(queue: str) -> Workflow[Any]:
    add, total = on(queue, ours.add), on(queue, ours.total)
    first = add.call(0, 0).then(gather([add.step(1), add.step(2)])).then(total)
    return first.then(gather([add.step(10), add.step(20)])).then(total).then(add, 1000)


def chains_in_a_header(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    members = [add.call(1, 1).then(add, 1), add.call(5, 5), add.call(2, 2).then(add, 2)]
    return gather(members).then(on(queue, ours.echo))


def chord_in_a_header(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    inner = gather([add.call(1, 1), add.call(2, 2)]).then(on(queue, ours.total))
    return gather([inner, add.call(3, 3)]).then(on(queue, ours.echo))


SIMPLE: list[Make] = [two_steps, immutable, ends_in_a_group, a_step_that_retries, failing_step]
CHORDS: list[Make] = [a_chord, chord_in_a_chain, two_chords, chains_in_a_header, chord_in_a_header]
ALWAYS = {"ends_in_a_group", "failing_step", "two_chords", "chord_in_a_header"}
"""The others in the campaign."""


QUEUES = [ALONE, pytest.param(MIXED, marks=pytest.mark.campaign)]


def chosen(makes: list[Make]) -> list[Any]:
    return [
        pytest.param(one, marks=() if one.__name__ in ALWAYS else pytest.mark.campaign, id=one.__name__)
        for one in makes
    ]


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("make", chosen(SIMPLE))
def test_ends_as_of_celery(client, celery: CeleryClient, site: Site, make, queue):
    compare(client, celery, site, make, queue)


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("make", chosen(CHORDS))
def test_what_follows_a_gathering(client, celery: CeleryClient, site: Site, make, queue):
    if not site.shared:
        with pytest.raises(UnsupportedError, match=r"cannot count the members of a gathering.*result_url"):
            client.submit(make(queue))
        return
    compare(client, celery, site, make, queue)


def compare(client: Client, celery: CeleryClient, site: Site, make: Make, queue: str, within: float = PATIENCE) -> None:
    mark = f"{site.name}-{make.__name__}-{queue}-theirs"
    expected = celery.canvas(make.__name__, queue, mark, within)["ended"]
    handle = client.submit(make(queue))
    try:
        found = ["value", handle.result(within)]
    except TaskFailed as error:
        found = ["error", error.error_type, str(error)]
    assert found == expected
    assert handle.state() is (TaskState.SUCCESS if found[0] == "value" else TaskState.FAILURE)


def ten_thousand_members(queue: str) -> Workflow[Any]:
    add = on(queue, ours.add)
    return gather(add.call(at, 1) for at in range(10_000)).then(on(queue, ours.total))


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("queue", [ALONE, MIXED])
def test_large_gatherings(client, celery: CeleryClient, site: Site, queue):
    if not site.shared:
        pytest.skip("nothing counts there")
    compare(client, celery, site, ten_thousand_members, queue, within=250.0)


@pytest.mark.parametrize("queue", [ALONE, MIXED])
def test_lists_in_lists(client, site: Site, queue):
    if not site.shared:
        pytest.skip("nothing counts there")
    add = on(queue, ours.add)
    inner = gather([add.call(1, 1), add.call(2, 2)])
    handle = client.submit(gather([inner, add.call(3, 3), gather([])]).then(on(queue, ours.echo)))
    assert handle.result(PATIENCE) == [[2, 4], 6, []]
    assert handle.children[0].children[0].result(PATIENCE) == [2, 4]


def test_a_members_own_error(client, site: Site):
    if not site.shared:
        pytest.skip("nothing counts there")
    add, fail = on(ALONE, ours.add), on(ALONE, ours.fail)
    handle = client.submit(gather([add.call(1, 1), fail.call("tray 3")]).then(on(ALONE, ours.total)).then(add, 1))
    with pytest.raises(TaskFailed) as failed:
        handle.result(PATIENCE)
    assert (failed.value.type, str(failed.value)) == ("interop.problems.OutOfPaper", "tray 3")


def test_a_handler_is_told(client, site: Site, runs):
    mark = f"{site.name}-handled"
    fail, by_id = on(ALONE, ours.fail), on(ALONE, ours.by_id)
    handle = client.submit(fail.call("tray 4").then(on(ALONE, ours.echo)).on_error(by_id.step(mark=mark)))
    with pytest.raises(TaskFailed, match="tray 4"):
        handle.result(PATIENCE)
    until(lambda: [run.label for run in read(runs) if run.id == mark] == ["by_id"], "the handler has run")


def test_options_of_later_steps_arrive(client):
    seen = named("interop.seen", queue=ALONE, run_timeout=30, headers={"colour": "red"})
    handle = client.submit(on(ALONE, ours.add).call(1, 1).then(seen.call()))
    said = handle.result(PATIENCE)
    assert (said["timelimit"], said["colour"]) == ([30, None], "red")
    assert said["root_id"] == handle.children[0].id


def test_one_that_is_cancelled_does_not_go_on(client, site: Site, theirs, runs):
    slow, count = on(ALONE, ours.slow), on(ALONE, ours.count)
    handle = client.submit(slow.call(1.0).then(count.call(7)))
    first, last = handle.children
    until(lambda: any(run.id == first.id for run in read(runs)), "the first step runs")
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(PATIENCE)
    until(lambda: f"{last.id}] received" in theirs.output() or "terminat" in theirs.output(), "Celery has gone on")
    until(
        lambda: f"Discarding revoked task: interop.count[{last.id}]" in theirs.output() or not site.shared,
        "it is not run",
    )
    assert not [run for run in read(runs) if run.id == last.id]
