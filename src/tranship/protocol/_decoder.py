"""The decoder with a memory: tasks of one kind differ in id and body only, so their headers are read once."""

from __future__ import annotations

import re
from typing import Any, Final

from tranship import codec
from tranship.envelope import NO_HEADERS, Draft, Envelope, Priority
from tranship.protocol._decode import Limits, body_of, decode, decode_within, parts_of
from tranship.protocol._fields import Fields
from tranship.protocol._message import RawMessage

__all__ = ["Decoder"]

_KNOWN: Final = 512
_ID: Final = b'"id":"'
_TEXT: Final = re.compile(rb'[0-9A-Za-z_.:-]{36}(?=")')
"""The ids that are recognised: those of tranship and of Celery, with nothing in them that JSON would escape."""
_LENGTH: Final = 36

_Key = tuple[bytes, int, int, str, Priority, str | None, str | None]


class Decoder:
    """Does what :func:`decode` does, several times faster for headers like those it has seen; from one thread.

    Headers are known when they equal, but for the task's id at the same two places, headers that
    :func:`decode` has read and found to hold nothing else that is about this one task.
    """

    def __init__(self, max_size: int = codec.DEFAULT_LIMIT) -> None:
        self._limits = Limits(max_size, codec.PROMPT)
        self._known: dict[_Key, Envelope] = {}

    def decode(self, raw: RawMessage, *, queue: str, priority: Priority) -> Envelope:
        """Return the envelope that ``raw`` holds.

        Raises:
            MalformedMessage: it cannot be decoded; as :func:`decode`.
            TakesLong: it is large, packed or unpacked: :meth:`decode_large` does it, in a thread.
        """
        headers = raw.headers
        if type(headers) is not bytes or raw.problem is not None:
            return self._slowly(raw, queue, priority)
        place = headers.find(_ID) + len(_ID)
        found = _TEXT.match(headers, place)
        if found is None:
            return self._slowly(raw, queue, priority)
        task_id = found[0]
        again = headers.find(task_id, place + _LENGTH)
        rest = headers.replace(task_id, b"")
        if again < 0 or len(headers) - len(rest) != 2 * _LENGTH:
            return self._slowly(raw, queue, priority)
        key = (rest, place, again, queue, priority, raw.content_type, raw.content_encoding)
        known = self._known.get(key)
        if known is None:
            return self._learn(key, task_id.decode(), raw)
        return _like(known, task_id.decode(), raw, self._limits)

    def decode_large(self, raw: RawMessage, *, queue: str, priority: Priority) -> Envelope:
        """Do the same for a message of any size; from any thread.

        Raises:
            MalformedMessage: it cannot be decoded; as :func:`decode`.
        """
        return decode(raw, queue=queue, priority=priority, max_size=self._limits.largest)

    def _slowly(self, raw: RawMessage, queue: str, priority: Priority) -> Envelope:
        return decode_within(raw, self._limits, queue=queue, priority=priority)

    def _learn(self, key: _Key, task_id: str, raw: RawMessage) -> Envelope:
        envelope = self._slowly(raw, key[3], key[4])
        if _is_plain(envelope, task_id) and b'"compression"' not in key[0]:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = envelope
        return envelope


def _are_parts(value: Any) -> bool:
    """Whether it is what a body holds, without any doubt."""
    return (
        type(value) is list
        and len(value) == 3
        and type(value[0]) is list
        and type(value[1]) is dict
        and type(value[2]) is dict
    )


def _is_plain(envelope: Envelope, task_id: str) -> bool:
    """Whether the headers hold nothing about this very task but its id."""
    return (
        envelope.id == task_id
        and envelope.root_id is None
        and envelope.parent_id is None
        and envelope.group_id is None
        and not envelope.headers
    )


def _like(known: Envelope, task_id: str, raw: RawMessage, limits: Limits) -> Envelope:
    parts: Any = codec.fast_json(raw.body) if raw.content_type == codec.JSON else None
    if not _are_parts(parts):
        fields = Fields("message header", NO_HEADERS, task_id)
        parts = parts_of(body_of(raw, fields, limits), fields)
    args, kwargs, embed = parts
    if any(embed.values()):
        return decode_within(raw, limits, queue=known.queue, priority=known.priority)
    reply_to = raw.properties.get("reply_to") if raw.properties else None
    draft: Any = Draft()
    draft.id, draft.args, draft.kwargs = task_id, args, kwargs
    draft.reply_to = reply_to if isinstance(reply_to, str) else None
    draft.group_id = draft.parent_id = draft.root_id = None
    draft.task, draft.queue, draft.priority = known.task, known.queue, known.priority
    draft.deadline, draft.run_timeout, draft.not_before = known.deadline, known.run_timeout, known.not_before
    draft.cancel_key, draft.persistent_output = known.cancel_key, known.persistent_output
    draft.dedup_key, draft.dedup_window = known.dedup_key, known.dedup_window
    draft.retry, draft.attempt, draft.headers = known.retry, known.attempt, known.headers
    draft.store_result, draft.result_ttl = known.store_result, known.result_ttl
    draft.content_type = known.content_type
    envelope: Envelope = draft.finish()
    return envelope
