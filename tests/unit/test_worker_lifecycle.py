"""What is done around a worker's work, and what its log records say beside their text."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextlib import asynccontextmanager

import pytest

from tranship import AsyncClient, Worker, current, task
from tranship.cli._json_lines import JsonLines
from tranship.cli._logging import TextLines
from tranship.errors import ConfigurationError, InvalidOptionError

URL = "memory://test-lifecycle"
seen: list[str] = []


@task(name="lifecycle.note")
async def note():
    seen.append("task")
    return 1


@task(name="lifecycle.fails")
async def fails():
    raise ValueError("no")


@asynccontextmanager
async def lifespan(worker):
    seen.append(f"enter {worker.name}")
    try:
        yield
    finally:
        seen.append("exit")


async def up():
    seen.append("up")


async def work(**options):
    seen.clear()
    async with AsyncClient(URL) as client:
        await client.submit(note)
        worker = Worker(URL, tasks=[note, fails], name="w", **options)
        return await worker.serve_until_idle()


async def test_order():
    hooks = [lambda: seen.append("down 1"), lambda: seen.append("down 2")]
    assert await work(lifespan=lifespan, on_startup=[up], on_shutdown=hooks) == 1
    assert seen == ["enter w", "up", "task", "down 1", "down 2", "exit"]


async def test_a_start_that_fails_takes_nothing_and_closes_what_is_open():
    def broken():
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await work(lifespan=lifespan, on_startup=[broken], on_shutdown=[up])
    assert seen == ["enter w", "exit"]
    assert await work() == 2


async def test_an_end_that_fails_does_not_keep_others_from_theirs():
    def broken():
        raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        await work(lifespan=lifespan, on_shutdown=[broken, up])
    assert seen == ["enter w", "task", "up", "exit"]


async def test_another_worker_of_the_same_has_it_too():
    worker = Worker(URL, tasks=[note], lifespan=lifespan).replace(name="x")
    seen.clear()
    await worker.serve_until_idle()
    assert seen == ["enter x", "exit"]


@pytest.mark.parametrize(
    "given",
    [
        {"lifespan": 1},
        {"lifespan": lambda: None},
        {"on_startup": up},
        {"on_startup": [lambda worker: None]},
        {"on_shutdown": [1]},
    ],
)
def test_what_cannot_be_called_is_refused(given):
    with pytest.raises(InvalidOptionError, match=next(iter(given))):
        Worker(URL, tasks=[note], **given)


@contextlib.contextmanager
def plain_manager(worker):
    yield


async def coroutine(worker): ...


async def generator(worker):
    yield


@pytest.mark.parametrize("given", [plain_manager, coroutine, generator])
async def test_a_lifespan_that_is_no_async_context_manager_says_so(given):
    with pytest.raises(InvalidOptionError, match=f"lifespan .*{given.__name__} returned a .*@asynccontextmanager"):
        await Worker(URL, tasks=[note], lifespan=given).serve_until_idle()


async def test_records_have_fields(caplog):
    caplog.set_level(logging.INFO, "tranship.worker")
    async with AsyncClient(URL) as client:
        good, bad = await client.submit(note), await client.submit(fails)
        await Worker(URL, tasks=[note, fails]).serve_until_idle()
    lines = [json.loads(JsonLines().format(one)) for one in caplog.records if hasattr(one, "outcome")]
    found = {line["id"]: line for line in lines}
    assert found[good.id]["outcome"] == "succeeded"
    assert (found[bad.id]["outcome"], found[bad.id]["level"]) == ("failed", "WARNING")
    for line in lines:
        assert line["queue"] == "default"
        assert line["attempt"] == 0
        assert 0 <= line["duration"] < 30
        assert line["task"].startswith("lifecycle.")


async def test_current_after_the_end_is_a_clear_error(caplog):
    caplog.set_level(logging.INFO, "tranship.task")
    ended = asyncio.Event()
    left = []

    @task(name="lifecycle.leaves")
    async def leaves():
        current().logger.info("at %s", "once", extra={"order": 7, "id": "not mine"})
        assert current().info["id"] == current().id

        async def later():
            await ended.wait()
            return current()

        left.append(asyncio.create_task(later()))

    async with AsyncClient(URL) as client:
        handle = await client.submit(leaves)
        await Worker(URL, tasks=[leaves]).serve_until_idle()
    ended.set()
    with pytest.raises(ConfigurationError, match=r"has ended.*left behind"):
        await left[0]
    (record,) = [one for one in caplog.records if one.name == "tranship.task"]
    assert (record.id, record.task, record.attempt, record.queue) == (handle.id, "lifecycle.leaves", 0, "default")
    assert record.order == 7
    assert TextLines("%(name)s: %(message)s").format(record) == f"tranship.task: task {handle.id}: at once"


def test_a_record_with_an_exception_is_one_line_of_json():
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it %s", ("broke",), (ValueError, error, None))
    record.where = {1, 2}
    line = JsonLines().format(record)
    assert "\n" not in line
    shown = json.loads(line)
    assert (shown["message"], shown["message_template"], shown["where"]) == ("it broke", "it %s", "{1, 2}")
    assert "second" in shown["exception"]
