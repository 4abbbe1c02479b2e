"""Workflows as values: what fits behind what, what is refused, and what is said of the whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tranship import Client, Step, TaskClass, Workflow, gather, named, task
from tranship.client._planner import plan
from tranship.client._shape import (
    Branch,
    Leaf,
    Series,
    coerced,
    lacks_cause,
    leaves,
    outcome,
    state_of,
    steps_of,
    typed,
)
from tranship.envelope import Envelope, ErrorInfo, Priority, TaskResult, TaskState
from tranship.errors import InvalidArgumentsError, InvalidOptionError
from tranship.protocol import canvas
from tranship.task import MOST_STEPS, Task


class Report(BaseModel):
    pages: int


@dataclass
class Page:
    number: int


@task(queue="media")
def resize(uri: str, width: int = 640) -> str:
    return f"{uri}@{width}"


@task
def notify(path: str, channel: str) -> None: ...


@task
def collect(paths: list[str]) -> Report:
    return Report(pages=len(paths))


@task
def count(value: int) -> int:
    return value


@task
def free(value):
    return value


@task
def nothing() -> None: ...


class Publish(TaskClass):
    @dataclass
    class Args:
        path: str
        to: str

    def run(self, args: Args) -> str:
        return args.path


def planned(workflow: Workflow[Any], now: float = 1_000.0, **more: Any):
    return plan(workflow, now=now, reply_to=None, parent=None, **more)


def later(envelope: Envelope) -> list[dict[str, Any]]:
    """The signatures of the steps after a message's task, in order."""
    return list(reversed(canvas(envelope).get("chain", ())))


def returning(hint: Any) -> Task[..., Any]:
    def made(): ...

    made.__annotations__ = {"return": hint}
    return task(name="made")(made)


def taking(hint: Any) -> Task[..., Any]:
    def taken(value): ...

    taken.__annotations__ = {"value": hint}
    return task(name="taken")(taken)


