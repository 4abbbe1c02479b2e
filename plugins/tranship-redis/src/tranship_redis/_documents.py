"""A result document as it comes from the store."""

from __future__ import annotations

from typing import Final

from tranship.ports import StoredResult
from tranship.protocol import result_state

__all__ = ["stored"]

_UNREADABLE: Final = b" "


def stored(task_id: str, document: bytes) -> StoredResult:
    """Return what a document from the store is to the core."""
    state = result_state(document, task_id=task_id)
    return StoredResult(id=task_id, state=state, document=document or _UNREADABLE)
