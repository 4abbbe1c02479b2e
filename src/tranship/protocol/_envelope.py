"""The envelope that a header map and a body stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from tranship import codec
from tranship.envelope import NO_HEADERS, Envelope, Priority
from tranship.errors import InvalidOptionError
from tranship.protocol._carried import CARRIED
from tranship.protocol._fields import Fields
from tranship.protocol._headers import CELERY, KEPT, OWN, OWN_PREFIX, TRANSIENT
from tranship.protocol._message import RawMessage
from tranship.protocol._numbers import is_duration
from tranship.retry import RetryPolicy

__all__ = ["envelope_of"]

Parts = tuple[list[Any], dict[str, Any], dict[str, Any]]
"""The body: args, kwargs, embed."""


def envelope_of(fields: Fields, parts: Parts, *, raw: RawMessage, queue: str, priority: Priority) -> Envelope:
    """Return the envelope; ``fields`` are the message's headers, ``raw`` is asked for its properties.

    Raises:
        MalformedMessage: a header has a wrong value.
    """
    values = fields.values
    args, kwargs, embed = parts
    hard, soft = _limits(fields)
    beyond = values.keys() - CELERY
    root_id = fields.text("root_id")
    reply_to = raw.properties.get("reply_to") if raw.properties else None
    ignored = fields.flag("ignore_result")
    given: dict[str, Any] = {
        "id": fields.task_id,
        "task": values["task"],
        "args": args,
        "kwargs": kwargs,
        "queue": queue,
        "priority": priority,
        "deadline": fields.date("expires"),
        "run_timeout": hard,
        "not_before": fields.date("eta"),
        "attempt": fields.count("retries"),
        "store_result": None if ignored is None else not ignored,
        "headers": _headers(fields, beyond, embed, soft),
        "reply_to": reply_to if isinstance(reply_to, str) else None,
        "group_id": fields.text("group"),
        "parent_id": fields.text("parent_id"),
        "root_id": None if root_id == fields.task_id else root_id,
        "content_type": codec.content_type_of(raw.content_type),
    }
    if beyond:
        given |= _own(fields, beyond)
    return Envelope(**given)


def _limits(fields: Fields) -> tuple[float | None, float | None]:
    """Return Celery's hard and soft time limit; 0 means none, as there."""
    value = fields.values.get("timelimit")
    if value is None or value == [None, None]:
        return None, None
    if not isinstance(value, list | tuple) or len(value) > 2:
        raise fields.wrong("timelimit", "[hard, soft] in seconds, or null")
    if not all(limit is None or is_duration(limit) for limit in value):
        raise fields.wrong("timelimit", "[hard, soft] in seconds, each at least 0 or null")
    hard, soft = (*value, None, None)[:2]
    return hard or None, soft or None


def _own(fields: Fields, beyond: AbstractSet[str]) -> dict[str, Any]:
    """Return the envelope fields that our own headers give."""
    given = {field: read(fields, name) for name, (field, read) in _READERS.items() if name in beyond}
    return {field: value for field, value in given.items() if value is not None}


def _headers(fields: Fields, beyond: AbstractSet[str], embed: dict[str, Any], soft: float | None) -> Mapping[str, Any]:
    """Return the headers an envelope has no field for: unknown ones, and what is carried along."""
    headers, newer = _unknown(fields, beyond) if beyond else ({}, {})
    kept = {**_kept(fields.values), **newer}
    live = {name: value for name, value in embed.items() if value}
    if kept or live or soft:
        parts = {"headers": kept, "embed": live, "soft_time_limit": soft}
        headers[CARRIED] = {name: part for name, part in parts.items() if part}
    return headers or NO_HEADERS


def _unknown(fields: Fields, beyond: AbstractSet[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the unknown headers, apart from those in our own name, which a newer version may have sent."""
    if CARRIED in beyond:
        raise fields.wrong(CARRIED, "no header of that name, which is reserved")
    unknown = beyond - OWN - TRANSIENT
    pairs = [(name, value) for name, value in fields.values.items() if name in unknown]
    newer = {name: value for name, value in pairs if name.startswith(OWN_PREFIX)}
    return {name: value for name, value in pairs if name not in newer}, newer


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, usual in KEPT.items() if (value := values.get(name)) is not None and value != usual}


def _priority(fields: Fields, name: str) -> Priority | None:
    label = fields.text(name)
    if label is None:
        return None
    try:
        return Priority.parse(label)
    except InvalidOptionError as error:
        raise fields.wrong(name, "one of " + ", ".join(level.label for level in Priority)) from error


def _retry(fields: Fields, name: str) -> RetryPolicy | None:
    value = fields.values[name]
    if value is None:
        return None
    try:
        return RetryPolicy.from_dict(value)
    except (InvalidOptionError, RecursionError) as error:
        raise fields.wrong(name, f"a retry policy ({str(error)[:200]})") from error


_READERS: Final[Mapping[str, tuple[str, Callable[[Fields, str], Any]]]] = {
    "tranship-deadline": ("deadline", Fields.epoch),
    "tranship-not-before": ("not_before", Fields.epoch),
    "tranship-cancel-key": ("cancel_key", Fields.text),
    "tranship-persistent-output": ("persistent_output", Fields.flag),
    "tranship-dedup-key": ("dedup_key", Fields.text),
    "tranship-dedup-window": ("dedup_window", Fields.seconds),
    "tranship-result-ttl": ("result_ttl", Fields.seconds),
    "tranship-retry": ("retry", _retry),
    "tranship-priority": ("priority", _priority),
}
