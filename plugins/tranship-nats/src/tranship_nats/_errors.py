"""The server's errors as ours: told apart by their numbers; by its text only one that means two things."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    MessageTooLarge,
    StorageFull,
    TranshipError,
    UnsupportedError,
)
from tranship.protocol import whole_of
from tranship_nats._message import status_of

__all__ = ["ApiError", "Lost", "NoAnswer", "again", "api_error", "error_in", "gone", "no_responders", "passing"]


class Lost(BrokerUnreachable):
    """The connection was lost after the request had been handed over: whether it was carried out is unknown."""

    code = "BROKER_UNREACHABLE"


class NoAnswer(Lost):
    """Nobody answered in time, over a connection that lives: a stream without a quorum does that."""

    code = "BROKER_UNREACHABLE"


class ApiError(Exception):
    """What JetStream said no with; the cause of our errors.

    Attributes:
        number: JetStream's ``err_code``.
    """

    def __init__(self, status: int, number: int, text: str) -> None:
        super().__init__(f"{text} (status {status}, error {number})")
        self.status = status
        self.number = number


STREAM_MISSING: Final = 10059
CONSUMER_MISSING: Final = 10014
MESSAGE_MISSING: Final = 10037
SEQUENCE_MISSING: Final = 10057
NOT_THE_LAST: Final = 10071
STREAM_EXISTS: Final = 10058
CONSUMER_EXISTS: Final = 10148
SUBJECTS_OVERLAP: Final = 10065

_FULL: Final = (StorageFull, "it is full: raise its limits (max_msgs, max_bytes), or let workers catch up")
_ACCOUNT_FULL: Final = (StorageFull, "the account's or the server's storage is used up: raise it (max_file, max_mem)")
_TOO_LARGE: Final = (MessageTooLarge, "pass a reference instead of the data, or raise the stream's max_msg_size")
_OFF: Final = (UnsupportedError, "enable JetStream for this account (`jetstream: enabled` in its configuration)")
_AWAY: Final = (BrokerUnreachable, "JetStream is not ready: no leader, or too few servers of the cluster are up")
_PASSES: Final = (BrokerUnreachable, "it may pass: trying again helps, where nothing at the server needs mending")
_OVERLAP: Final = (BrokerRefused, "another stream or consumer has these subjects: choose another namespace")
_OTHER: Final = (BrokerRefused, "one of this name is there with another definition: choose another namespace")
_SEALED: Final = (BrokerRefused, "the stream was sealed, and takes no changes: delete it, or choose another namespace")
_DEFINITION: Final = (BrokerRefused, "the server takes no such definition: change the URL's options, or its limits")
_MEANINGS: Final[Mapping[int, tuple[type[TranshipError], str]]] = {
    10002: _ACCOUNT_FULL,
    10023: _ACCOUNT_FULL,
    10028: _ACCOUNT_FULL,
    10047: _ACCOUNT_FULL,
    10026: (StorageFull, "the account's consumers are used up: raise its max_consumers"),
    10027: (StorageFull, "the account's streams are used up: raise its max_streams"),
    10054: _TOO_LARGE,
    10097: _TOO_LARGE,
    10035: _OFF,
    10039: _OFF,
    10076: (UnsupportedError, "start the server with -js, or with `jetstream` in its configuration"),
    SUBJECTS_OVERLAP: _OVERLAP,
    10093: _OVERLAP,
    10099: _OVERLAP,
    10100: _OVERLAP,
    10013: _OTHER,
    STREAM_EXISTS: _OTHER,
    10105: _OTHER,
    CONSUMER_EXISTS: _OTHER,
    10109: _SEALED,
    10074: (BrokerRefused, "replicas needs a cluster of at least as many servers: lower it in the URL"),
    10113: (BrokerRefused, "the account wants a limit on every stream: set max_bytes in the URL"),
    10120: (BrokerRefused, "the account has no limits that replicas fits into: change replicas in the URL, or them"),
    10122: (BrokerRefused, "lower max_bytes in the URL, or raise the account's max_stream_bytes"),
    10121: (BrokerRefused, "lower max_ack_pending in the URL, or raise the account's limit"),
    10005: (BrokerUnreachable, "the cluster has no servers for so many replicas now"),
    10025: _DEFINITION,
    10052: _DEFINITION,
    10084: _DEFINITION,
    10098: _DEFINITION,
    10101: _DEFINITION,
    10102: _DEFINITION,
    10103: _DEFINITION,
    10126: _DEFINITION,
    10127: _DEFINITION,
    10128: _DEFINITION,
    10134: _DEFINITION,
    10157: _DEFINITION,
    10185: _DEFINITION,
    STREAM_MISSING: (BrokerUnreachable, "the stream was deleted; it is made again"),
    CONSUMER_MISSING: (BrokerUnreachable, "the consumer was deleted; it is made again"),
    10008: _AWAY,
    10009: _AWAY,
}
"""What JetStream's numbers mean where they mean one thing: nats-server lists all of them in its ``errors.json``.

What is not here passes, for all that is known: a worker that waits in vain is seen, one that has ended is not.
"""
_NOT_STORED: Final = 10077
_LIMITS: Final = (
    "maximum messages exceeded",
    "maximum bytes exceeded",
    "maximum messages per subject exceeded",
    "no space left on device",
)
"""What the server says under that number of a stream that is full; it says it of files that are gone, too."""


def api_error(error: ApiError, doing: str) -> TranshipError:
    """Return our error for JetStream's, with it as the cause; of a number that is not known, one that is retried.

    Args:
        error: what the server said.
        doing: what was being done, for the message: ``"127.0.0.1:4222: publishing to tranship-work"``.
    """
    otherwise: tuple[type[TranshipError], str] = _PASSES
    if error.status == 503 and error.number != _NOT_STORED:
        otherwise = _AWAY
    if error.number == _NOT_STORED and any(words in str(error) for words in _LIMITS):
        otherwise = _FULL
    kind, cure = _MEANINGS.get(error.number, otherwise)
    ours = kind(f"{doing}: {error}; {cure}")
    ours.__cause__ = error
    return ours


def passing(error: TranshipError) -> TranshipError:
    """Return ``error`` as one that is retried: what was refused has worked before, and may work again."""
    if error.retryable or not isinstance(error, BrokerRefused | UnsupportedError):
        return error
    ours = BrokerUnreachable(str(error))
    ours.__cause__ = error.__cause__ or error
    return ours


def error_in(data: bytes) -> ApiError | None:
    """Return the error that an answer of JetStream's holds."""
    if b'"error"' not in data:
        return None
    try:
        error: Any = orjson.loads(data).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(500, 0, "an answer that cannot be read")
    if not isinstance(error, dict):
        return None
    return ApiError(
        whole_of(error.get("code")) or 500, whole_of(error.get("err_code")) or 0, str(error.get("description", ""))
    )


def gone(place: str, stream: str) -> BrokerUnreachable:
    """Return the error for a publish that nobody answers for: nothing was stored."""
    return BrokerUnreachable(f"{place}: nobody answers for stream {stream}: it was deleted, or has no leader now")


def no_responders(headers: bytes | None) -> bool:
    """Whether an answer says that nobody listens on the subject."""
    return status_of(headers) == 503


def again(error: TranshipError) -> TranshipError:
    """Return a fresh exception like ``error``, for the next of several callers."""
    made = copy.copy(error)
    made.__cause__ = error.__cause__
    return made