class TestBuilding:
    def test_values_stay_as_they_are(self):
        first = resize.call("a")
        one, other = first.then(notify, "x"), first.then(notify, "y")
        assert one != other
        assert [later(planned(each).envelopes[0])[0]["args"] for each in (one, other)] == [["x"], ["y"]]
        assert one.options(queue="q") != one
        assert one == first.then(notify, "x")

    def test_each_submit_has_ids_of_its_own(self):
        workflow = gather([resize.call("a"), resize.call("b")]).then(collect)
        first, second = planned(workflow), planned(workflow)
        assert len(set(first.ids) | set(second.ids)) == 6

    def test_what_is_shown(self):
        name = resize.name
        assert repr(resize.call("a").then(notify, "x")) == f"<Workflow {name}, then {notify.name}>"
        assert repr(gather([resize.call("a")] * 5)) == f"<Workflow gather({name}, {name}, {name}, ...)>"
        assert repr(count.step()) == f"<Step {count.name}>"
        assert "secret" not in repr(resize.call("secret").then(notify, "secret"))

    def test_tasks_names_and_classes_follow(self):
        workflow = resize.call("a").then("shop.pack", 1, colour="red").then(Publish, to="b")
        (envelope,) = planned(workflow).envelopes
        pack, publish = later(envelope)
        assert (pack["task"], pack["args"], pack["kwargs"]) == ("shop.pack", [1], {"colour": "red"})
        assert (publish["args"], publish["kwargs"]) == ([], {"to": "b"})

    def test_a_call_with_all_its_arguments_takes_no_result(self):
        (envelope,) = planned(resize.call("a").then(nothing.call()).then(free)).envelopes
        assert [one["immutable"] for one in later(envelope)] == [True, False]

    def test_workflows_follow_workflows(self):
        inner = count.step().then(count)
        (envelope,) = planned(count.call(1).then(inner).then(count.call(3).then(count))).envelopes
        assert len(later(envelope)) == 4

    def test_an_open_gathering_is_a_step(self):
        assert isinstance(gather([count.step(), count.call(1)]), Step)
        assert isinstance(gather([count.call(1)]), Workflow)
        assert isinstance(gather([]), Workflow)


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (
                lambda: resize.call("a").then(collect),
                r"collect cannot follow: .*list\[str\], and the step .* returns str",
            ),
            (lambda: nothing.call().then(notify, "x"), "its first argument is annotated str, and .* returns None"),
            (lambda: gather([count.call(1)]).then(collect), r"annotated list\[str\], .* returns list\[int\]"),
            (lambda: gather([resize.call("a")]).then(count), r"returns list\[str\]"),
            (lambda: resize.call("a").then(gather([count.call(1), collect.step()])), "collect cannot follow"),
            (lambda: resize.call("a").on_error(count.step()), None),
            (lambda: resize.call("a").on_error(collect), "the id of the step that failed is str"),
            (lambda: resize.call("a").then(notify), "missing a required argument: 'channel'; in step"),
            (lambda: resize.call("a").then(nothing), "too many positional arguments"),
            (lambda: resize.call("a").then(notify, 3), "argument 'channel' .* got int"),
            (lambda: resize.call("a").then(notify.call("a", "b"), "c"), "already has its arguments"),
            (lambda: resize.call("a").then(Publish, nowhere=1), "has no 'nowhere'"),
            (lambda: resize.call("a").then(3), r"then got 3; expected task.call\(...\) with all its arguments"),
            (lambda: resize.call("a").then(None), "then got None; expected"),
            (lambda: gather(resize.call("a")), "gather got .*; expected several calls"),
            (lambda: gather("abc"), "gather got 'abc'; expected several calls"),
            (lambda: gather([resize]), "gather got .*; expected task.call"),
            (lambda: resize.call("a").on_error(resize.call("a").then(free)), "a single task, and no workflow"),
        ],
    )
    def test_is_told_before_anything_is_sent(self, make, words):
        if words is None:
            make()
            return
        with pytest.raises(InvalidArgumentsError, match=words):
            make()

    @pytest.mark.parametrize(
        ("result", "parameter"),
        [
            (str, str),
            (str, int),  # text is read as a number
            (int, float),
            (str | None, str),
            (Any, str),
            (str, Any),
            (Page, dict[str, Any]),
            (dict[str, Any], Page),
            (Report, Report),
            (str, date),
            (date, str),
            (list[Any], list[int]),
            (list[str | int], list[int]),
            (tuple[int, ...], list[int]),
            (Literal["a"], str),
        ],
    )
    def test_what_may_fit_is_left_to_the_worker(self, result, parameter):
        returning(result).call().then(taking(parameter))

    @pytest.mark.parametrize(
        ("result", "parameter"),
        [
            (str, dict),
            (None, str),
            (list[str], str),
            (int, str),
            (dict[str, int], list[int]),
            (list[list[str]], list[str]),
            (Literal[1], str),
            (int | float, str | None),
            (Page, str),
        ],
    )
    def test_what_never_fits_is_refused(self, result, parameter):
        with pytest.raises(InvalidArgumentsError, match="task taken cannot follow"):
            returning(result).call().then(taking(parameter))

    def test_a_step_alone_is_not_submitted(self):
        with Client("memory://") as client, pytest.raises(InvalidArgumentsError, match="lacks its first argument"):
            client.submit(count.step())

    def test_a_workflow_is_submitted_by_itself(self):
        workflow = count.call(1).then(count)
        with Client("memory://") as client:
            with pytest.raises(InvalidArgumentsError, match="submit a workflow by itself"):
                client.submit_many([workflow])
            with pytest.raises(InvalidArgumentsError, match="already has its arguments"):
                client.submit(workflow, 1)


