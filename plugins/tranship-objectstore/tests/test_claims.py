"""The claim check: what is too large for the broker is kept in the store, on both sides; and what goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from test_files import keys, put

from tranship import Client, Outcome, Worker, named, task
from tranship.codec import JSON, MSGPACK, dumps, loads
from tranship.envelope import Claim, TaskState
from tranship.errors import BatchSubmitError, ClaimCheckError, MalformedMessage, MessageTooLarge, TaskFailed
from tranship_objectstore import LargePayloads, ObjectNotFound, ObjectRefused, ObjectStore
from tranship_objectstore._sweep import sweep

LARGE = "x" * 2000


class Order(BaseModel):
    text: str
    copies: int


@task(name="claims.echo")
def echo(order: Order, more: list[int]) -> Any:
    return [order.text * order.copies, more]


@task(name="claims.reviewed")
async def reviewed(text: str):
    return Outcome("reviewed", text)


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return ObjectStore("memory://claims/x") if request.param == "memory" else request.getfixturevalue("s3_store")()


@pytest.fixture
def payloads(store: ObjectStore, tmp_path: Path) -> LargePayloads:
    return LargePayloads(store, directory=tmp_path, threshold=1000)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> str:
    return f"memory://claims-{abs(hash(request.node.nodeid))}"


def work(broker: str, *middleware: LargePayloads, tasks: Any = (echo, reviewed)) -> None:
    Worker(broker, tasks=tasks, middleware=middleware).run_until_idle(30)


def test_large_bodies_and_results_travel_by_reference(broker, store, payloads):
    with Client(broker, middleware=[payloads]) as client, Client(broker) as bare:
        large = client.submit(echo, Order(text=LARGE, copies=2), [1, 2])
        small = client.submit(echo, Order(text="a", copies=2), [3])
        status = client.submit(reviewed, LARGE)
        assert [key.rpartition("-body-")[0][-4:] for key in keys(store)] == [large.id[-4:], status.id[-4:]]
        work(broker, payloads)
        assert large.result(10) == [LARGE * 2, [1, 2]]
        assert small.result(10) == ["aa", [3]]
        assert (status.wait(10).status, status.wait(10).value) == ("reviewed", LARGE)
        assert len(keys(store)) == 4
        with pytest.raises(ClaimCheckError, match=r"pip install \./plugins/tranship-objectstore"):
            bare.handle(large.id).result(10)
        assert bare.handle(small.id).result(10) == ["aa", [3]]


def test_a_batch_is_kept_a_few_at_a_time(broker, tmp_path):
    busy, most = 0, 0

    class Counting(ObjectStore):
        async def upload(self, location, content):
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await super().upload(location, content)
            busy -= 1

    payloads = LargePayloads(Counting("memory://batch"), directory=tmp_path, threshold=1000, transfers=2)
    with Client(broker, middleware=[payloads]) as client:
        handles = client.submit_many([reviewed.call(LARGE + str(number)) for number in range(20)])
        work(broker, payloads)
        assert [handle.result(10) for handle in handles] == [LARGE + str(number) for number in range(20)]
    assert most == 2


def test_a_worker_without_it_keeps_the_task_among_the_dead_letters(broker, payloads):
    with Client(broker, middleware=[payloads]) as client:
        handle = client.submit(reviewed, LARGE)
        work(broker)
        ended = handle.wait(10)
        assert (ended.state, ended.error.code) == (TaskState.DEAD_LETTERED, "CLAIM_CHECK")
        assert "LargePayloads" in ended.error.message
        other = client.submit(reviewed, "small")
        work(broker)
        assert other.result(10) == "small"


def test_fetched_arguments_are_checked(broker, payloads):
    with Client(broker, middleware=[payloads]) as client:
        handle = client.submit(named("claims.echo"), {"text": LARGE}, [1])
        work(broker, payloads)
        with pytest.raises(TaskFailed, match="copies") as error:
            handle.result(10)
    assert (error.value.code, error.value.error_type) == ("INVALID_ARGUMENTS", "InvalidArgumentsError")


def test_what_is_gone_is_told(broker, store, payloads):
    with Client(broker, middleware=[payloads]) as client:
        body, result = client.submit(reviewed, LARGE), client.submit(reviewed, LARGE)
        remove(store, body.id)
        work(broker, payloads)
        assert body.wait(10).error.code == "OBJECT_NOT_FOUND"
        remove(store, f"{result.id}-result")
        with pytest.raises(ObjectNotFound):
            result.result(10)


def remove(store: ObjectStore, part: str) -> None:
    async def removed():
        await store.delete([one.location async for one in store.below(store.root) if part in one.location.key])

    asyncio.run(removed())


def test_a_claim_of_another_store_is_refused(broker, tmp_path):
    secret = put(ObjectStore("memory://private"), "memory://private/claims/20990101T000000Z/x.json", b"[[],{}]")
    payloads = LargePayloads("memory://ours", directory=tmp_path)
    with Client(broker) as client:
        handle = client.submit(named("claims.reviewed"), Claim(secret, 7))
        huge = client.submit(named("claims.reviewed"), Claim("memory://ours/claims/x", 1 << 40))
        work(broker, payloads)
        assert "the same store" in handle.wait(10).error.message
        assert "max_body_size" in huge.wait(10).error.message
        assert handle.wait(10).error.code == ObjectRefused.code


def test_what_is_too_large_to_be_kept_is_not_sent(broker, tmp_path):
    payloads = LargePayloads("memory://ours", directory=tmp_path, threshold=100, max_body_size=1000)
    with Client(broker, middleware=[payloads]) as client:
        with pytest.raises(MessageTooLarge, match="max_body_size"):
            client.submit(reviewed, LARGE)
        with pytest.raises(BatchSubmitError) as error:
            client.submit_many([reviewed.call(LARGE), reviewed.call("small")])
        assert list(error.value.errors) == [0]


def test_the_store_is_away_when_it_is_submitted(broker, tmp_path):
    store = ObjectStore("s3://b", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="hunter2", retries=0)
    with Client(broker, middleware=[LargePayloads(store, directory=tmp_path)]) as client:
        with pytest.raises(Exception, match="writing s3://b/claims") as error:
            client.submit(reviewed, "x" * 300_000)
        assert error.value.code == "OBJECT_STORE_UNREACHABLE"
        assert "hunter2" not in str(error.value)
        assert client.submit(reviewed, "small").id


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
def test_a_claim_survives_the_codec(content_type):
    claim = Claim("s3://bucket/x", 7)
    assert loads(dumps([claim], content_type), content_type) == [claim]
    assert repr(claim) == "Claim('s3://bucket/x', 7)"


@pytest.mark.parametrize("value", [b"7", b'{"uri":7,"size":7}', b'{"uri":"x","size":-1}', b'{"uri":"x"}'])
def test_a_claim_with_a_wrong_value_is_malformed(value):
    with pytest.raises(MalformedMessage, match="claim"):
        loads(b'[{"__type__":"tranship.claim","__value__":%b}]' % value, JSON)


# Time to live.


def test_what_has_expired_is_swept(store):
    for name in ("claims/20200101T000000Z/a", "claims/20990101T000000Z/b", "files/20200101T000000Z/c", "files/kept/d"):
        put(store, f"{store.root.uri}/{name}")
    put(store, f"{store.root.uri}/elsewhere/20200101T000000Z/e")
    assert asyncio.run(sweep(store)) == 2
    left = [key.rpartition("/")[2] for key in keys(store)]
    assert left == ["b", "e", "d"]
    assert asyncio.run(sweep(store, now=time.time() + 100 * 365 * 86400)) == 1


def test_a_worker_sweeps(broker, store, tmp_path):
    put(store, f"{store.root.uri}/claims/20200101T000000Z/old")
    payloads = LargePayloads(store, directory=tmp_path)

    @task(name="claims.waits")
    async def waits():
        async with asyncio.timeout(10):
            # A store has no event for "it is gone".
            while [one async for one in store.below(store.root)]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    with Client(broker) as client:
        handle = client.submit(waits)
        work(broker, payloads, tasks=[waits])
        handle.result(10)


def test_the_command_sweeps(tmp_path):
    put(ObjectStore(f"file://{tmp_path}"), f"file://{tmp_path}/claims/20200101T000000Z/old")

    def swept(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tranship_objectstore", "sweep", url],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert swept(f"file://{tmp_path}").stdout == "deleted 1 objects\n"
    assert not (tmp_path / "claims" / "20200101T000000Z").exists()
    wrong = swept("ftp://x")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
