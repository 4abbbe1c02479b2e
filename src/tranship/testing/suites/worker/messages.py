"""Messages that nobody of ours has written, put on the queue as they are."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import orjson

from tranship.envelope import Envelope, Receipt, TaskState, new_id
from tranship.errors import EncodeError, MalformedMessage, TaskDeadLettered, TaskFailed
from tranship.ports import Backend, Capability
from tranship.protocol import Message
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.facade.submit import add, echo
from tranship.testing.suites.worker.runs import ended

__all__ = ["MessageCases"]

RESULTS = {Capability.RESULTS}
DEAD = {Capability.RESULTS, Capability.DEAD_LETTERS}

JSON: Final = "application/json"
MSGPACK: Final = "application/x-msgpack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One malformed message: what is wrong, on top of one that is right."""

    name: str
    headers: dict[str, Any] | None = None
    """Replaces or adds; ``...`` takes a header away."""
    raw_headers: bytes | None = None
    body: Any = None
    raw_body: bytes | None = None
    content_type: str = JSON
    content_encoding: str = "utf-8"


class MessageCases:
    """Part of the worker's suite."""

    @worker_case(
        "undecodable_dead_letters",
        level="capability",
        needs=DEAD,
        rationale="a message that cannot be read must neither be lost nor stop the next one",
    )
    async def test_undecodable_dead_letters(self, facade: FacadeContext) -> None:
        """Every way to be malformed, a good task behind each: the good run, the bad are kept with a reason."""
        backend = await facade.context.open()
        client = await facade.client()
        sent = 0
        good = []
        for number, bad in enumerate(MALFORMED):
            sent += await _sent(backend, bad)
            good.append(await client.submit(echo, number))
        await facade.work(echo, add)
        found = await client.collect(good, 20.0)
        assert [one.value for one in found] == list(range(len(MALFORMED))), "a good task was harmed"
        letters = await _dead(facade, backend, sent)
        reasons = {letter.reason for letter in letters}
        assert reasons == {"malformed"}, reasons
        assert all(letter.detail for letter in letters)
        bodies = {letter.body for letter in letters}
        missing = [bad.name for bad in MALFORMED if bad.raw_body is not None and bad.raw_body not in bodies]
        assert not missing, f"the bytes of {missing} were not kept"
        await facade.context.quiet(backend.consumer(["q"]), 0.1)

    @worker_case(
        "undecodable_tells_waiter",
        level="capability",
        needs=DEAD,
        rationale="a waiter must hear of it, if it can be known who waits",
    )
    async def test_undecodable_tells_waiter(self, facade: FacadeContext) -> None:
        """The id can be read and the rest cannot: who waits for the id gets TaskDeadLettered."""
        backend = await facade.context.open()
        client = await facade.client()
        message = _message(Bad(name="body", raw_body=b'[[1], {}, {}, "four"]'))
        await facade.context.submit(backend, message)
        await facade.work(echo)
        error = await ended(client.handle(message.envelope.id), facade, TaskDeadLettered)
        assert error.code == "MALFORMED_MESSAGE"

    @worker_case("unknown_task_dead_letters", level="capability", needs=DEAD, rationale="never dropped, never looped")
    async def test_unknown_task_dead_letters(self, facade: FacadeContext) -> None:
        """No handler of that name: a dead letter, and an error that names it for who waits; the next task runs."""

        @task(name="kit.nobody-has-this", queue="q")
        def nobody() -> None: ...

        client = await facade.client()
        await facade.work(echo)
        handle = await client.submit(nobody)
        good = await client.submit(echo, 1)
        error = await ended(handle, facade, TaskDeadLettered)
        assert error.code == "UNKNOWN_TASK"
        assert "kit.nobody-has-this" in str(error)
        (letter,) = await _dead(facade, await facade.context.open(), 1)
        assert (letter.task_id, letter.task, letter.reason) == (handle.id, "kit.nobody-has-this", "unknown-task")
        assert await good.result(facade.context.patience) == 1

    @worker_case("wrong_arguments_fail", level="capability", needs=RESULTS, rationale="a foreign sender checks nothing")
    async def test_wrong_arguments_fail(self, facade: FacadeContext) -> None:
        """Arguments that do not fit, from a sender without our checks: FAILURE, not retried, that says which."""
        client = await facade.client()
        await facade.work(add)
        message = _message(Bad(name="arguments", headers={"task": "kit.add"}, body=[[1], {"up": 2}, {}]))
        await facade.context.submit(await facade.context.open(), message)
        error = await ended(client.handle(message.envelope.id), facade, TaskFailed)
        assert (error.code, type(error)) == ("INVALID_ARGUMENTS", TaskFailed)
        assert "kit.add" in str(error)

    @worker_case(
        "canvas_is_refused", level="capability", needs=RESULTS, rationale="a chain dropped silently is work lost"
    )
    async def test_canvas_is_refused(self, facade: FacadeContext) -> None:
        """Callbacks, errbacks, chain and chord: FAILURE that names them; the task is not run. Null ones are none."""
        runs: list[int] = []

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            return value

        client = await facade.client()
        backend = await facade.context.open()
        signature = {"task": "kit.other", "args": [], "kwargs": {}, "options": {}}
        embeds: dict[str, Any] = {
            "callbacks": [signature],
            "errbacks": [signature],
            "chain": [signature, signature],
            "chord": signature,
        }
        await facade.work(note)
        for name, value in embeds.items():
            message = _message(Bad(name=name, headers={"task": "kit.note"}, body=[[1], {}, {name: value}]))
            await facade.context.submit(backend, message)
            error = await ended(client.handle(message.envelope.id), facade, TaskFailed)
            assert name in str(error), error
        empty = dict.fromkeys(embeds)
        plain = _message(Bad(name="none", headers={"task": "kit.note"}, body=[[7], {}, empty]))
        await facade.context.submit(backend, plain)
        assert await client.handle(plain.envelope.id).result(facade.context.patience) == 7
        assert runs == [7]

    @worker_case("foreign_messages_run", level="capability", needs=RESULTS, rationale="Celery's messages are ours, too")
    async def test_foreign_messages_run(self, facade: FacadeContext) -> None:
        """The least a Celery worker runs, null where null may be, protocol 1, msgpack, compressed: all run."""
        client = await facade.client()
        backend = await facade.context.open()
        await facade.work(add)
        for good in WELL_FORMED:
            message = _message(good)
            await facade.context.submit(backend, message)
            handle = client.handle(message.envelope.id)
            result = await handle.wait(facade.context.patience)
            assert (result.state, result.value) == (TaskState.SUCCESS, 5), f"{good.name}: {result}"


