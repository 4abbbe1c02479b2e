"""Batches on the memory backend: what they take of a worker, and what is around a member."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import pytest

from tranship import AsyncClient, BatchCall, Client, Depends, Middleware, RunCall, Worker, task
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError, TaskFailed, TaskTimedOut
from tranship.middleware import BatchRunCall
from tranship.schema import describe
from tranship.task import Batching


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A place in memory of the test's own."""
    return f"memory://{request.node.name.replace('[', '-').replace(']', '')}"


@dataclass
class Page:
    """A page."""

    url: str
    size: int = 0


@task(name="batches.index", queue="batches", batch=10, within=0.02)
async def index(pages: list[Page]) -> list[int]:
    """Return their sizes."""
    return [one.size for one in pages]


def test_a_batch_has_slots_of_its_own_size(url: str) -> None:
    """With one slot batches are full, and never two at once; another task waits for the slot."""
    running, sizes = [0], []

    @task(name="batches.count", queue="counted", batch=50, within=5)
    async def count(numbers: list[int]) -> None:
        running[0] += 1
        assert running[0] == 1
        sizes.append(len(numbers))
        await asyncio.sleep(0)
        running[0] -= 1

    @task(name="batches.single", queue="single")
    async def single() -> int:
        assert running[0] == 0
        return 1

    with Client(url) as client:
        handles = client.submit_many(count.call(number) for number in range(200))
        others = client.submit_many(single.call() for _ in range(5))
        Worker(url, tasks=[count, single], max_concurrent_tasks=1).run_until_idle()
        assert sizes == [50] * 4
        assert [one.result(timeout=5) for one in handles] == [None] * 200
        assert [one.result(timeout=5) for one in others] == [1] * 5


def test_models_and_errors_of_callers(url: str) -> None:
    """A call is checked against what the list is of; the handler itself is called with a list."""
    with Client(url) as client:
        handle = client.submit(index, Page("a", 3))
        with pytest.raises(InvalidArgumentsError, match="a call is one of that list"):
            client.submit(index, Page("a"), Page("b"))  # type: ignore[call-arg]
        with pytest.raises(InvalidArgumentsError):
            client.submit(index, [Page("a")])  # type: ignore[arg-type]
        Worker(url, tasks=[index]).run_until_idle()
        assert handle.result(timeout=5) == 3
    assert asyncio.run(index([Page("a", 1), Page("b", 2)])) == [1, 2]


