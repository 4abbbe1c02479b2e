"""The envelope of a signature whose turn has come: what Celery's ``apply_async`` makes of its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from tranship import codec
from tranship.envelope import Envelope, Priority
from tranship.errors import MalformedMessage
from tranship.protocol._envelope import envelope_of
from tranship.protocol._fields import Fields, has_text_keys, kind_of
from tranship.protocol._message import RawMessage
from tranship.protocol._numbers import is_duration
from tranship.protocol._signature import signatures_in

__all__ = ["NO_ROUTING", "Routing", "called"]

_SERIALIZERS: Final = {"json": codec.JSON, "msgpack": codec.MSGPACK}
_EMBEDDED: Final = {"link": "callbacks", "link_error": "errbacks", "chain": "chain"}
"""Options that travel in the body, and what they are called there."""
_TRACE: Final = ("traceparent", "tracestate", "baggage")
"""W3C's trace context, as OpenTelemetry and Celery's instrumentation put it among the headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What a worker knows of where steps go that leave it open, or say it in Celery's terms."""

    numbers: Sequence[Priority] = ()
    """The level of each of Celery's numbers for a priority, from 0 up; none: they mean nothing here."""
    queue_of: Callable[[str], str | None] = lambda _: None
    """Returns the queue of a task whose signature names none; None: that of the task that it follows."""


NO_ROUTING: Final = Routing()


def called(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    task_id: str,
    after: Envelope,
    now: float,
    routing: Routing = NO_ROUTING,
) -> Envelope:
    """Return the envelope of a task that is called with ``options``, as Celery names them.

    What they leave open is as it was for ``after``: queue, level, content type, trace context and the address for its
    result.

    Args:
        task: its name.
        args, kwargs: its arguments, in the form that is sent.
        options: of ``apply_async``; those that concern Celery's own sending are ignored.
        task_id: its id.
        after: the task that it follows, which is its parent.
        now: epoch seconds, which ``countdown`` counts from.
        routing: what is known of where it goes.

    Raises:
        MalformedMessage: an option has a value that cannot travel, or asks for what is not Celery's default exchange.
    """
    fields = Fields(f"of the signature of {task!r}, option", _headers(task, options, task_id, after, now), task_id)
    content_type = _content_type(options, after, fields)
    reply_to = options.get("reply_to") or after.reply_to
    raw = RawMessage({}, b"", content_type, properties={"reply_to": reply_to})
    embed: dict[str, Any] = {
        name: found for option, name in _EMBEDDED.items() if (found := signatures_in(options.get(option), option))
    }
    if (chord := options.get("chord")) is not None:
        embed["chord"] = chord
    parts = list(args), dict(kwargs), embed
    queue, level = _queue(task, options, after, fields, routing), _level(options, after, fields, routing.numbers)
    envelope = envelope_of(fields, parts, raw=raw, queue=queue, priority=level)
    own = _moment(options.get("expires"), now)
    if own is not None and envelope.deadline is not None and own.timestamp() < envelope.deadline:
        # It is earlier than that of the workflow, which is in our header.
        return replace(envelope, deadline=own.timestamp())
    return envelope


def _headers(task: str, options: Mapping[str, Any], task_id: str, after: Envelope, now: float) -> dict[str, Any]:
    stamped = options.get("stamped_headers")
    names = [name for name in stamped if isinstance(name, str)] if isinstance(stamped, list | tuple) else []
    headers = {
        "task": task,
        "id": task_id,
        "shadow": options.get("shadow"),
        "eta": _moment(options.get("countdown"), now) or options.get("eta"),
        "expires": _moment(options.get("expires"), now) or options.get("expires"),
        "group": options.get("group_id"),
        "group_index": options.get("group_index"),
        "retries": options.get("retries"),
        "timelimit": [options.get("time_limit"), options.get("soft_time_limit")],
        "root_id": after.root_id or after.id,
        "parent_id": after.id,
        "ignore_result": options.get("ignore_result"),
        "replaced_task_nesting": options.get("replaced_task_nesting") or 0,
        "stamped_headers": stamped,
        "stamps": {name: options[name] for name in names if name in options},
    }
    return {**_users(task, options, task_id, after), **headers}


def _users(task: str, options: Mapping[str, Any], task_id: str, after: Envelope) -> Mapping[str, Any]:
    found = options.get("headers")
    if found is None:
        return _trace(after)
    if not isinstance(found, Mapping) or not has_text_keys(found):
        expected = f"headers of the signature of {task!r} are {kind_of(found)}; expected a map with text keys"
        raise MalformedMessage(expected, task_id=task_id)
    # All of it or nothing: the state of one trace says nothing about another.
    return found if "traceparent" in found else {**_trace(after), **found}


def _trace(after: Envelope) -> dict[str, Any]:
    """Return the trace context of the task it follows: a workflow is one trace, whether its workers know or not."""
    if "traceparent" not in after.headers:
        return {}
    return {name: after.headers[name] for name in _TRACE if name in after.headers}


def _moment(seconds: Any, now: float) -> datetime | None:
    """Return the moment so many seconds from now; None: it is not given in seconds."""
    if not is_duration(seconds):
        return None
    try:
        return datetime.fromtimestamp(now + seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _content_type(options: Mapping[str, Any], after: Envelope, fields: Fields) -> str:
    serializer = options.get("serializer")
    if serializer is None:
        return after.content_type
    if serializer not in _SERIALIZERS:
        raise MalformedMessage(
            f"{fields.part} 'serializer' is {kind_of(serializer)}; expected 'json' or 'msgpack'", task_id=fields.task_id
        )
    return _SERIALIZERS[serializer]


def _level(options: Mapping[str, Any], after: Envelope, fields: Fields, numbers: Sequence[Priority]) -> Priority:
    given = options.get("priority")
    if given is None or not numbers:
        return after.priority
    if not isinstance(given, int) or isinstance(given, bool):
        raise MalformedMessage(
            f"{fields.part} 'priority' is {kind_of(given)}; expected a whole number", task_id=fields.task_id
        )
    return numbers[min(max(given, 0), len(numbers) - 1)]


def _queue(task: str, options: Mapping[str, Any], after: Envelope, fields: Fields, routing: Routing) -> str:
    queue, key, exchange = options.get("queue"), options.get("routing_key"), options.get("exchange")
    if queue:
        return str(queue)
    if exchange not in (None, "", key):
        raise MalformedMessage(
            f"{fields.part} 'exchange' is {kind_of(exchange)}; tranship sends to queues: give 'queue' instead",
            task_id=fields.task_id,
        )
    return str(key) if key else routing.queue_of(task) or after.queue
