"""A worker that cannot work says so when it is made or started, not at message 10,000."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import replace

import pytest
from patience import until

from tranship.client import AsyncClient
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    BusyError,
    ConfigurationError,
    InvalidOptionError,
    UnsupportedError,
)
from tranship.ports import Capability, Level
from tranship.protocol import Encoder, decode_result
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.settings import BrokerURL, Settings
from tranship.sync import Client
from tranship.task import named, task
from tranship.testing.faults import Faults, FaultyRegistry
from tranship.testing.harness import Harness
from tranship.worker import Worker


@task(queue="unit")
def double(value: int) -> int:
    return 2 * value


@task(queue="unit", run_timeout=20, store_result=False)
def quiet() -> None: ...


def make(harness=None, faults=None, *, tasks=(double,), **settings) -> Worker:
    harness = harness or Harness("memory://")
    registry = FaultyRegistry(harness.make_backend, faults or Faults())
    settings = Settings(broker_url=BrokerURL.parse("memory://"), **settings)
    return Worker(settings=settings, tasks=tasks, registry=registry)


@pytest.mark.parametrize("tasks", [[], [len], [named("elsewhere.task")], ["unit.double"]])
def test_tasks_must_be_functions_decorated_with_task(tasks):
    with pytest.raises(InvalidOptionError, match="task"):
        Worker("memory://", tasks=tasks)


def test_two_tasks_of_one_name_are_refused_and_two_options_of_one_task_are_not():
    @task(name=double.name)
    def other(): ...

    with pytest.raises(InvalidOptionError, match="two tasks are named"):
        Worker("memory://", tasks=[double, other])
    assert len(Worker("memory://", tasks=[double, double.options(priority="high")]).tasks) == 1


@pytest.mark.parametrize("queues", [[], "unit", [""], [7]])
def test_queues_must_be_names(queues):
    with pytest.raises(InvalidOptionError, match="queues"):
        Worker("memory://", tasks=[double], queues=queues)


def test_queues_are_those_of_the_tasks_unless_given():
    assert Worker("memory://", tasks=[double, double.options(queue="other")]).queues == ["unit"]
    assert Worker("memory://", tasks=[double], queues=["b", "a", "b"]).queues == ["b", "a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"wait_for_broker": -1},
        {"max_concurrent_tasks": 0},
        {"max_deliveries": -1},
        {"shutdown_timeout": "soon"},
        {"url": "memory"},
        {"name": 7},
        {"name": "a\nb"},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises((InvalidOptionError, ValueError)):
        Worker(**{"url": "memory://", "tasks": [double], **wrong})


def test_the_watchdog_is_a_number_of_seconds():
    with pytest.raises(InvalidOptionError, match="watchdog"):
        Settings(broker_url=BrokerURL.parse("memory://"), watchdog=0)


async def test_one_worker_works_once_at_a_time():
    worker = make()
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: worker.status().ready)
    with pytest.raises(BusyError):
        await worker.serve()
    worker.stop()
    await asyncio.wait_for(serving, 5)
    assert (worker.status().ready, worker.status().problem) == (False, "not at work")
    worker.stop()
    # Told to stop before it begins, it stops as soon as it does; and then it can work again.
    await asyncio.wait_for(worker.serve(), 5)
    assert await worker.serve_until_idle(5) == 0


@pytest.mark.parametrize("error", [BrokerUnreachable, BrokerRefused])
async def test_what_keeps_it_from_starting_is_raised_and_everything_is_closed(error):
    faults = Faults()
    for verb in ("open", "ensure", "listen"):
        faults.fail(verb, error)
        with pytest.raises(error):
            await asyncio.wait_for(make(faults=faults, wait_for_broker=0).serve(), 5)
    assert await make(faults=faults).serve_until_idle(5) == 0


async def test_a_broker_that_cannot_be_reached_is_waited_for_and_the_log_says_so_once(caplog):
    caplog.set_level(logging.INFO, "tranship.worker")
    faults = Faults()
    for verb in ("open", "ensure", "listen"):
        faults.fail(verb, BrokerUnreachable)
    worker = make(faults=faults)
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: worker.status().problem.startswith("waiting for the broker: open fails"))
    assert not worker.status().ready
    await until(lambda: worker.status().ready)
    assert faults.calls["open"] == 4
    worker.stop()
    await asyncio.wait_for(serving, 5)
    waits = [one.message for one in caplog.records if "waiting for the broker" in one.message]
    assert len(waits) == 1
    assert "as long as it takes" in waits[0]
    assert any("the broker is there after" in one.message for one in caplog.records)


async def test_it_is_waited_for_as_long_as_the_setting_says_and_permanent_errors_are_not():
    # What is imported at the first start takes no part of the time.
    await make().serve_until_idle(5)
    faults = Faults()
    faults.fail("open", BrokerUnreachable, times=-1)
    with pytest.raises(BrokerUnreachable):
        await asyncio.wait_for(make(faults=faults, wait_for_broker=0.5).serve(), 5)
    # At once, after 0.1 s, and when half a second is over.
    assert (tried := faults.calls["open"]) >= 2
    with pytest.raises(BrokerUnreachable):
        await asyncio.wait_for(make(faults=faults).serve_until_idle(5), 2)
    assert faults.calls["open"] == tried + 1, "until idle: not without a limit of its own"
    faults.clear("open")
    faults.fail("open", BrokerUnreachable)
    faults.fail("open", BrokerRefused)
    with pytest.raises(BrokerRefused):
        await asyncio.wait_for(make(faults=faults).serve(), 5)


@pytest.mark.parametrize("what", ["a pause", "an attempt that hangs"])
async def test_a_stop_ends_the_waiting_for_a_broker(what, monkeypatch):
    from tranship import pauses

    monkeypatch.setattr(pauses, "FIRST", 60.0)
    faults = Faults()
    if what == "a pause":
        faults.fail("open", BrokerUnreachable)
    else:
        faults.stall("open")
    worker = make(faults=faults)
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: faults.hit["open"])
    worker.stop()
    await asyncio.wait_for(serving, 20)
    assert await worker.serve_until_idle(5) == 0


async def test_cancelled_while_it_waits_for_a_broker_it_closes_everything(monkeypatch):
    from tranship import pauses

    monkeypatch.setattr(pauses, "FIRST", 60.0)
    faults = Faults()
    faults.fail("ensure", BrokerUnreachable)
    worker = make(faults=faults)
    serving = asyncio.ensure_future(worker.serve())
    await until(lambda: faults.hit["ensure"])
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 20)
    assert await worker.serve_until_idle(5) == 0


async def test_a_permanent_error_ends_it_and_a_passing_one_does_not():
    faults = Faults()
    worker = make(faults=faults)
    faults.fail("receive", BrokerUnreachable, times=2)
    faults.fail("receive", BrokerRefused)
    with pytest.raises(BrokerRefused):
        await asyncio.wait_for(worker.serve(), 5)
    assert faults.hit["receive"] == 3


async def test_no_result_store_is_refused_at_start():
    class Storeless(Harness):
        def make_backend(self, url):
            backend = super().make_backend(url)
            lacking = dict.fromkeys((Capability.RESULTS, Capability.RESULT_PUSH), Level.NONE)
            declared = backend._declared
            backend._declared = lambda: {**declared(), **lacking}
            return backend

    with pytest.raises(UnsupportedError, match="store_result=False"):
        await make(Storeless("memory://")).serve()
    assert await make(Storeless("memory://"), tasks=[quiet]).serve_until_idle(5) == 0


async def test_a_brokers_hard_limit_is_checked_at_start(monkeypatch):
    from tranship.driver._consumer import DriverConsumer

    monkeypatch.setattr(DriverConsumer, "hard_limit", 60.0)

    @task(name="unit.long", queue="unit", run_timeout=61)
    def long() -> None: ...

    with pytest.raises(ConfigurationError, match="run_timeout"):
        await make(tasks=[long]).serve()
    assert await make(tasks=[quiet]).serve_until_idle(5) == 0


async def test_a_task_without_a_limit_ends_before_the_broker_takes_it_back(monkeypatch):
    from tranship.driver._consumer import DriverConsumer

    @task(name="unit.endless", queue="unit")
    async def endless():
        await asyncio.sleep(60)

    monkeypatch.setattr(DriverConsumer, "hard_limit", 0.2)
    harness = Harness("memory://")
    backend = harness.make_backend("memory://")
    await backend.open()
    envelope = replace(endless.envelope((), {}, now=0.0), id="endless")
    await backend.submitter().submit([Encoder().encode(envelope)])
    await make(harness, tasks=[endless]).serve_until_idle(10)
    (stored,) = await backend.results().get_many(["endless"])
    assert decode_result(stored.document).error.code == "TASK_TIMED_OUT"
    await backend.aclose()


async def test_until_idle_has_an_end():
    @task(name="unit.endless", queue="unit")
    async def endless():
        await asyncio.sleep(60)

    harness = Harness("memory://")
    worker = make(harness, tasks=[endless], shutdown_timeout=0.1)
    backend = harness.make_backend("memory://")
    await backend.open()
    envelope = replace(endless.envelope((), {}, now=0.0), id="endless")
    await backend.submitter().submit([Encoder().encode(envelope)])
    with pytest.raises(TimeoutError):
        await worker.serve_until_idle(0.3)
    (queue,) = await backend.inspector().queues()
    assert sum(queue.ready.values()) == 1, "what ran was not given back"
    await backend.aclose()


async def test_its_repr_and_its_log_show_no_password(caplog):
    worker = Worker("memory://user:hunter2@name", tasks=[double])
    with caplog.at_level(logging.INFO, "tranship"):
        await worker.serve_until_idle(5)
    assert "hunter2" not in repr(worker) + caplog.text
    assert "consumes unit" in caplog.text


async def test_where_a_loop_is_running_the_error_says_what_to_write() -> None:
    """In a notebook every cell runs on a loop."""
    worker = Worker("memory://notebook", tasks=[double])
    with pytest.raises(ConfigurationError, match=r"running in this thread already.*`await worker\.serve\(\)`"):
        worker.run()
    with pytest.raises(ConfigurationError, match=r"`await worker\.serve_until_idle\(\)`"):
        worker.run_until_idle()
    with Client("memory://notebook") as client:  # a blocking client works there
        handle = client.submit(double, 21)
        assert await worker.serve_until_idle(timeout=10) == 1
        assert handle.result(timeout=5) == 42


@pytest.mark.parametrize("how", ["SIGTERM", "asked", "idle", "cancelled", "refused", "never begun"])
async def test_a_worker_says_what_it_stopped_for(how, caplog):
    caplog.set_level(logging.INFO, "tranship.worker")
    faults = Faults()
    worker = make(faults=faults)
    if how == "idle":
        await worker.serve_until_idle(5)
    else:
        if how == "never begun":
            faults.fail("open", BrokerUnreachable, times=-1)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: worker.status().problem != "not at work")
        match how:
            case "SIGTERM":
                worker.signalled(signal.SIGTERM)
            case "asked" | "never begun":
                worker.stop()
            case "cancelled":
                serving.cancel()
            case "refused":
                faults.fail("receive", BrokerRefused)
                await until(lambda: faults.calls["receive"])
                async with AsyncClient(settings=worker.settings, registry=worker._registry) as client:
                    await client.submit(double, 1)
        await asyncio.wait({serving}, timeout=5)
        assert serving.done()
        assert (serving.cancelled(), how) == (how == "cancelled", how)
        if how == "refused":
            assert isinstance(serving.exception(), BrokerRefused)
    said = {
        "SIGTERM": "has stopped: SIGTERM; deliveries done: 0",
        "asked": "has stopped: it was asked to; deliveries done: 0",
        "idle": "has stopped: nothing is left to do; deliveries done: 0",
        "cancelled": "has stopped: it was cancelled; deliveries done: 0",
        "refused": "has stopped: BrokerRefused: receive fails on purpose; deliveries done:",
        "never begun": "stops: it was asked to; it was not at work yet",
    }
    assert f"worker {worker.name} {said[how]}" in caplog.records[-1].message


async def test_a_failure_is_logged_with_task_id_attempt_type_message_and_traceback(caplog):
    @task(name="unit.fail", queue="unit", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
    def fail() -> None:
        raise OSError("no\nluck")

    worker = make(tasks=[fail])
    async with AsyncClient(settings=worker.settings, registry=worker._registry) as client:
        handle = await client.submit(fail)
        assert await worker.serve_until_idle(10) == 2
    again, dead = [one.message for one in caplog.records if one.message.startswith("task ")]
    first, *lines = again.splitlines()
    assert first == f"task {handle.id} (unit.fail), attempt 1 of 2: failed, runs again in 0.01 s: OSError: no luck"
    assert lines[0] == "  Traceback (most recent call last):"
    assert "in fail" in again
    assert all(line.startswith("  ") for line in lines), "a line that could be taken for a record"
    assert dead.startswith(f"task {handle.id} (unit.fail), attempt 2 of 2: retries-exhausted: OSError: no luck\n")


async def test_the_log_says_what_was_written_of_a_delivery_that_was_lost(caplog):
    """Results are kept elsewhere: the result is stored although the delivery could not be settled."""
    broker, store = Harness("memory://"), Harness("memory://")
    harness = Harness("memory://")
    harness.make_backend = lambda url: (store if "elsewhere" in url else broker).make_backend(url)
    faults = Faults()
    url = BrokerURL.parse("memory://?lease=0.3")
    settings = Settings(broker_url=url, result_url=BrokerURL.parse("memory://?namespace=elsewhere"))
    registry = FaultyRegistry(harness.make_backend, faults)
    worker = Worker(settings=settings, tasks=[double], registry=registry)
    serving = asyncio.ensure_future(worker.serve())
    rival = broker.make_backend(url.reveal())
    await rival.open()
    async with AsyncClient(settings=settings, registry=registry) as client:
        await until(lambda: faults.calls["receive"])
        # The one that waits now brings the task; the next one would take it again.
        for verb in ("receive", "settle", "extend"):
            faults.stall(verb, times=-1)
        handle = await client.submit(double, 2)
        await until(lambda: faults.hit["settle"])
        assert (await rival.consumer(["unit"]).receive(1, 5)).deliveries, "its lease has ended"
        faults.release("settle")
        await until(lambda: any("settled too late" in one.message for one in caplog.records))
        assert await handle.result(5) == 4
    faults.release("receive")
    worker.stop()
    await asyncio.wait_for(serving, 10)
    await rival.aclose()
    (said,) = [one.message for one in caplog.records if "settled too late" in one.message]
    assert said.endswith("its result was sent to the store before that, where the first one counts")


@pytest.mark.parametrize(("count", "said"), [(2, "(it has: many.00, many.01)"), (22, ", many.19 and 2 more)")])
async def test_an_unknown_task_is_told_with_some_of_those_that_are_known(count, said):
    url = f"memory://unknown-{count}"
    tasks = [task(name=f"many.{number:02}")(lambda: None) for number in range(count)]
    async with AsyncClient(url) as client:
        handle = await client.submit("another")
        await Worker(url, tasks=tasks).serve_until_idle(10)
        result = await handle.wait(5)
    assert result.error.code == "UNKNOWN_TASK"
    assert result.error.message.endswith(said), result.error.message
