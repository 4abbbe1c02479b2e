"""What a received message says beyond an envelope's fields, kept so that it can be sent on unchanged.

It sits in ``Envelope.headers`` under one reserved name that never travels::

    {"headers": {"shadow": ..., "group_index": ...}, "embed": {"chain": [...]}, "soft_time_limit": 20}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import Envelope
from tranship.errors import InvalidOptionError
from tranship.protocol._stamps import stamps_in

__all__ = ["CARRIED", "canvas", "carried", "stamps_of", "user_headers"]

CARRIED: Final = "tranship-wire"
"""The reserved name among an envelope's headers."""

_NOTHING: Final[Mapping[str, Any]] = {}


def carried(envelope: Envelope) -> Mapping[str, Any]:
    """Return what came along with a received envelope; empty for one of our own.

    Raises:
        InvalidOptionError: somebody put something else under the reserved name.
    """
    value: Any = envelope.headers.get(CARRIED, _NOTHING)
    if value is not _NOTHING and not isinstance(value, Mapping):
        raise InvalidOptionError(f"header {CARRIED!r} is reserved; choose another name", task_id=envelope.id)
    found: Mapping[str, Any] = value
    return found


def canvas(envelope: Envelope) -> Mapping[str, Any]:
    """Return what Celery asks for after the task, by name: ``callbacks``, ``errbacks``, ``chain``, ``chord``.

    Empty for most tasks. Who cannot honour a member has to refuse the task: left out silently, it would
    break a workflow.
    """
    embed: Mapping[str, Any] = carried(envelope).get("embed", _NOTHING)
    return embed


def stamps_of(envelope: Envelope) -> list[str]:
    """Return the stamps that Celery's canvas has put on a received task, each as ``header=stamp``."""
    kept = carried(envelope).get("headers", _NOTHING)
    names, stamps = kept.get("stamped_headers"), kept.get("stamps")
    if not isinstance(names, list):
        return []
    # Where they stand depends on who has stamped: in a map of their own, or among the other headers.
    places = [one for one in (stamps, kept, envelope.headers) if isinstance(one, Mapping)]
    texts = [name for name in names if isinstance(name, str)]
    return [f"{name}={stamp}" for name in texts for place in places for stamp in stamps_in(place.get(name))]


def user_headers(envelope: Envelope) -> dict[str, Any]:
    """Return the headers without what belongs to this very task, safe to send along with another one."""
    return {name: value for name, value in envelope.headers.items() if name != CARRIED}
