"""Every way in which a list element can be bad, on top of one that Celery could have pushed."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis_kit import element

from tranship.testing.context import CaseContext

Change = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Bad:
    """One element: what is done to a complete one, or its bytes."""

    name: str
    change: Change | None = None
    raw: bytes | None = None

    def of(self, context: CaseContext) -> bytes:
        """The element's bytes."""
        if self.raw is not None:
            return self.raw
        complete = element(context, id=f"bad-{self.name}")
        assert self.change is not None
        changed = copy.deepcopy(complete)
        result = self.change(changed)
        return result if isinstance(result, bytes) else json.dumps(changed).encode()


def set_in(*path_and_value: Any) -> Change:
    """Replace what is at a path."""
    *path, last, value = path_and_value

    def change(whole: dict[str, Any]) -> None:
        for name in path:
            whole = whole[name]
        whole[last] = value

    return change


def without(*path: str) -> Change:
    """Take away what is at a path."""
    *path, last = path

    def change(whole: dict[str, Any]) -> None:
        for name in path:
            whole = whole[name]
        del whole[last]

    return change


def body(value: Any) -> Change:
    """Another body."""
    return set_in("body", base64.b64encode(json.dumps(value).encode()).decode())


def broken_inside(whole: dict[str, Any]) -> bytes:
    """Begins and ends as our own elements do, and is no JSON in between."""
    tail = {**whole["properties"], "timestamp": 1.5}
    text = json.dumps({"body": whole["body"], "headers": {}, "properties": tail}, separators=(",", ":"))
    return text.replace('"headers":{}', '"headers":{oops').encode()


def digits(*path: str) -> Change:
    """A number that ``int()`` refuses to read, and that readers without that guard take seconds for."""

    def change(whole: dict[str, Any]) -> bytes:
        set_in(*path, 123454321)(whole)
        return json.dumps(whole).encode().replace(b"123454321", b"9" * 5000)

    return change


INFO = ("properties", "delivery_info")
INCOMPLETE = [
    Bad("no-json", raw=b"hello"),
    Bad("empty", raw=b""),
    Bad("no-text", raw=b"\xff\xfe\x00\x01"),
    Bad("cut-off", raw=b'{"body": "W1tdLCB7fSwge31d", "headers": {"id": "x"'),
    Bad("a-list", raw=b"[1, 2, 3]"),
    Bad("a-number", raw=b"17"),
    Bad("a-string", raw=b'"celery"'),
    Bad("null", raw=b"null"),
    Bad("two-documents", raw=b"{} {}"),
    Bad("nested-too-deep", raw=b'{"properties": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    Bad("a-megabyte-of-nothing", raw=b"x" * 1_000_000),
    Bad("no-properties", without("properties")),
    Bad("properties-null", set_in("properties", None)),
    Bad("properties-a-list", set_in("properties", [])),
    Bad("no-tag", without("properties", "delivery_tag")),
    Bad("tag-null", set_in("properties", "delivery_tag", None)),
    Bad("tag-a-list", set_in("properties", "delivery_tag", ["a"])),
    Bad("tag-a-map", set_in("properties", "delivery_tag", {"a": 1})),
    Bad("tag-true", set_in("properties", "delivery_tag", True)),
    Bad("no-info", without(*INFO)),
    Bad("info-null", set_in(*INFO, None)),
    Bad("info-a-string", set_in(*INFO, "q")),
    Bad("no-exchange", without(*INFO, "exchange")),
    Bad("exchange-null", set_in(*INFO, "exchange", None)),
    Bad("no-routing-key", without(*INFO, "routing_key")),
    Bad("routing-key-a-number", set_in(*INFO, "routing_key", 7)),
    Bad("broken-inside", broken_inside),
    Bad("retries-of-5000-digits", digits("headers", "retries")),
    Bad("timelimit-of-5000-digits", digits("headers", "timelimit")),
    Bad("priority-of-5000-digits", digits("properties", "priority")),
    Bad("timestamp-of-5000-digits", digits("properties", "timestamp")),
    Bad("a-tag-of-5000-digits", digits("properties", "delivery_tag")),
]
"""A Celery worker dies of these, or loses them, or takes them again for ever: they may not get into ``unacked``."""

UNREADABLE = [
    Bad("no-body", without("body")),
    Bad("body-a-map", set_in("body", {"a": 1})),
    Bad("body-no-base64", set_in("body", "%%%")),
    Bad("body-no-json", set_in("body", base64.b64encode(b"hello").decode())),
    Bad("body-two-elements", body([[], {}])),
    Bad("body-four-elements", body([[], {}, {}, {}])),
    Bad("body-a-map-of-nothing", body({"a": 1})),
    Bad("args-a-map", body([{}, {}, {}])),
    Bad("kwargs-a-list", body([[], [], {}])),
    Bad("headers-missing", without("headers")),
    Bad("headers-null", set_in("headers", None)),
    Bad("headers-a-list", set_in("headers", [1])),
    Bad("no-task", without("headers", "task")),
    Bad("task-a-number", set_in("headers", "task", 5)),
    Bad("no-id", without("headers", "id")),
    Bad("id-a-number", set_in("headers", "id", 5)),
    Bad("eta-a-number", set_in("headers", "eta", 17)),
    Bad("retries-infinite", set_in("headers", "retries", float("inf"))),
    Bad("timelimit-no-number", set_in("headers", "timelimit", [float("nan"), None])),
    Bad("eta-no-date", set_in("headers", "eta", "soon")),
    Bad("expires-no-date", set_in("headers", "expires", "later")),
    Bad("compression-unknown", set_in("headers", "compression", "application/x-nothing")),
    Bad("compression-not-compressed", set_in("headers", "compression", "application/x-gzip")),
    Bad("content-type-unknown", set_in("content-type", "application/x-python-serialize")),
    Bad("body-encoding-unknown", set_in("properties", "body_encoding", "rot13")),
]
"""Complete, so that Celery can give them back; but no task can be read from them."""

READABLE = {
    bad.name: name
    for bad in INCOMPLETE
    for prefix, name in (
        ("no-tag", "delivery_tag"),
        ("tag-", "delivery_tag"),
        ("no-info", "exchange"),
        ("info-", "exchange"),
        ("no-exchange", "exchange"),
        ("exchange-", "exchange"),
        ("no-routing", "routing_key"),
        ("routing-", "routing_key"),
    )
    if bad.name.startswith(prefix)
}
"""Those from which a task can be read all the same, and what they lack: they can be made complete and queued again."""
