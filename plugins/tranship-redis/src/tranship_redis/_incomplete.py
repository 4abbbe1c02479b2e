"""Elements that lack what Celery needs to give a message back: told apart, and told why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tranship.protocol import RawMessage
from tranship_redis._element import read

__all__ = ["lacking", "read_quarantined"]


def read_quarantined(element: bytes) -> RawMessage:
    """Return the message in an element that was kept apart.

    One that is complete, and was kept apart for another reason, is a message like any other. An incomplete one
    would kill or stall Celery's workers, and is not run here either: the core is told what is wrong with it.
    """
    message = read(element)
    missing = lacking(element)
    if missing is not None and message.headers is not element:
        message.problem = missing
    return message


def lacking(element: bytes) -> str | None:
    """Return what is missing or unusable, None: nothing is."""
    try:
        whole = json.loads(element)
    except (ValueError, RecursionError):
        return "it is not JSON"
    properties = _map(_map(whole).get("properties"))
    info = _map(properties.get("delivery_info"))
    tag = properties.get("delivery_tag")
    if not isinstance(tag, str | int) or isinstance(tag, bool):
        return "properties.delivery_tag is missing or no text"
    for name in ("exchange", "routing_key"):
        if not isinstance(info.get(name), str):
            return f"properties.delivery_info.{name} is missing or no text"
    return None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
