"""A worker's name is taken once: in processes, over the command line, and where it was lost."""

import asyncio
import json
import logging
import os
import signal
import time
from pathlib import Path

import pytest
from cli_kit import APP, finish, ran, started, until, url_of
from cli_kit import cli as in_process
from patience import until as aio_until

from tranship import Worker, task
from tranship.driver import DriverBackend
from tranship.errors import BrokerUnreachable, WorkerNameTaken
from tranship.ports import Heartbeat, NameHolder, name_holder_data, name_holder_of
from tranship.registry import Registry
from tranship.routing import failover
from tranship.worker import _name
from tranship.worker._name import KEPT, WorkerName, holder


@task(name="names.nothing")
def nothing() -> None: ...


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def workers(directory: Path) -> dict[str, int]:
    """Process ids by the names of the workers that are heard of."""
    found = json.loads(in_process("workers", "-u", url_of(directory), "--json").stdout)
    return {one["worker"]: one["pid"] for one in found}


class TestProcesses:
    def test_a_second_one_is_refused_and_the_heir_of_a_killed_one_waits_for_its_name(self, directory: Path) -> None:
        line = ["worker", "app", "-n", "twin"]
        with started(line, directory) as first:
            until(lambda: workers(directory) == {"twin": first.pid})
            code, out, err = ran(line, directory)
            assert (code, out) == (1, "")
            assert "Traceback" not in err
            said = err.splitlines()[-1]
            assert said.startswith("error: a worker named 'twin' is at work already, on ")
            assert f"process {first.pid}, since 2" in said
            assert "--name" in said
            first.kill()
            first.wait()
            died = time.monotonic()
            with started(line, directory) as heir:
                until(lambda: workers(directory) == {"twin": heir.pid}, KEPT + 30)
                assert time.monotonic() - died < KEPT + 30
                heir.terminate()
                code, _, err = finish(heir)
            assert code == 0, err
            assert f"it is free within {KEPT:g} s if that one has died" in err
        # Who says goodbye leaves the name behind at once.
        code, _, err = ran([*line, "--burst"], directory)
        assert code == 0, err
        assert "if that one has died" not in err

    def test_the_successor_of_a_killed_child_does_not_wait(self, directory: Path) -> None:
        with started(["worker", "app", "--processes", "1", "-n", "one"], directory) as parent:
            until(lambda: "one-1" in workers(directory))
            first = workers(directory)["one-1"]
            os.kill(first, signal.SIGKILL)
            until(lambda: workers(directory)["one-1"] != first, 40)
            other = ran(["worker", "app", "-n", "one-1"], directory)
            assert other[0] == 1, other
            parent.terminate()
            code, _, err = finish(parent)
        assert code == 0, err
        assert "if that one has died" not in err

    def test_the_group_that_finds_its_names_taken_ends(self, directory: Path) -> None:
        line = ["worker", "app", "--processes", "2", "-n", "pair"]
        with started(line, directory) as parent:
            until(lambda: workers(directory).keys() == {"pair-1", "pair-2"})
            code, _, err = ran(line, directory)
            assert code == 1, err
            assert "a worker named 'pair-1' is at work already" in err
            assert parent.poll() is None
            parent.terminate()
            assert finish(parent)[0] == 0

    async def test_those_that_are_there_all_the_same_are_told_of(self, directory: Path) -> None:
        url = url_of(directory)
        backend = Registry().create(url)
        await backend.open()
        try:
            beat = Heartbeat(
                worker="twin",
                host="here",
                pid=1,
                queues=["q"],
                running=[],
                limit=1,
                at=time.time(),
                namesakes=["on there, process 12"],
            )
            await backend.control().beat(beat)
            said = await asyncio.to_thread(in_process, "doctor", "-u", url)
            assert said.exit_code == 0
            assert "worker twin on here is not the only one of that name: another is on there, process 12" in " ".join(
                said.stdout.split()
            )
            said = await asyncio.to_thread(in_process, "workers", "-u", url)
            assert "another worker is named 'twin', too: on there, process 12" in said.stderr
        finally:
            await backend.aclose()


