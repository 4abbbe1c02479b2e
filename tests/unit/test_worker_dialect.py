"""A task in another system's dialect, limits that messages do not set, and queues in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tranship import AsyncClient, FixedBackoff, RetryPolicy, Worker, current, named, task
from tranship.envelope import Ending, TaskState
from tranship.errors import InvalidOptionError, TaskCancelled, TaskDeadLettered, TaskError, TaskFailed, TaskTimedOut
from tranship.operations import Operator
from tranship.task import Task


class Polite:
    """Answers ``ask`` itself, refuses ``refuse``, and says sorry for whatever fails."""

    def __init__(self) -> None:
        self.concluded: list[tuple[Ending, str]] = []

    async def admit(self, context, heed) -> Any:
        wish = context.envelope.kwargs.get("wish")
        if wish == "ask":
            return {"answer": context.task}
        if wish == "refuse":
            raise TaskError("not this one", retryable=False)
        if wish == "heed" and await heed("job"):
            return {"answer": "off"}
        return None

    def conclude(self, envelope, outcome, error) -> Any:
        self.concluded.append((outcome, error.code))
        return None if envelope.kwargs.get("wish") == "plain" else {"sorry": error.message}


def make(dialect: Polite | None, ran: list[str], **options: Any) -> Task[..., Any]:
    @task(name="unit.wish", queue="unit", **options)
    async def grant(wish: str, seconds: float = 0.0) -> str:
        ran.append(wish)
        await asyncio.sleep(seconds)
        if wish in ("fail", "plain"):
            raise ValueError("out of wishes")
        return wish

    grant.dialect = dialect
    return grant


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def ran() -> list[str]:
    return []


async def granted(url: str, made: Task[..., Any], sent: Task[..., Any] | None = None, **wish: Any) -> Any:
    async with AsyncClient(url) as client:
        handle = await client.submit(sent or made, **wish)
        await Worker(url, tasks=[made]).serve_until_idle(10)
        return await handle.wait(timeout=5)


async def test_an_answer_needs_no_handler(url, ran):
    result = await granted(url, make(Polite(), ran), wish="ask")
    assert (result.value, ran) == ({"answer": "unit.wish"}, [])


async def test_without_an_answer_the_handler_runs(url, ran):
    result = await granted(url, make(Polite(), ran), wish="gold")
    assert (result.value, ran) == ("gold", ["gold"])


@pytest.mark.parametrize(
    ("wish", "outcome", "code", "sorry"),
    [
        ("refuse", Ending.FAILED, "TASK_ERROR", "not this one"),
        ("fail", Ending.FAILED, "TASK_FAILED", "out of wishes"),
    ],
)
async def test_a_failure_is_told_in_the_tasks_own_words(url, ran, wish, outcome, code, sorry):
    polite = Polite()
    result = await granted(url, make(polite, ran), wish=wish)
    assert (result.state, result.value) == (TaskState.SUCCESS, {"sorry": sorry})
    assert polite.concluded == [(outcome, code)]


async def test_a_failure_may_stay_as_it_is(url, ran):
    result = await granted(url, make(Polite(), ran), wish="plain")
    assert result.state is TaskState.FAILURE
    with pytest.raises(TaskFailed, match="out of wishes"):
        raise result.exception()


async def test_a_dead_letter_is_told_and_kept(url, ran):
    polite = Polite()
    made = make(polite, ran, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
    result = await granted(url, made, wish="fail")
    assert result.value == {"sorry": "out of wishes"}
    assert polite.concluded == [(Ending.DEAD, "TASK_FAILED")]
    assert ran == ["fail", "fail"]
    with Operator(url) as operator:
        assert [letter.reason for letter in operator.dead_letters()] == ["retries-exhausted"]


@pytest.mark.parametrize("attempts", [None, 1])
async def test_a_large_error_is_told_in_the_tasks_own_words_too(url, ran, attempts):
    polite = Polite()
    policy = {} if attempts is None else {"retry": RetryPolicy(max_attempts=attempts)}

    @task(name="unit.large", queue="unit", **policy)
    def large() -> None:
        raise ValueError("out of wishes " + "x" * 200_000)

    large.dialect = polite
    result = await granted(f"{url}?max_message_size=100000", large)
    assert result.value["sorry"].startswith("out of wishes xxx")
    assert "shortened" in result.value["sorry"]
    assert {outcome for outcome, _ in polite.concluded} == {Ending.DEAD if attempts else Ending.FAILED}


async def test_without_a_dialect_nothing_changes(url, ran):
    result = await granted(url, make(None, ran, retry=RetryPolicy(max_attempts=1)), wish="fail")
    with pytest.raises(TaskDeadLettered):
        raise result.exception()


async def test_what_heeds_a_key_hears_of_its_cancel(url, ran):
    made = make(Polite(), ran)
    async with AsyncClient(url) as client:
        handle = await client.submit(made, wish="heed", seconds=60)
        worker = Worker(url, tasks=[made])
        serving = asyncio.create_task(worker.serve())
        async with asyncio.timeout(10):
            while not ran:  # noqa: ASYNC110 - a handler's own list has no event
                await asyncio.sleep(0.005)
            await client.cancel("job")
            assert await handle.result(timeout=10) == {"sorry": f"task {handle.id} was cancelled"}
            later = await client.submit(made, wish="heed", seconds=60)
            assert await later.result(timeout=10) == {"answer": "off"}
        worker.stop()
        await asyncio.wait_for(serving, 10)
    assert ran == ["heed"]


async def test_the_handlers_limit_holds_for_messages_that_set_none(url, ran):
    made = make(None, ran, run_timeout=0.1)
    result = await granted(url, made, named("unit.wish", queue="unit"), wish="long", seconds=60)
    with pytest.raises(TaskTimedOut, match=r"0\.1 s"):
        raise result.exception()


async def test_a_messages_own_limit_goes_before_the_handlers(url, ran):
    made = make(None, ran, run_timeout=0.1)
    sent = named("unit.wish", queue="unit", run_timeout=30)
    result = await granted(url, made, sent, wish="long", seconds=0.3)
    assert result.value == "long"


@pytest.mark.parametrize("broker", ["memory", "sqlite"])
@pytest.mark.parametrize("in_order", [True, False])
async def test_queues_in_order_or_in_turns(broker, in_order, url):
    order: list[str] = []

    @task(name="unit.note", queue="a")
    async def note() -> None:
        order.append(current().queue)

    url = url if broker == "sqlite" else f"memory://order-{in_order}"
    queues = ["b", "c", "a"]
    async with AsyncClient(url) as client:
        for queue in sorted(queues) * 4:
            await client.submit(note.options(queue=queue))
        worker = Worker(url, tasks=[note], queues=queues, queues_in_order=in_order, max_concurrent_tasks=1)
        await worker.serve_until_idle(10)
    assert sorted(order) == sorted(queues * 4)
    assert (order == ["b"] * 4 + ["c"] * 4 + ["a"] * 4) is in_order


def test_replacing_settings_keeps_the_order():
    worker = Worker("memory://", tasks=[make(None, [])], queues=["b", "a"], queues_in_order=True)
    assert worker.replace(max_concurrent_tasks=2).queues_in_order


def test_in_order_is_yes_or_no():
    with pytest.raises(InvalidOptionError, match="queues_in_order"):
        Worker("memory://", tasks=[make(None, [])], queues_in_order="strict")


async def test_a_cancel_by_id_is_no_success_without_a_dialect(url, ran):
    made = make(None, ran)
    async with AsyncClient(url) as client:
        handle = await client.submit(made, wish="never")
        await handle.cancel()
        await Worker(url, tasks=[made]).serve_until_idle(10)
        with pytest.raises(TaskCancelled):
            await handle.result(timeout=5)
