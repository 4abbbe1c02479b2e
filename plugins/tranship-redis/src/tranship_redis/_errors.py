"""The server's errors as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from redis.exceptions import ResponseError

from tranship.driver import unreachable
from tranship.errors import BrokerRefused, BrokerUnreachable, StorageFull, TranshipError
from tranship_redis._scripts import command_at

__all__ = ["Lost", "NotReady", "again", "classify", "error_of", "is_demotion", "reply_error"]


E = TypeVar("E", bound=Exception)


class Lost(ConnectionError):
    """The connection was lost after the command had been handed over: whether it was carried out is unknown.

    It is none of tranship's errors: the driver kit makes one of it, which says that.
    """


class NotReady(BrokerUnreachable):
    """The server is there and will answer soon: it loads its data, or runs somebody's long script."""

    code = "BROKER_UNREACHABLE"


_REFUSED: Final = "the server refused it"
_RIGHTS: Final = "grant this user (ACL SETUSER) the command, the keys (~...) and the channels (&...) it needs"
_CLUSTER: Final = "this is a Redis Cluster, whose nodes cannot hold the keys of one task together; use a single server"

_MEANINGS: Final[Mapping[str, tuple[type[TranshipError], str]]] = {
    "NOAUTH": (BrokerRefused, "the server wants a password; write it into the URL"),
    "WRONGPASS": (BrokerRefused, "user name or password is wrong, or the user is disabled"),
    "NOPERM": (BrokerRefused, _RIGHTS),
    "DENIED": (BrokerRefused, "the server is in protected mode; give it a password or bind it to this network"),
    "OOM": (StorageFull, "the server's memory is full (maxmemory); nothing was stored"),
    "MISCONF": (StorageFull, "the server cannot write its data to disk and takes no changes until it can"),
    "READONLY": (BrokerUnreachable, "the server is a read-only replica now; a failover is under way"),
    "LOADING": (NotReady, "the server is still loading its data"),
    "MASTERDOWN": (NotReady, "the server is a replica that has lost its master"),
    "BUSY": (NotReady, "the server is busy with somebody's script"),
    "UNKILLABLE": (NotReady, "the server is busy with somebody's script"),
    "NOREPLICAS": (BrokerUnreachable, "the server has fewer replicas than it wants for a write"),
    "CLUSTERDOWN": (BrokerUnreachable, "the cluster is down"),
    "TRYAGAIN": (BrokerUnreachable, "the cluster is moving the keys"),
    "MOVED": (BrokerRefused, _CLUSTER),
    "ASK": (BrokerRefused, _CLUSTER),
    "CROSSSLOT": (BrokerRefused, _CLUSTER),
    "WRONGTYPE": (BrokerRefused, "a key of ours holds something else; another program uses the same name"),
}
_CODE: Final = re.compile(r"\b(" + "|".join(_MEANINGS) + r")\b")
_IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -")
"""Stands before an error that Redis before 7.0 gives to a script, instead of a command's own."""
_SCRIPT_RIGHTS: Final = "The user executing the script can't"
"""Inside of a script NOPERM has no code of its own before Redis 7.2."""
_CLIENTS: Final = "max number of clients reached"
_ARGUMENTS: Final = re.compile(r",? with args beginning with:.*", re.DOTALL)


def reply_error(text: str) -> ResponseError:
    """Return an error reply as a value: its text with the code in front, without arguments of the command.

    An old server that does not know a command repeats what it was sent, passwords and task arguments included.
    """
    return ResponseError(_ARGUMENTS.sub("", text))


def error_of(reply: ResponseError, *, doing: str) -> TranshipError:
    """Return our error for an error reply, with the reply as its cause.

    Args:
        reply: as a :class:`~tranship_redis._link.Link` hands it over.
        doing: what was being done, for the message, with the key or the queue where there is one:
            ``"pushing to queue 'media'"``. Where a script failed, the command is added.
    """
    text = str(reply)
    kind, meaning = _meaning(text)
    command = command_at(text)
    if command:
        doing = f"{doing} ({command})"
    error = kind(f"{doing}: {meaning} ({text})")
    error.__cause__ = reply
    return error


def classify(error: Exception) -> TranshipError | None:
    """Return what a native error is to the driver kit."""
    return BrokerUnreachable(str(error)) if isinstance(error, Lost) else unreachable(error)


def again(error: E) -> E:
    """Return a fresh exception like ``error``, for the next of several callers."""
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy


def is_demotion(reply: ResponseError) -> bool:
    """Whether the server says that it has become a read-only replica."""
    return _meaning(str(reply)) is _MEANINGS["READONLY"]


def _meaning(text: str) -> tuple[type[TranshipError], str]:
    if _SCRIPT_RIGHTS in text:
        return BrokerRefused, _RIGHTS
    if _CLIENTS in text:
        return BrokerUnreachable, "the server takes no more connections (maxclients)"
    # Redis 6 hides a script's error in the middle of its own: "ERR Error running script ...: -OOM command ...".
    found = _CODE.match(_IN_SCRIPT.sub("", text, count=1)) or (
        _CODE.search(text) if text.startswith("ERR Error ") else None
    )
    return _MEANINGS[found[1]] if found else (BrokerRefused, _REFUSED)
