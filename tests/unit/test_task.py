"""Tasks: names, options, the argument check, envelopes, models, and the context of a running one."""

import dataclasses
import inspect
import random
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal, get_type_hints

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tranship.envelope import Envelope, Priority, new_id
from tranship.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidArgumentsError,
    InvalidOptionError,
    LeaseLost,
    TaskCancelled,
    TaskTimedOut,
    UnsupportedError,
)
from tranship.retry import RetryPolicy
from tranship.task import (
    AsyncTask,
    CancelReason,
    OptionArguments,
    SyncTask,
    Task,
    TaskContext,
    TaskOptions,
    current,
    current_or_none,
    enter,
    named,
    task,
)

NOW = 1_700_000_000.0


@task(queue="media", run_timeout=30)
async def resize(uri: str, width: int = 640, *, mode: str = "fit") -> str:
    """Make it smaller."""
    return f"{uri}-{width}-{mode}"


@task
def add(a: int, b: int) -> int:
    return a + b


class Callable:
    def __call__(self, a: int) -> int:
        return a + 1


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        return a + 1


class TestDecorator:
    async def test_the_function_stays_callable(self):
        assert await resize("a", 1, mode="cut") == "a-1-cut"
        assert add(1, b=2) == 3

    def test_the_task_looks_like_its_function(self):
        assert resize.__name__ == resize.__qualname__ == "resize"
        assert resize.__doc__ == "Make it smaller."
        assert resize.__module__ == __name__
        assert resize.__wrapped__ is resize.function
        assert inspect.signature(resize) == inspect.signature(resize.function)
        assert repr(resize) == f"<AsyncTask {__name__}.resize>"

    def test_coroutine_functions_are_told_apart(self):
        assert isinstance(resize, AsyncTask)
        assert resize.is_async
        assert isinstance(add, SyncTask)
        assert not add.is_async
        assert task(name="x")(AsyncCallable()).is_async
        assert not task(name="x")(Callable()).is_async
        assert task(name="x")(partial(resize.function, "a")).is_async

    def test_objects_that_can_be_called_are_tasks(self):
        increment = task(name="x.increment")(Callable())
        assert increment(1) == 2
        with pytest.raises(InvalidArgumentsError):
            increment.call(1, 2)
        assert task(name="x.max")(partial(add.function, 1))(2) == 3

    def test_attributes_of_the_function_hide_none_of_ours(self):
        def work():
            pass

        work.call = work.options = "mine"
        assert task(name="x")(work).call().task.name == "x"

    def test_static_methods_are_functions(self):
        class Tools:
            @staticmethod
            @task(name="tools.double")
            def double(a: int) -> int:
                return 2 * a

        assert Tools.double(2) == Tools().double(2) == 4

    @pytest.mark.parametrize(
        ("thing", "why"),
        [
            (Callable, "it is a class"),
            (3, "it cannot be called"),
            (resize, "it is one already"),
            (staticmethod(add.function), "put @task below @staticmethod"),
            (inspect.unwrap(Callable.__call__), "is a method"),
            (Callable().__call__, "it is a method, bound to an object that other processes do not have"),
            ([].append, "it is a method, bound to an object"),
        ],
    )
    def test_what_cannot_be_a_task_is_refused(self, thing, why):
        with pytest.raises(ConfigurationError, match=why):
            task(name="x")(thing)

    async def test_generators_are_called_as_generators(self):
        async def stream(count: int):
            for number in range(count):
                yield number

        def produce(count: int):
            yield from range(count)

        streaming, producing = (task(name="x")(function) for function in (stream, produce))
        assert [number async for number in streaming(2)] == [0, 1]
        assert list(producing(2)) == [0, 1]
        assert (streaming.is_async, streaming.yields_parts) == (True, True)
        assert (producing.is_async, producing.yields_parts) == (False, True)
        with pytest.raises(InvalidArgumentsError):
            producing.call("two")

    def test_a_function_without_a_signature_is_refused(self):
        with pytest.raises(ConfigurationError, match="has no signature"):
            task(name="x")(min)


