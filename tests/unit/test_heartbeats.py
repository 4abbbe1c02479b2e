"""Heartbeats: bounds, garbage, labels, skills, namesakes."""

import asyncio
import itertools
import json
import logging
import sqlite3
import threading
import time

import pytest
from cli_kit import until
from patience import until as aio_until

from tranship import Worker, codec, task
from tranship.clocks import Clock
from tranship.envelope import Envelope
from tranship.errors import InvalidOptionError
from tranship.operations import Operator
from tranship.ports import Command, Heartbeat, RunningTask, heartbeat_data, heartbeat_of
from tranship.settings import BrokerURL, Settings
from tranship.task import HotCache, TaskContext
from tranship.testing.background import BackgroundWorker
from tranship.worker._namesakes import HELLO, MOST, Namesakes
from tranship.worker._presence import LARGEST, Presence
from tranship.worker._profile import Profile
from tranship.worker._record import Run


@task
def nothing() -> None: ...


def run_of(number: int, *, began: float) -> Run:
    run = Run(None, None)  # type: ignore[arg-type] - neither is looked at
    run.envelope = Envelope(id=f"{number:032}", task="app.a_task_with_a_name", queue="q")
    run.context = TaskContext(run.envelope)
    run.began = began
    return run


def presence(*, runs=(), profile=None, room=2**24, tasks=("a",), queues=("q",), totals=None) -> Presence:
    return Presence(
        name="w",
        instance="i",
        queues=lambda: queues,
        tasks=tasks,
        limit=lambda: 20_000,
        profile=profile or Profile(),
        clock=Clock(),
        runs=lambda: runs,
        capacity=dict,
        totals=lambda: totals or {},
        remembered=lambda: (0, 0),
        namesakes=list,
        room=room,
    )


def beat_of(**given) -> Heartbeat:
    usual = {"worker": "w", "host": "h", "pid": 1, "queues": ["q"], "running": [], "limit": 1, "at": time.time()}
    return Heartbeat(**{**usual, **given})


class TestBounds:
    def test_ten_thousand_running_tasks_make_a_small_heartbeat_that_says_so(self) -> None:
        now = time.monotonic()
        beat = presence(runs=[run_of(number, began=now - number) for number in range(10_000)]).beat(stopping=False)
        assert beat.busy == 10_000
        assert beat.free == 10_000
        assert 100 < len(beat.running) < 1000
        assert beat.left_out == {"running": 10_000 - len(beat.running)}
        assert beat.running[0].id == f"{9999:032}", "the longest running come first"
        assert len(json.dumps(heartbeat_data(beat))) < LARGEST

    def test_everything_at_its_largest_is_bounded(self) -> None:
        profile = Profile({"x": "y" * 4000}, {f"skill-{number}": ["m" * 200] for number in range(30)})
        for number in range(2000):
            profile.hot_cache.add(f"{number}" + "n" * 240)
        names = [f"{number}" + "q" * 240 for number in range(2000)]
        runs = [run_of(number, began=time.monotonic()) for number in range(2000)]
        for run in runs:
            assert run.context is not None
            run.context.progress(0.5, message="n" * 1000)
        beat = presence(runs=runs, profile=profile, tasks=names, queues=names).beat(stopping=False)
        assert len(json.dumps(heartbeat_data(beat))) < 90_000
        assert set(beat.left_out) == {"running", "hot_cache", "tasks", "queues"}

    def test_a_broker_of_small_messages_gets_small_heartbeats(self) -> None:
        runs = [run_of(number, began=time.monotonic()) for number in range(1000)]
        beat = presence(runs=runs, room=8000).beat(stopping=False)
        assert len(json.dumps(heartbeat_data(beat))) < 8000
        assert beat.running

    def test_half_a_character_in_a_strangers_id_keeps_no_other_from_being_told(self) -> None:
        runs = [run_of(number, began=time.monotonic()) for number in range(3)]
        runs[1].envelope = Envelope(id="\ud800", task="t")
        beat = presence(runs=runs).beat(stopping=False)
        written = codec.dumps(heartbeat_data(beat))
        found = heartbeat_of(codec.loads(written, codec.JSON))
        assert found is not None
        assert {one.id for one in found.running} == {f"{0:032}", "\ud800", f"{2:032}"}


