"""Arguments are held to their annotations, before they are sent and before the handler runs; tasks may be classes."""

from __future__ import annotations

import enum
import logging
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from tranship import Client, TaskClass, Worker, codec, named, task
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError, TaskFailed
from tranship.task import task_of
from tranship.task._plain import PlainReader
from tranship.task._spans import span_of, span_text
from tranship.testing.background import BackgroundWorker


class Color(enum.Enum):
    RED = "red"


class Point(TypedDict):
    x: int
    colors: NotRequired[set[Color]]
    more: NotRequired[list[Point]]


def of(annotation: Any, validation: Any = "lax") -> Any:
    def echo(value, *, again=None):
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    return task(name="echo", validation=validation)(echo)


def arrived(echo: Any, value: Any) -> Any:
    """What a worker makes of an argument that a caller gave."""
    call = echo.call(value)
    there = codec.loads(codec.dumps([call.args, call.kwargs]), codec.JSON)
    return echo.coerce(*there)[0][0]


class TestCallers:
    @pytest.mark.parametrize(
        ("annotation", "wrong"),
        [
            (int, "1"),
            (int, 1.5),
            (int, True),
            (str, 1),
            (str, b"a"),
            (bool, 1),
            (float, "1"),
            (int | None, "1"),
            (list[int], ["1"]),
            (list[int], "1"),
            (dict[str, int], {"a": "1"}),
            (dict[str, Any], [1]),
            (list, {"a": 1}),
            (tuple[int, str], (1,)),
            (set[int], ["a"]),
            (Color, "blue"),
            (Literal["a", "b"], "c"),
            (date, "soon"),
            (Annotated[int, Field(ge=1)], 0),
            (timedelta, 1),
            (Point, {"x": "1"}),
            (Point, {}),
            (Point, [1]),
            (list[Point], [{"x": 1, "colors": ["blue"]}]),
            (Point | None, {"x": 1, "more": [{"x": "1"}]}) if sys.version_info >= (3, 12) else (Point | None, 1),
            (Iterable[int], ["1"]),
            (Iterable[int], 1),
        ],
        ids=str,
    )
    def test_a_value_that_is_not_as_annotated_is_refused(self, annotation, wrong):
        with pytest.raises(InvalidArgumentsError, match=r"argument 'value' of task echo: .*; nothing was sent"):
            of(annotation).call(wrong)

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (int, 1),
            (float, 1),
            (float, 1.5),
            (str, "a"),
            (int | None, None),
            (str | int, 1),
            (list[int], [1]),
            (dict[str, Any], {"a": [1]}),
            (dict[int, str], {1: "a"}),
            (tuple[int, ...], (1, 2)),
            (tuple[int, str], (1, "a")),
            (set[int], {1, 2}),
            (frozenset[str], frozenset("a")),
            (Color, Color.RED),
            (dict[str, list[Color]], {"a": [Color.RED]}),
            (date, date(2026, 1, 1)),
            (timedelta, timedelta(days=-1, microseconds=7)),
            (list[timedelta], [timedelta(1)]),
            (Path, Path("/a")),
            (Decimal, Decimal("1.5")),
            (UUID, UUID(int=1)),
            (bytes, b"\xff"),
            (Any, {"a": 1}),
            (object, "a"),
            (Literal["a", 1], 1),
            (Point, {"x": 1}),
            (Point, {"x": 1, "colors": {Color.RED}, "more": [{"x": 2}]}),
            (dict[str, Point], {"a": {"x": 1}}),
            (Iterable[Color], [Color.RED]),
            (Iterable, [1]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("validation", ["lax", "strict"])
    def test_what_is_as_annotated_arrives_as_it_was(self, annotation, value, validation):
        there = arrived(of(annotation, validation), value)
        assert there == value
        assert type(there) is (float if annotation is float else type(value))

    def test_what_was_given_is_sent_unchanged(self):
        value = [1, 2]
        assert of(list[int]).call(value).args[0] is value
        assert of(Color).call("red").args == ("red",)

    def test_the_error_names_type_and_place_and_no_value(self):
        with pytest.raises(InvalidArgumentsError) as caught:
            of(dict[str, list[int]]).call({"a": [1, "hunter2"]})
        assert str(caught.value) == (
            "argument 'value' of task echo: a.1: Input should be a valid integer, got str; nothing was sent"
        )

    def test_a_signature_is_shown_as_it_was_written(self):
        @task(name="written")
        def written(a: int, *, b: str = "x") -> list[int]: ...

        with pytest.raises(
            InvalidArgumentsError, match=r"fit written\(a: int, \*, b: str = 'x'\) -> list\[int\]: miss"
        ):
            written.call()

    def test_the_error_tells_the_first_of_many(self):
        with pytest.raises(InvalidArgumentsError) as caught:
            of(list[int]).call(["a"] * 1000)
        assert "; 4: Input should be a valid integer, got str; and 995 more; nothing was sent" in str(caught.value)
        assert "; 5: " not in str(caught.value)

    def test_every_kind_of_parameter_is_checked(self):
        @task(name="kinds")
        def kinds(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> None: ...

        kinds.call(1, 2, 3, c=4, d=5)
        for args, kwargs, name in [
            (("x", 2), {}, "a"),
            ((1,), {"b": "x"}, "b"),
            ((1, 2, "x"), {}, "rest"),
            ((1, 2), {"c": "x"}, "c"),
            ((1, 2), {"d": "x"}, "more"),
        ]:
            with pytest.raises(InvalidArgumentsError, match=f"argument '{name}' of task kinds"):
                kinds.call(*args, **kwargs)

    def test_a_default_need_not_be_as_annotated(self):
        @task(name="x")
        def work(a: int = None, b: str = ...) -> None: ...  # noqa: RUF013 - on purpose

        assert work.call().args == ()
        assert work.coerce((), {}) == ((), {})

    def test_types_that_nobody_can_check_are_let_pass(self):
        class Opaque: ...

        assert of(Opaque).call("a").args == ("a",)
        assert of(list[Opaque]).coerce((["a"],), {}) == ((["a"],), {})

    def test_nothing_is_sent_of_a_batch_with_a_wrong_one(self):
        with Client("memory://typed-batch") as client:
            with pytest.raises(InvalidArgumentsError):
                client.submit_many(of(int).call(value) for value in (1, "2"))
            with BackgroundWorker(Worker("memory://typed-batch", tasks=[of(int)])):
                assert client.submit(of(int), 3).result(5) == 3


class TestWorkers:
    @pytest.mark.parametrize(
        ("annotation", "sent", "made"), [(int, "3", 3), (float, 1, 1.0), (list[int], ["1"], [1]), (bool, "true", True)]
    )
    def test_what_others_send_is_converted(self, annotation, sent, made):
        (value,), _ = of(annotation).coerce((sent,), {})
        assert value == made
        assert type(value) is type(made)

    @pytest.mark.parametrize(("annotation", "sent"), [(int, "3"), (list[int], ["1"]), (bool, "true"), (bool, 1)])
    def test_or_refused_where_the_task_is_strict(self, annotation, sent):
        with pytest.raises(InvalidArgumentsError, match="argument 'value' of task echo"):
            of(annotation, "strict").coerce((sent,), {})

    def test_strict_takes_what_json_says(self):
        strict = of(dict[int, tuple[date, Color]], "strict")
        assert strict.coerce(({"1": ["2026-01-01", "red"]},), {})[0][0] == {1: (date(2026, 1, 1), Color.RED)}

    def test_off_is_off(self):
        loose = of(BaseModel, "off")
        assert loose.call(3).args == (3,)
        assert loose.coerce(({"a": 1},), {}) == (({"a": 1},), {})
        assert loose.coerce_result({"a": 1}) == {"a": 1}
        with pytest.raises(InvalidArgumentsError, match="do not fit"):
            loose.call(3, 4)

    def test_another_word_is_refused(self):
        with pytest.raises(InvalidOptionError, match="validation is 'hard'"):
            of(int, "hard")

    def test_a_wrong_argument_is_a_failure_and_the_worker_goes_on(self):
        echo = of(int)
        with BackgroundWorker(Worker("memory://typed", tasks=[echo])), Client("memory://typed") as client:
            with pytest.raises(TaskFailed, match=r"argument 'value' of task echo: .*got list") as caught:
                client.submit(named("echo"), []).result(5)
            assert (caught.value.code, caught.value.retryable) == ("INVALID_ARGUMENTS", False)
            assert client.submit(named("echo"), "7").result(5) == 7


class TestResults:
    def test_results_are_read_as_annotated(self):
        both = of(tuple[int, set[int]])
        with BackgroundWorker(Worker("memory://typed-r", tasks=[both])), Client("memory://typed-r") as client:
            handle = client.submit(both, (1, {2}))
            assert handle.result(5) == handle.wait(5).value == handle.info().unwrap() == (1, {2})
            assert client.collect([handle])[0].value == (1, {2})
            assert client.handle(handle.id, both).result(5) == (1, {2})
            assert client.handle(handle.id).result(5) == [1, [2]]
            with pytest.raises(InvalidArgumentsError, match="'both' is no task"):
                client.handle(handle.id, "both")

    def test_a_result_that_is_not_as_annotated_is_handed_on(self):
        assert of(tuple[int, int]).coerce_result("x") == "x"
        assert of(int).coerce_result("x") == "x"


class TestWarnings:
    def said(self, caplog) -> list[str]:
        return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]

    @pytest.mark.parametrize(
        ("value", "what"),
        [
            ({"a": (1,)}, "argument 'value'['a'] is a tuple and arrives as a list"),
            ([{1: 2}], "argument 'value'[0] has keys of type int, which arrive as text"),
            ({None: 2}, "argument 'value' has keys of type NoneType, which arrive as text"),
            (Color.RED, "argument 'value' is a Color and arrives as its value"),
        ],
        ids=str,
    )
    def test_a_value_that_changes_is_said_once_with_its_place(self, caplog, value, what):
        loose = of(Any)
        for _ in range(3):
            loose.call(value)
        assert self.said(caplog) == [f"task echo: {what}; annotate it, if it is to arrive as it is"]

    def test_nothing_is_said_of_what_arrives(self, caplog):
        of(Any).call({"a": [1, "b", None, {"c": date(2026, 1, 1)}]})
        of(tuple[int, ...]).call((1,))
        of(dict[int, Color]).call({1: Color.RED})
        assert self.said(caplog) == []

    @pytest.mark.parametrize(("value", "most"), [([], 100), (1, 2000)])
    def test_looking_ends(self, caplog, value, most):
        loose = of(Any)
        assert loose.arguments.sends(value)
        for _ in range(most):
            loose.call(value)
        assert not loose.arguments.sends((1,))
        assert loose.call((1,)).args == ((1,),)
        assert self.said(caplog) == []

    def test_looking_ends_with_the_warning(self, caplog):
        @task(name="loose")
        def loose(*values, **named):
            pass

        loose.call((1,), (2,), [], a={1: 2})
        loose.call({1: 2})
        advice = "annotate it, if it is to arrive as it is"
        assert self.said(caplog) == [
            f"task loose: argument 'values' is a tuple and arrives as a list; {advice}",
            f"task loose: argument 'named' has keys of type int, which arrive as text; {advice}",
        ]
        assert not loose.arguments.sends((1,))

    def test_a_call_that_misses_the_signature_uses_nothing_up(self, caplog):
        loose = of(Any)
        with pytest.raises(InvalidArgumentsError):
            loose.call(1, 2)
        loose.call((1,))
        assert len(self.said(caplog)) == 1

    def test_a_task_with_other_options_looks_no_more_either(self, caplog):
        loose = of(Any)
        high = loose.options(priority="high")
        loose.call((1,))
        high.call((1,))
        assert len(self.said(caplog)) == 1

    def test_who_wants_no_checks_is_told_nothing(self, caplog):
        @task(name="loose", validation="off")
        def loose(value):
            return 1, value

        assert loose.call((1,)).args == ((1,),)
        assert loose.write_result((1, 2)) == (1, 2)
        assert self.said(caplog) == []

    def test_of_a_result_too(self, caplog):
        @task(name="pair")
        def pair():
            return 1, 2

        with BackgroundWorker(Worker("memory://typed-w", tasks=[pair])), Client("memory://typed-w") as client:
            for _ in range(3):
                assert client.submit(pair).result(5) == [1, 2]
        assert self.said(caplog) == [
            "task pair: the result is a tuple and arrives as a list; annotate it, if it is to arrive as it is"
        ]


class Resize(TaskClass, name="typed.resize", queue="media", run_timeout=30):
    """Make it smaller."""

    class Args(BaseModel):
        uri: str
        width: int = Field(640, ge=1)
        mode: str = Field("fit", alias="Mode")

    async def run(self, args: Args) -> tuple[str, int]:
        return args.uri, args.width


@dataclass
class Numbers:
    seen: list[int] = field(default_factory=list)
    every: set[int] = field(default_factory=set)


class Sum(TaskClass, name="typed.sum"):
    Args = Numbers

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.calls = 0

    def run(self, args: Numbers) -> list[int]:
        self.calls += 1
        return [self.start + sum(args.seen) + sum(args.every), self.calls]


class TestClasses:
    def test_it_is_a_task(self):
        assert Resize.task.name == "typed.resize"
        assert Resize.task.is_async
        assert not Sum.task.is_async
        assert Resize.task.options_set.queue == "media"
        assert Resize.task.__doc__ == "Make it smaller."
        assert Resize.task is Resize.task
        assert task_of(Resize) is Resize.task

    async def test_it_is_called_as_any_class(self):
        assert await Resize().run(Resize.Args(uri="a")) == ("a", 640)
        assert await Resize.task(Resize.Args(uri="a")) == ("a", 640)

    def test_model_and_fields_are_the_same_message(self):
        expected = {"uri": "a", "width": 3, "mode": "fit"}
        assert dict(Resize.task.call(Resize.Args(uri="a", width=3)).kwargs) == expected
        assert dict(Resize.task.call(**expected).kwargs) == expected
        assert dict(Resize.task.call("a", 3, "fit").kwargs) == expected
        assert Resize.task.coerce(("a", 3), {"Mode": "cut"})[0][0].mode == "cut"

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ((), {}, "uri: Field required"),
            (("a",), {"width": "x"}, "width: Input should be a valid integer.*got str"),
            (("a",), {"width": 0}, "width: Input should be greater"),
            (("a",), {"hight": 3}, "Resize.Args has no 'hight'; it has uri, width, mode"),
            (("a",), {"uri": "b"}, "multiple values for uri"),
            (("a", 1, "b", 2), {}, "it takes 3 .uri, width, mode., 4 were given"),
        ],
    )
    def test_a_wrong_call_is_refused_before_it_is_sent(self, args, kwargs, message):
        with Client("memory://typed-c") as client, pytest.raises(InvalidArgumentsError, match=message):
            client.submit(Resize, *args, **kwargs)

    def test_workers_take_the_class_or_an_object(self):
        with (
            BackgroundWorker(Worker("memory://typed-k", tasks=[Resize, Sum(10)])),
            Client("memory://typed-k") as client,
        ):
            assert client.submit(Resize, uri="a", width=3).result(5) == ("a", 3)
            assert client.submit(Resize.task, Resize.Args(uri="a")).result(5) == ("a", 640)
            # One object for all calls.
            assert client.submit(Sum, seen=[1], every={2}).result(5) == [13, 1]
            assert client.submit(Sum.task.options(priority="high"), Numbers([5])).result(5) == [15, 2]
            assert client.submit("typed.sum", [7]).result(5) == [17, 3]

    def test_args_that_changed_since_the_submit_are_a_failure_that_says_so(self):
        class Newer(TaskClass, name="typed.changed"):
            class Args(BaseModel):
                uri: str
                needed: int

            def run(self, args: Args) -> str:
                return args.uri

        with BackgroundWorker(Worker("memory://typed-n", tasks=[Newer])), Client("memory://typed-n") as client:
            # As the older one has sent it: without what is needed now, and with what is gone.
            with pytest.raises(TaskFailed, match=r"arguments of task typed\.changed: needed: Field required"):
                client.submit("typed.changed", uri="a", gone=1).result(5)
            assert client.submit("typed.changed", uri="a", gone=1, needed=2).result(5) == "a"

    def test_options_are_inherited_and_names_are_not(self):
        class Wide(Resize, name="typed.wide", priority="high"): ...

        assert (Wide.task.name, Wide.task.options_set.queue) == ("typed.wide", "media")
        assert Wide.task.options_set.level > Resize.task.options_set.level or Wide.task is not Resize.task

    def test_extra_fields_are_taken_where_the_model_does(self):
        class Open(TaskClass, name="typed.open"):
            class Args(BaseModel):
                model_config = ConfigDict(extra="allow")

            def run(self, args: Args) -> None: ...

        assert dict(Open.task.call(anything=1).kwargs) == {"anything": 1}

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"run": lambda self, args: None}, "has no class Args"),
            (
                {"run": lambda self, args: None, "Args": int},
                "Args of task x is <class 'int'>; expected a pydantic model",
            ),
            ({"run": lambda self: None, "Args": Numbers}, "run of task x has to take self and args"),
            ({"run": 3, "Args": Numbers}, "it has no method run"),
        ],
    )
    def test_what_is_no_task_is_refused_at_once(self, members, message):
        with pytest.raises(ConfigurationError, match=message):
            type("X", (TaskClass,), members, name="x")

    def test_a_nested_class_needs_a_name(self):
        with pytest.raises(ConfigurationError, match="which no worker can import"):

            class Nested(TaskClass):
                Args = Numbers

                def run(self, args: Numbers) -> None: ...

    def test_one_that_is_to_be_derived_from_is_no_task(self):
        class Media(TaskClass, queue="media"): ...

        with pytest.raises(InvalidOptionError, match="expected functions decorated with @task, or TaskClass classes"):
            Worker("memory://", tasks=[Media])

    def test_two_of_one_name_are_told_with_their_places(self):
        @task(name="typed.resize")
        def other() -> None: ...

        with pytest.raises(
            InvalidOptionError, match=r"two tasks are named 'typed.resize', .*\.Resize and .*_typed_tasks\..*other"
        ):
            Worker("memory://", tasks=[Resize, other])


