"""Whether something follows a task, for who has only its message."""

from __future__ import annotations

from tranship.envelope import Priority
from tranship.errors import MalformedMessage
from tranship.protocol._carried import canvas
from tranship.protocol._decode import decode
from tranship.protocol._message import RawMessage

__all__ = ["is_followed"]


def is_followed(raw: RawMessage) -> bool:
    """Whether other tasks wait for this one: callbacks, steps of a chain, the body of a chord.

    Of what cannot be read nothing is known, and so nothing follows.
    """
    try:
        return bool(canvas(decode(raw, queue="", priority=Priority.NORMAL)))
    except MalformedMessage:
        return False
