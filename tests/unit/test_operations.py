"""What an operator does, as a library: queues, dead letters, the doctor."""

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from cli_kit import until, url_of

from tranship import Client, RetryPolicy, TaskState, Worker, task
from tranship.envelope import Priority
from tranship.errors import InvalidArgumentsError, InvalidOptionError, Reject, TaskNotFound
from tranship.operations import AsyncOperator, Operator, QueueReport, Severity
from tranship.operations._findings import judge
from tranship.ports import Heartbeat
from tranship.settings import Settings, production_signs


@task(name="operations.refuse")
def refuse(number: int) -> None:
    raise Reject("no-thanks")


@task(name="operations.exhaust", queue="other", retry=RetryPolicy(max_attempts=1))
def exhaust() -> None:
    raise ValueError("every time")


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else url_of(tmp_path)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def operator(client: Client, url: str) -> Iterator[Operator]:
    with Operator(url) as operator:
        yield operator


def work(url: str) -> int:
    return Worker(url, tasks=[refuse, exhaust]).run_until_idle(20)


class TestQueues:
    def test_every_level_is_counted(self, client: Client, operator: Operator) -> None:
        client.submit_many(refuse.options(priority=level).call(1) for level in ("low", "low", "high"))
        (queue,) = operator.queues()
        assert queue.name == "default"
        assert queue.ready == {Priority.HIGH: 1, Priority.NORMAL: 0, Priority.LOW: 2, Priority.VERY_LOW: 0}
        assert queue.backlog == 3
        assert queue.unserved
        assert queue.oldest_age is not None
        assert queue.oldest_age >= 0

    def test_an_empty_broker_has_no_queues(self, operator: Operator) -> None:
        assert operator.queues() == []
        assert operator.workers() == []

    async def test_an_empty_queue_with_a_worker_is_there(self, url: str) -> None:
        worker = Worker(url, tasks=[exhaust], name="w1")
        working = asyncio.create_task(worker.serve())
        async with AsyncOperator(url) as operator:
            with Operator(url) as blocking:
                await asyncio.to_thread(until, lambda: bool(blocking.workers()))
            (queue,) = await operator.queues()
            (beat,) = await operator.workers()
            worker.stop()
            await working
            assert (queue.name, queue.workers, queue.backlog, beat.worker) == ("other", 1, 0, "w1")
            assert not queue.unserved
            assert await operator.workers() == []


