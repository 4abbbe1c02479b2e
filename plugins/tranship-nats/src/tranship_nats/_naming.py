"""Names on the server: every name that users choose is written so that NATS takes it and nothing collides."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from tranship.checks import invalid
from tranship.envelope import Priority

__all__ = ["Names", "key_token", "token", "untoken"]

_PLAIN: Final = re.compile(r"[a-z0-9_-]{1,120}")
"""Lower case only: consumers are directories on the server, and some file systems do not tell case apart."""
_LONGEST: Final = 1000
"""Bytes of a name: a subject has to fit into a line of 4096."""
_CONSUMER: Final = 200
"""Characters of a token that may be a part of a consumer's name; it is the name of a directory, too."""
_LEVELS: Final = {str(level.value): level for level in Priority}


def token(name: str, option: str = "name") -> str:
    """Return ``name`` as one token of a subject: itself where it is plain, else ``=`` and base32.

    Raises:
        InvalidOptionError: it is too long, or holds half a character.
    """
    if _PLAIN.fullmatch(name):
        return name
    try:
        data = name.encode()
    except UnicodeEncodeError:
        raise invalid(option, name, "a text without halves of characters") from None
    if len(data) > _LONGEST:
        raise invalid(option, f"{name[:40]}...", f"at most {_LONGEST} bytes, this has {len(data)}")
    return "=" + base64.b32encode(data).decode().rstrip("=").lower()


def untoken(text: str) -> str:
    """Return the name that :func:`token` made ``text`` of; what it never made is returned as it is."""
    if not text.startswith("="):
        return text
    padded = text[1:].upper() + "=" * (-len(text[1:]) % 8)
    try:
        return base64.b32decode(padded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text


BUCKETS: Final = ("results", "ids", "cancels", "workers", "names", "keys", "dead", "rows")
"""Kinds of key-value buckets."""


class Names:
    """The names of one namespace.

    Args:
        namespace: the URL option.
        domain: the JetStream domain, or None.

    Raises:
        InvalidOptionError: the namespace is too long.
    """

    def __init__(self, namespace: str, domain: str | None) -> None:
        root = f"tranship-{token(namespace, 'namespace')}" if namespace else "tranship"
        if len(root) > _CONSUMER:
            raise invalid("namespace", namespace, "a shorter name")
        self.root = root
        self.api = f"$JS.{domain}.API" if domain else "$JS.API"
        self.work, self.delay = f"{root}-work", f"{root}-delay"
        self._buckets = {name: f"{root}-{name}" for name in BUCKETS}

    # Streams.

    def bucket(self, name: str) -> str:
        """The stream of a key-value bucket, such as ``results``."""
        return f"KV_{self._buckets[name]}"

    def key(self, bucket: str, key: str) -> str:
        """The subject of a key in a bucket; ``key`` is a token, or ``>``."""
        return f"$KV.{self._buckets[bucket]}.{key}"

    # Subjects.

    def task(self, queue: str, priority: Priority) -> str:
        """Where tasks that are ready go."""
        return f"{self.root}.t.{token(queue, 'queue')}.{priority.value}"

    def delayed(self, queue: str, priority: Priority, task_id: str, due: float) -> str:
        """Where a task goes that is not due yet; the subject says when it is, in milliseconds."""
        millis = max(0, round(due * 1000))
        return f"{self.root}.d.{token(queue, 'queue')}.{priority.value}.{key_token(task_id)}.{millis}"

    def delayed_of(self, *, queue: str = "", task_id: str = "") -> str:
        """The pattern of what is not due yet: of a queue, or of one task."""
        if task_id:
            return f"{self.root}.d.*.*.{key_token(task_id)}.*"
        return f"{self.root}.d.{token(queue, 'queue')}.>" if queue else f"{self.root}.d.>"

    def signal(self, name: str) -> str:
        """Where is told what is told live, by its name."""
        kind, _, rest = name.partition("/")
        return f"{self.root}.s.{key_token(kind)}.{key_token(rest)}" if rest else f"{self.root}.s.{key_token(kind)}"

    def consumer(self, queue: str, priority: Priority) -> str:
        """The durable consumer of one level of a queue."""
        name = token(queue, "queue")
        if len(name) > _CONSUMER:
            name = "=" + hashlib.sha256(queue.encode()).hexdigest()
        return f"{name}-{priority.value}"

    def place_of(self, subject: str) -> tuple[str, Priority]:
        """Return queue and level of a subject; of one that none of the above made, level NORMAL."""
        queue, _, rest = subject[len(self.root) + 3 :].partition(".")
        return untoken(queue), _LEVELS.get(rest.partition(".")[0], Priority.NORMAL)


def key_token(task_id: str) -> str:
    """Return a task's id, or another key, as one token; of one that is no sensible id, a hash of it."""
    if _PLAIN.fullmatch(task_id):
        return task_id
    data = task_id.encode(errors="surrogatepass")
    if len(data) <= _CONSUMER // 2:
        return "=" + base64.b32encode(data).decode().rstrip("=").lower()
    return "==" + hashlib.sha256(data).hexdigest()
