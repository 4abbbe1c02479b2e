"""Celery's remote control: what is broadcast to all workers, and what they answer.

A broadcast is a message like a task's; how it is wrapped is each broker's own. Its body says which method, with
which arguments, for whom, and where an answer goes. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.protocol import _glob
from tranship.protocol._headers import MAX_NAME, is_whole
from tranship.protocol._stamps import stamps_in

__all__ = ["Broadcast", "ReplyTo", "read_broadcast", "revoke_broadcast", "revoked_ids", "revoked_stamps"]

_REPLIES: Final = re.compile(r"reply\..+\.pidbox")
_OURS: Final = "tranship-signal"
"""Header of what we broadcast beside a signal of our own, which our listeners have heard already."""
MOST_REVOKED: Final = 50_000
"""Ids in one broadcast: as many as Celery's workers remember."""
_LARGEST_CLOCK: Final = 2**53
_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a broadcast's body, packed or unpacked; fifty thousand revoked ids, all that Celery remembers, are two
million. It is read on the worker's loop, which that keeps busy for a tenth of a second at most."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where an answer goes."""

    exchange: str
    routing_key: str
    ticket: str | None

    @property
    def queue(self) -> str:
        """What the asker reads."""
        return f"{self.routing_key}.{self.exchange}"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One broadcast as it was read."""

    method: str
    arguments: Mapping[str, Any]
    destination: Sequence[str]
    """Names of the nodes it is for; empty: see ``pattern``."""
    pattern: str | None
    """Which node names it is for, in the language ``matcher``; None: all."""
    matcher: str | None
    reply_to: ReplyTo | None
    content_type: str
    """What an answer has to be written in: askers read what they write."""
    clock: int
    ours: bool
    """Broadcast by tranship, beside a signal on our own channel."""

    def is_for(self, node: str) -> bool:
        """Whether ``node`` is meant; by Celery's rules, in Celery's order. A pattern of globs is matched, no other."""
        if self.destination:
            return node in self.destination
        if self.pattern and self.matcher:
            return self.refusal is None and _glob.matches(node, self.pattern)
        return True

    @property
    def refusal(self) -> str | None:
        """Why nobody is meant although a pattern was given, for a warning; None: it is one that is looked at.

        Celery also matches regular expressions. One can take for ever (``(((.+)+)+)+!``), and whoever reaches the
        broker may broadcast: no worker runs what a stranger wrote.
        """
        if self.destination or not self.pattern or not self.matcher:
            return None
        if self.matcher != "glob":
            return f"its pattern is for the matcher {self.matcher[:80]!r}; only 'glob' is matched, or name destinations"
        if len(self.pattern) > _glob.LONGEST:
            return f"its pattern has {len(self.pattern)} characters; expected at most {_glob.LONGEST}"
        return None


def read_broadcast(headers: Mapping[str, Any], body: bytes, content_type: str | None, encoding: Any) -> Broadcast:
    """Return the broadcast in a message.

    Raises:
        MalformedMessage: it is none. Nothing else, whatever the bytes.
    """
    kind = codec.content_type_of(content_type)
    values = _map(_body(headers, body, kind, encoding), "broadcast's body")
    method = values.get("method")
    if not isinstance(method, str):
        raise MalformedMessage(f"broadcast's method is {type(method).__name__}; expected text")
    return Broadcast(
        method=method,
        arguments=_map(values.get("arguments") or {}, "broadcast's arguments"),
        destination=_names(values.get("destination")),
        pattern=_text(values.get("pattern")),
        matcher=_text(values.get("matcher")),
        reply_to=_reply_to(values),
        content_type=kind,
        clock=_clock(headers.get("clock")),
        ours=bool(headers.get(_OURS)),
    )


def revoke_broadcast(ids: Sequence[str], *, clock: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return headers and body with which Celery's own ``app.control.revoke(ids)`` tells its workers.

    Workers drop the tasks instead of starting them; what runs already is left alone.
    """
    body = {
        "method": "revoke",
        # One id on its own is what Celery sends, and the only form its oldest workers read.
        "arguments": {"task_id": ids[0] if len(ids) == 1 else list(ids), "terminate": False, "signal": "SIGTERM"},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    return {"clock": clock, "expires": 0, _OURS: True}, body


def revoked_ids(found: Any) -> list[str]:
    """Return the task ids in an argument: one, a list of them, or a map whose keys they are.

    What no task can be called is left out, and so is what is beyond :data:`MOST_REVOKED`.
    """
    several = [found] if isinstance(found, str) else found if isinstance(found, list | dict) else []
    ids = dict.fromkeys(one for one in several if isinstance(one, str) and 0 < len(one) <= MAX_NAME and is_whole(one))
    return list(islice(ids, MOST_REVOKED))


def revoked_stamps(found: Any) -> list[tuple[str, str]]:
    """Return the stamps in an argument, each with its header: a map of headers to one stamp or several, or a list of
    ``header=stamp``.

    What no task can carry is left out, and so is what is beyond :data:`MOST_REVOKED`.
    """
    if isinstance(found, list):
        pairs = [one.partition("=")[::2] for one in found if isinstance(one, str) and "=" in one]
    elif isinstance(found, dict):
        pairs = [(name, stamp) for name, several in found.items() for stamp in stamps_in(several)]
    else:
        pairs = []
    kept = dict.fromkeys(
        (name, stamp)
        for name, stamp in pairs
        if isinstance(name, str) and 0 < len(name) + len(stamp) <= MAX_NAME and is_whole(name + stamp)
    )
    return list(islice(kept, MOST_REVOKED))


def _body(headers: Mapping[str, Any], body: bytes, content_type: str, encoding: Any) -> Any:
    if len(body) > _LIMIT:
        raise MalformedMessage(f"broadcast's body has {len(body)} bytes; expected at most {_LIMIT}")
    if compression := _text(headers.get("compression")):
        body = codec.decompress(body, compression, limit=_LIMIT)
    return codec.loads(body, content_type, _text(encoding))


def _reply_to(body: Mapping[str, Any]) -> ReplyTo | None:
    found = body.get("reply_to")
    if not isinstance(found, dict):
        return None
    exchange, routing_key = found.get("exchange"), found.get("routing_key")
    if not isinstance(exchange, str) or not isinstance(routing_key, str) or not routing_key:
        return None
    ticket = _text(body.get("ticket"))
    written = (exchange, routing_key, ticket or "")
    # Whoever may broadcast must not have us write to a place of his choice, nor what no broker carries.
    if not _REPLIES.fullmatch(exchange) or not all(len(one) <= MAX_NAME and is_whole(one) for one in written):
        return None
    return ReplyTo(exchange, routing_key, ticket)


def _names(found: Any) -> Sequence[str]:
    if not found:
        return ()
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise MalformedMessage("broadcast's destination is no list of names")
    return tuple(found)


def _map(found: Any, part: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise MalformedMessage(f"{part} is {type(found).__name__}; expected a map")
    return found


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _clock(found: Any) -> int:
    is_clock = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _LARGEST_CLOCK
    return found if is_clock else 0