class TestNames:
    def test_the_default_is_module_and_qualname(self):
        assert add.name == f"{__name__}.add"
        assert task(name="my.add")(add.function).name == "my.add"

    def test_what_no_worker_can_import_needs_a_name(self):
        def nested():
            pass

        with pytest.raises(ConfigurationError, match="function inside of a function"):
            task(nested)
        with pytest.raises(ConfigurationError, match="is a lambda"):
            task(lambda: None)
        with pytest.raises(ConfigurationError, match="has no name of its own"):
            task(Callable())
        assert task(name="x.nested")(nested).name == "x.nested"

    def test_an_empty_name_is_refused(self):
        with pytest.raises(InvalidOptionError, match="name is ''"):
            named("")

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (["-m", "shop.jobs"], "shop.jobs.work"),
            (["-m", "shop"], "shop.__main__.work"),
            (["shop/jobs.py"], "jobs.work"),
            (["-c", "from tranship.task import task\n@task\ndef work(): pass\nprint(work.name)"], "__main__.work"),
        ],
    )
    def test_main_is_named_as_others_import_it(self, tmp_path, arguments, name):
        package = tmp_path / "shop"
        package.mkdir()
        code = "from tranship.task import task\n@task\ndef work(): pass\nprint(work.name)\n"
        for file in ("jobs.py", "__main__.py"):
            (package / file).write_text(code)
        (package / "__init__.py").touch()
        done = subprocess.run(
            [sys.executable, *arguments], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
        assert (done.stdout.strip(), done.stderr) == (name, "")


class TestOptions:
    def test_the_typed_arguments_are_the_fields(self):
        assert list(OptionArguments.__annotations__) == [part.name for part in dataclasses.fields(TaskOptions)]
        hints = get_type_hints(TaskOptions)
        assert get_type_hints(OptionArguments) == {name: hints[name] for name in OptionArguments.__annotations__}

    def test_options_make_a_copy(self):
        urgent = resize.options(priority="high", deadline_in=30, cancel_key="job-7")
        assert urgent.options_set.priority is Priority.HIGH
        assert (urgent.options_set.queue, urgent.options_set.run_timeout) == ("media", 30)
        assert resize.options_set == TaskOptions(queue="media", run_timeout=30)
        assert urgent.name == resize.name
        assert urgent.function is resize.function

    def test_merging_is_the_same_as_constructing(self):
        changes = {"queue": "q", "priority": "low", "delay": 3, "headers": {"a": 1}, "retry": RetryPolicy()}
        assert TaskOptions(store_result=False).merged(**changes) == TaskOptions(store_result=False, **changes)

    def test_what_is_said_later_wins_over_its_rival(self):
        relative = TaskOptions(deadline_in=5, delay=1)
        absolute = relative.merged(deadline=NOW, not_before=NOW)
        assert (absolute.deadline, absolute.deadline_in) == (NOW, None)
        assert (absolute.not_before, absolute.delay) == (NOW, None)
        assert absolute.merged(deadline_in=7).deadline is None
        assert relative.merged(deadline=None).deadline_in == 5

    def test_datetimes_are_moments(self):
        moment = datetime.fromtimestamp(NOW, UTC)
        assert TaskOptions(deadline=moment, not_before=moment).deadline == NOW

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"queue": ""}, "queue is ''"),
            ({"queue": None}, "queue is None"),
            ({"priority": "urgent"}, "priority 'urgent' is unknown; use one of high, normal, low, very_low"),
            ({"priority": 3}, "priority 3 is unknown"),
            ({"deadline_in": 0}, "deadline_in is 0; expected seconds, or a timedelta, above 0"),
            ({"deadline_in": "5"}, "deadline_in is '5'"),
            ({"deadline": float("nan")}, "deadline is nan"),
            ({"deadline": datetime(2030, 1, 1)}, "expected a datetime with a time zone"),  # noqa: DTZ001
            ({"run_timeout": -1}, "run_timeout is -1"),
            ({"cancel_key": ""}, "cancel_key is ''"),
            ({"persistent_output": 1}, "persistent_output is 1"),
            ({"delay": -0.1}, "delay is -0.1; expected seconds, or a timedelta, of at least 0"),
            ({"dedup_window": 0}, "dedup_window is 0"),
            ({"retry": 3}, r"retry is 3; expected a RetryPolicy, such as RetryPolicy\(max_attempts=3\)"),
            ({"store_result": 1}, "store_result is 1"),
            ({"result_ttl": 0}, "result_ttl is 0"),
            ({"headers": {1: 2}}, r"headers is \{1: 2\}; expected a mapping with text keys"),
            ({"headers": None}, "headers is None"),
            ({"task_id": 7}, "task_id is 7"),
            ({"serializer": "pickle"}, "serializer is 'pickle'; expected json, msgpack, or the content type"),
            ({"deadline": NOW, "deadline_in": 3}, "deadline and deadline_in say the same thing"),
            ({"run_timeout": timedelta(0)}, r"run_timeout is .*; expected seconds, or a timedelta, above 0"),
            ({"delay": timedelta(-1)}, "delay is"),
            ({"deadline": timedelta(1)}, "expected a moment; for a length of time there is deadline_in"),
            ({"not_before": timedelta(1)}, "expected a moment; for a length of time there is delay"),
            ({"not_before": NOW, "delay": 3}, "not_before and delay say the same thing"),
        ],
    )
    def test_a_bad_value_is_named_at_once(self, options, message):
        for make in (TaskOptions, TaskOptions().merged, resize.options, partial(named, "x"), task):
            with pytest.raises(InvalidOptionError, match=message):
                make(**options)

    @pytest.mark.parametrize("option", ["deadline_in", "run_timeout", "delay", "dedup_window", "result_ttl"])
    def test_a_length_of_time_may_be_a_timedelta(self, option):
        given = TaskOptions(**{option: timedelta(minutes=1, milliseconds=5)})
        assert given == TaskOptions(**{option: 60.005})
        assert type(getattr(given, option)) is float

    def test_an_unknown_option_is_named(self):
        with pytest.raises(InvalidOptionError, match=r"'priorty' is unknown; did you mean priority\? known are: queue"):
            resize.options(priorty="high")


