"""What state a result document tells, without reading all of it where that can be avoided."""

from __future__ import annotations

import re
from typing import Final

from tranship.envelope import TaskState
from tranship.errors import MalformedMessage
from tranship.protocol._result import decode_result

__all__ = ["result_state"]

# Celery and we write the status first, in JSON with or without a space, or in msgpack.
_SUCCESS: Final = re.compile(rb'\{"status": ?"SUCCESS"|[\x80-\x8f]\xa6status\xa7SUCCESS')


def result_state(document: bytes, *, task_id: str) -> TaskState:
    """Return the state in ``document``.

    One that cannot be read counts as a failure: the core reads it again, and tells whoever waits what is wrong.
    """
    if _SUCCESS.match(document):
        return TaskState.SUCCESS
    try:
        return decode_result(document, task_id=task_id).state
    except MalformedMessage:
        return TaskState.FAILURE
