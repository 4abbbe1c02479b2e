"""Numbers in tables and properties that somebody else wrote: a dead letter at worst, and the next task runs."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rabbitmq_kit import raw

from tranship import AsyncClient, Worker, task
from tranship.errors import EncodeError, MalformedMessage
from tranship.ports import ConnectionEvent, Verdict
from tranship.testing.context import CaseContext, task_id
from tranship_rabbitmq._frames import frames_of
from tranship_rabbitmq._tables import DELIVERIES, Tables
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.table import TableError, encode_table

pytestmark = pytest.mark.timeout(120)

ODD: dict[str, Any] = {
    "negative": -(2**63),
    "huge": 2**63 - 1,
    "fraction": 0.5,
    "text": "9" * 5000,
    "list": [1],
}
NUMBERS = ("retries", "timelimit", "tranship-deadline", "x-delivery-count", DELIVERIES)


@task(name="kit.echo", queue="q")
def echo(value: object = None) -> object:
    return value


async def publish(lab: CaseContext, properties: Properties, body: bytes) -> None:
    """Put a message into the queue ``q`` of the test, as any program could."""
    async with raw(lab) as channel:
        await channel.call("confirm.select", False)
        answer = asyncio.get_running_loop().create_future()
        frame_max = channel.wire.frame_max
        frames = frames_of(channel.number, frame_max, properties, body, routing_key=f"{lab.namespace}:q")
        channel.publish(frames, "", answer.set_result)
        assert await answer is None


async def test_no_number_in_a_table_is_left_unsettled(lab: CaseContext) -> None:
    """Each of ours, of Celery's and of the server's in every odd form; each ends, and the tasks behind them run."""
    url, backend = lab.url(), await lab.open()
    await backend.ensure(["q"])
    ids = [(f"{name} {kind}", {name: value}) for name in NUMBERS for kind, value in ODD.items()]
    async with AsyncClient(url) as client:
        for task_id, odd in ids:
            headers = encode_table({"task": "kit.echo", "id": task_id, **odd})
            properties = Properties(content_type="application/json", table=headers, delivery_mode=2)
            await publish(lab, properties, b"[[1], {}, null]")
        good = await client.submit(echo, "good")
        worker = Worker(url, tasks=[echo])
        serving = lab.start(worker.serve())
        assert await good.result(lab.patience) == "good"
        letters = await lab.eventually(backend.inspector().dead, "the bad ones are dead letters")
        assert {letter.reason for letter in letters} <= {"malformed", "delivery-limit"}
        worker.stop()
        await serving
    (queue,) = [one for one in await backend.inspector().queues() if one.name == "q"]
    assert sum(queue.ready.values()) == 0, "something came back when its worker had left"


async def test_what_can_be_read_and_not_written_comes_again_as_it_was(lab: CaseContext) -> None:
    """A number of 64 bits without a sign: given back it is copied byte for byte, with its count."""
    backend = await lab.open()
    await backend.ensure(["q"])
    fields = encode_table({"task": "kit.echo", "id": "odd"})[4:] + b"\x01xL" + b"\xff" * 8
    properties = Properties(content_type="application/json", table=struct.pack(">I", len(fields)) + fields)
    await publish(lab, properties, b"[[1], {}, null]")
    consumer = backend.consumer(["q"])
    for count in (1, 2, 3):
        (delivery,) = await lab.receive(consumer)
        assert (task_id(delivery), delivery.delivery_count) == ("odd", count)
        await lab.settle(consumer, Verdict.NACK if count < 3 else Verdict.REJECT, delivery)
    (letter,) = await backend.inspector().dead()
    assert letter.body == b"[[1], {}, null]"


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
async def test_what_the_server_ends_its_connections_over_is_refused_here(lab: CaseContext, number: float) -> None:
    """An infinity in a header, sent as it is, takes the connection of everybody with it."""
    backend, events = await lab.open(), list[ConnectionEvent]()
    backend.on_event(lambda event, _: events.append(event))
    message = lab.message()
    message.headers = message.headers[:-1] + b',"x":%b}' % str(number).replace("inf", "Infinity").encode()
    message.headers = message.headers.replace(b"nan", b"NaN")
    (answer,) = await backend.submitter().submit([message])
    assert isinstance(answer, EncodeError | MalformedMessage), answer
    await lab.submit(backend, lab.message())
    assert not events


@given(
    st.dictionaries(
        st.sampled_from(NUMBERS),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    )
)
def test_no_table_raises(values: dict[str, Any]) -> None:
    read = Tables().read(encode_table(values), None)
    assert read.deliveries >= 0


def test_a_time_stamp_beyond_the_calendar_costs_its_message_only() -> None:
    header = struct.pack(">HHQH", 60, 0, 0, 1 << 6) + struct.pack(">Q", 2**64 - 1)
    with pytest.raises(TableError):
        properties_of(header)
