"""Messages that are wrong in the ways in which senders get them wrong, and such as others write."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import orjson

from tranship.envelope import Envelope, Receipt, new_id
from tranship.errors import EncodeError, MalformedMessage
from tranship.ports import Backend
from tranship.protocol import Message

__all__ = ["MALFORMED", "WELL_FORMED", "Bad", "message_of", "sent"]

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


def message_of(spec: Bad) -> Message:
    """Return the message that ``spec`` describes, with an id of its own."""
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


async def sent(backend: Backend, bad: Bad) -> bool:
    """Submit it; False: its headers are none, and cannot even be sent where the broker knows what headers are."""
    message = message_of(bad)
    (answer,) = await backend.submitter().submit([message])
    if bad.raw_headers is not None and isinstance(answer, MalformedMessage | EncodeError):
        return False
    assert answer == Receipt(message.envelope.id), f"{bad.name}: {answer!r}"
    return True


def _with_id(body: Any, task_id: str) -> Any:
    return {**body, "id": task_id} if isinstance(body, dict) and body.get("id") is ... else body


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
