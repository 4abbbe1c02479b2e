"""Headers and subjects that somebody else wrote: the message becomes a dead letter, and the next one runs."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats_kit import connected

from tranship import AsyncClient, Worker, task
from tranship.errors import TaskDeadLettered
from tranship.ports import Backend, Capability
from tranship.testing.context import CaseContext
from tranship_nats._delivery import told_by
from tranship_nats._errors import error_in
from tranship_nats._message import frame, headers_of, raw_of, status_of, tried
from tranship_nats._naming import Names

pytestmark = pytest.mark.timeout(120)

LONG = b"9" * 5000
WRONG = (b"", b"-1", b"1.5", b"\xff", b"nan", b"9" * 19, LONG)


@task(name="kit.echo", queue="q")
def echo(value: object = None) -> object:
    return value


def written(*lines: tuple[bytes, bytes], task_id: str = "") -> bytes:
    """A block of headers; with an id it has a header map of a task, too."""
    given = orjson.dumps({"task": "kit.echo", "id": task_id})
    lines = (*lines, (b"Task-Headers", given)) if task_id else lines
    return b"NATS/1.0\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"


async def put(backend: Backend, subject: str, block: bytes, body: bytes = b'["bad"]') -> None:
    """Publish as a stranger, and insist that a stream has it."""
    await connected(backend).streams.need("work")
    await connected(backend).streams.need("delay")
    ((_, answer),) = await connected(backend).ask_all([(subject.encode(), block, body)])  # type: ignore[misc]
    assert error_in(answer) is None


@pytest.mark.parametrize("name", ["Tried-Before", "Task-Headers-Size"])
async def test_a_number_that_is_none_becomes_a_dead_letter(lab: CaseContext, name: str) -> None:
    """Every one of them, with a good task behind each; who waits for the id is told."""
    url, backend = lab.url(lease=30), await lab.open()
    subject = connected(backend).broker.names.task("q", echo.options_set.priority)
    async with AsyncClient(url) as client:
        handles = []
        for number, value in enumerate(WRONG):
            lines = ((name.encode(), value), (b"Content-Type", b"application/json"))
            await put(backend, subject, written(*lines, task_id=f"bad-{number}"))
            handles.append(await client.submit(echo, number))
        worker = Worker(url, tasks=[echo])
        serving = lab.start(worker.serve())
        assert [await handle.result(15) for handle in handles] == list(range(len(WRONG)))
        for number in range(len(WRONG)):
            with pytest.raises(TaskDeadLettered, match=f"{name}.*expected a whole number"):
                await client.handle(f"bad-{number}").result(15)
        worker.stop()
        await serving
    letters = await backend.inspector().dead("q")
    assert sorted((letter.task_id, letter.reason) for letter in letters) == [
        (f"bad-{number}", "malformed") for number in range(len(WRONG))
    ]
    assert all(name in letter.detail and len(letter.detail) < 200 for letter in letters)
    (queue,) = await backend.inspector().queues()
    assert (queue.in_flight, sum(queue.ready.values())) == (0, 0), "something was left unsettled"


@pytest.mark.parametrize("value", [b"inf", b"nan", b"1e300", b"-1", b"soon", LONG])
async def test_a_time_that_is_none_is_now(lab: CaseContext, value: bytes) -> None:
    """On the schedule; it used to stay there for ever."""
    url, backend = lab.url(), await lab.open()
    subject = connected(backend).broker.names.delayed("q", echo.options_set.priority, "odd", time.time())
    block = written((b"Not-Before", value), (b"Content-Type", b"application/json"), task_id="odd")
    await put(backend, subject, block, b'[["late"], {}, null]')
    async with AsyncClient(url) as client:
        worker = Worker(url, tasks=[echo])
        serving = lab.start(worker.serve())
        assert await client.handle("odd").result(15) == "late"
        worker.stop()
        await serving


@pytest.mark.parametrize("rest", ["q", "q.9", "q.x.y", "q.1", f"q.{'9' * 500}.x.y"])
async def test_subjects_of_strangers_are_read(lab: CaseContext, rest: str) -> None:
    """On the schedule: such a task runs at the normal level."""
    backend = await lab.open()
    root = connected(backend).broker.names.root
    await put(backend, f"{root}.d.{rest}", written(task_id="late"))
    (delivery,) = await lab.receive(backend.consumer(["q"]))
    assert orjson.loads(delivery.message.headers)["id"] == "late"


async def test_a_signal_with_odd_numbers_stops_nobody(lab: CaseContext) -> None:
    """A worker starts beside tombstones of strangers, and hears the next cancel."""
    backend = await lab.open()
    await lab.need([Capability.CONTROL])
    names = connected(backend).broker.names
    await connected(backend).streams.need("cancels")
    for number, expires in enumerate((b"9" * 400, b"9" * 5000, b"NaN", b"1e999", b'"soon"')):
        body = b'{"kind":"id","value":"x","expires":%b,"running":true}' % expires
        subject = names.key("cancels", f"id.all.x{number}")
        await connected(backend).ask_all([(subject.encode(), b"", body)])
    heard: list[Any] = []
    control = (await lab.open()).control()
    await control.listen(heard.extend, worker="w")
    assert heard == []


BLOCKS = st.binary(max_size=200) | st.lists(
    st.tuples(
        st.sampled_from([b"Tried-Before", b"Task-Headers-Size", b"Task-Headers", b"Reply-To", b"Content-Type"]),
        st.binary(max_size=30) | st.sampled_from([LONG, b"1", b"{}"]),
    ),
    max_size=4,
).map(lambda lines: written(*lines))


@given(st.none() | BLOCKS, st.binary(max_size=50))
def test_no_block_of_headers_raises(block: bytes | None, data: bytes) -> None:
    raw = raw_of(block, data)
    assert raw.problem is None or "expected" in raw.problem
    assert tried(block) >= 0
    assert status_of(block) >= 0
    headers_of(block)


ACK = "$JS.ACK.stream.consumer."
SUBJECTS = st.text("$JSACK.0123456789x", max_size=60) | st.lists(st.sampled_from(["1", "x", "", "9" * 5000])).map(
    lambda tokens: ACK + ".".join(tokens)
)


@given(SUBJECTS)
def test_no_subject_raises(subject: str) -> None:
    told = told_by(subject.encode())
    assert told is None or min(told.delivered, told.seq, told.stored_at) >= 0
    Names("", None).place_of(f"tranship.d.{subject}")


@given(st.binary(max_size=100) | st.sampled_from([b'{"error":%b}' % part for part in (b"[]", b"7", b'{"code":"x"}')]))
def test_no_answer_raises(data: bytes) -> None:
    error_in(data)


def test_frames_are_what_the_server_reads() -> None:
    assert frame(b"a", b"", b"", b"x") == b"PUB a  1\r\nx\r\n"
