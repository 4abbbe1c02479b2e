"""The server's errors as ours: what happened, and what to do about it."""

from __future__ import annotations

import re
import ssl
from typing import Final

from tranship.errors import BrokerRefused, BrokerUnreachable, StorageFull, TranshipError
from tranship.protocol import whole_of
from tranship_rabbitmq.amqp.ends import Ended, Nacked, WireEnded

__all__ = ["blocked", "classify", "error_of", "is_down", "is_missing", "largest", "mismatch", "retryable", "trouble_at"]

_RIGHTS: Final = "grant the user what it needs (rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*')"
_CURES: Final = {
    "Login was refused": "user name or password is wrong; correct them in the URL",
    "offers to log in by": "say in auth which of them, or have the server offer another (auth_mechanisms)",
    "token has expired": "write a new one into the file that the option password_file names",
    "not found": "the virtual host does not exist; create it (rabbitmqctl add_vhost), or correct the URL's path",
    "access to vhost": f"the user may not use the virtual host; {_RIGHTS}",
    "is down": "the virtual host or the queue's node is down; it comes back with it, "
    "unless its server was killed in the queue's first second: then use another namespace",
    "replica on the local node": "the server has not started the stream yet, and will; in a cluster it may need a "
    "replica of its own (rabbitmq-streams add_replica)",
    "connection limit": "the virtual host or user has too many connections; close some, or raise the limit",
}
_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '([^']+)' for (queue|exchange) '(.*?)' in vhost.*received (.*)", re.DOTALL
)
_CURRENT: Final = re.compile(r"current is (?:the value )?'?(\d+)")
_TOO_LARGE: Final = re.compile(r"message size \d+ is larger than (?:the )?configured max size (\d+)")
_TLS_CURES: Final = {
    # What the server says of us.
    "alert certificate required": "the server wants to see our certificate; name it in certfile, its key in keyfile",
    "alert certificate expired": "our certificate (certfile) has expired; we need a new one",
    "alert unknown ca": "the server does not trust our certificate (certfile); it has to know its authority",
    "alert bad certificate": "the server cannot use our certificate (certfile)",
    # What we say of the server.
    "expired": "its certificate has expired; the server needs a new one",
    "wrong version number": "that port does not speak TLS; use amqp://, or the port of amqps (5671)",
    "IP address mismatch": "its certificate is for another host; correct the URL, or set check_hostname=false",
    "Hostname mismatch": "its certificate is for another host; correct the URL, or set check_hostname=false",
    "self-signed": "its certificate is signed by nobody we trust; name its authority in ca_certs",
    "unable to get local issuer": "its certificate is signed by nobody we trust; name its authority in ca_certs",
}


def error_of(why: Ended, *, doing: str) -> TranshipError:
    """Return our error for how something ended, with it as the cause.

    Args:
        why: as :mod:`tranship_rabbitmq.amqp` says it.
        doing: what was being done, for the message.
    """
    # With TLS 1.3 the server looks at our certificate when the handshake is over for us.
    of_tls = isinstance(why.__cause__, ssl.SSLError)
    kind, cure = (BrokerRefused, _tls_cure(why.text)) if of_tls else _meaning(why)
    error = kind(f"{doing}: {why.text}{f'; {cure}' if cure else ''}")
    error.__cause__ = why
    return error


def classify(native: Exception) -> TranshipError | None:
    """Return our error for what a verb has not explained by itself; None: it is a bug."""
    return retryable(error_of(native, doing="RabbitMQ")) if isinstance(native, Ended) else None


def trouble_at(place: str, error: BaseException) -> TranshipError:
    """Return our error for a failed attempt to connect to ``place``."""
    if isinstance(error, Ended):
        return error_of(error, doing=f"connecting to {place}")
    if isinstance(error, ssl.SSLError):
        cure = _tls_cure(str(error))
        refused = BrokerRefused(f"{place} cannot be trusted: {error}{f'; {cure}' if cure else ''}")
        refused.__cause__ = error
        return refused
    unreachable = BrokerUnreachable(f"{place} cannot be reached: {error or type(error).__name__}")
    unreachable.__cause__ = error
    return unreachable


def retryable(error: TranshipError) -> TranshipError:
    """Return ``error`` as one that may pass: what worked before will work again when somebody has mended it."""
    if error.retryable:
        return error
    passing = BrokerUnreachable(str(error))
    passing.__cause__ = error
    return passing


def blocked(reason: str, *, doing: str) -> StorageFull:
    """Return the error for a server that takes no messages at the moment."""
    return StorageFull(
        f"{doing}: the server takes no messages ({reason}): its memory or disk is nearly full; "
        "free some, or consume what is queued, and it goes on by itself"
    )


def is_missing(why: Ended) -> bool:
    """Whether something is not there ("no queue 'q' in vhost '/'"). With the same code the server says that a queue is
    there, and its node is down, or its process has crashed or is being stopped.
    """
    return why.code == 404 and "- no " in why.text


def is_down(error: TranshipError) -> bool:
    """Whether a queue is there, but its node, or what keeps it on that node, is not at the moment."""
    why = error.__cause__
    return isinstance(why, Ended) and _is_away(why)


def _is_away(why: Ended) -> bool:
    # A stream is declared before the process that is read from has started.
    return (why.code == 404 and not is_missing(why)) or (why.code == 406 and "replica on the local node" in why.text)


def mismatch(why: Ended) -> tuple[str, str] | None:
    """Return which argument of a queue is another one than we declared, and the server's words for both."""
    found = _INEQUIVALENT.search(why.text) if why.code == 406 else None
    return (found[1], found[4].strip()) if found else None


def priorities(words: str) -> int:
    """Return the ``x-max-priority`` that a queue has, in the server's words for a mismatch; 0: they say none."""
    found = _CURRENT.search(words)
    return int(found[1]) if found else 0


def largest(why: Ended) -> int | None:
    """Return how many bytes a body may have at most, where the server ended a channel over a larger one."""
    found = _TOO_LARGE.search(why.text) if why.code == 406 else None
    return whole_of(found[1]) if found else None


def _tls_cure(text: str) -> str:
    return next((cure for words, cure in _TLS_CURES.items() if words in text), "")


def _meaning(why: Ended) -> tuple[type[TranshipError], str]:
    cure = next((cure for words, cure in _CURES.items() if words in why.text), "")
    if isinstance(why, Nacked):
        return StorageFull, "the queue is full, or has lost its majority"
    if why.code == 403:
        return BrokerRefused, cure or _RIGHTS
    if why.code == 530 and "is down" not in why.text:
        return BrokerRefused, cure
    if _is_away(why):
        return BrokerUnreachable, cure or _CURES["is down"]
    if isinstance(why, WireEnded) or why.code in (0, 320, 504, 541):
        return BrokerUnreachable, cure
    return BrokerRefused, cure