class TestPlainReader:
    """Without pydantic."""

    @pytest.mark.parametrize(
        ("annotation", "data", "made"),
        [
            (int, 3, 3),
            (float, 1, 1.0),
            (list[int], [1], [1]),
            (tuple[int, str], [1, "a"], (1, "a")),
            (set[int], [1, 1], {1}),
            (dict[int, Color], {"1": "red"}, {1: Color.RED}),
            (int | None, None, None),
            (date | str, "2026-01-01", "2026-01-01"),
            (date, "2026-01-01", date(2026, 1, 1)),
            (timedelta, "P1DT1.500000S", timedelta(days=1, seconds=1.5)),
            (Numbers, {"seen": [1], "every": [2], "gone": 3}, Numbers([1], {2})),
            (list[Numbers], [{}], [Numbers()]),
            (Literal["a"], "a", "a"),
            (Annotated[int, "x"], 3, 3),
            (Point, {"x": 1, "colors": ["red"], "gone": 3}, {"x": 1, "colors": {Color.RED}}),
            (typing_extensions.TypedDict("Other", {"x": int}), {"x": 1}, {"x": 1}),
            (Iterable[int], (1, 2), [1, 2]),
            (Any, "a", "a"),
        ],
        ids=str,
    )
    def test_data_becomes_what_is_annotated(self, annotation, data, made):
        assert PlainReader("it", annotation, strict=True)(data) == made

    @pytest.mark.parametrize(
        ("annotation", "data", "message"),
        [
            (int, "x", "it: expected int, got str"),
            (int, None, "it: expected int, got None"),
            (list[int], ["x"], "it: 0: expected int, got str"),
            (list[int], "12", "it: expected list, got str"),
            (dict[str, int], {"a": []}, "it: a: expected int, got list"),
            (tuple[int, int], [1], "it: expected a tuple of 2, got list"),
            (int | None, "x", "it: expected int or None, got str"),
            (Literal["a"], "b", "it: expected one of 'a', got str"),
            (Color, "blue", "it: expected Color, got str"),
            (Point, {"x": 1, "more": [{"x": "a"}]}, "it: more.0.x: expected int, got str"),
            (Point, {}, "it: x: expected a value, got None"),
            (Point, 1, "it: expected dict, got int"),
            (date, "soon", "it: expected date, got str"),
            (Resize, 3, None),
        ],
        ids=str,
    )
    def test_what_is_no_such_thing_is_said(self, annotation, data, message):
        read = PlainReader("it", annotation)
        if message is None:  # what it does not know it leaves alone
            assert read(data) == data
            return
        with pytest.raises(InvalidArgumentsError) as caught:
            read(data)
        assert str(caught.value) == message

    def test_only_the_strict_one_takes_no_text_for_a_number(self):
        assert PlainReader("it", int)("3") == 3
        with pytest.raises(InvalidArgumentsError):
            PlainReader("it", int, strict=True)("3")

    def test_all_of_it_works_where_pydantic_is_not(self):
        code = (
            "import sys\nsys.modules['pydantic'] = None\nimport importlib.util as u\nfind = u.find_spec\n"
            "u.find_spec = lambda name, *rest: None if name == 'pydantic' else find(name, *rest)\n"
            "import dataclasses\nfrom tranship import TaskClass, task, codec\n"
            "@dataclasses.dataclass\nclass A:\n    x: int\n    y: set[int]\n"
            "class T(TaskClass, name='t'):\n    Args = A\n    def run(self, args): return args\n"
            "@task(name='f')\ndef f(a: A, n: int) -> A: ...\n"
            "call = f.call(A(1, {2}), 3)\nthere = codec.loads(codec.dumps([call.args, call.kwargs]), codec.JSON)\n"
            "assert f.coerce(*there) == ((A(1, {2}), 3), {})\n"
            "call = T.task.call(A(1, {2}))\n"
            "assert T.task.coerce((), codec.loads(codec.dumps(call.kwargs), codec.JSON)) == ((A(1, {2}),), {})\n"
            "try: f.call({'x': 'a', 'y': []}, 3)\nexcept TypeError as e: print(e)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
        assert done.stderr == ""
        assert done.stdout == "argument 'a' of task f: x: expected int, got str; nothing was sent\n"


@given(st.timedeltas())
def test_lengths_of_time_are_text_and_back(span):
    assert span_of(span_text(span)) == span
