"""Remote control with the real Celery: its clients reach our workers, our cancels reach its workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis_context import bury, eventually, opened

from tranship.errors import MalformedMessage
from tranship.mailbox import node_name
from tranship.ports import ONLOOKER, Signal, Tombstone
from tranship.testing.services import Service
from tranship_redis._context import Context
from tranship_redis._control import RedisControl

celery = pytest.importorskip("celery")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NODE = node_name("w-1")
APP = """
import os
from pathlib import Path
from celery import Celery

def make(url, namespace, serializer="json"):
    prefix = {"global_keyprefix": f"{namespace}:"}
    app = Celery("peers", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        broker_transport_options=prefix, result_backend_transport_options=prefix, task_default_queue="peers",
        broker_connection_retry_on_startup=True, task_serializer=serializer, accept_content=[serializer],
        worker_hijack_root_logger=False,
    )
    return app

if "PEERS_URL" in os.environ:
    app = make(os.environ["PEERS_URL"], os.environ["PEERS_NAMESPACE"])

    @app.task(name="peers.touch")
    def touch(path):
        Path(path).write_text("ran")
        return "ran"
"""


class Sink:
    def __init__(self) -> None:
        self.heard: dict[str, bool] = {}

    def __call__(self, signals: Sequence[Signal]) -> None:
        self.heard |= {one.value: one.running for one in signals if isinstance(one, Tombstone)}


class Worker:
    """A Celery worker in a process of its own."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        (folder / "peers_app.py").write_text(APP)
        self.log_file = folder / "worker.log"
        environment = {**os.environ, "PEERS_URL": url, "PEERS_NAMESPACE": namespace, "PYTHONPATH": str(folder)}
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "peers_app",
            "worker",
            "-P",
            "solo",
            "-n",
            "c@host",
            "-l",
            "INFO",
        ]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        return "c@host ready." in self.log()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check(self) -> None:
        """It is alive, and complained of nothing."""
        assert self.process.poll() is None, self.log()
        for sign in ("ERROR", "CRITICAL", "Traceback", "Unrecoverable"):
            assert sign not in self.log(), self.log()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def context(redis_service: Service, namespace: str) -> AsyncIterator[Context]:
    async with opened(redis_service.url, namespace=namespace) as made:
        yield made


@pytest.fixture
def make_app(redis_service: Service, namespace: str) -> Iterator[Callable[..., Any]]:
    scope: dict[str, Any] = {}
    exec(compile(APP, "peers_app", "exec"), scope)
    apps = []

    def make(serializer: str = "json") -> Any:
        apps.append(scope["make"](redis_service.url, namespace, serializer))
        return apps[-1]

    yield make
    for app in apps:
        app.pool.force_close_all()
        app.amqp.producer_pool.force_close_all()
        app.backend.client.connection_pool.disconnect()
        app.close()


@pytest.fixture
async def worker(
    tmp_path: Path, redis_service: Service, namespace: str, make_app: Any
) -> AsyncIterator[Callable[[], Any]]:
    started: list[Worker] = []
    ping = make_app().control.ping

    async def start() -> Worker:
        started.append(Worker(tmp_path, redis_service.url, namespace))
        await eventually(started[-1].is_ready, "the Celery worker starts", within=60)
        # It says so a moment before it subscribes to its mailbox.
        await eventually(lambda: asyncio.to_thread(ping, ["c@host"], timeout=0.5), "it hears", within=20)
        return started[-1]

    yield start
    for one in started:
        await asyncio.to_thread(one.stop)


def dead(task_id: str, *, running: bool = True) -> Tombstone:
    return Tombstone(kind="id", value=task_id, expires=time.time() + 600, running=running)


async def listening(context: Context) -> tuple[RedisControl, Sink]:
    control, sink = RedisControl(context), Sink()
    await control.listen(sink, worker="w-1")
    return control, sink