class Keeper:
    """The control channel of a real broker, which a test takes away, or makes slow."""

    def __init__(self, backend: DriverBackend) -> None:
        self._control = backend.control()
        self.is_away = False
        self.taking = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def take_name(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        if self.is_away:
            raise BrokerUnreachable("away")
        self.taking.set()
        await self.go_on.wait()
        return await self._control.take_name(holder, seconds)  # type: ignore[no-any-return, attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._control, name)


class TestLost:
    async def test_one_that_was_not_heard_is_told_and_takes_it_again(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(_name, "EVERY", 0.02)
        backend = Registry().create("memory://names-lost")
        await backend.open()
        caplog.set_level(logging.INFO, "tranship.worker")
        keeper = Keeper(backend)  # type: ignore[arg-type]
        mine = WorkerName(keeper, holder("w", "mine", ""))  # type: ignore[arg-type]
        await mine.take()
        mine.keep()
        stranger = holder("w", "stranger", "")
        keeper.is_away = True
        await keeper.free_name(holder("w", "mine", ""))  # type: ignore[operator]
        assert await backend.control().take_name(stranger, 60.0) is None  # type: ignore[attr-defined]
        keeper.is_away = False
        await aio_until(lambda: "was taken by a worker on " in caplog.text)
        await backend.control().free_name(stranger)  # type: ignore[attr-defined]
        await aio_until(lambda: "is this worker's again" in caplog.text)
        assert caplog.text.count("was taken by a worker on ") == 1
        await mine.free()
        assert await backend.control().take_name(stranger, 60.0) is None  # type: ignore[attr-defined]
        await backend.aclose()

    async def test_what_is_being_said_while_it_stops_does_not_keep_the_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_name, "EVERY", 0.02)
        backend = Registry().create("memory://names-late")
        await backend.open()
        keeper = Keeper(backend)  # type: ignore[arg-type]
        mine = WorkerName(keeper, holder("w", "mine", ""))  # type: ignore[arg-type]
        await mine.take()
        keeper.taking.clear()
        keeper.go_on.clear()
        mine.keep()
        await asyncio.wait_for(keeper.taking.wait(), 20)
        freeing = asyncio.create_task(mine.free())
        await asyncio.sleep(0)
        keeper.go_on.set()
        await freeing
        assert await backend.control().take_name(holder("w", "other", ""), 60.0) is None  # type: ignore[attr-defined]
        await backend.aclose()


async def test_a_worker_that_waits_for_its_name_can_be_stopped() -> None:
    url = "memory://names-stopped"
    backend = Registry().create(url)
    await backend.open()
    await backend.control().take_name(holder("w", "dead", ""), 600.0)  # type: ignore[attr-defined]
    worker = Worker(url, tasks=[nothing], name="w")
    serving = asyncio.create_task(worker.serve())
    await aio_until(lambda: worker.status().problem is not None)
    worker.stop()
    await asyncio.wait_for(serving, 20)
    await backend.aclose()


async def test_the_error_says_where_and_since_when() -> None:
    url = "memory://names-error"
    first, second = (Worker(url, tasks=[nothing], name="w") for _ in range(2))
    serving = asyncio.create_task(first.serve())
    await aio_until(lambda: first.status().ready)
    with pytest.raises(WorkerNameTaken) as raised:
        await second.serve()
    assert (raised.value.code, raised.value.retryable, raised.value.pid) == ("WORKER_NAME_TAKEN", True, os.getpid())
    first.stop()
    await serving


async def test_one_that_is_refused_by_one_of_its_brokers_keeps_no_name_at_the_others() -> None:
    one, other = (Registry().create(f"memory://names-{which}") for which in ("one", "other"))
    await one.open()
    await other.open()
    holding = Worker(other.url, tasks=[nothing], name="w")
    serving = asyncio.create_task(holding.serve())
    await aio_until(lambda: holding.status().ready)
    with pytest.raises(WorkerNameTaken):
        await Worker(failover(one.url, other.url), tasks=[nothing], name="w").serve()
    assert await one.control().take_name(holder("w", "third", ""), 60.0) is None  # type: ignore[attr-defined]
    holding.stop()
    await serving
    for backend in (one, other):
        await backend.aclose()


@pytest.mark.parametrize("garbage", [None, 5, "x", [], {}, {"pid": "x", "since": "soon", "instance": 3, "host": None}])
def test_of_garbage_nothing_is_known(garbage: object) -> None:
    found = name_holder_of(garbage, "w")
    assert (found.name, found.instance, found.host, found.pid, found.since) == ("w", "", "", 0, 0.0)
    assert not holder("w", "mine", "").may_follow(found)


def test_a_holder_is_read_as_it_was_written() -> None:
    one = holder("w", "mine", "family")
    assert name_holder_of(json.loads(json.dumps(name_holder_data(one))), "w") == one
