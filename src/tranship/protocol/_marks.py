"""What is noted on a task while it is on its way: in headers of our own, which nobody else reads.

No field of an envelope stands for them, so they travel with what a received message says beyond its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tranship.envelope import Envelope
from tranship.protocol._carried import CARRIED, carried
from tranship.protocol._headers import OWN_PREFIX

__all__ = ["mark_of", "marked"]


def mark_of(envelope: Envelope, name: str) -> Any:
    """Return the note of that name; None: there is none."""
    headers = carried(envelope).get("headers") if envelope.headers else None
    return headers.get(f"{OWN_PREFIX}{name}") if isinstance(headers, Mapping) else None


def marked(envelope: Envelope, name: str, value: Any) -> Envelope:
    """Return the task with a note, as plain data."""
    parts = carried(envelope)
    headers = {**parts.get("headers", {}), f"{OWN_PREFIX}{name}": value}
    return replace(envelope, headers={**envelope.headers, CARRIED: {**parts, "headers": headers}})
