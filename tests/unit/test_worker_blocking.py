"""Handlers that block the event loop: they are named, signals are heard, and the interpreter's lock is told apart."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cli_kit import finish, started, until, url_of

from tranship import Client, Worker, task
from tranship.testing.background import BackgroundWorker
from tranship.worker import _unheeding, _watch


@task(name="blocking.sleep")
async def sleep(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 - the point
    return threading.current_thread().name


@task(name="blocking.part")
async def part(seconds: float) -> None:
    await asyncio.gather(sleep.function(seconds))


@task(name="blocking.lock")
async def hold_the_lock(seconds: float) -> None:
    # PyDLL calls C without letting go of the interpreter's lock.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@task(name="blocking.where")
async def where() -> str:
    return threading.current_thread().name


@pytest.fixture
def url() -> str:
    return f"memory://blocking-{uuid4().hex}?lease=0.6"


@pytest.fixture
def worker(url: str) -> Iterator[BackgroundWorker]:
    with BackgroundWorker(Worker(url, tasks=[sleep, part, where, hold_the_lock])) as background:
        yield background


class TestNames:
    def test_the_handler_that_blocks_is_named_with_its_stack(self, url, worker, caplog):
        def said() -> list[str]:
            # A lease that a busy machine loses is told of, too.
            return [record.getMessage() for record in caplog.records if "block" in record.getMessage()]

        with caplog.at_level(logging.WARNING, "tranship.worker"), Client(url) as client:
            handle = client.submit(sleep, 2.0)
            handle.result(timeout=20)
            until(lambda: len(said()) >= 2)
        during, after = said()[:2]
        assert during.startswith(f"task {handle.id} (blocking.sleep) blocks the event loop")
        assert "time.sleep(seconds)" in during
        assert "asyncio/" not in during, "the stack begins with the handler"
        assert "tranship/worker" not in during
        assert "blocked for" in after
        assert handle.id in after

    def test_one_that_begins_while_nothing_has_run_for_long_is_named_as_soon(self, url, caplog, monkeypatch):
        monkeypatch.setattr(_watch, "IDLE", 0)
        monkeypatch.setattr(_watch, "REST", 1_000_000)
        worker = Worker(url, tasks=[sleep])
        with caplog.at_level(logging.WARNING, "tranship.worker"), BackgroundWorker(worker), Client(url) as client:
            handle = client.submit(sleep, 2.0)
            handle.result(timeout=20)
        assert f"task {handle.id} (blocking.sleep) blocks the event loop" in caplog.text

    def test_a_part_that_blocks_is_shown(self, url, worker, caplog):
        with caplog.at_level(logging.WARNING, "tranship.worker"), Client(url) as client:
            client.submit(part, 2.0).result(timeout=20)
        assert "time.sleep(seconds)" in caplog.text

    def test_what_holds_the_interpreter_is_named_afterwards(self, caplog):
        url = f"memory://holding-{uuid4().hex}"
        worker = Worker(url, tasks=[hold_the_lock])
        with caplog.at_level(logging.WARNING, "tranship.worker"), BackgroundWorker(worker), Client(url) as client:
            handle = client.submit(hold_the_lock, 2.5)
            handle.result(timeout=20)
            until(lambda: "the interpreter to itself" in caplog.text)
        assert "nothing could run for" in caplog.text
        assert f"task {handle.id} (blocking.lock)" in caplog.text

    def test_one_that_waits_is_not(self, url, worker, caplog):
        @task(name="blocking.wait")
        async def wait() -> None:
            await asyncio.sleep(1.6)

        with caplog.at_level(logging.WARNING, "tranship.worker"):
            assert Worker(f"memory://waits-{uuid4().hex}", tasks=[wait]).run_until_idle(10) == 0
            with Client(url) as client:
                client.submit(where).result(timeout=10)
        assert "block" not in caplog.text


@task(name="blocking.swallow")
async def swallow() -> str:
    released = asyncio.get_running_loop().create_future()
    RELEASED.append(released)
    while not released.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([released])
    return "all the same"


RELEASED: list[asyncio.Future[None]] = []


@pytest.mark.parametrize("why", ["timeout", "cancelled", "deadline"])
def test_a_handler_that_swallows_its_cancellation_is_named_once(url, caplog, monkeypatch, why):
    monkeypatch.setattr(_unheeding, "PATIENCE", 0.2)
    RELEASED.clear()
    options: dict[str, Any] = {"timeout": {"run_timeout": 0.1}, "deadline": {"deadline_in": 1}}.get(why, {})
    with (
        caplog.at_level(logging.WARNING, "tranship.worker"),
        BackgroundWorker(Worker(url, tasks=[swallow])),
        Client(url) as client,
    ):
        handle = client.submit(swallow.options(**options))
        until(lambda: bool(RELEASED))
        if why == "cancelled":
            handle.cancel()
        until(lambda: bool(caplog.records))
        RELEASED[0].get_loop().call_soon_threadsafe(RELEASED[0].set_result, None)
        assert handle.result(timeout=10) == "all the same"
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 1
    assert named[0].startswith(f"task {handle.id} (blocking.swallow) was told to stop ({why}) and goes on")


def test_handlers_stay_where_they_are_when_one_blocks(url, worker):
    with Client(url) as client:
        before = client.submit(where).result(timeout=10)
        assert client.submit(sleep, 1.0).result(timeout=10) == before
        assert client.submit(where).result(timeout=10) == before == f"tranship-worker-{worker.worker.name}"


BLOCKING = """
import time
from tranship import task

@task
async def block() -> None:
    time.sleep(600)
"""


def test_signals_are_heard_while_a_handler_blocks(tmp_path: Path, monkeypatch) -> None:
    """The first stops the worker, the second gives the task back; the process does not outlive that for long."""
    (tmp_path / "blocking.py").write_text(BLOCKING)
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    with Client(url_of(tmp_path)) as client, started(["worker", "blocking"], tmp_path) as process:
        handle = client.submit("blocking.block")
        until(lambda: str(handle.state()) == "STARTED")
        process.terminate()
        until(lambda: not client.probe("default", timeout=0.3).ok)
        process.terminate()
        code, _, err = finish(process, 30)
        assert code == 0, err
        assert "finishing what runs" in err
        assert "stopping at once" in err
        until(lambda: str(handle.state()) == "PENDING")