# --- Celery's clients and our workers -------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
async def test_a_celery_client_finds_our_worker(context: Context, make_app: Any, serializer: str) -> None:
    await listening(context)
    app = make_app(serializer)
    assert await asyncio.to_thread(app.control.ping, timeout=1.0) == [{NODE: {"ok": "pong"}}]
    inspect = app.control.inspect([NODE, "other@host"], timeout=1.0)
    assert await asyncio.to_thread(inspect.ping) == {NODE: {"ok": "pong"}}
    assert await asyncio.to_thread(app.control.ping, ["other@host"], timeout=0.5) == []
    by_pattern = app.control.inspect(pattern="w-1@*", matcher="glob", timeout=1.0)
    assert await asyncio.to_thread(by_pattern.ping) == {NODE: {"ok": "pong"}}
    assert await asyncio.to_thread(app.control.inspect(timeout=0.5).active) is None, "not ours to say"


async def test_a_celery_client_takes_an_onlooker_for_no_worker(context: Context, make_app: Any) -> None:
    control, sink = RedisControl(context), Sink()
    await control.listen(sink, worker=ONLOOKER)
    app = make_app()
    assert await asyncio.to_thread(app.control.ping, timeout=1.0) == []
    await control.cancel([dead("t-1")])
    await eventually(lambda: "t-1" in sink.heard, "what tranship's programs cancel is heard all the same")


async def test_a_celery_client_revokes(context: Context, make_app: Any) -> None:
    _, sink = await listening(context)
    app = make_app()
    await asyncio.to_thread(app.control.revoke, "t-1")
    await asyncio.to_thread(app.control.revoke, ["t-2", "t-3"])
    await asyncio.to_thread(app.control.terminate, "t-4", signal="SIGKILL")
    (answer,) = await asyncio.to_thread(app.control.revoke, "t-5", reply=True, timeout=1.0)
    assert answer == {NODE: {"ok": "tasks t-5 flagged as revoked"}}
    await asyncio.to_thread(app.control.revoke, "no", destination=["c@host"])
    await asyncio.to_thread(app.control.revoke, "t-6", destination=[NODE])
    await eventually(lambda: "t-6" in sink.heard, "the last is heard")
    assert sink.heard == {"t-1": False, "t-2": False, "t-3": False, "t-4": True, "t-5": False, "t-6": False}


async def test_a_celery_client_that_shuts_everybody_down_leaves_us_alone(context: Context, make_app: Any) -> None:
    await listening(context)
    app = make_app()
    await asyncio.to_thread(app.control.shutdown)
    await asyncio.to_thread(app.control.broadcast, "pool_shrink", {"n": 1})
    assert await asyncio.to_thread(app.control.ping, timeout=1.0) == [{NODE: {"ok": "pong"}}]


# --- our cancels and Celery's workers -------------------------------------------------------------


async def test_a_celery_worker_drops_what_we_cancel(
    context: Context, make_app: Any, worker: Any, tmp_path: Path
) -> None:
    app, one = make_app(), await worker()
    paths = {name: tmp_path / name for name in ("queued", "later", "good")}
    await asyncio.to_thread(app.control.cancel_consumer, "peers", reply=True, timeout=5.0)
    queued = await asyncio.to_thread(app.send_task, "peers.touch", [str(paths["queued"])])
    later = str(uuid.uuid4())
    await RedisControl(context).cancel([dead(queued.id), dead(later)])
    await eventually(lambda: one.log().count("Tasks flagged as revoked") > 0, "the worker hears of it", within=20)
    await asyncio.to_thread(app.control.add_consumer, "peers", reply=True, timeout=5.0)
    revoked = await asyncio.to_thread(app.send_task, "peers.touch", [str(paths["later"])], task_id=later)
    good = await asyncio.to_thread(app.send_task, "peers.touch", [str(paths["good"])])
    assert await asyncio.to_thread(good.get, timeout=20) == "ran"
    for result in (queued, revoked):
        await eventually(lambda found=result: found.state == "REVOKED", "it ends REVOKED")
    assert [name for name, path in paths.items() if path.exists()] == ["good"]
    one.check()