class TestBounds:
    def test_a_gathering_of_ten_thousand(self):
        begun = time.process_time()
        found = planned(gather(count.call(n) for n in range(10_000)).then(free))
        assert len(found.envelopes) == 10_000
        assert found.chords[0].size == 10_000
        assert time.process_time() - begun < 20

    def test_a_chain_of_ten_thousand(self):
        workflow = gather([count.call(0)])
        half = free.step()
        for _ in range(9):
            half = half.then(half)
        for _ in range(19):
            workflow = workflow.then(half)
        (envelope,) = planned(workflow).envelopes
        assert len(canvas(envelope)["chord"]["options"]["chain"]) == 19 * 512 - 1

    def test_too_many(self):
        with pytest.raises(
            InvalidArgumentsError, match="at most 20,000 steps, this one would have 20,001; submit several"
        ):
            gather(count.call(n) for n in range(MOST_STEPS + 1))
        most = gather(count.call(n) for n in range(MOST_STEPS))
        with pytest.raises(InvalidArgumentsError, match="this one would have 20,001"):
            most.then(free)

    def test_too_much_to_carry(self):
        wide = gather(count.call(n) for n in range(1_000)).then(free).then(gather(free.step() for _ in range(1_000)))
        with pytest.raises(InvalidArgumentsError, match=r"would carry 1,001,000 later steps, .* at most 500,000"):
            planned(wide)
        planned(gather(count.call(n) for n in range(10_000)).then(free).then(free).then(free))

    def test_too_deep(self):
        workflow = gather([count.call(1)])
        for _ in range(15):
            workflow = gather([workflow])
        planned(workflow)
        with pytest.raises(InvalidArgumentsError, match="16 deep in each other, these would be 17"):
            gather([workflow])

    def test_one_that_holds_itself_cannot_be_built(self):
        members: list[Any] = [count.call(1)]
        members.append(members)
        with pytest.raises(InvalidArgumentsError, match=r"gather got .*; expected task.call"):
            gather(members)
        workflow = count.call(1).then(count)
        assert len(planned(workflow.then(workflow)).ids) == 4

    def test_the_same_id_twice(self):
        again = count.options(task_id="mine")
        with pytest.raises(InvalidArgumentsError, match="two steps of the workflow have the id 'mine'"):
            planned(again.call(1).then(again))


class TestOptions:
    def test_each_step_has_its_own(self):
        work = count.options(
            queue="q",
            run_timeout=5,
            delay=3,
            deadline_in=60,
            cancel_key="own",
            store_result=False,
            headers={"colour": "red"},
        )
        (envelope,) = planned(count.call(1).then(work)).envelopes
        (step,) = later(envelope)
        assert step["options"] == {
            "queue": "q",
            "countdown": 3.0,
            "expires": 60.0,
            "time_limit": 5.0,
            "ignore_result": True,
            "headers": {"colour": "red", "tranship-cancel-key": "own"},
            "task_id": step["options"]["task_id"],
        }

    def test_those_of_the_whole_take_their_place(self):
        workflow = resize.options(priority="low").call("a").then(gather([free.step(), free.step()])).then(free)
        found = planned(workflow.options(queue="fast", cancel_key="job-7", priority="high"))
        (envelope,) = found.envelopes
        assert (envelope.queue, envelope.cancel_key, envelope.priority) == ("fast", "job-7", Priority.HIGH)
        (chord,) = later(envelope)
        inside = [*chord["kwargs"]["header"]["kwargs"]["tasks"], chord["kwargs"]["body"]]
        for one in inside:
            assert one["options"]["queue"] == "fast"
            assert one["options"]["headers"] == {"tranship-cancel-key": "job-7", "tranship-priority": "high"}

    def test_they_hold_for_the_steps_so_far(self):
        (envelope,) = planned(count.call(1).then(count).options(cancel_key="k").then(count)).envelopes
        assert envelope.cancel_key == "k"
        assert ["headers" in one["options"] for one in later(envelope)] == [True, False]

    def test_the_deadline_of_the_whole_counts_from_the_submit(self):
        late = count.options(deadline=5_000.0)
        workflow = count.options(deadline_in=10).call(1).then(late).then(count).options(deadline_in=100)
        (envelope,) = planned(workflow, now=1_000.0).envelopes
        assert envelope.deadline == 1_010.0
        assert [one["options"]["headers"]["tranship-deadline"] for one in later(envelope)] == [1_100.0, 1_100.0]
        assert later(envelope)[0]["options"]["expires"] == "1970-01-01T00:18:20+00:00"

    def test_a_delay_of_the_whole_is_for_what_comes_first(self):
        workflow = gather([count.call(1), count.call(2).then(count)]).then(free).options(delay=60)
        found = planned(workflow, now=1_000.0)
        assert [one.not_before for one in found.envelopes] == [1_060.0, 1_060.0]
        assert "countdown" not in canvas(found.envelopes[1])["chain"][0]["options"]

    def test_a_usual_level_is_written_behind_another_one(self):
        (envelope,) = planned(count.options(priority="high").call(1).then(count)).envelopes
        assert later(envelope)[0]["options"]["headers"] == {"tranship-priority": "normal"}
        (envelope,) = planned(count.options(serializer="msgpack").call(1).then(count)).envelopes
        assert later(envelope)[0]["options"]["serializer"] == "json"

    def test_what_a_step_cannot_have(self):
        with pytest.raises(InvalidOptionError, match="has dedup_key 'once'; a step of a workflow cannot have one"):
            planned(count.call(1).then(count.options(dedup_key="once")))
        with pytest.raises(InvalidOptionError, match=r"serializer is 'application/cbor' .*; expected json or msgpack"):
            planned(count.call(1).then(count.options(serializer="application/cbor")))
        with pytest.raises(InvalidOptionError, match="a workflow has no option 'task_id'; it has queue, priority"):
            count.call(1).then(count).options(task_id="x")
        with pytest.raises(InvalidOptionError, match="priority 'urgent' is unknown"):
            gather([]).options(priority="urgent")

    def test_ids_of_the_callers_own(self):
        found = planned(count.options(task_id="one").call(1).then(count.options(task_id="two")))
        assert list(found.ids) == ["one", "two"]
        assert found.own_ids == {"one", "two"}
        assert found.shape.id == "two"