PARAMETERS = st.lists(
    st.sampled_from(
        [
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_KEYWORD,
        ]
    ),
    max_size=6,
)


def _signature(kinds, defaults):
    """A valid signature of these kinds; once a positional parameter has a default, those after it have one."""
    chosen, defaulted = [], False
    for index, kind in enumerate(sorted(kinds)):
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            if any(parameter.kind is kind for parameter in chosen):
                continue
            chosen.append(inspect.Parameter(f"p{index}", kind))
            continue
        keyword = kind is inspect.Parameter.KEYWORD_ONLY
        has_default = defaults[index] or (defaulted and not keyword)
        defaulted = defaulted or (has_default and not keyword)
        chosen.append(inspect.Parameter(f"p{index}", kind, default=1 if has_default else inspect.Parameter.empty))
    return inspect.Signature(chosen)


class TestCheck:
    @given(
        kinds=PARAMETERS,
        defaults=st.lists(st.booleans(), min_size=6, max_size=6),
        args=st.lists(st.integers(), max_size=4),
        kwargs=st.dictionaries(st.sampled_from([f"p{index}" for index in range(6)] + ["other"]), st.integers()),
    )
    def test_the_stub_takes_what_the_signature_takes(self, kinds, defaults, args, kwargs):
        # Python 3.11's bind refuses what a call takes: a positional-only name again among **kwargs.
        assume(not {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_KEYWORD} <= set(kinds))
        signature = _signature(kinds, defaults)

        def function(*args, **kwargs):
            pass

        function.__signature__ = signature
        checked = task(name="x")(function)
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            with pytest.raises(InvalidArgumentsError):
                checked.call(*args, **kwargs)
        else:
            checked.call(*args, **kwargs)

    def test_the_error_says_what_is_wrong_without_showing_values(self):
        with pytest.raises(InvalidArgumentsError) as caught:
            resize.call(width="hunter2")
        assert str(caught.value) == (
            f"the arguments do not fit {resize.name}(uri: str, width: int = 640, *, mode: str = 'fit') -> str: "
            "missing a required argument: 'uri'"
        )
        with pytest.raises(InvalidArgumentsError, match="got an unexpected keyword argument 'widht'"):
            resize.call("a", widht=3)

    def test_it_is_a_type_error_too(self):
        with pytest.raises(TypeError):
            add.call(1)

    def test_a_call_keeps_its_arguments(self):
        call = resize.call("a", width=3)
        assert (call.task, call.args, call.kwargs) == (resize, ("a",), {"width": 3})

    def test_a_task_elsewhere_takes_anything_and_cannot_be_called(self):
        far = named("shop.ship", queue="q")
        assert far.call(1, 2, x=3).args == (1, 2)
        assert far.options_set.queue == "q"
        assert far.function is None
        assert far.coerce((1,), {}) == ((1,), {})
        assert far.coerce_result(1) == 1
        with pytest.raises(ConfigurationError, match=r"task shop\.ship is defined elsewhere"):
            far()


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "queue": NAMES,
        "priority": st.sampled_from(["high", "normal", "low", "very_low"]),
        "deadline_in": st.floats(min_value=0.1, max_value=1e6),
        "run_timeout": st.floats(min_value=0.1, max_value=1e6),
        "cancel_key": NAMES,
        "persistent_output": st.booleans(),
        "delay": st.floats(min_value=0, max_value=1e6),
        "dedup_key": NAMES,
        "dedup_window": st.floats(min_value=0.1, max_value=1e6),
        "retry": st.just(RetryPolicy(max_attempts=7)),
        "store_result": st.none() | st.booleans(),
        "result_ttl": st.floats(min_value=0.1, max_value=1e6),
        "headers": st.dictionaries(NAMES, st.integers()),
        "serializer": st.sampled_from(["json", "msgpack"]),
    },
)
SAME = ["run_timeout", "cancel_key", "persistent_output", "dedup_key", "dedup_window", "retry", "result_ttl", "headers"]