def _message(spec: Bad) -> Message:
    task_id = new_id()
    headers = {"task": "kit.add", "id": task_id, **(spec.headers or {})}
    header_bytes = orjson.dumps({name: value for name, value in headers.items() if value is not ...})
    body = spec.raw_body
    if body is None:
        plain = _with_id(spec.body, task_id) if spec.body is not None else [[2, 3], {}, {}]
        body = msgpack.packb(plain) if spec.content_type == MSGPACK else orjson.dumps(plain)
    return Message(
        envelope=Envelope(id=task_id, task="kit.add", queue="q"),
        headers=header_bytes if spec.raw_headers is None else spec.raw_headers,
        body=body,
        content_type=spec.content_type,
        content_encoding=spec.content_encoding,
    )


async def _sent(backend: Backend, bad: Bad) -> bool:
    """Submit it; False: its headers are none, and cannot even be sent where the broker knows what headers are."""
    message = _message(bad)
    (answer,) = await backend.submitter().submit([message])
    if bad.raw_headers is not None and isinstance(answer, MalformedMessage | EncodeError):
        return False
    assert answer == Receipt(message.envelope.id), f"{bad.name}: {answer!r}"
    return True


def _with_id(body: Any, task_id: str) -> Any:
    return {**body, "id": task_id} if isinstance(body, dict) and body.get("id") is ... else body


async def _dead(facade: FacadeContext, backend: Backend, count: int) -> list[Any]:
    inspector = backend.inspector()

    async def all_there() -> list[Any]:
        letters = list(await inspector.dead("q", limit=1000))
        return letters if len(letters) == count else []

    return await facade.context.eventually(all_there, f"{count} dead letters")


_PROTOCOL_1: Final = {"task": "kit.add", "id": ..., "args": [2, 3], "kwargs": {}, "retries": 0, "utc": True}


def _numbered(field: bytes) -> bytes:
    """Return a header map with a field that JSON's writers would not write."""
    return b'{"task":"kit.add","id":"%b",%b}' % (new_id().encode(), field)


WELL_FORMED: Final = (
    Bad(name="minimal"),
    Bad(name="nulls", headers=dict.fromkeys(("eta", "expires", "retries", "timelimit", "group", "shadow", "lang"))),
    Bad(name="empty timelimit", headers={"timelimit": []}),
    Bad(name="numbers with a fraction", headers={"retries": 0.0, "timelimit": [60.5, 30.0]}),
    Bad(name="null embed", body=[[2, 3], {}, None]),
    Bad(name="a date without a zone", headers={"expires": "2099-01-02T03:04:05"}),
    Bad(name="unknown headers", headers={"x-trace": {"a": [1]}, "tranship-of-tomorrow": True}),
    Bad(name="msgpack", content_type=MSGPACK, content_encoding="binary"),
    Bad(
        name="compressed",
        headers={"compression": "application/x-gzip"},
        raw_body=zlib.compress(b"[[2, 3], {}, {}]"),
    ),
    Bad(name="protocol 1", raw_headers=b"{}", body=_PROTOCOL_1),
    Bad(name="protocol 1, null headers", raw_headers=b"null", body=_PROTOCOL_1),
)