class TestHandlers:
    def test_of_a_gathering_that_something_follows_it_is_the_body(self):
        found = planned(gather([count.call(1)]).then(free).on_error("alert"))
        assert "errbacks" not in canvas(found.envelopes[0])
        (handler,) = canvas(found.envelopes[0])["chord"]["options"]["link_error"]
        assert (handler["task"], "task_id" in handler["options"]) == ("alert", False)

    def test_one_of_the_gathering_alone_is_for_its_members(self):
        found = planned(gather([count.call(1)]).on_error("alert").then(free))
        assert [one["task"] for one in canvas(found.envelopes[0])["errbacks"]] == ["alert"]
        assert "link_error" not in canvas(found.envelopes[0])["chord"]["options"]

    def test_each_is_there_once(self):
        workflow = count.call(1).then(count).on_error(free).on_error(free.step()).on_error("alert")
        (envelope,) = planned(workflow).envelopes
        assert [one["task"] for one in canvas(envelope)["errbacks"]] == [free.name, "alert"]

    def test_what_takes_no_id(self):
        (envelope,) = planned(count.call(1).on_error(named("alert", queue="ops").call("ops"))).envelopes
        (handler,) = canvas(envelope)["errbacks"]
        assert (handler["args"], handler["immutable"], handler["options"]) == (["ops"], True, {"queue": "ops"})


class TestNothingGathered:
    def test_what_follows_gets_an_empty_list(self):
        found = planned(gather([]).then(collect))
        (envelope,) = found.envelopes
        assert (envelope.args, canvas(envelope), found.chords) == (([],), {}, [])

    def test_in_the_middle(self):
        (envelope,) = planned(count.call(1).then(gather([])).then(collect)).envelopes
        (step,) = later(envelope)
        assert (step["args"], step["immutable"]) == ([[]], True)

    def test_at_the_end(self):
        found = planned(resize.call("a").then(gather([])))
        (step,) = later(found.envelopes[0])
        assert (step["task"], step["args"], step["kwargs"]) == ("celery.accumulate", [[]], {"index": 0})
        assert step["options"]["queue"] == "media"
        assert step["immutable"]

    def test_alone_nothing_is_sent(self):
        found = planned(gather([]))
        assert found.envelopes == []
        assert outcome(found.shape, {}) == TaskResult(id=found.shape.id, state=TaskState.SUCCESS, value=[])

    def test_inside(self):
        found = planned(gather([gather([]), count.call(1)]))
        assert [one.task for one in found.envelopes] == ["celery.accumulate", count.name]