def test_a_batch_whose_members_are_out_of_time_ends(url: str) -> None:
    """Each member has its limit; after the last one has left the handler is cancelled. A thread keeps its slot."""
    ended: list[str] = []
    release, blocked = threading.Event(), threading.Event()

    @task(name="batches.slow", queue="slow", batch=2, within=5, run_timeout=0.1)
    async def slow(numbers: list[int]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    @task(name="batches.deaf", queue="deaf", batch=2, within=5, run_timeout=0.1)
    def deaf(calls: list[BatchCall[int]]) -> None:
        if not blocked.is_set():
            blocked.set()
            release.wait(30)
            ended.append("deaf, " + " ".join(str(one.context.cancel_reason) for one in calls))

    async def main() -> None:
        worker = Worker(url, tasks=[slow, deaf], max_concurrent_tasks=1)
        async with AsyncClient(url) as client:
            serving = asyncio.create_task(worker.serve())
            for one in (slow, deaf):
                for handle in [await client.submit(one, number) for number in range(2)]:
                    with pytest.raises(TaskTimedOut):
                        await handle.result(timeout=10)
            assert ended == ["slow"]
            waiting = [await client.submit(deaf, number) for number in range(2)]
            release.set()
            assert [await one.result(timeout=10) for one in waiting] == [None, None]
            assert ended == ["slow", "deaf, timeout timeout"]
            worker.stop()
            await serving

    asyncio.run(main())


class Answering(Middleware):
    """Answers for the handler, raises, or calls it twice, as the argument says."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def run(self, call: RunCall, handle: Callable[[RunCall], Any]) -> Any:
        """Around a member."""
        word = call.args[0]
        self.seen.append(word)
        if word == "answered":
            return "by the middleware"
        if word == "refused":
            raise ValueError(word)
        value = await handle(call)
        return await handle(call) if word == "twice" else value


def test_middleware_is_around_each_member(url: str) -> None:
    """Those that do not come to the handler are not waited for; who calls it again has a batch of one."""
    batches: list[list[str]] = []

    @task(name="batches.words", queue="words", batch=4, within=5)
    def words(given: list[str]) -> list[str]:
        batches.append(given)
        return [one.upper() for one in given]

    around = Answering()
    with Client(url) as client:
        handles = {one: client.submit(words, one) for one in ("plain", "answered", "refused", "twice")}
        Worker(url, tasks=[words], middleware=[around]).run_until_idle()
        assert handles["plain"].result(timeout=5) == "PLAIN"
        assert handles["twice"].result(timeout=5) == "TWICE"
        assert handles["answered"].result(timeout=5) == "by the middleware"
        with pytest.raises(TaskFailed, match="refused"):
            handles["refused"].result(timeout=5)
    assert batches == [["plain", "twice"], ["twice"]]
    assert sorted(around.seen) == ["answered", "plain", "refused", "twice"]


class AroundBatches(Middleware):
    """Changes what the handler returns; a batch with one word in it does not get there."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[str]]] = []

    async def run_batch(self, call: BatchRunCall, handle: Callable[[BatchRunCall], Any]) -> Any:
        """Around the handler."""
        words = [one.headers["word"] for one in call.contexts]
        self.seen.append((call.task, words))
        if "refused" in words:
            raise LookupError("not these")
        return [f"{one}!" for one in await handle(call)]


@pytest.mark.parametrize("kind", ["def", "async"])
def test_middleware_is_around_the_handler_of_a_batch(url: str, kind: str) -> None:
    """It sees all of its tasks at once, and what it raises is the error of each."""
    handled: list[str] = []

    def handle(given: list[str]) -> list[str]:
        handled.extend(given)
        return [one.upper() for one in given]

    async def handle_async(given: list[str]) -> list[str]:
        return handle(given)

    function = handle if kind == "def" else handle_async
    words = task(name="batches.around", queue="around", batch=2, within=5)(function)  # type: ignore[call-overload]
    middleware = AroundBatches()
    with Client(url) as client:
        given = ("a", "b", "c", "refused")
        handles = [client.submit(words.options(headers={"word": one}), one) for one in given]
        Worker(url, tasks=[words], middleware=[middleware], max_concurrent_tasks=1).run_until_idle()
        assert [one.result(timeout=5) for one in handles[:2]] == ["A!", "B!"]
        for one in handles[2:]:
            with pytest.raises(TaskFailed, match="not these"):
                one.result(timeout=5)
    assert handled == ["a", "b"]
    assert middleware.seen == [("batches.around", ["a", "b"]), ("batches.around", ["c", "refused"])]


opened: list[str] = []


async def session() -> AsyncIterator[str]:
    """What a batch is given."""
    opened.append("opened")
    yield "session"
    opened.append("closed")


def test_a_batch_is_provided_for_once(url: str) -> None:
    """What the handler depends on is provided, and cleaned up, once for all members."""
    opened.clear()

    @task(name="batches.stored", queue="stored", batch=3, within=5)
    async def stored(given: list[str], db: Annotated[str, Depends(session)]) -> list[str]:
        return [f"{one} in {db}" for one in given]

    with Client(url) as client:
        handles = client.submit_many(stored.call(word) for word in "abc")
        Worker(url, tasks=[stored]).run_until_idle()
        assert [one.result(timeout=5) for one in handles] == [f"{one} in session" for one in "abc"]
    assert opened == ["opened", "closed"]


def test_whatever_a_handler_raises_is_everybodys(url: str) -> None:
    """Also what would end the interpreter; each has the handler's own traceback, and not the others' besides."""

    @task(name="batches.exits", queue="exits", batch=30, within=5)
    async def exits(numbers: list[int]) -> None:
        raise SystemExit(3)

    with Client(url) as client:
        handles = client.submit_many(exits.call(number) for number in range(30))
        Worker(url, tasks=[exits]).run_until_idle()
        errors = [one.wait(timeout=5).error for one in handles]
    assert {one.type for one in errors if one is not None} == {"builtins.SystemExit"}
    assert len({one.traceback for one in errors if one is not None}) == 1


def test_calls_of_any_arguments(url: str) -> None:
    """A bare BatchCall takes whatever a sender from elsewhere gives."""

    @task(name="batches.any", queue="any", batch=2, within=5)
    async def anything(calls: list[BatchCall]) -> list[Any]:  # type: ignore[type-arg]
        return [[list(one.args), dict(one.kwargs)] for one in calls]

    with Client(url) as client:
        handles = [client.submit(anything, 1, two=2), client.submit(anything)]  # type: ignore[call-arg]
        Worker(url, tasks=[anything]).run_until_idle()
        assert [one.result(timeout=5) for one in handles] == [[[1], {"two": 2}], [[], {}]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"batch": True}, "batch is True"),
        ({"batch": 5, "within": -1}, "within is -1"),
        ({"within": 1}, "there is no batch"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """They are refused where the task is made."""
    with pytest.raises(InvalidOptionError, match=words):
        task(name="batches.never", **options)


def test_handlers_that_cannot_be() -> None:
    """No list to take, more than a list, no list by its annotation, a generator, a process of its own."""
    batched: Any = task(name="batches.wrong", batch=2)

    async def more(pages: list[str], size: int) -> None: ...
    async def text(pages: str) -> None: ...
    async def generator(pages: list[str]) -> AsyncIterator[str]:
        yield "a"

    with pytest.raises(ConfigurationError, match="takes a list of calls"):
        batched(lambda: None)
    with pytest.raises(ConfigurationError, match="generator"):
        batched(generator)
    with pytest.raises(ConfigurationError, match="isolation"):
        task(name="batches.isolated", batch=2, isolation="process")(more)  # type: ignore[call-overload]
    for function, words in ((more, "takes size besides"), (text, "is no list")):
        with pytest.raises(ConfigurationError, match=words):
            Worker("memory://wrong", tasks=[batched(function)])


def test_it_is_described() -> None:
    """One call's arguments and result, and how many are gathered for how long."""
    assert Batching.checked(3, timedelta(seconds=2)) == Batching(3, 2.0)
    described = describe(index)
    assert described["result"] == {"type": "integer"}
    assert described["args"]["required"] == ["pages"]
    assert described["options"]["batch"] == 10
