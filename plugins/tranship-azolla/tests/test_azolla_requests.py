"""What an orchestrator is asked, what it cannot be asked, and what a worker is told that would take from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from azolla_server import BOUND, Orchestrator

from tranship import (
    AsyncClient,
    Client,
    ExponentialBackoff,
    FixedBackoff,
    LinearBackoff,
    RetryPolicy,
    Worker,
    task,
)
from tranship.compat import azolla
from tranship.errors import TaskNotFound, UnsupportedError
from tranship_azolla import wire_pb2 as wire

FLOW = "5d4b1d0e-8f0e-4a0e-9d9b-0d2f6b8f6f11"


@task
def blur(photo: str, *, strength: int = 1) -> str: ...


async def asked(orchestrator: Orchestrator, client: AsyncClient, call: Any) -> Any:
    handle = await client.submit(call)
    return orchestrator.tasks[handle.id].request


async def test_a_task_travels_as_azolla_s_clients_send_it(orchestrator: Orchestrator):
    async with AsyncClient(orchestrator.url) as client:
        named = await asked(orchestrator, client, blur.call(photo="a", strength=3))
        assert (named.name, named.domain, json.loads(named.args), named.kwargs) == (
            blur.name,
            "default",
            [{"photo": "a", "strength": 3}],
            "{}",
        )
        assert not named.HasField("shepherd_group")
        assert not named.HasField("retry_policy")
        mixed = await asked(orchestrator, client, blur.call("a", strength=3))
        assert (json.loads(mixed.args), json.loads(mixed.kwargs)) == (["a"], {"strength": 3})
    async with await azolla.Client.connect(orchestrator.endpoint, domain="office") as client:
        handle = await client.submit_task("blur", None).shepherd_group("gpu").flow_instance_id(FLOW).submit()
        request = orchestrator.tasks[handle.task_id].request
        assert (request.args, request.shepherd_group, request.flow_instance_id, request.domain) == (
            "[]",
            "gpu",
            FLOW,
            "office",
        )


@pytest.mark.parametrize(
    ("policy", "wait", "retry"),
    [
        (
            RetryPolicy(max_attempts=4, backoff=FixedBackoff(2.5), retry_on=[ValueError], stop_on_codes=["FULL"]),
            wire.RetryPolicyWait(fixed=wire.RetryPolicyFixedWait(delay=2.5)),
            wire.RetryPolicyRetry(include_errors=["ValueError"], exclude_errors=["FULL"]),
        ),
        (
            RetryPolicy(max_attempts=4, backoff=ExponentialBackoff(initial=2, jitter="none")),
            wire.RetryPolicyWait(
                exponential=wire.RetryPolicyExponentialWait(initial_delay=2, multiplier=2, max_delay=60)
            ),
            wire.RetryPolicyRetry(include_errors=["TaskError"]),
        ),
        (
            azolla.RetryPolicy(max_attempts=4, retry_on=["ServiceUnavailable", ConnectionError]),
            wire.RetryPolicyWait(
                exponential_jitter=wire.RetryPolicyExponentialWait(initial_delay=1, multiplier=2, max_delay=300)
            ),
            wire.RetryPolicyRetry(include_errors=["ConnectionError", "ServiceUnavailable"]),
        ),
    ],
)
async def test_policies_are_said_in_the_protocol_s_words(orchestrator: Orchestrator, policy, wait, retry):
    async with AsyncClient(orchestrator.url) as client:
        request = await asked(orchestrator, client, blur.options(retry=policy).call("a"))
    stop = wire.RetryPolicyStop(max_attempts=4)
    assert request.retry_policy == wire.RetryPolicy(version=1, stop=stop, wait=wait, retry=retry)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"priority": "high"}, "the priority 'high'"),
        ({"delay": 5}, "a delay"),
        ({"deadline": 60}, "a deadline"),
        ({"run_timeout": 5, "cancel_key": "c"}, "a run_timeout and a cancel_key"),
        ({"dedup_key": "k"}, "a dedup_key"),
        ({"task_id": FLOW}, r"an id of its own \(task_id\)"),
        ({"headers": {"tenant": "a"}}, r"headers, or what follows it \(tenant\)"),
        ({"serializer": "msgpack"}, "arguments as application/x-msgpack"),
        ({"retry": RetryPolicy(backoff=LinearBackoff(1.0, 2.0))}, r"cannot wait by LinearBackoff\(initial=1.0"),
        ({"retry": RetryPolicy(backoff=FixedBackoff(1.0, jitter="full"))}, "fixed delays without jitter"),
    ],
)
async def test_what_the_protocol_has_no_field_for_is_refused(orchestrator: Orchestrator, options, match):
    async with AsyncClient(orchestrator.url) as client:
        with pytest.raises(UnsupportedError, match=match):
            await client.submit(blur.options(**options), "a")
        # Those beside it are submitted.
        assert await asked(orchestrator, client, blur.call("b"))
    assert len(orchestrator.tasks) == 1


async def test_what_cannot_be_done_is_refused(orchestrator: Orchestrator):
    async with AsyncClient(orchestrator.url) as client:
        handle = await client.submit(blur, "a")
        for refused in (
            handle.cancel(),
            handle.forget(),
            client.submit(blur.call("a").then(blur)),
            handle.send_event("done"),
        ):
            with pytest.raises(UnsupportedError):
                await refused
        assert (await handle.info()).state == "PENDING"
    with pytest.raises(UnsupportedError, match="have a shepherd start azolla-worker"):
        await Worker(orchestrator.url, tasks=[blur]).serve()


def test_unknown_ids_are_told_from_pending_ones(orchestrator: Orchestrator):
    with Client(orchestrator.url) as client:
        handles = client.submit_many(blur.call(str(number)) for number in range(200))
        assert len({one.id for one in handles}) == len(orchestrator.tasks) == 200
        for unknown in (FLOW, "no uuid"):
            with pytest.raises(TaskNotFound):
                client.handle(unknown).result(BOUND)
        assert client.capabilities["knows-ids"].level == "native"
        assert {name for name, one in client.capabilities.items() if one.level != "none"} == {
            "durable",
            "cross-process",
            "results",
            "result-ttl",
            "knows-ids",
        }