class TestEnvelope:
    @given(options=OPTIONS)
    def test_the_fast_envelope_is_the_one_the_constructor_makes(self, options):
        chosen = TaskOptions(**options)
        envelope = add.envelope((1,), {"b": 2}, now=NOW, options=chosen, reply_to="here")
        assert type(envelope) is Envelope
        assert envelope == Envelope(
            id=envelope.id,
            task=add.name,
            args=(1,),
            kwargs={"b": 2},
            queue=chosen.queue,
            priority=chosen.level,
            deadline=None if chosen.deadline_in is None else NOW + chosen.deadline_in,
            not_before=None if chosen.delay is None else NOW + chosen.delay,
            store_result=chosen.store_result,
            reply_to="here",
            content_type={"json": "application/json", "msgpack": "application/x-msgpack"}[chosen.serializer],
            **{name: getattr(chosen, name) for name in SAME},
        )

    def test_every_field_is_there_and_none_can_be_changed(self):
        envelope = add.envelope((1, 2), {}, now=NOW)
        assert all(hasattr(envelope, part.name) for part in dataclasses.fields(Envelope))
        with pytest.raises(dataclasses.FrozenInstanceError):
            envelope.queue = "other"
        assert dataclasses.replace(envelope, attempt=1).attempt == 1

    def test_ids_are_fresh_unless_given(self):
        first, second = (add.envelope((1, 2), {}, now=NOW).id for _ in range(2))
        assert first != second
        assert (uuid.UUID(first).version, uuid.UUID(first).variant) == (7, uuid.RFC_4122)
        assert str(uuid.UUID(first)) == first
        assert add.options(task_id="mine").envelope((1, 2), {}, now=NOW).id == "mine"

    def test_absolute_options_stay_as_they_are(self):
        envelope = add.options(deadline=NOW + 9, not_before=NOW + 1).envelope((1, 2), {}, now=NOW)
        assert (envelope.deadline, envelope.not_before) == (NOW + 9, NOW + 1)

    def test_a_task_submitted_by_a_task_has_its_family_and_no_more_time(self):
        parent = TaskContext(Envelope(id="p", task="t", deadline=NOW + 10, root_id="r"))
        child = add.envelope((1, 2), {}, now=NOW, parent=parent)
        assert (child.parent_id, child.root_id, child.deadline) == ("p", "r", NOW + 10)
        assert add.options(deadline_in=5).envelope((1, 2), {}, now=NOW, parent=parent).deadline == NOW + 5
        assert add.options(deadline_in=50).envelope((1, 2), {}, now=NOW, parent=parent).deadline == NOW + 10
        first = TaskContext(Envelope(id="p", task="t"))
        assert add.envelope((1, 2), {}, now=NOW, parent=first).root_id == "p"


