"""The encoder: an envelope becomes a message, for most tasks by filling a template."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from tranship import codec
from tranship.envelope import Envelope
from tranship.errors import EncodeError
from tranship.protocol._carried import canvas
from tranship.protocol._headers import MAX_NAME, header_bytes
from tranship.protocol._message import Message
from tranship.retry import RetryPolicy

__all__ = ["Encoder"]

_TEMPLATES: Final = 512
_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_EMBED_TAIL: Final = b"," + orjson.dumps(_EMBED) + b"]"


class _Template(NamedTuple):
    """Encoded headers in three parts; the quoted task id belongs between them."""

    parts: tuple[bytes, ...]
    retry: RetryPolicy | None
    """Kept alive, because the template's key has its ``id()``."""


class _Kind:
    """What all messages of one kind have in common."""

    __slots__ = ("content_encoding", "content_type", "parts", "reply_to")

    def __init__(
        self, parts: tuple[bytes, ...], content_type: str, content_encoding: str, reply_to: str | None
    ) -> None:
        self.parts, self.reply_to = parts, reply_to
        self.content_type, self.content_encoding = content_type, content_encoding


class Encoder:
    """Makes messages. One encoder serves a whole process, from any thread.

    Args:
        origin: who sends, for logs; None: ``gen<pid>@<host>``, as Celery says.
    """

    def __init__(self, origin: str | None = None) -> None:
        self._origin = origin or _origin()
        self._templates: dict[tuple[Any, ...], _Template] = {}
        self._kinds: dict[object, _Kind] = {}

    def encode(self, envelope: Envelope, kind: object = None) -> Message:
        """Return the message for ``envelope``.

        Args:
            envelope: what to encode.
            kind: envelopes with the same object here differ in nothing but id, arguments and ``reply_to``;
                the ids are text that JSON need not escape. None: nothing is known.

        Raises:
            EncodeError: an argument or a header holds a value that the codec cannot write.
            InvalidOptionError: a reserved header name, or a field with a value that cannot travel.
        """
        known = self._kinds.get(kind)
        if known is None or known.reply_to != envelope.reply_to:
            return self._first(envelope, kind)
        headers = (b'"%b"' % envelope.id.encode()).join(known.parts)
        # By position, every field: names and defaults are paid for with each message.
        return Message(
            envelope, headers, _body(envelope), known.content_type, known.content_encoding, False, False, 0, known
        )

    def _first(self, envelope: Envelope, kind: object) -> Message:
        """The first one of its kind, or one of no kind."""
        content_type = envelope.content_type
        encoding = codec.content_encoding_of(content_type)
        message = Message(envelope, self._headers(envelope), _body(envelope), content_type, encoding)
        if kind is not None and _is_plain(envelope):
            if len(self._kinds) >= _TEMPLATES:
                self._kinds.clear()
            parts = self._template(envelope).parts
            message.like = self._kinds[kind] = _Kind(parts, content_type, encoding, envelope.reply_to)
        return message

    def _headers(self, envelope: Envelope) -> bytes:
        if not _is_plain(envelope):
            return header_bytes(envelope, self._origin)
        try:
            return orjson.dumps(envelope.id).join(self._template(envelope).parts)
        except TypeError:  # lone surrogates: the ordinary path has the words for it
            return header_bytes(envelope, self._origin)

    def _template(self, envelope: Envelope) -> _Template:
        key = (
            envelope.task,
            envelope.priority,
            envelope.run_timeout,
            envelope.store_result,
            envelope.persistent_output,
            envelope.result_ttl,
            id(envelope.retry),
        )
        return self._templates.get(key) or self._keep(key, _template(envelope, self._origin))

    def _keep(self, key: tuple[Any, ...], template: _Template) -> _Template:
        if len(self._templates) >= _TEMPLATES:
            self._templates.clear()
        self._templates[key] = template
        return template


def _origin() -> str:
    import socket

    return f"gen{os.getpid()}@{socket.gethostname()}"


def _is_plain(envelope: Envelope) -> bool:
    """Whether only its id tells the envelope's headers from those of the next one."""
    task_id = envelope.id
    return (
        envelope.deadline is None
        and not envelope.headers
        and envelope.cancel_key is None
        and not envelope.attempt
        and envelope.not_before is None
        and envelope.dedup_key is None
        and envelope.dedup_window is None
        and envelope.parent_id is None
        and envelope.group_id is None
        and (envelope.root_id is None or envelope.root_id == task_id)
        and type(task_id) is str
        and 0 < len(task_id) <= MAX_NAME
    )


def _template(envelope: Envelope, origin: str) -> _Template:
    mark = os.urandom(16).hex()
    headers = header_bytes(replace(envelope, id=mark, root_id=None), origin)
    return _Template(tuple(headers.split(orjson.dumps(mark))), envelope.retry)


def _body(envelope: Envelope) -> bytes:
    args, kwargs = envelope.args, envelope.kwargs
    if envelope.content_type == codec.JSON and not envelope.headers:
        text = codec.fast_call(args, kwargs)
        if text is not None:
            return text[:-1] + _EMBED_TAIL
    if type(args) is not tuple:
        args = list(args)
    embed = canvas(envelope) if envelope.headers else None
    try:
        if embed or envelope.content_type != codec.JSON:
            return codec.dumps([list(args), dict(kwargs), {**_EMBED, **(embed or {})}], envelope.content_type)
        return codec.dumps((args, kwargs))[:-1] + _EMBED_TAIL
    except EncodeError as error:
        raise _blame(envelope, error) from error


def _blame(envelope: Envelope, error: EncodeError) -> EncodeError:
    """Return the error again, with a path that says ``args`` or ``kwargs``."""
    for name in ("args", "kwargs"):
        value = getattr(envelope, name)
        try:
            codec.dumps(list(value) if name == "args" else value, envelope.content_type, name=name)
        except EncodeError as better:
            return EncodeError(str(better), task_id=envelope.id)
    return EncodeError(str(error), task_id=envelope.id)
