"""The client where the document says less: how arguments travel, other brokers, what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tranship import current, task
from tranship.compat.azolla import (
    Client,
    ClientConfig,
    ExponentialBackoff,
    FixedBackoff,
    RetryPolicy,
    Task,
    azolla_task,
    exceptions,
)
from tranship.errors import InvalidOptionError, UnknownSchemeError
from tranship.testing.background import BackgroundWorker


@azolla_task
async def add(first: int = 0, second: int = 0) -> int:
    return first + second


class EchoTask(Task):
    async def execute(self, args):
        return args


@azolla_task
async def flaky() -> int:
    if current().attempt < 2:
        raise ConnectionError("not yet")
    return current().attempt


@azolla_task
async def place() -> list:
    return [current().queue, current().headers.get("flow_instance_id")]


runs: list[str] = []


class MoodError(Exception):
    pass


@azolla_task
async def moody(mood: str) -> None:
    runs.append(mood)
    if mood == "typed":
        raise exceptions.TaskError("no", error_type="ServiceUnavailable")
    raise MoodError("no")


async def answer(client, what, args=None):
    result = await (await client.submit_task(what, args).submit()).wait(20)
    assert result.success, result.error
    return result.value


async def test_arguments_travel_as_azolla_has_them(serve, tranship_url):
    serve(add, EchoTask())
    async with await Client.connect(tranship_url) as client:
        assert await answer(client, add, {"first": 1, "second": 2}) == 3
        assert await answer(client, "add", [3, 4]) == 7
        assert await answer(client, add, 5) == 5
        assert await answer(client, add) == 0
        # Without a model: a list of what was submitted.
        assert await answer(client, EchoTask(), {"a": 1}) == [{"a": 1}]
        assert await answer(client, EchoTask, [1, {"b": 2}]) == [1, {"b": 2}]
        assert await answer(client, "echo", "x") == ["x"]


async def test_a_submit_s_policy_counts(serve, tranship_url):
    serve(flaky)
    client = await Client.builder().endpoint(tranship_url).timeout(5.0).build()
    async with client:
        policy = RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01), retry_on=[ConnectionError])
        assert (await (await client.submit_task(flaky).with_retry(policy).submit()).wait(20)).value == 2
        once = await (await client.submit_task(flaky).submit()).wait(20)
        assert (once.success, once.error.error_type, once.error.retriable) == (False, "ConnectionError", True)


async def test_retry_on_takes_what_errors_are_called(serve, tranship_url):
    serve(moody)
    async with await Client.connect(tranship_url) as client:

        async def attempts(mood, *retry_on):
            policy = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01), retry_on=list(retry_on))
            runs.clear()
            handle = await client.submit_task(moody, [mood]).retry_policy(policy).submit()
            assert not (await handle.wait(20)).success
            return len(runs)

        assert await attempts("typed", "ServiceUnavailable") == 2
        assert await attempts("typed", "TaskError") == 1
        assert await attempts("own", "MoodError") == 2
        # A class of that name in another module is the same to Azolla.
        assert await attempts("own", type("MoodError", (Exception,), {})) == 2
        assert await attempts("own", "ConnectionError", exceptions.TaskTimeoutError) == 1


def test_policies_are_kept_as_they_are_when_they_are_copied():
    policy = RetryPolicy(retry_on=["MoodError", ConnectionError], backoff=ExponentialBackoff(jitter=True))
    copy = replace(policy, max_attempts=9)
    assert (copy.retry_on, copy.retry_on_types) == (policy.retry_on, policy.retry_on_types)
    assert copy.retry_on == ("builtins.ConnectionError",)
    assert ExponentialBackoff(initial=4.0).seconds(0, lambda: 0.0) == policy.backoff.seconds(2, lambda: 0.0) == 3.0
    assert ExponentialBackoff(jitter=False).seconds(2) == 4.0


async def test_groups_are_queues_and_domains_are_namespaces(serve, tranship_url):
    serve(place, queues=["gpu"])
    async with await Client.connect(tranship_url) as client:
        handle = await client.submit_task(place).shepherd_group("gpu").flow_instance_id("flow-1").submit()
        assert (await handle.wait(20)).value == ["gpu", "flow-1"]
    async with await Client.connect(tranship_url, domain="other") as other:
        handle = await other.submit_task(place).shepherd_group("gpu").submit()
        with pytest.raises(exceptions.TaskWaitTimeoutError):
            await handle.wait(0.2)
        assert await handle.try_result() is None
        await other.core.cancel(task_id=handle.task_id)
        ended = await handle.wait(20)
        assert (ended.success, ended.error.error_type) == (False, "TaskCancelled")


async def test_a_closed_client_connects_again(serve, tranship_url):
    serve(add)
    client = await Client.connect(tranship_url)
    await client.close()
    async with client:
        assert await answer(client, add, [1, 1]) == 2


async def test_a_task_of_the_core_is_one_here(serve, tranship_url):
    @task(name="core.double")
    def double(number: int) -> int:
        return number * 2

    serve(double)
    async with await Client.connect(tranship_url) as client:
        assert await answer(client, double, {"number": 4}) == 8


async def test_what_is_wrong_is_named(tranship_url):
    with pytest.raises(InvalidOptionError, match="spoken without TLS"):
        await Client.connect("https://localhost:52710")
    with pytest.raises(UnknownSchemeError):
        await Client.connect("nothing://here")
    with pytest.raises(exceptions.ConnectionError):
        await Client.connect("sqlite:////proc/no/such/folder.db")
    with pytest.raises(InvalidOptionError, match=r"retries.*max_message_size"):
        await Client.connect(tranship_url, retries=3)
    with pytest.raises(InvalidOptionError, match="timeout"):
        ClientConfig(timeout=0)
    with pytest.raises(InvalidOptionError, match="neither config nor"):
        Client()
    with pytest.raises(InvalidOptionError, match="async def"):
        azolla_task(lambda: 1)
    async with await Client.connect(tranship_url) as client:
        with pytest.raises(InvalidOptionError, match="decorated with @azolla_task"):
            client.submit_task(7)
        with pytest.raises(exceptions.SerializationError):
            await client.submit_task("anything", object()).submit()


@pytest.mark.parametrize("broker", ["sqlite", "redis", "rabbitmq", "nats"])
async def test_every_broker_serves(broker, request, tmp_path):
    from tranship.compat.azolla import Worker

    url = f"sqlite:///{tmp_path}/jobs.db"
    if broker != "sqlite":
        pytest.importorskip(f"tranship_{broker}")
        url = request.getfixturevalue("tranship_service")(broker).url
    worker = Worker.builder().register_task(add).register_task(EchoTask()).build()
    with BackgroundWorker(worker.worker(url, domain="azolla-tests", shutdown_timeout=5.0)):
        async with await Client.connect(url, domain="azolla-tests") as client:
            assert await answer(client, add, [20, 22]) == 42
            failed = await (await client.submit_task(add, {"third": 3}).submit()).wait(20)
            assert failed.error.data["code"] == "VALIDATION_ERROR"
