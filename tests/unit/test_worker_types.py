"""Limits by type of task: what cannot be limited, and how the worker reckons with limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cli_kit import cli, fails, own_directory, ran

from tranship.errors import InvalidOptionError
from tranship.task import task
from tranship.worker import Worker, _types
from tranship.worker._types import TypeLimits

APP = """
from tranship import Worker, task

@task(task_type="video", queue="video")
def encode() -> str:
    return "encoded"

worker = Worker(tasks=[encode], task_type_limits={"video": 3})
"""


@task(name="unit.encode", queue="video", task_type="video")
def encode() -> None: ...


@task(name="unit.thumb", queue="video", task_type="image")
def thumb() -> None: ...


@task(name="unit.mail", queue="q")
def mail() -> None: ...


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"video": 0}, "task_type_limits['video'] is 0; expected a whole number of at least 1"),
        ({"video": -1}, "task_type_limits['video'] is -1"),
        ({"video": "2"}, "task_type_limits['video'] is '2'"),
        ({"video": True}, "task_type_limits['video'] is True"),
        ({"vidoe": 2}, "'vidoe', and no task of this worker is of that type; did you mean 'video'? (types: video)"),
        ({"": 2}, "a name in task_type_limits is ''"),
        ([("video", 2)], "task_type_limits is [('video', 2)]; expected a mapping"),
        ({7: 2}, "task_type_limits is {7: 2}; expected a mapping"),
    ],
)
def test_wrong_limits_are_refused(limits: Any, said: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        Worker("memory://", tasks=[encode, mail], task_type_limits=limits)
    assert said in str(caught.value)


def test_a_limit_where_no_task_has_a_type_says_how_to_give_one() -> None:
    with pytest.raises(InvalidOptionError, match=r"types: none; give one with @task\(task_type=\.\.\.\)"):
        Worker("memory://", tasks=[mail], task_type_limits={"video": 2})


@pytest.mark.parametrize("wrong", ["", 7, "a\nb"])
def test_a_type_is_a_name(wrong: Any) -> None:
    with pytest.raises(InvalidOptionError, match="task_type"):
        task(name="unit.wrong", task_type=wrong)(lambda: None)


def test_the_type_stays_with_the_task_and_the_limits_with_the_worker() -> None:
    assert encode.options(queue="other").task_type == "video"
    worker = Worker("memory://", tasks=[encode], task_type_limits={"video": 2})
    assert worker.replace(name="other").task_type_limits == {"video": 2}
    assert worker.replace(task_type_limits={"video": 3}).task_type_limits == {"video": 3}


def test_a_queue_is_left_alone_only_when_all_of_its_tasks_are_of_full_types() -> None:
    limits = TypeLimits({"video": 1, "image": 1}, _tasks(encode, thumb, mail), ["video", "q"], delays=True)
    assert limits.shared == {"image": ["video"], "video": ["video"]}
    assert (limits.room(10), limits.full_queues()) == (2, frozenset())
    runs = [_Run("video", encode), _Run("video", thumb), _Run("video", encode)]
    assert limits.admit(runs[0])
    assert (limits.room(10), limits.full_queues()) == (1, frozenset())
    assert limits.admit(runs[1])
    assert (limits.room(10), limits.full_queues()) == (10, frozenset({"video"}))
    assert not limits.admit(runs[2])
    assert limits.free(runs[0]) == "video"
    assert limits.free(runs[2]) is None
    assert limits.capacity() == {"video": 1, "image": 0}


def test_nothing_is_fetched_while_every_queue_is_left_alone() -> None:
    limits = TypeLimits({"video": 1}, _tasks(encode), ["video", "any"], delays=True)
    run = _Run("video", encode)
    limits.expect(run)
    # A queue that no task declares may bring any of the worker's tasks: here, of the one type.
    assert (limits.room(10), limits.full_queues()) == (0, frozenset({"video", "any"}))


def test_a_slot_that_was_kept_for_another_type_is_given_back() -> None:
    limits = TypeLimits({"video": 1}, _tasks(encode, mail), ["video", "q"], delays=True)
    run = _Run("video", mail)
    limits.expect(run)
    assert limits.capacity() == {"video": 0}
    assert limits.admit(run)
    assert limits.capacity() == {"video": 1}


def test_what_is_put_back_comes_again_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_types, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    limits = TypeLimits({"video": 1}, _tasks(encode, mail), ["q"], delays=True)
    delays = []
    for _ in range(10_000):
        run = _Run("q", encode)
        assert limits.put_back(run)
        delays.append(run.delay)
    assert delays[0] == pytest.approx(_types.FIRST_DELAY)
    assert sorted(delays[:2000]) == delays[:2000]
    assert 50 < max(delays) < _types.FARTHEST + _types.LONGEST_DELAY
    assert delays[2000] > 35, "two thousand come back within seconds"
    one = TypeLimits({"video": 1}, _tasks(encode, mail), ["q"], delays=True)
    alone = [_delay(one) for _ in range(8)]
    assert alone[-1] == pytest.approx(_types.LONGEST_DELAY, abs=0.05), "one that waits long comes ever more seldom"


@pytest.mark.parametrize("given", [{}, {"video": 2}])
def test_a_type_is_paused_and_resumed_whatever_runs_meanwhile(given: dict[str, int]) -> None:
    limits = TypeLimits(given, _tasks(encode, mail), ["video", "q"], delays=False)
    running, waiting = _Run("video", encode), _Run("video", encode)
    limits.expect(running)
    assert limits.admit(running)
    limits.pause("video")
    assert (limits.paused, limits.capacity()) == (["video"], {"video": 0})
    assert (limits.room(10), limits.full_queues()) == (10, frozenset({"video"}))
    limits.expect(waiting)
    assert not limits.admit(waiting)
    assert not limits.put_back(waiting)
    limits.keep(waiting)
    assert limits.free(running) is None
    assert limits.resume("video") == [waiting]
    assert (limits.paused, limits.kept, limits.full_queues()) == ([], [], frozenset())
    assert limits.capacity() == given
    assert limits.admit(waiting)
    limits.free(waiting)
    assert limits.capacity() == given


def test_of_several_types_in_one_queue_those_that_are_not_paused_are_taken() -> None:
    limits = TypeLimits({"image": 2}, _tasks(encode, thumb), ["video"], delays=True)
    limits.pause("video")
    assert (limits.room(10), limits.full_queues()) == (2, frozenset())
    assert limits.admit(_Run("video", thumb))
    assert limits.room(10) == 1
    paused = _Run("video", encode)
    assert not limits.admit(paused)
    assert limits.put_back(paused)
    assert paused.detail == "type 'video' is paused"


class TestCommandLine:
    @pytest.mark.parametrize("wrong", ["video", "video=", "video=x", "video=0", "video=-1", "=2", "video=2.5"])
    def test_a_limit_that_is_none_is_refused(self, tmp_path, monkeypatch, wrong: str) -> None:
        with own_directory(tmp_path, monkeypatch):
            result = cli("worker", "app", "--type-limit", wrong)
        assert result.exit_code == 2
        assert "TYPE=N" in result.stderr

    def test_a_type_that_no_task_has_is_refused(self, tmp_path, monkeypatch) -> None:
        with own_directory(tmp_path, monkeypatch):
            fails(cli("worker", "app", "--type-limit", "video=2"), 2, "no task of this worker is of that type")

    @pytest.mark.parametrize("target", ["typed", "typed:worker"])
    def test_limits_are_taken(self, tmp_path, target: str) -> None:
        (tmp_path / "typed.py").write_text(APP)
        code, _, err = ran(["worker", target, "--type-limit", "video=2", "--burst"], tmp_path)
        assert code == 0, err


class _Run:
    """As much of a run as the limits look at."""

    def __init__(self, queue: str, of: Any) -> None:
        self.task = of
        self.delivery = type("Delivery", (), {"queue": queue, "delivery_count": 1})
        self.delay, self.detail = 0.0, ""

    def end(self, outcome: object) -> None: ...


def _tasks(*tasks: Any) -> dict[str, Any]:
    return {one.name: one for one in tasks}


def _delay(limits: Any) -> float:
    run: Any = _Run("q", encode)
    assert limits.put_back(run)
    return float(run.delay)