class TestForeign:
    @pytest.mark.parametrize(
        "garbage", [None, 1, "text", [], {}, {"worker": ""}, {"worker": "w"}, {"worker": 1, "at": 1}, {"at": 1.0}]
    )
    def test_what_is_no_heartbeat_is_none(self, garbage: object) -> None:
        assert heartbeat_of(garbage) is None

    @pytest.mark.parametrize("at", ["soon", True, float("inf"), float("nan"), 1e300, 10**400, None])
    def test_a_time_that_is_none_makes_none(self, at: object) -> None:
        assert heartbeat_of({"worker": "w", "at": at}) is None

    def test_one_of_before_is_understood(self) -> None:
        old = {"worker": "w", "host": "h", "pid": 7, "queues": ["q"], "running": ["a", "b"], "limit": 3, "at": 1e9}
        beat = heartbeat_of({**old, "stopping": False, "ahead": 0.0, "unheard_of": {"x": 1}})
        assert beat is not None
        assert (beat.worker, beat.pid, beat.busy, [one.id for one in beat.running]) == ("w", 7, 2, ["a", "b"])

    def test_each_field_that_is_not_what_it_should_be_is_passed_over(self) -> None:
        wrong = {name: {"nested": ["garbage", None, 1]} for name in heartbeat_data(beat_of())}
        beat = heartbeat_of({**wrong, "worker": "w", "at": 1e9})
        assert beat is not None
        assert (beat.host, beat.pid, list(beat.queues), list(beat.running), beat.stopping) == ("", 0, [], [], False)
        mixed = heartbeat_of({"worker": "w", "at": 1e9, "running": [1, {"id": 2}, {"id": "a", "since": "x"}, "b"]})
        assert mixed is not None
        assert list(mixed.running) == [RunningTask(id="a"), RunningTask(id="b")]

    def test_garbage_among_the_workers_ends_no_listing(self, tmp_path) -> None:
        url = f"sqlite:///{tmp_path / 'tasks.db'}"
        with BackgroundWorker(Worker(url, tasks=[nothing], name="real")), Operator(url) as operator:
            until(lambda: bool(operator.workers()))
            with sqlite3.connect(tmp_path / "tasks.db") as database:
                ((namespace,),) = database.execute("SELECT ns FROM row WHERE key='b/real'").fetchall()
                texts = ["no JSON", "[]", "{}", "1", '{"worker": "bad"}', '{"worker": "old", "at": 1000000000}']
                rows = [(namespace, f"b/{number}", text.encode()) for number, text in enumerate(texts)]
                database.executemany("INSERT INTO row(ns, key, value) VALUES(?,?,?)", rows)
            database.close()
            assert sorted(one.worker for one in operator.workers()) == ["old", "real"]
            assert operator.diagnose().ok


