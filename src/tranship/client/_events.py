"""Events that clients send to tasks, which may be waiting for them; see :meth:`tranship.TaskContext.wait_event`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from tranship.checks import name_text, text
from tranship.client._link import ClientLink
from tranship.errors import MessageTooLarge, TranshipError
from tranship.ports import Record
from tranship.steps import EVENT_KEPT, encode_value, event_key, event_topic

__all__ = ["event_record", "send_event"]


def event_record(task_id: str, name: str, value: Any) -> Record:
    """Return the event as a record.

    Raises:
        InvalidOptionError: no such id or name.
        EncodeError: the value cannot be written.
    """
    key = event_key(text("task_id", task_id), name_text("name of an event", name))
    data = encode_value(value, time.time() + EVENT_KEPT, f"the value of the event {name!r}")
    return Record(key, data, ttl=EVENT_KEPT)


async def send_event(link: ClientLink, record: Record) -> bool:
    """Write the event down for its task; False: there is one of its name.

    Raises:
        UnsupportedError: the result store keeps no records.
        MessageTooLarge: its value is larger than a message may be.
    """
    records, limit = link.records(), link.backend.submitter().max_message_size
    if len(record.value) > limit:
        raise MessageTooLarge(
            f"the event has {len(record.value):,} bytes, and may have {limit:,} (max_message_size); send a reference "
            "(a path, a URL)",
            size=len(record.value),
            limit=limit,
        )
    if not await records.write(record):
        return False
    # Who does not hear of it looks for it.
    with contextlib.suppress(TranshipError):
        await records.tell([event_topic(record.key)])
    return True
