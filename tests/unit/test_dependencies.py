"""What handlers are given by their worker: providers, scopes, clean-ups, and declarations that are refused."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import pytest

from tranship import (
    PROVIDED,
    AsyncClient,
    Client,
    Depends,
    Middleware,
    Snooze,
    TaskClass,
    TaskState,
    Worker,
    current,
    task,
)
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError, TaskFailed

URL = "memory://test-dependencies"
seen: list[str] = []


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


def get_settings():
    seen.append("settings")
    return "settings"


async def get_pool(settings: Annotated[str, Depends(get_settings, scope="worker")]):
    seen.append("pool")
    yield f"pool({settings})"
    seen.append("pool closed")


def get_db(pool: Annotated[str, Depends(get_pool, scope="worker")]):
    seen.append("db")
    try:
        yield f"db({pool}, {current().task})"
    except ValueError as error:
        seen.append(f"rolled back {error}")
        raise
    finally:
        seen.append(f"db closed by {current().id[:0]}{threading.current_thread().name[:13]}")


async def get_user(db: Annotated[str, Depends(get_db)]):
    return f"user of {db}"


Db = Annotated[str, Depends(get_db)]


@task(name="deps.both")
async def both(uri: str, db: Db, user: Annotated[str, Depends(get_user)] = PROVIDED, width: int = 1):
    seen.append("handler")
    return [uri, db, user, width]


@task(name="deps.plain")
def plain(uri: str, *, db: Db) -> str:
    return f"{uri} {db}"


@task(name="deps.fails")
def fails(db: Db):
    raise ValueError("no")


@task(name="deps.extra")
def extra(db: Db, **more: int):
    return more


@asynccontextmanager
async def at_work(*tasks):
    worker = Worker(URL, tasks=tasks)
    serving = asyncio.create_task(worker.serve())
    try:
        async with AsyncClient(URL) as client:
            yield client
    finally:
        worker.stop(hurry=True)
        await serving


async def outcomes(worker, *calls):
    async with AsyncClient(URL) as client:
        handles = [await client.submit(one, *args) for one, *args in calls]
        await worker.serve_until_idle(20)
        return [await handle.wait(5) for handle in handles]


async def values(worker, *calls):
    return [one.value for one in await outcomes(worker, *calls)]


DB = "db(pool(settings), deps.both)"


async def test_values_are_provided_once_in_their_scope_and_cleaned_up():
    worker = Worker(URL, tasks=[both, plain], max_concurrent_tasks=1)
    found = await values(worker, [both, "a", 5], [both, "b"])
    assert found == [["a", DB, f"user of {DB}", 5], ["b", DB, f"user of {DB}", 1]]
    each = ["db", "handler", "db closed by tranship-task"]
    assert seen == ["settings", "pool", *each, *each, "pool closed"]
    # The next time it works, everything is new.
    assert await values(worker, [plain, "c"]) == ["c db(pool(settings), deps.plain)"]
    assert seen.count("pool") == 2


async def test_a_generator_sees_what_the_handler_raises():
    (result,) = await outcomes(Worker(URL, tasks=[fails]), [fails])
    assert (result.state, result.error.message) == (TaskState.FAILURE, "no")
    assert seen[2:5] == ["db", "rolled back no", "db closed by tranship-task"]


def test_they_are_no_arguments_of_callers():
    for one in (partial(both.call, "a", db=1), partial(extra.call, db=1)):
        with pytest.raises(
            InvalidArgumentsError, match=r"'db' is no argument of task deps.\w+: the worker provides it"
        ):
            one()
    assert both.call("a", 5).args == ("a", 5)
    with pytest.raises(InvalidArgumentsError, match=r"too many positional"):
        both.call("a", 5, "db")
    described = Worker(URL, tasks=[both]).describe()[0]
    assert list(described["args"]["properties"]) == ["uri", "width"]
    assert described["positional"] == ["uri", "width"]


async def test_a_message_that_brings_one_is_refused():
    from tranship import named

    async with AsyncClient(URL) as client:
        handle = await client.submit(named("deps.extra"), db="mine")
        await Worker(URL, tasks=[extra]).serve_until_idle(20)
        with pytest.raises(TaskFailed, match="the worker provides it"):
            await handle.result(5)


async def test_overrides_take_the_place_of_providers():
    def fake(settings: Annotated[str, Depends(get_settings)]):
        return f"fake with {settings}"

    worker = Worker(URL, tasks=[plain]).replace(overrides={get_db: fake})
    assert await values(worker, [plain, "a"]) == ["a fake with settings"]
    assert seen == ["settings"]
    kept = await worker.replace(name="other").serve_one(plain.call("b"), timeout=20)
    assert kept.value == "b fake with settings"


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({print: get_db}, "print, which no task of this worker depends on"),
        ({get_db: "x"}, "of type str for .*get_db"),
        ([get_db], "is of type list"),
    ],
)
def test_overrides_that_make_no_sense(overrides, text):
    with pytest.raises(InvalidOptionError, match=text):
        Worker(URL, tasks=[plain], overrides=overrides)


async def test_middleware_is_around_providers():
    class Notes(Middleware):
        async def run(self, call, call_next):
            seen.append(f"before {dict(call.kwargs)}")
            try:
                return await call_next(call)
            finally:
                seen.append("after")

    await values(Worker(URL, tasks=[plain], middleware=[Notes()]), [plain, "a"])
    assert seen[2:] == ["before {}", "db", "after", "db closed by tranship-task", "pool closed"]


def test_an_annotation_that_is_not_known_is_an_error():
    def local(): ...

    @task(name="deps.local")
    async def needs(x: Annotated[str, Depends(local)]): ...

    with pytest.raises(ConfigurationError, match=r"'x' of task deps.local is annotated with .*at the top level"):
        Worker(URL, tasks=[needs])


async def unreachable():
    raise OSError("no route")


@task(name="deps.unreachable")
async def needs_unreachable(x: Annotated[str, Depends(unreachable)]): ...


async def asks_to_come_later():
    if current().attempt == 0 and current().delivery_count == 1 and not seen:
        seen.append("snoozed")
        raise Snooze(0.01)
    return "there"


@task(name="deps.later")
async def needs_later(x: Annotated[str, Depends(asks_to_come_later)]):
    return x


async def test_the_error_names_the_provider():
    (result,) = await outcomes(Worker(URL, tasks=[needs_unreachable]), [needs_unreachable])
    assert (result.error.type, result.error.message) == ("builtins.OSError", "no route")
    assert "raised by the dependency test_dependencies.unreachable" in result.error.traceback
    assert await values(Worker(URL, tasks=[needs_later]), [needs_later]) == ["there"]


async def twice():
    yield 1
    yield 2


def breaks():
    yield "value"
    raise OSError("cannot close")


def never():
    if seen is None:
        yield


@task(name="deps.unclean")
async def unclean(one: Annotated[int, Depends(twice)], other: Annotated[str, Depends(breaks)]):
    return [one, other]


@task(name="deps.never")
async def needs_never(one: Annotated[int, Depends(never)]): ...


async def test_a_clean_up_that_fails_is_logged_and_the_outcome_stands(caplog):
    ok, bad = await outcomes(Worker(URL, tasks=[unclean, needs_never]), [unclean], [needs_never])
    assert ok.value == [1, "value"]
    logged = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert [one.partition(" for ")[0] for one in logged] == [
        "the clean-up of test_dependencies.breaks",
        "the clean-up of test_dependencies.twice",
    ]
    assert logged[0].endswith("failed")
    assert logged[1].endswith("it yields more than once")
    assert "didn't yield" in bad.error.message


async def gives_up():
    yield "one"
    raise asyncio.CancelledError


def gives_up_in_a_thread():
    yield "two"
    raise asyncio.CancelledError


async def gives_up_at_the_end():
    yield "three"
    raise asyncio.CancelledError


@task(name="deps.gives_up")
async def given_up(
    one: Annotated[str, Depends(gives_up)],
    two: Annotated[str, Depends(gives_up_in_a_thread)],
    three: Annotated[str, Depends(gives_up_at_the_end, scope="worker")],
):
    return [one, two, three]


async def test_a_clean_up_that_says_it_was_cancelled_has_failed_and_the_outcome_stands(caplog):
    assert await values(Worker(URL, tasks=[given_up]), [given_up]) == [["one", "two", "three"]]
    logged = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(logged) == 3
    assert all(one.endswith("failed") for one in logged)


started, release, closed = threading.Event(), threading.Event(), threading.Event()


def open_slowly():
    try:
        yield "x"
    finally:
        closed.set()


@task(name="deps.stuck", run_timeout=0.05)
def stuck(x: Annotated[str, Depends(open_slowly)]):
    release.wait(20)
    seen.append(f"still open: {not closed.is_set()}")


async def test_nothing_is_closed_under_a_thread_that_goes_on():
    closed.clear(), release.clear()
    async with at_work(stuck) as client:
        result = await (await client.submit(stuck)).wait(20)
        release.set()
        assert result.error.type == "tranship.errors.TaskTimedOut"
        assert await asyncio.to_thread(closed.wait, 20)
    assert seen == ["still open: True"]


async def waits():
    try:
        yield "x"
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    finally:
        await asyncio.sleep(0)
        seen.append("closed")


@task(name="deps.sleeps")
async def sleeps(x: Annotated[str, Depends(waits)]):
    started.set()
    await asyncio.sleep(60)


async def test_a_cancel_cleans_up():
    started.clear()
    async with at_work(sleeps) as client:
        handle = await client.submit(sleeps)
        assert await asyncio.to_thread(started.wait, 20)
        await handle.cancel()
        assert (await handle.wait(20)).state is TaskState.CANCELLED
    assert seen == ["cancelled", "closed"]


told = []


def closes_late():
    told[:] = [current()]
    started.set()
    release.wait(20)
    try:
        yield 1
    finally:
        seen.append("closed")


@task(name="deps.provided-late")
async def provided_late(x: Annotated[int, Depends(closes_late)]):
    seen.append("called")


async def test_a_cancel_while_a_thread_provides_does_not_call_the_handler():
    started.clear(), release.clear()
    async with at_work(provided_late) as client:
        handle = await client.submit(provided_late)
        assert await asyncio.to_thread(started.wait, 20)
        await handle.cancel()
        assert await asyncio.to_thread(told[0].wait_cancelled, 20)
        release.set()
        assert (await handle.wait(20)).state is TaskState.CANCELLED
    assert seen == ["closed"]


async def broken_pool():
    raise OSError("no database")


@task(name="deps.broken-pool")
async def needs_pool(
    a: Annotated[str, Depends(get_pool, scope="worker")], b: Annotated[str, Depends(broken_pool, scope="worker")]
): ...


async def test_a_workers_provider_that_fails_keeps_it_from_starting():
    with pytest.raises(OSError, match="no database"):
        await Worker(URL, tasks=[needs_pool]).serve_until_idle(20)
    assert seen == ["settings", "pool", "pool closed"]


def joined(one, other):
    return one + other


class Counter:
    def __init__(self, settings: Annotated[str, Depends(get_settings)]):
        self.settings = settings

    async def __call__(self):
        return "called"


@task(name="deps.kinds")
async def kinds(
    counter: Annotated[Counter, Depends(Counter)],
    called: Annotated[str, Depends(Counter("x"))],
    part: Annotated[str, Depends(partial(joined, "part", "b"))],
):
    return [counter.settings, called, part]


async def test_classes_objects_and_partials_provide():
    assert await values(Worker(URL, tasks=[kinds]), [kinds]) == [["settings", "called", "partb"]]


class Resize(TaskClass, name="deps.resize"):
    @dataclasses.dataclass
    class Args:
        uri: str

    def run(self, args: Args, db: Db) -> str:
        return f"{args.uri} {db}"


async def test_class_tasks_are_given_theirs():
    assert await values(Worker(URL, tasks=[Resize]), [Resize.task, Resize.Args("a")]) == [
        "a db(pool(settings), deps.resize)"
    ]


# What is refused.


def around(again: Annotated[int, Depends(around)]): ...


def per_task(): ...


def for_worker(one: Annotated[int, Depends(per_task)]): ...


def asks_for_more(what): ...


@task(name="deps.circle")
def circle(x: Annotated[int, Depends(around)]): ...


@task(name="deps.scopes")
def scopes(x: Annotated[int, Depends(for_worker, scope="worker")]): ...


@task(name="deps.unknown")
def unknown(x: Annotated[int, Depends(asks_for_more)]): ...


@task(name="deps.isolated", isolation="process")
def isolated(x: Annotated[int, Depends(per_task)]): ...


@task(name="deps.default")
def default(x=Depends(per_task)): ...  # noqa: B008


@task(name="deps.bare")
def bare(x: int = PROVIDED): ...


@task(name="deps.no-call")
def no_call(x: Annotated[int, Depends]): ...


@task(name="deps.inside")
def inside(x: Annotated[int, Depends(per_task)] | None): ...


@task(name="deps.positional")
def positional(x: Annotated[int, Depends(per_task)], /): ...


@task(name="deps.before-rest")
def before_rest(x: Annotated[int, Depends(per_task)], *rest): ...


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (circle, r"in a circle: test_dependencies.around -> test_dependencies.around"),
        (scopes, r"for_worker has scope='worker' and depends on test_dependencies.per_task with scope='task'"),
        (unknown, r"parameter 'what' of dependency test_dependencies.asks_for_more is nothing"),
        (isolated, r"deps.isolated.*isolation='process' and depends on test_dependencies.per_task"),
        (default, r"'x' of task deps.default has Depends\(.*per_task.* as its default; annotate it instead"),
        (bare, r"'x' of task deps.bare has the default PROVIDED"),
        (no_call, r"expected one Depends, with a provider"),
        (inside, r"has to be outermost"),
        (positional, r"put it after a \*"),
        (before_rest, r"put it after a \* or after \*rest"),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_what_cannot_be_provided_is_refused(one, text):
    with pytest.raises(ConfigurationError, match=text):
        Worker(URL, tasks=[one])


def test_depends_is_checked():
    with pytest.raises(InvalidOptionError, match="expected a function"):
        Depends(7)
    with pytest.raises(InvalidOptionError, match="scope"):
        Depends(per_task, scope="request")


def test_blocking_clients_and_workers_too():
    with Client(URL) as client:
        handle = client.submit(plain, "a")
        assert Worker(URL, tasks=[plain]).run_until_idle() == 1
        assert handle.result(timeout=5) == "a db(pool(settings), deps.plain)"


def test_a_worker_without_any_calls_its_handlers_directly():
    assert not Worker(URL, tasks=[task(name="deps.none")(lambda: 1)])._dependencies