class Item(BaseModel):
    name: str
    count: int = Field(default=1, ge=1)


@dataclasses.dataclass
class Address:
    street: str
    since: datetime | None = None


@task
def ship(item: Item, to: Address, *more: Item, note: str = "", **extras: "Item") -> Item:
    return item


@task
def ship_all(items: list[Item], by: Annotated[Address | None, "where"] = None, kind: Literal["a"] = "a") -> None: ...


@task
def refer(later: "Later | None", never: "Unknown" = None) -> None: ...  # noqa: F821 - on purpose


class Later(BaseModel):
    x: int


class TestModels:
    def test_data_becomes_models(self):
        item, address = {"name": "pen", "count": "3"}, {"street": "Main"}
        args, kwargs = ship.coerce((item, address, item), {"note": "n", "gift": item})
        assert args == (Item(name="pen", count=3), Address("Main"), Item(name="pen", count=3))
        assert kwargs == {"note": "n", "gift": Item(name="pen", count=3)}

    def test_models_inside_of_other_types_count(self):
        args, kwargs = ship_all.coerce(([{"name": "pen"}],), {"by": {"street": "s", "since": "2020-01-01T00:00:00Z"}})
        assert args == ([Item(name="pen")],)
        assert kwargs == {"by": Address("s", datetime(2020, 1, 1, tzinfo=UTC))}

    def test_models_stay_models(self):
        item = Item(name="pen")
        (coerced, _), _ = ship.coerce((item, Address("s")), {})
        assert coerced is item

    def test_what_is_as_annotated_is_handed_on_untouched(self):
        args, kwargs = (1,), {"b": 2}
        assert add.coerce(args, kwargs) == (args, kwargs)
        assert add.coerce(args, kwargs)[0] is args

    def test_bad_data_is_named_without_its_value(self):
        with pytest.raises(InvalidArgumentsError) as caught:
            ship.coerce(({"name": "pen", "count": "hunter2"}, {"street": "s"}), {})
        assert f"argument 'item' of task {ship.name}: count: Input should be a valid integer" in str(caught.value)
        assert "hunter2" not in str(caught.value)

    def test_arguments_of_foreign_callers_are_checked(self):
        with pytest.raises(InvalidArgumentsError, match="missing a required argument: 'to'"):
            ship.coerce(({"name": "pen"},), {})

    def test_results_become_models(self):
        assert ship.coerce_result({"name": "pen"}) == Item(name="pen")
        assert add.coerce_result("3") == "3"
        with pytest.raises(InvalidArgumentsError, match="the result of task"):
            ship.coerce_result({})

    def test_types_declared_later_are_found_and_unknown_ones_are_said(self, caplog):
        arguments = refer.coerce(({"x": 1},), {"never": {"y": 1}})
        assert arguments == ((Later(x=1),), {"never": {"y": 1}})
        assert "annotation 'Unknown' of never is not known" in caplog.text

    def test_a_type_that_pydantic_cannot_make_is_said(self):
        class Opaque:
            pass

        def work(pair: tuple[Item, Opaque]) -> None: ...

        with pytest.raises(InvalidArgumentsError, match="cannot be made of data by pydantic"):
            task(name="x")(work).coerce((({"name": "a"}, 1),), {})

    def test_whatever_a_validator_raises_is_a_bad_argument(self):
        @dataclasses.dataclass
        class Strict:
            a: int

            def __post_init__(self):
                raise LookupError("nothing there")

        def work(strict: Strict) -> None: ...

        with pytest.raises(InvalidArgumentsError, match="LookupError: nothing there"):
            task(name="x")(work).coerce(({"a": 1},), {})

    def test_pydantic_is_imported_only_when_a_model_has_to_be_made(self):
        code = (
            "import sys, dataclasses\nfrom tranship.task import task\n"
            "@dataclasses.dataclass\nclass A:\n    x: int\n"
            "@task(name='a')\ndef a(a: A, n: int): pass\n"
            "@task(name='b')\ndef b(n: int): pass\n"
            "b.coerce((1,), {})\nassert 'pydantic' not in sys.modules\n"
            "assert a.coerce(({'x': 1}, 2), {})[0] == (A(1), 2)\nassert 'pydantic' in sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
        assert done.stderr == ""


def context(**fields):
    return TaskContext(Envelope(id="i", task="t", **fields), delivery_count=2)


class TestContext:
    def test_steps_need_a_store_that_keeps_them(self):
        with pytest.raises(UnsupportedError, match="result_url"):
            context().step("one", str, 1)
        with pytest.raises(UnsupportedError, match="result_url"):
            context().once("key", str, 1)

    def test_it_tells_what_is_running(self):
        running = context(queue="q", attempt=3, headers={"a": 1}, deadline=NOW)
        assert (running.id, running.task, running.queue, running.attempt) == ("i", "t", "q", 3)
        assert (running.delivery_count, running.deadline, running.headers) == (2, NOW, {"a": 1})

    def test_remaining_is_the_sooner_of_deadline_and_timeout(self):
        assert context().remaining() is None
        assert 59 < context(run_timeout=60).remaining() <= 60
        assert 59 < context(deadline=time.time() + 60).remaining() <= 60
        assert 9 < context(deadline=time.time() + 60, run_timeout=10).remaining() <= 10
        assert context(deadline=NOW).remaining() == 0.0

    @pytest.mark.parametrize(
        ("reason", "error"),
        [
            ("cancelled", TaskCancelled),
            ("deadline", DeadlineExceeded),
            ("timeout", TaskTimedOut),
            ("lost", LeaseLost),
            ("shutdown", TaskCancelled),
        ],
    )
    def test_cancel_is_seen_and_raised_by_its_reason(self, reason, error):
        running = context(run_timeout=5)
        running.raise_if_cancelled()
        assert not running.cancelled
        assert running.cancel_reason is None
        running.cancel(reason)
        running.cancel("cancelled")
        assert running.cancelled
        assert running.cancel_reason is CancelReason(reason)
        with pytest.raises(error) as caught:
            running.raise_if_cancelled()
        assert caught.value.task_id == "i"

    def test_a_thread_that_waits_wakes_at_once(self):
        running = context()
        assert running.wait_cancelled(0) is False
        waiting = [threading.Thread(target=running.wait_cancelled) for _ in range(4)]
        for thread in waiting:
            thread.start()
        running.cancel()
        for thread in waiting:
            thread.join(5)
            assert not thread.is_alive()
        assert running.wait_cancelled() is True
        late = context()
        late.cancel()
        assert late.wait_cancelled() is True

    def test_current_is_the_one_entered_here(self):
        assert current_or_none() is None
        with pytest.raises(ConfigurationError, match="no task is running here"):
            current()
        with enter(context()) as outer, enter(context()) as inner:
            assert current() is inner
            assert inner is not outer
        assert current_or_none() is None

    def test_it_shows_itself(self):
        assert repr(context()) == "<TaskContext t i attempt=0 cancelled=False>"


def test_tasks_are_generic_at_run_time():
    assert Task[[int], str]


def test_ids_do_not_depend_on_a_seeded_random_module():
    """Two processes that both call ``random.seed(0)`` must not make the same ids."""
    random.seed(0)
    first = new_id()
    random.seed(0)
    state = random.getstate()
    assert new_id()[19:] != first[19:]
    assert random.getstate() == state
