"""What workers remember of the tasks that they have ended."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest
from cli_kit import until, url_of

from tranship import Client, FixedBackoff, RetryPolicy, Worker, task
from tranship.errors import InvalidOptionError, Reject
from tranship.finished import CHUNK, Finished, Later, decode_finished, encode_finished
from tranship.operations import History, Operator
from tranship.ports import Record
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker
from tranship.worker._history import History as WorkerHistory


@task(name="history.half", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
def half(number: int) -> int:
    if number % 2:
        raise ValueError("odd")
    return number // 2


@task(name="history.refuse")
def refuse(number: int) -> None:
    raise Reject("no-thanks")


@task(name="history.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture(params=["memory", "sqlite"])
def settings(request, tmp_path, monkeypatch) -> Settings:
    # Nobody waits a second for what is written once a second.
    monkeypatch.setattr("tranship.worker._history.EVERY", 0.05)
    url = f"memory://{uuid4().hex}" if request.param == "memory" else url_of(tmp_path)
    return Settings.load(broker_url=url, history=100, heartbeat_interval=0.1)


def worker(settings: Settings) -> BackgroundWorker:
    return BackgroundWorker(Worker(settings=settings, tasks=[half, refuse, total], name="w"))


def test_attempts_are_told_with_their_errors(settings: Settings) -> None:
    with Client(settings=settings) as client, Operator(settings=settings) as operator, worker(settings):
        good, bad = client.submit(half, 4), client.submit(half, 3)
        dead = client.submit(refuse, 1)
        until(lambda: len(operator.finished()) == 4)
        found = operator.finished()
    assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)
    by_id = {one.id: [each for each in reversed(found) if each.id == one.id] for one in found}
    (well,) = by_id[good.id]
    assert (well.task, well.queue, well.outcome, well.worker, well.error) == (
        "history.half",
        "default",
        "succeeded",
        "w",
        "",
    )
    first, second = by_id[bad.id]
    assert [(first.outcome, first.attempt), (second.outcome, second.attempt)] == [("retry", 0), ("dead", 1)]
    assert first.error == "ValueError: odd"
    assert 'raise ValueError("odd")' in first.traceback
    assert by_id[dead.id][0].outcome == "dead"


def test_only_what_is_new_is_read_and_the_ring_is_bounded(settings: Settings) -> None:
    history = History(keep=120)
    with Client(settings=settings) as client, Operator(settings=settings) as operator, worker(settings):
        client.submit(half, 2)

        def read() -> int:
            operator.read_history(history)
            return len(history)

        until(lambda: read() == 1)
        client.submit_many(half.call(2) for _ in range(CHUNK + 5))
        until(lambda: read() == CHUNK + 6)
        client.submit_many(half.call(2) for _ in range(400))
        until(lambda: operator.workers()[0].totals["default"].ended == CHUNK + 406)
        until(lambda: read() == 120)
        assert 100 <= len(operator.finished()) <= 100 + 2 * CHUNK
    # Whoever comes later has it, too, and so have those who ask when the worker is gone.
    with Operator(settings=settings) as operator:
        if settings.broker_url.scheme != "memory":
            found, few, none = operator.finished(), History(keep=10), History(keep=0)
            assert len(found) >= 100
            operator.read_history(few)
            operator.read_history(none)
            assert (list(few.latest()), len(none)) == (found[:10], 0)


def test_a_workflow_says_what_is_to_follow(settings: Settings) -> None:
    from tranship import gather

    with Client(settings=settings) as client, Operator(settings=settings) as operator, worker(settings):
        handle = client.submit(gather([half.call(2), half.call(4)]).then(total).then(half))
        handle.wait(timeout=20)
        until(lambda: len(operator.finished()) >= 4)
        history = History()
        operator.read_history(history)
        found = operator.finished()
    members = [one for one in found if one.task == "history.half" and one.later]
    assert members
    assert [one.task for one in members[0].later] == ["history.total", "history.half"]
    body = next(one for one in found if one.task == "history.total")
    assert body.parent_id in {one.id for one in members}
    assert history.workflow(body.id) == list(reversed(found))
    assert history.workflow(members[0].id) == history.workflow(body.id)
    assert len(history.workflows()) == 1


def test_what_a_record_says_is_read_as_it_was_written() -> None:
    one = Finished(
        id="a",
        task="t",
        queue="q",
        outcome="failed",
        at=1.5,
        seconds=0.25,
        attempt=2,
        error="ValueError: <b>\ud800",
        root_id="r",
        later=(Later(id="b", task="u", after=("a",)),),
    )
    assert decode_finished(encode_finished([one])) == [one]


AT = b'[{"id": "a", "task": "t", "queue": "q", "outcome": "dead", "at": %b}]'


@pytest.mark.parametrize(
    "value",
    [b"", b"no json", b"{}", b'["x", 1, {"id": 1}, {"id": "a"}]', b"[[[[]]]]", AT % b"1e999", AT % (b"1" + b"0" * 400)],
)
def test_garbage_is_passed_over(value: bytes) -> None:
    assert decode_finished(value) == []


def test_how_many_is_checked() -> None:
    with pytest.raises(InvalidOptionError, match="history is -1"):
        Settings.load(broker_url="memory://x", history=-1)


class Slow:
    """Records that are written once somebody lets them be."""

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.written: dict[str, list[str]] = {}

    async def put(self, records: Sequence[Record]) -> None:
        self.begun.set()
        await self.gate.wait()
        for one in records:
            self.written[one.key] = [each.id for each in decode_finished(one.value)]


async def test_what_is_being_written_when_a_worker_ends_is_not_lost(monkeypatch) -> None:
    monkeypatch.setattr("tranship.worker._history.EVERY", 0.0)
    slow = Slow()
    history = WorkerHistory(cast(Any, slow), "w", 100)
    history._pending.append(Finished(id="a", task="t", queue="q", outcome="dead", at=1.0))
    history._writer = asyncio.create_task(history._write_soon())
    await slow.begun.wait()
    history._pending.append(Finished(id="b", task="t", queue="q", outcome="dead", at=2.0))
    slow.gate.set()
    await history.aclose()
    assert [one for found in slow.written.values() for one in found] == ["a", "b"]
