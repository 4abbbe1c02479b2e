"""What state a result document tells, without reading all of it where that can be avoided."""

from __future__ import annotations

import re
from typing import Final

from tranship.envelope import TaskState
from tranship.errors import MalformedMessage
from tranship.ports import StoredResult
from tranship.protocol import decode_result

__all__ = ["stored"]

# Celery and we write the status first, in JSON with or without a space, or in msgpack.
_SUCCESS: Final = re.compile(rb'\{"status": ?"SUCCESS"|[\x80-\x8f]\xa6status\xa7SUCCESS')
_UNREADABLE: Final = b" "


def stored(task_id: str, document: bytes) -> StoredResult:
    """Return what a document from the store is to the core.

    One that cannot be read counts as a failure: the core reads it again, and tells whoever waits what is wrong.
    """
    return StoredResult(id=task_id, state=_state(task_id, document), document=document or _UNREADABLE)


def _state(task_id: str, document: bytes) -> TaskState:
    if _SUCCESS.match(document):
        return TaskState.SUCCESS
    try:
        return decode_result(document, task_id=task_id).state
    except MalformedMessage:
        return TaskState.FAILURE