async def test_a_celery_worker_that_starts_learns_what_is_cancelled(
    context: Context, make_app: Any, worker: Any, tmp_path: Path
) -> None:
    app = make_app()
    control, _ = await listening(context)
    result = await asyncio.to_thread(app.send_task, "peers.touch", [str(tmp_path / "cancelled")])
    await control.cancel([dead(result.id), dead("other", running=False)])
    one = await worker()
    assert "mingle: sync with 1 nodes" in one.log()
    assert "mingle: sync complete" in one.log()
    revoked = await asyncio.to_thread(app.control.inspect(timeout=1.0).revoked)
    assert sorted(revoked["c@host"]) == sorted([result.id, "other"])
    good = await asyncio.to_thread(app.send_task, "peers.touch", [str(tmp_path / "good")])
    assert await asyncio.to_thread(good.get, timeout=20) == "ran"
    await eventually(lambda: result.state == "REVOKED", "it ends REVOKED")
    assert not (tmp_path / "cancelled").exists()
    pings = await asyncio.to_thread(app.control.ping, timeout=1.0)
    assert sorted(name for ping in pings for name in ping) == sorted([NODE, "c@host"])
    one.check()


async def test_many_cancels_in_all_shapes_do_a_celery_worker_no_harm(
    context: Context, make_app: Any, worker: Any, tmp_path: Path
) -> None:
    """Ids with quotes and control characters, two thousand of them, keys, commands: it goes on and says nothing."""
    app, one = make_app(), await worker()
    control, _ = await listening(context)
    odd = ['a"b', "\\", "\x00\x1f", "ü\u2028\U0001f600", "x" * 1024]
    await control.cancel([dead(task_id) for task_id in odd])
    await control.cancel([dead(f"t-{number}") for number in range(2000)])
    await control.cancel([Tombstone(kind="key", value="job-7", expires=time.time() + 60)])
    good = await asyncio.to_thread(app.send_task, "peers.touch", [str(tmp_path / "good")])
    assert await asyncio.to_thread(good.get, timeout=60) == "ran"
    revoked = await asyncio.to_thread(app.control.inspect(timeout=5.0).revoked)
    assert set(revoked["c@host"]) == {*odd, *(f"t-{number}" for number in range(2000))}
    one.check()


async def test_a_celery_worker_runs_what_is_replayed_and_meets_nothing_else(
    context: Context, make_app: Any, worker: Any, tmp_path: Path
) -> None:
    """Elements that would kill it stay among the dead letters; one that only lacked its properties runs."""
    app, one = make_app(), await worker()
    inspector = context.kit.inspector
    whole = {"id": str(uuid.uuid4()), "task": "peers.touch"}
    messages = [
        {"body": json.dumps([[str(tmp_path / "ran")], {}, None]), "headers": whole},
        {"body": "[[], {}]", "headers": whole},
        {"body": "[[], {}, {}]", "headers": {"task": "peers.touch"}},
        ["nonsense"],
    ]
    letters = [await bury(context, json.dumps(message).encode(), queue="peers", step=0) for message in messages]
    with pytest.raises(MalformedMessage, match=letters[3]):
        await inspector.dead_replay(letters)
    ran = app.AsyncResult(whole["id"])
    # Read anew each time: Celery's get(), which listens, was seen to wait in vain on a busy machine.
    try:
        await eventually(lambda: asyncio.to_thread(ran.ready), "it has run", within=20)
    except AssertionError as error:
        pytest.fail(f"{error}; what the worker says:\n{one.log()}")
    assert ran.result == "ran"
    assert (tmp_path / "ran").exists()
    assert [letter.id for letter in await inspector.dead()] == letters[1:]
    one.check()