MALFORMED: Final = (
    Bad(name="headers are no JSON", raw_headers=b"{not json"),
    Bad(name="headers are no UTF-8", raw_headers=b'{"task": "\xff"}'),
    Bad(name="headers are a list", raw_headers=b"[]"),
    Bad(name="headers are null", raw_headers=b"null"),
    Bad(name="headers are empty", raw_headers=b""),
    Bad(name="no task", headers={"task": ...}),
    Bad(name="null task", headers={"task": None}),
    Bad(name="empty task", headers={"task": ""}),
    Bad(name="task is a number", headers={"task": 7}),
    Bad(name="endless task", headers={"task": "x" * 5000}),
    Bad(name="no id", headers={"id": ...}),
    Bad(name="null id", headers={"id": None}),
    Bad(name="id is a map", headers={"id": {}}),
    Bad(name="eta is a number", headers={"eta": 1700000000}),
    Bad(name="eta is no date", headers={"eta": "tomorrow"}),
    Bad(name="expires is a number", headers={"expires": 60}),
    Bad(name="expires is no date", headers={"expires": "2031-13-45"}),
    Bad(name="retries is a text", headers={"retries": "2"}),
    Bad(name="retries is negative", headers={"retries": -1}),
    Bad(name="retries is beyond 64 bits", raw_headers=_numbered(b'"retries":%b' % (b"9" * 400))),
    Bad(name="retries has 5,000 digits", raw_headers=_numbered(b'"retries":%b' % (b"9" * 5000))),
    Bad(name="timelimit is beyond every float", raw_headers=_numbered(b'"timelimit":[%b,null]' % (b"9" * 400))),
    Bad(name="timelimit has 5,000 digits", raw_headers=_numbered(b'"timelimit":[%b,null]' % (b"9" * 5000))),
    Bad(name="our deadline is no number", raw_headers=_numbered(b'"tranship-deadline":NaN')),
    Bad(name="our deadline is infinite", raw_headers=_numbered(b'"tranship-deadline":1e999')),
    Bad(name="our deadline is in no year", headers={"tranship-deadline": 1e300}),
    Bad(name="eta is in no year", headers={"eta": "9" * 5000}),
    Bad(name="timelimit is a text", headers={"timelimit": "60"}),
    Bad(name="timelimit holds a text", headers={"timelimit": ["60", None]}),
    Bad(name="group is a number", headers={"group": 1}),
    Bad(name="root_id is a list", headers={"root_id": []}),
    Bad(name="ignore_result is a text", headers={"ignore_result": "yes"}),
    Bad(name="our deadline is a text", headers={"tranship-deadline": "soon"}),
    Bad(name="our retry is no policy", headers={"tranship-retry": {"max_attempts": -3}}),
    Bad(name="our retry is a text", headers={"tranship-retry": "often"}),
    Bad(name="our priority is unknown", headers={"tranship-priority": "urgent"}),
    Bad(name="our cancel key is a number", headers={"tranship-cancel-key": 7}),
    Bad(name="empty body", raw_body=b""),
    Bad(name="body is no JSON", raw_body=b"[[2, 3], {}"),
    Bad(name="body is no UTF-8", raw_body=b"\xff\xfe\x00"),
    Bad(name="body has two parts", raw_body=b"[[2], {}]"),
    Bad(name="body has four parts", raw_body=b"[[2], {}, {}, {}]"),
    Bad(name="body is a map", raw_body=b'{"args": []}'),
    Bad(name="body is null", raw_body=b"null"),
    Bad(name="args are a map", raw_body=b'[{"a": 1}, {}, {}]'),
    Bad(name="kwargs are a list", raw_body=b"[[], [1], {}]"),
    Bad(name="embed is a list", raw_body=b"[[], {}, [1]]"),
    Bad(name="kwargs have number keys", raw_body=b"\x93\x90\x81\x01\x02\x80", content_type=MSGPACK),
    Bad(name="msgpack is cut", raw_body=b"\x93\x92\x02", content_type=MSGPACK),
    Bad(name="unknown extended type", raw_body=b'[[{"__type__": "spaceship", "__value__": 1}], {}, {}]'),
    Bad(name="deep", raw_body=b"[" * 100_000),
    Bad(name="pickle", raw_body=b"\x80\x04K\x01.", content_type="application/x-python-serialize"),
    Bad(name="yaml", raw_body=b"- []\n- {}\n- {}\n", content_type="application/x-yaml"),
    Bad(name="unknown encoding", content_encoding="utf-99", raw_body='[["é"], {}, {}]'.encode()),
    Bad(name="unknown compression", headers={"compression": "application/x-arj"}),
    Bad(name="compression is a number", headers={"compression": 1}),
    Bad(name="compressed and cut", headers={"compression": "application/x-gzip"}, raw_body=b"x\x9c\x8b"),
    Bad(
        name="compressed bomb",
        headers={"compression": "application/x-gzip"},
        raw_body=zlib.compress(b"[" + b" " * 64 * 1024 * 1024 + b"]", 9),
    ),
    Bad(name="protocol 1 without id", raw_headers=b"{}", body={**_PROTOCOL_1, "id": None}),
    Bad(name="protocol 1 with bad args", raw_headers=b"{}", body={**_PROTOCOL_1, "args": {"a": 1}}),
)
"""Each header and each part of the body, wrong in the ways that senders get them wrong."""