class TestShapes:
    series = Series((Leaf("a", count), Leaf("b", count), Leaf("c", resize)))
    group = Branch("g", (Leaf("x", count), Series((Leaf("y", count), Leaf("z", collect)))))

    @staticmethod
    def known(**states: Any) -> dict[str, TaskResult]:
        return {
            name: TaskResult(id=name, state=state)
            if isinstance(state, TaskState)
            else TaskResult(id=name, state=TaskState.SUCCESS, value=state)
            for name, state in states.items()
        }

    def test_the_last_one_decides(self):
        assert outcome(self.series, self.known(a=1, b=2)) is None
        assert outcome(self.series, self.known(c="end")).value == "end"

    def test_what_fails_on_the_way_ends_it(self):
        failed = TaskResult(id="b", state=TaskState.FAILURE, error=ErrorInfo(type="ValueError", message="no"))
        found = outcome(self.series, {**self.known(a=1), "b": failed})
        assert (found.id, found.state, found.error) == ("c", TaskState.FAILURE, failed.error)

    def test_a_gathering_ends_when_all_have(self):
        assert outcome(self.group, self.known(x=1, y=2)) is None
        assert outcome(self.group, self.known(x=1, z={"pages": 2})).value == [1, {"pages": 2}]
        assert outcome(self.group, self.known(x=TaskState.FAILURE, y=1)) is None
        assert outcome(self.group, self.known(x=1, y=TaskState.CANCELLED)).state is TaskState.CANCELLED

    def test_one_member_is_enough_to_end_what_follows(self):
        chord = Series((self.group, Leaf("body", count)))
        assert [leaf.id for leaf in leaves(chord)] == ["x", "y", "z", "body"]
        assert outcome(chord, self.known(y=TaskState.EXPIRED)).state is TaskState.EXPIRED

    def test_the_member_says_more_than_what_follows(self):
        chord = Series((self.group, Leaf("body", count), Leaf("end", count)))
        error = ErrorInfo(type="celery.exceptions.ChordError", message="Dependency y raised")
        given_up = {name: TaskResult(id=name, state=TaskState.FAILURE, error=error) for name in ("body", "end")}
        assert outcome(chord, given_up).error == error
        assert lacks_cause(chord, outcome(chord, given_up), given_up)
        found = outcome(chord, {**given_up, **self.known(y=TaskState.CANCELLED)})
        assert (found.id, found.state) == ("end", TaskState.CANCELLED)

    def test_what_failed_first_is_waited_for(self):
        failed = TaskResult(id="c", state=TaskState.FAILURE, error=ErrorInfo(type="ValueError", message="no"))
        known = {**self.known(a=1), "c": failed}
        assert lacks_cause(self.series, outcome(self.series, known), known)
        known |= self.known(b=TaskState.DEAD_LETTERED)
        found = outcome(self.series, known)
        assert (found.id, found.state) == ("c", TaskState.DEAD_LETTERED)
        assert not lacks_cause(self.series, found, known)

    def test_the_state_of_the_whole(self):
        assert state_of(self.series, self.known(a=TaskState.UNKNOWN)) is TaskState.PENDING
        assert state_of(self.series, self.known(a=TaskState.SCHEDULED, b=TaskState.UNKNOWN)) is TaskState.SCHEDULED
        assert state_of(self.series, self.known(a=1, b=TaskState.PENDING)) is TaskState.STARTED

    def test_steps(self):
        steps = steps_of(self.series, self.known(a=1, b=TaskState.UNKNOWN))
        assert [(one.id, one.task, one.state) for one in steps] == [
            ("a", count.name, TaskState.SUCCESS),
            ("b", count.name, TaskState.PENDING),
            ("c", resize.name, TaskState.PENDING),
        ]

    def test_values_are_as_annotated(self):
        found = outcome(self.group, self.known(x=1, z={"pages": 2}))
        assert typed(self.group, found).value == [1, Report(pages=2)]
        assert coerced(self.group, [1, {"pages": 2}]) == [1, Report(pages=2)]
        assert coerced(self.series, "end") == "end"
