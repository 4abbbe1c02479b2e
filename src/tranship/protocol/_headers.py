"""The header map of an outgoing message: Celery's 19 headers, ours where they are set, and the user's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Final

import orjson

from tranship import codec
from tranship.envelope import Envelope, Priority
from tranship.errors import InvalidOptionError
from tranship.protocol._carried import CARRIED, carried

__all__ = [
    "CELERY",
    "KEPT",
    "MAX_NAME",
    "OWN",
    "OWN_PREFIX",
    "TRANSIENT",
    "header_bytes",
    "header_map",
    "is_whole",
    "iso",
    "own_headers",
]

MAX_NAME: Final = 1024
"""The longest task id and task name, in characters."""

OWN_PREFIX: Final = "tranship-"
OWN: Final = frozenset(
    OWN_PREFIX + name
    for name in (
        "cancel-key",
        "deadline",
        "dedup-key",
        "dedup-window",
        "not-before",
        "persistent-output",
        "priority",
        "result-ttl",
        "retry",
    )
)

KEPT: Final[Mapping[str, Any]] = {
    "shadow": None,
    "group_index": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
"""Celery's headers that no field of an envelope stands for, with what we send ourselves."""

TRANSIENT: Final = frozenset({"compression", "redelivered"})
"""About one passage of the message: not passed on."""

CELERY: Final = frozenset(
    {"lang", "task", "id", "eta", "expires", "group", "retries", "timelimit", "root_id", "parent_id"}
    | {"argsrepr", "kwargsrepr", "origin", "ignore_result"}
    | KEPT.keys()
)

# repr() of the arguments would show them in clear text to everybody who reads logs or the broker.
_HIDDEN: Final = "..."


def header_bytes(envelope: Envelope, origin: str) -> bytes:
    """Return :func:`header_map` as a JSON object.

    Raises:
        InvalidOptionError: as there.
        EncodeError: a header holds a value that JSON cannot carry.
    """
    headers = header_map(envelope, origin)
    if not envelope.headers:
        try:
            return orjson.dumps(headers)
        except TypeError:
            pass  # lone surrogates in a key, or a number beyond 64 bits: the codec knows
    text = codec.dumps(headers, name="headers")
    # One character is looked for much faster than three.
    if b"\\" in text and b"\\ud" in text:
        _refuse_halves(headers, "header", envelope.id)
    return text


def _refuse_halves(value: Any, path: str, task_id: str) -> None:
    """Refuse texts with lone surrogates: JSON can carry them, and what reads the message does not take them."""
    if isinstance(value, str) and not is_whole(value):
        raise InvalidOptionError(f"{path} is {value[:100]!r}; expected a text without lone surrogates", task_id=task_id)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_halves(name, f"the name of {path}", task_id)
            _refuse_halves(inner, f"{path} {name!r}", task_id)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_halves(inner, path, task_id)


def is_whole(text: str) -> bool:
    """Whether ``text`` has no halves of characters (lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def header_map(envelope: Envelope, origin: str) -> dict[str, Any]:
    """Return the header map of ``envelope``.

    Raises:
        InvalidOptionError: a header of the user's has a reserved name, or a field has a value that cannot travel.
    """
    headers = _celery(envelope, origin)
    headers.update(own_headers(envelope))
    if envelope.headers:
        _add_users(headers, envelope)
        _add_carried(headers, carried(envelope), envelope)
    return headers


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    """The date to the second; many dates of a busy process share it."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def iso(epoch: float | None, name: str) -> str | None:
    """Return epoch seconds as ISO 8601 in UTC, as Celery writes dates; None stays None.

    Raises:
        InvalidOptionError: the date is outside the years 1 to 9999.
    """
    if epoch is None:
        return None
    try:
        second = int(epoch)
        micros = round((epoch - second) * 1e6)
        if 0 < micros < 1_000_000:
            return f"{_second(second)}.{micros:06d}+00:00"
        return datetime.fromtimestamp(epoch, UTC).isoformat()
    except (ValueError, OverflowError, OSError, TypeError):
        expected = "epoch seconds within the years 1 to 9999"
        raise InvalidOptionError(f"{name} is {epoch!r}; expected {expected}") from None


def _celery(envelope: Envelope, origin: str) -> dict[str, Any]:
    task_id = _name("id", envelope.id)
    return {
        "lang": "py",
        "task": _name("task", envelope.task),
        "id": task_id,
        "shadow": None,
        "eta": iso(envelope.not_before, "not_before"),
        "expires": iso(envelope.deadline, "deadline"),
        "group": envelope.group_id,
        "group_index": None,
        "retries": envelope.attempt,
        "timelimit": [_duration("run_timeout", envelope.run_timeout), None],
        "root_id": task_id if envelope.root_id is None else envelope.root_id,
        "parent_id": envelope.parent_id,
        "argsrepr": _HIDDEN,
        "kwargsrepr": _HIDDEN,
        "origin": origin,
        "ignore_result": None if envelope.store_result is None else not envelope.store_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def own_headers(envelope: Envelope) -> dict[str, Any]:
    """Return our own headers of ``envelope``, as far as they are set.

    Raises:
        InvalidOptionError: a duration that cannot travel.
    """
    own = {
        "tranship-deadline": envelope.deadline,
        "tranship-not-before": envelope.not_before,
        "tranship-cancel-key": envelope.cancel_key,
        "tranship-persistent-output": True if envelope.persistent_output else None,
        "tranship-dedup-key": envelope.dedup_key,
        "tranship-dedup-window": _duration("dedup_window", envelope.dedup_window),
        "tranship-result-ttl": _duration("result_ttl", envelope.result_ttl),
        "tranship-retry": None if envelope.retry is None else envelope.retry.to_dict(),
        "tranship-priority": None if envelope.priority is Priority.NORMAL else envelope.priority.label,
    }
    return {name: value for name, value in own.items() if value is not None}


def _add_users(headers: dict[str, Any], envelope: Envelope) -> None:
    for name, value in envelope.headers.items():
        if name == CARRIED:
            continue
        if not isinstance(name, str) or name in CELERY or name in TRANSIENT or name.startswith(OWN_PREFIX):
            raise InvalidOptionError(f"header {name!r} is reserved; choose another name", task_id=envelope.id)
        headers[name] = value


def _add_carried(headers: dict[str, Any], extra: Mapping[str, Any], envelope: Envelope) -> None:
    for name, value in extra.get("headers", {}).items():
        if name in KEPT or (name.startswith(OWN_PREFIX) and name not in OWN):
            headers[name] = value
        else:
            raise InvalidOptionError(f"header {CARRIED!r} is reserved; it names {name!r}", task_id=envelope.id)
    if (soft := extra.get("soft_time_limit")) is not None:
        headers["timelimit"] = [headers["timelimit"][0], soft]


def _name(field: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        expected = f"a text of 1 to {MAX_NAME} characters"
        raise InvalidOptionError(f"{field} is {str(value)[:80]!r} ({type(value).__name__}); expected {expected}")
    if not is_whole(value):
        raise InvalidOptionError(f"{field} is {value!r}; expected a text without lone surrogates")
    return value


def _duration(field: str, value: float | None) -> float | None:
    if value is not None and not (isinstance(value, int | float) and isfinite(value) and value >= 0):
        raise InvalidOptionError(f"{field} is {value!r}; expected a number of seconds, at least 0")
    return value
