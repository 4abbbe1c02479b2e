"""Every name we use on the server, Celery's and our own, as bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["PIDBOX", "SEPARATOR", "Keys", "is_result"]

SEPARATOR: Final = b"\x06\x16"
"""Stands between a queue and its priority step, and inside of Celery's bindings."""


PIDBOX: Final = "celery.pidbox"
"""Among the topic's names: Celery's remote control."""
_UNLISTED: Final = frozenset("kri")
"""Kinds of rows that are looked for by name only: dedup keys, results, ids."""


class Keys:
    """The names of one namespace in one database.

    Args:
        prefix: stands in front of every name: ``""``, or ``"<namespace>:"``. A Celery peer sets
            ``global_keyprefix`` to the same text, for its broker and for its results.
        db: the number of the database. Publish and subscribe know no databases, so channels carry it,
            except those of results, which Celery names like their keys.
    """

    __slots__ = (
        "_binding",
        "_dedup",
        "_delayed",
        "_delayed_messages",
        "_group",
        "_known",
        "_link",
        "_result",
        "_row",
        "_rows",
        "_signal",
        "db",
        "delayed_queues",
        "deliveries",
        "events",
        "leases",
        "letter_names",
        "letters",
        "pidbox",
        "prefix",
        "queues",
        "unacked",
        "unacked_index",
        "unacked_mutex",
    )

    def __init__(self, prefix: str, db: int) -> None:
        self.prefix: Final = prefix.encode()
        """In front of every name."""
        self.db: Final = db
        p = self.prefix
        # Celery's.
        self.unacked: Final = p + b"unacked"
        self.unacked_index: Final = p + b"unacked_index"
        self.unacked_mutex: Final = p + b"unacked_mutex"
        self.pidbox: Final = p + b"/%d.celery.pidbox" % db
        """The channel of Celery's remote control."""
        self.events: Final = p + b"/%d.celeryev/" % db
        """The channels of Celery's events begin with it; what follows is the routing key."""
        self._binding = p + b"_kombu.binding."
        self._result = p + b"celery-task-meta-"
        self._group = p + b"celery-taskset-meta-"
        # Ours.
        self.leases: Final = p + b"tranship:leases"
        """Sorted set: claim token -> when the lease ends."""
        self.deliveries: Final = p + b"tranship:deliveries"
        """Hash: delivery tag -> deliveries so far, where that is more than none."""
        self.delayed_queues: Final = p + b"tranship:delayed-queues"
        """Hash: task id -> queue, for delayed tasks."""
        self.letters: Final = p + b"tranship:row:d/"
        """The keys of dead letters, which are rows, begin with it."""
        self.letter_names: Final = p + b"tranship:rows:d"
        """The index of their names."""
        self.queues: Final = p + b"tranship:queues"
        """Set of the queues seen."""
        self._delayed = p + b"tranship:delayed:"
        self._delayed_messages = p + b"tranship:delayed-messages:"
        self._dedup = p + b"tranship:dedup:"
        self._known = p + b"tranship:known:"
        self._link = p + b"tranship:link:"
        self._row = p + b"tranship:row:"
        self._rows = p + b"tranship:rows:"
        self._signal = p + b"/%d.tranship." % db

    def list(self, queue: str, step: int) -> bytes:
        """Celery's list of ``queue`` at a priority step: 0 is the plain name."""
        name = self.prefix + queue.encode()
        return name + SEPARATOR + b"%d" % step if step else name

    def binding(self, exchange: str) -> bytes:
        """Celery's set of what is bound to ``exchange``; there is one named like each of its queues."""
        return self._binding + exchange.encode()

    def result(self, task_id: str) -> bytes:
        """Celery's key of a task's result, and the channel on which it is published."""
        return self._result + _bytes(task_id)

    def chord(self, group_id: str) -> tuple[bytes, ...]:
        """Celery's keys of a chord: parts, difference, size, ids counted, saved header, claim."""
        key = self._group + _bytes(group_id)
        return key + b".j", key + b".t", key + b".s", key + b".d", key, key + b".c"

    def delayed(self, queue: str) -> bytes:
        """Sorted set: task id -> when it is due."""
        return self._delayed + queue.encode()

    def delayed_messages(self, queue: str) -> bytes:
        """Hash: task id -> step digit and list element."""
        return self._delayed_messages + queue.encode()

    def dedup(self, key: str) -> bytes:
        """String: the id of the task that holds the dedup key."""
        return self._dedup + key.encode()

    def known(self, task_id: str) -> bytes:
        """String: this id was submitted with ``check_id``."""
        return self._known + _bytes(task_id)

    def link(self, link_id: str) -> bytes:
        """String: the submit marker of one connection."""
        return self._link + link_id.encode()

    def row(self, name: str) -> bytes:
        """String: a row of the table; of a result Celery's key."""
        return self.result(name[2:]) if is_result(name) else self._row + _bytes(name)

    def rows(self, name: str) -> bytes | None:
        """Sorted set, all scores 0: the names of the rows of a kind; None: nobody lists them."""
        kind = name.partition("/")[0]
        return None if kind in _UNLISTED else self._rows + _bytes(kind)

    def channel(self, name: str) -> bytes:
        """The channel of a topic's name; of a result Celery's."""
        if name.startswith("r/"):
            return self._result + name[2:].encode(errors="surrogatepass")
        return self.pidbox if name == PIDBOX else self._signal + _bytes(name)

    def name(self, channel: bytes) -> str | None:
        """The topic's name that has a channel; None: it has none."""
        if channel.startswith(self._result):
            return "r/" + channel[len(self._result) :].decode(errors="surrogatepass")
        if channel.startswith(self._signal):
            return _text(channel[len(self._signal) :])
        return PIDBOX if channel == self.pidbox else None


def is_result(name: str) -> bool:
    """Whether it is the name of a result among rows and signals; the rest is the task's id."""
    return name.startswith("r/")


def _bytes(task_id: str) -> bytes:
    # Ids come from anywhere, half characters included: who waits for such a one must not harm all the others.
    return task_id.encode(errors="surrogatepass")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogatepass")
