"""Envelopes to wire messages and back: Celery's task message protocol 2 on every broker, with our fields beside it.

A message is a header map, a body and a few properties. Celery's own headers carry what Celery knows
(``eta``, ``expires``, ``retries``, ``timelimit``, ...); the rest travels in ``tranship-...`` headers, which
Celery ignores. A driver stores headers and body as they are, and wraps them as its broker needs.

What is broadcast to workers is in :mod:`tranship.protocol.broadcast`, which only they and backends load.

Whatever is received is read defensively: a bad message is a
:class:`~tranship.errors.MalformedMessage` that names the part, what it was and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.protocol._carried import CARRIED, canvas, stamps_of, user_headers
from tranship.protocol._decode import TakesLong, decode
from tranship.protocol._decoder import Decoder
from tranship.protocol._encode import Encoder
from tranship.protocol._failure import TERMINATED
from tranship.protocol._message import Message, RawMessage
from tranship.protocol._numbers import epoch_of, number_of, whole_of
from tranship.protocol._result import CANCELLED, PURGED, celery_words, decode_result, encode_cancelled, encode_result
from tranship.protocol._writable import writable, writable_arguments

if TYPE_CHECKING:
    from tranship.protocol._called import NO_ROUTING, Routing, called
    from tranship.protocol._followed import is_followed
    from tranship.protocol._marks import mark_of, marked
    from tranship.protocol._passing import pass_on
    from tranship.protocol._peek import result_state
    from tranship.protocol._place import Place, place_of, with_place
    from tranship.protocol._restart import restarted
    from tranship.protocol._signature import Signature, SignatureKind, decode_signature, signatures_in
    from tranship.protocol._signature_of import signature_of

__all__ = [
    "CANCELLED",
    "CARRIED",
    "NO_ROUTING",
    "PURGED",
    "TERMINATED",
    "Decoder",
    "Encoder",
    "Message",
    "Place",
    "RawMessage",
    "Routing",
    "Signature",
    "SignatureKind",
    "TakesLong",
    "called",
    "canvas",
    "celery_words",
    "decode",
    "decode_result",
    "decode_signature",
    "encode_cancelled",
    "encode_result",
    "epoch_of",
    "is_followed",
    "mark_of",
    "marked",
    "number_of",
    "pass_on",
    "place_of",
    "restarted",
    "result_state",
    "signature_of",
    "signatures_in",
    "stamps_of",
    "user_headers",
    "whole_of",
    "with_place",
    "writable",
    "writable_arguments",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(),
    {
        "_called": ["NO_ROUTING", "Routing", "called"],
        "_followed": ["is_followed"],
        "_marks": ["mark_of", "marked"],
        "_passing": ["pass_on"],
        "_peek": ["result_state"],
        "_place": ["Place", "place_of", "with_place"],
        "_restart": ["restarted"],
        "_signature": ["Signature", "SignatureKind", "decode_signature", "signatures_in"],
        "_signature_of": ["signature_of"],
    },
)