class TestDeadLetters:
    def test_list_show_replay_purge(self, client: Client, operator: Operator, url: str) -> None:
        handles = client.submit_many([refuse.call(1), refuse.call(2), exhaust.call()])
        work(url)
        assert operator.count_dead_letters() == 3
        assert [letter.reason for letter in operator.dead_letters("other")] == ["retries-exhausted"]
        report = operator.dead_letter(handles[1].id)
        assert report.letter.reason == "no-thanks"
        assert report.envelope is not None
        assert list(report.envelope.args) == [2]
        assert report.result is not None
        assert report.result.error is not None
        assert "Reject" in (report.result.error.traceback or "")
        assert len(operator.replay([handles[0].id])) == 1
        assert len(operator.replay(queue="default")) == 1
        assert client.handle(handles[0].id).state() is TaskState.PENDING
        assert operator.count_dead_letters("default") == 0
        assert operator.purge() == 1
        assert operator.count_dead_letters() == 0

    def test_replaying_all_ends_although_they_die_again(self, client: Client, operator: Operator, url: str) -> None:
        client.submit_many(refuse.call(number) for number in range(12))
        work(url)
        assert len(operator.replay()) == 12
        work(url)
        assert operator.count_dead_letters() == 12

    def test_paging(self, client: Client, operator: Operator, url: str) -> None:
        client.submit_many(refuse.call(number) for number in range(5))
        work(url)
        first = operator.dead_letters(limit=3)
        rest = operator.dead_letters(limit=3, after=first[-1].id)
        assert len({letter.id for letter in first + rest}) == 5

    def test_more_than_a_page_is_replayed_and_counted(
        self, client: Client, operator: Operator, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tranship.operations._dead.PAGE", 2)
        client.submit_many(refuse.call(number) for number in range(5))
        work(url)
        assert operator.count_dead_letters() == 5
        assert len(operator.replay()) == 5

    def test_unknown_ids_are_told(self, operator: Operator) -> None:
        with pytest.raises(TaskNotFound, match="no dead letter 'nope'"):
            operator.dead_letter("nope")
        assert operator.replay(["nope"]) == []
        assert operator.purge(["nope"]) == 0

    def test_a_selection_that_makes_no_sense_is_refused(self, operator: Operator) -> None:
        with pytest.raises(InvalidArgumentsError, match="not both"):
            operator.purge(["x"], queue="q")
        with pytest.raises(InvalidArgumentsError, match="expected a list"):
            operator.replay("abc")
        with pytest.raises(InvalidOptionError, match="limit is 0"):
            operator.dead_letters(limit=0)


class TestDoctor:
    def test_a_healthy_broker(self, url: str) -> None:
        diagnosis = Operator(url).diagnose()
        (reach,) = diagnosis.reached
        assert diagnosis.ok
        assert diagnosis.error is None
        assert reach.capabilities is not None
        assert reach.ping_seconds is not None
        assert {"tranship", "python", "sqlite", "platform"} <= set(diagnosis.versions)
        assert all(finding.severity is Severity.NOTE for finding in diagnosis.findings)

    def test_a_queue_without_a_worker_is_a_warning(self, client: Client, operator: Operator) -> None:
        client.submit(exhaust)
        diagnosis = operator.diagnose()
        (finding,) = [finding for finding in diagnosis.findings if finding.about == "unserved-queue"]
        assert finding.severity is Severity.WARNING
        assert "queue 'other' (1), and no worker" in finding.message
        assert diagnosis.findings[0] is finding

    def test_dead_letters_are_noted(self, client: Client, operator: Operator, url: str) -> None:
        client.submit(refuse, 1)
        work(url)
        assert "dead-letters" in {finding.about for finding in operator.diagnose().findings}

    def test_what_cannot_be_reached_is_a_finding(self, tmp_path: Path) -> None:
        (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
        diagnosis = Operator(f"sqlite:///{tmp_path}/bad.db").diagnose()
        assert not diagnosis.ok
        assert diagnosis.error is not None
        assert diagnosis.error.code == "STORAGE_CORRUPT"
        assert diagnosis.findings[0].severity is Severity.ERROR

    def test_an_unknown_scheme_is_a_finding_without_the_password(self) -> None:
        diagnosis = Operator("nosuch://user:sesame@host/0").diagnose()
        assert not diagnosis.ok
        assert "sesame" not in repr(diagnosis)

    def test_a_result_store_of_its_own_is_reached_too(self, tmp_path: Path) -> None:
        diagnosis = Operator(f"memory://{uuid4().hex}", result_url=url_of(tmp_path)).diagnose()
        assert [reach.role for reach in diagnosis.reached] == ["broker", "results"]

    def test_of_several_brokers_each_is_reached(self, tmp_path: Path) -> None:
        pytest.importorskip("tranship_redis")
        diagnosis = Operator(f"{url_of(tmp_path)} redis://:sesame@127.0.0.1:1/0 memory://{uuid4().hex}").diagnose()
        assert diagnosis.ok
        (reach,) = diagnosis.reached
        assert [(one.role, one.error is None) for one in reach.members] == [
            ("member", True),
            ("member", False),
            ("member", True),
        ]
        assert all(one.ping_seconds is not None for one in reach.members[::2])
        assert "sesame" not in repr(diagnosis)
        (warning,) = [finding for finding in diagnosis.findings if finding.severity is Severity.WARNING]
        assert "127.0.0.1:1/0 is not used: cannot connect" in warning.message

    def test_several_brokers_that_cannot_be_are_a_finding(self) -> None:
        diagnosis = Operator("round-robin://?weights=1 memory://a memory://b").diagnose()
        assert not diagnosis.ok
        assert not diagnosis.reached[0].members
        assert "2 numbers" in diagnosis.findings[0].message

    def test_the_embedded_default_in_production_is_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_ENV", "production")
        abouts = [finding.about for finding in Operator(settings=Settings.load()).diagnose().findings]
        assert "default-broker" in abouts

    def test_a_configured_broker_in_production_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_ENV", "production")
        findings = Operator(url_of(tmp_path)).diagnose().findings
        assert all(finding.about != "default-broker" for finding in findings)

    def test_a_file_that_may_be_on_a_network_is_a_warning(self, tmp_path: Path) -> None:
        findings = Operator(url_of(tmp_path) + "?allow_network_fs=true").diagnose().findings
        assert "network-filesystem" in {finding.about for finding in findings}

    @pytest.mark.parametrize("timeout", [0, -1, float("nan")])
    def test_a_timeout_that_makes_no_sense_is_refused(self, timeout: float) -> None:
        with pytest.raises(InvalidOptionError, match="timeout"):
            Operator("memory://").diagnose(timeout)


@pytest.mark.parametrize(
    ("environ", "signs"),
    [
        ({}, []),
        ({"ENV": "dev", "KUBERNETES_SERVICE_HOST": ""}, []),
        ({"DJANGO_ENV": "Production"}, ["DJANGO_ENV=Production"]),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "STAGE": "live"}, ["KUBERNETES_SERVICE_HOST", "STAGE=live"]),
    ],
)
def test_signs_of_production(environ: dict[str, str], signs: list[str]) -> None:
    assert production_signs(environ) == signs


def test_both_facades_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in vars(cls).items()
            if not name.startswith("_")
        }

    blocking, awaited = methods(Operator), methods(AsyncOperator)
    assert awaited.pop("aclose") == blocking.pop("close")
    assert blocking == awaited


def test_a_report_of_a_broker_without_workers_is_not_unserved() -> None:
    report = QueueReport(
        name="q", ready={Priority.HIGH: 1}, delayed=None, in_flight=None, oldest_age=None, dead=None, workers=None
    )
    assert not report.unserved


def test_the_doctor_tells_whose_clock_is_wrong(tmp_path: Path) -> None:
    """Ours by the broker's, and each worker's by what it has found itself; a second is nothing."""
    with Operator(url_of(tmp_path)) as operator:
        diagnosis = operator.diagnose()
    beats = [
        Heartbeat(worker=name, host="h", pid=1, queues=["q"], running=[], limit=1, at=1000.0, ahead=ahead)
        for name, ahead in (("slow", 30.0), ("fast", -12.5), ("right", 0.4))
    ]
    reached = [replace(diagnosis.reached[0], clock_ahead=-30.0)]
    found = judge(replace(diagnosis, reached=reached, workers=beats), Settings.load(), {}, now=1000.0)
    messages = [finding.message for finding in found if finding.about == "clock"]
    assert [message.partition(":")[0] for message in messages] == [
        "the clock of the broker is 30.0 s behind ours",
        "the clock of worker slow on h is 30.0 s behind the broker's",
        "the clock of worker fast on h is 12.5 s ahead of the broker's",
    ]