class TestProfile:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"a": {1, 2}}, "label 'a'"),
            ({"a": object()}, "label 'a'"),
            ({"": 1}, "name of a label"),
            ({1: 1}, "mapping with text keys"),
            ("zone", "mapping with text keys"),
            ({"a": "x" * 5000}, "4096 are the limit"),
        ],
    )
    def test_labels_that_cannot_be_told_are_refused(self, labels, message: str) -> None:
        with pytest.raises(InvalidOptionError, match=message):
            Worker("memory://", tasks=[nothing], labels=labels)

    @pytest.mark.parametrize(
        ("skills", "message"),
        [
            ({"a": "model"}, r"skill_dependencies\['a'\] is 'model'; expected a list of names"),
            ({"a": [1]}, "a name in skill_dependencies"),
            ({"": []}, "name of a skill"),
            ({"a": ["x" * 250] * 50}, "8192 are the limit"),
        ],
    )
    def test_skills_that_cannot_be_told_are_refused(self, skills, message: str) -> None:
        with pytest.raises(InvalidOptionError, match=message):
            Worker("memory://", tasks=[nothing], skill_dependencies=skills)

    def test_a_label_that_is_refused_changes_nothing(self) -> None:
        worker = Worker("memory://", tasks=[nothing], labels={"zone": "eu"})
        with pytest.raises(InvalidOptionError):
            worker.set_labels(zone="us", bad=object())
        assert worker._profile.labels == {"zone": "eu"}
        worker.set_labels(zone=None, spot=True)
        assert worker.replace(name="other")._profile.labels == {"spot": True}

    def test_an_endless_hot_cache_drops_the_oldest_and_says_so_once(self, caplog) -> None:
        cache = HotCache()
        with caplog.at_level(logging.WARNING, logger="tranship.worker"):
            for number in range(3000):
                cache.add(f"model-{number}")
        assert len(cache) == 1000
        assert "model-0" not in cache
        assert "model-2999" in cache
        assert len(caplog.records) == 1
        assert "remove what is not loaded" in caplog.text

    @pytest.mark.parametrize("name", ["", 1, None, "a\nb", "x" * 300])
    def test_a_name_that_cannot_be_told_is_refused(self, name) -> None:
        with pytest.raises(InvalidOptionError, match="a name in the hot cache"):
            HotCache().add(name)

    def test_only_changes_are_told(self) -> None:
        told: list[int] = []
        cache = HotCache()
        cache.on_change = lambda: told.append(len(cache))
        for change in (cache.clear, lambda: cache.add("a"), lambda: cache.add("a"), lambda: cache.remove("b")):
            change()
        cache.remove("a")
        assert told == [1, 0]

    def test_a_skill_is_hot_when_all_it_needs_is_there(self) -> None:
        cache = HotCache()
        skills = {"draw": ["model", "vae"], "plain": []}
        assert cache.hot(skills) == ["plain"]
        cache.add("model")
        assert cache.hot(skills) == ["plain"]
        cache.add("vae")
        assert cache.hot(skills) == ["draw", "plain"]

    def test_it_may_be_changed_from_many_threads(self) -> None:
        cache = HotCache()

        def churn(name: str) -> None:
            for number in range(500):
                cache.add(f"{name}-{number}")
                list(cache)
                cache.remove(f"{name}-{number}")

        threads = [threading.Thread(target=churn, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache) == 0

    @pytest.mark.parametrize("done", [-0.1, 1.1, "half", None, True, float("nan")])
    def test_progress_is_a_number_from_0_to_1(self, done) -> None:
        with pytest.raises(InvalidOptionError, match="done is"):
            TaskContext(Envelope(id="i", task="t")).progress(done)

    def test_a_context_without_a_worker_has_a_cache_of_its_own(self) -> None:
        context = TaskContext(Envelope(id="i", task="t"))
        context.hot_cache.add("model")
        assert list(context.hot_cache) == ["model"]
        assert list(TaskContext(Envelope(id="i", task="t")).hot_cache) == []


class Sent:
    """A control channel that remembers the commands."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    async def send(self, command: Command) -> None:
        self.commands.append(command)


class TestNamesakes:
    def hello(self, instance: object = "other", *, ask: bool = True, **more: object) -> Command:
        return Command(name=HELLO, arguments={"instance": instance, "host": "h", "pid": 1, "ask": ask, **more})

    async def test_who_asks_is_answered_once_and_nobody_is_asked_twice(self) -> None:
        sent = Sent()
        mine = Namesakes(sent, "w", "me")  # type: ignore[arg-type] - nothing but send is called
        await mine.greet()
        await mine.greet()
        assert [one.arguments["ask"] for one in sent.commands] == [True]
        assert not mine.heard([self.hello("me")]), "its own words come back to it"
        assert mine.heard([self.hello()])
        await mine.greet()
        assert [one.arguments["ask"] for one in sent.commands] == [True, False]
        assert not mine.heard([self.hello(ask=False)]), "what is known is no news"
        assert mine.known() == ["on h, process 1"]

    @pytest.mark.parametrize("wrong", [{"instance": 1}, {"host": None}, {"instance": None}])
    async def test_garbage_is_nobody(self, wrong) -> None:
        mine = Namesakes(Sent(), "w", "me")  # type: ignore[arg-type]
        assert not mine.heard([Command(name=HELLO, arguments={**self.hello().arguments, **wrong})])
        assert not mine.heard([Command(name=HELLO), Command(name="other")])
        assert mine.known() == []

    async def test_a_flood_of_them_is_bounded(self) -> None:
        mine = Namesakes(Sent(), "w", "me")  # type: ignore[arg-type]
        mine.heard([self.hello(str(number)) for number in range(1000)])
        assert len(mine.known()) == MOST


async def test_a_change_that_never_ends_is_told_no_more_often_than_the_bound() -> None:
    settings = Settings(broker_url=BrokerURL.parse("memory://debounce"), heartbeat_debounce=0.2, heartbeat_interval=60)
    worker = Worker(settings=settings, tasks=[nothing], name="w")
    serving = asyncio.create_task(worker.serve())
    await aio_until(lambda: worker.status().ready)
    beats: list[float] = []
    session = worker._session
    assert session is not None
    say = session._heartbeats._presence.beat
    session._heartbeats._presence.beat = lambda **given: (beats.append(time.monotonic()), say(**given))[1]  # type: ignore[method-assign]
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        worker.set_labels(now=time.monotonic())
        await asyncio.sleep(0.005)
    worker.stop()
    await serving
    # The last one says that it stops.
    gaps = [after - before for before, after in itertools.pairwise(beats[:-1])]
    assert gaps
    assert min(gaps) >= 0.2 - 0.01
