"""Every name we use on the server, Celery's and our own, as bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["SEPARATOR", "Keys"]

SEPARATOR: Final = b"\x06\x16"
"""Stands between a queue and its priority step, and inside of Celery's bindings."""


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
        "_known",
        "_link",
        "_result",
        "db",
        "dead",
        "dead_ids",
        "delayed_queues",
        "deliveries",
        "leases",
        "mailbox",
        "prefix",
        "queues",
        "signals",
        "tombstones",
        "unacked",
        "unacked_index",
        "unacked_mutex",
        "workers",
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
        self.mailbox: Final = p + b"/%d.celery.pidbox" % db
        """The channel of Celery's remote control."""
        self._binding = p + b"_kombu.binding."
        self._result = p + b"celery-task-meta-"
        # Ours.
        self.leases: Final = p + b"tranship:leases"
        """Sorted set: claim token -> when the lease ends."""
        self.deliveries: Final = p + b"tranship:deliveries"
        """Hash: delivery tag -> deliveries so far, where that is more than none."""
        self.delayed_queues: Final = p + b"tranship:delayed-queues"
        """Hash: task id -> queue, for delayed tasks."""
        self.dead: Final = p + b"tranship:dead"
        """Stream of dead letters."""
        self.dead_ids: Final = p + b"tranship:dead-ids"
        """Hash: task id -> its latest entry in the stream."""
        self.tombstones: Final = p + b"tranship:tombstones"
        """Sorted set: what is cancelled -> until when that is remembered."""
        self.workers: Final = p + b"tranship:workers"
        """Hash: worker -> its latest heartbeat."""
        self.queues: Final = p + b"tranship:queues"
        """Set of the queues seen."""
        self.signals: Final = p + b"/%d.tranship.signals" % db
        """The channel of live tombstones and commands."""
        self._delayed = p + b"tranship:delayed:"
        self._delayed_messages = p + b"tranship:delayed-messages:"
        self._dedup = p + b"tranship:dedup:"
        self._known = p + b"tranship:known:"
        self._link = p + b"tranship:link:"

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

    def task_id(self, result: bytes) -> str | None:
        """The task id in the name of a result's key or channel; None: it is no such name."""
        head = self._result
        return result[len(head) :].decode(errors="surrogatepass") if result.startswith(head) else None

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


def _bytes(task_id: str) -> bytes:
    # Ids come from anywhere, half characters included: who waits for such a one must not harm all the others.
    return task_id.encode(errors="surrogatepass")
