"""Results that Celery's own backend wrote are read, and ours are read by it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.backends.database import DatabaseBackend
from celery.result import AsyncResult
from sqlalchemy import create_engine, inspect, text

from tranship import Client, TaskState, Worker, task
from tranship.envelope import ErrorInfo, TaskResult
from tranship.errors import BrokerUnreachable, InvalidOptionError, MalformedMessage, TaskFailed, UnsupportedError
from tranship.ports import Backend, StoredResult
from tranship.protocol import decode_result, encode_result
from tranship.registry import Registry


class OutOfPaper(Exception):
    """Of the application."""


@task(name="tables.add")
def add(a: int, b: int) -> int:
    return a + b


@task(name="tables.fail")
def fail(tray: str) -> None:
    raise OutOfPaper(tray)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture
def celery(file: Path) -> Iterator[Celery]:
    """A Celery client with the same table."""
    app = Celery("tables", backend=f"db+sqlite:///{file}", set_as_current=False)
    app.conf.result_extended = True
    yield app
    app.close()


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Backend]:
    backend = Registry().create(f"db+sqlite:///{file}", results=True)
    await backend.open()
    yield backend
    await backend.aclose()


def test_celery_reads_what_a_worker_of_ours_has_stored(file: Path, celery: Celery, tmp_path: Path) -> None:
    where = {"url": f"memory://{tmp_path.name}", "result_url": f"db+sqlite:///{file}"}
    with Client(**where) as client:
        good, bad = client.submit(add, 1, 2), client.submit(fail, "tray 2")
        Worker(**where, tasks=[add, fail]).run_until_idle(20)
        assert good.result(20) == 3
        with pytest.raises(TaskFailed) as failed:
            bad.result(20)
        assert failed.value.type.endswith("OutOfPaper")
    assert AsyncResult(good.id, app=celery).get(timeout=5) == 3
    answer = AsyncResult(bad.id, app=celery)
    assert answer.state == "FAILURE"
    assert type(answer.result).__name__ == "OutOfPaper"
    assert answer.result.args == ("tray 2",)


async def test_what_celery_has_stored_is_read(celery: Celery, store: Backend) -> None:
    backend = celery.backend
    assert isinstance(backend, DatabaseBackend)
    backend.store_result("good", {"a": [1, None, "é"]}, "SUCCESS")
    backend.mark_as_failure("bad", OutOfPaper("tray 3"), traceback="Traceback: here")
    backend.store_result("busy", {"hostname": "w1"}, "STARTED")
    backend.store_result("half", {"done": 50}, "PROGRESS")
    good, bad, busy, half, none = await store.results().get_many(["good", "bad", "busy", "half", "none"])
    assert decode_result(good.document).value == {"a": [1, None, "é"]}
    failure = decode_result(bad.document)
    assert failure.state is TaskState.FAILURE
    assert failure.error is not None
    assert (failure.error.message, failure.error.traceback) == ("tray 3", "Traceback: here")
    assert [one.state for one in (busy, half, none)] == [TaskState.STARTED, TaskState.STARTED, TaskState.PENDING]


async def test_ours_say_more_than_celery_can(store: Backend) -> None:
    error = ErrorInfo(type="app.Odd", message="odd", code="ODD", details={"tray": 2})
    for state in (TaskState.FAILURE, TaskState.EXPIRED, TaskState.CANCELLED, TaskState.DEAD_LETTERED):
        written = TaskResult(id=state.value, state=state, error=error, attempt=2, worker="w", finished_at=1.9e9)
        await store.results().put([StoredResult(id=state.value, state=state, document=encode_result(written))])
        (found,) = await store.results().get_many([state.value])
        read = decode_result(found.document)
        assert (found.state, read.state, read.attempt, read.worker) == (state, state, 2, "w")
        assert read.error is not None
        assert (read.error.code, read.error.details) == ("ODD", {"tray": 2})


async def test_a_pickle_is_not_run(celery: Celery, store: Backend, file: Path) -> None:
    celery.backend.store_result("evil", 1, "SUCCESS")
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        planted = {"bytes": pickle.dumps(OutOfPaper("x")), "id": "evil"}
        connection.execute(text("update celery_taskmeta set result = :bytes where task_id = :id"), planted)
    engine.dispose()
    (found,) = await store.results().get_many(["evil"])
    with pytest.raises(MalformedMessage):
        decode_result(found.document)


async def test_the_table_is_celerys(store: Backend, file: Path, celery: Celery) -> None:
    engine = create_engine(f"sqlite:///{file}")
    ours = {one["name"]: str(one["type"]) for one in inspect(engine).get_columns("celery_taskmeta")}
    engine.dispose()
    from celery.backends.database.models import Task

    assert ours == {
        one.name: str(one.type.compile(engine.dialect)) for one in Task.__table__.columns if one.name in ours
    }
    assert set(ours) >= {"id", "task_id", "status", "result", "date_done", "traceback"}


def test_it_works_without_celery(file: Path) -> None:
    import subprocess

    program = (
        "import asyncio, sys; from tranship.registry import Registry\n"
        "async def main():\n"
        f"    b = Registry().create('db+sqlite:///{file}', results=True)\n"
        "    await b.open(); await b.results().get_many(['a']); await b.aclose()\n"
        "asyncio.run(main()); print('celery' in sys.modules, 'kombu' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


async def test_what_is_wrong_is_named(file: Path) -> None:
    registry = Registry()
    with pytest.raises(UnsupportedError, match="keeps results and takes no tasks"):
        registry.create(f"db+sqlite:///{file}")
    with pytest.raises(InvalidOptionError, match="did you mean table"):
        registry.create(f"db+sqlite:///{file}?tabel=x", results=True)
    away = registry.create("db+postgresql+pg8000://u:open-sesame@localhost/x", results=True)
    with pytest.raises(Exception, match="pip install pg8000") as caught:
        await away.open()
    assert "open-sesame" not in str(caught.value)
    await away.aclose()
    nowhere = registry.create(f"db+sqlite:///{file.parent}/no/such/results.db", results=True)
    with pytest.raises(Exception, match="unable to open database file") as caught:
        await nowhere.open()
    assert not isinstance(caught.value, BrokerUnreachable)
    await nowhere.aclose()
