"""kombu's transport of tables, on the same tables, without what it loses.

kombu marks what it takes as invisible and never looks at it again, so that it is lost with a worker that is killed,
and the table grows. Here what is taken has *no* visibility, which Celery's processes pass by as well, and its
timestamp says until when; after that it is visible again. What is done is deleted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import Empty
from typing import Any, Final

from kombu.transport import sqlalchemy as tables
from kombu.utils.json import dumps, loads
from sqlalchemy import and_, delete, event, insert, select, text, update

from tranship_kombu._held import Gone

__all__ = ["Transport"]

_LOOK: Final = 0.5
"""Seconds between two looks for leases that are over."""
_VERSIONS: Final = 30_000


class Channel(tables.Channel):  # type: ignore[misc]  # kombu has no types
    """Messages are rows; see :class:`kombu.transport.sqlalchemy.Channel`."""

    lease = 30.0
    """Seconds that what is taken is ours; set by who opens the channel."""

    def __init__(self, connection: Any, **arguments: Any) -> None:
        super().__init__(connection, **arguments)
        # kombu has one pool in a process; what one connection finds broken is none of the others' business.
        self._engines: dict[str, Any] = {}
        self._rows: dict[str, tuple[int, int]] = {}
        """Of each tag the row, and its version: that changes with each owner."""
        self._ids: dict[str, int] = {}
        self._looked = 0.0
        self._raw: Any = None
        """The connection that is in use, or was the last one."""
        self._together = self._begun = False

    def open_tables(self) -> None:
        """Connect, and make the tables that are missing."""
        event.listen(self.session, "after_begin", self._began)
        self.ping()

    def ping(self) -> None:
        """Make one round trip: a connection alone, and a transaction of nothing, make none."""
        try:
            self.session.execute(text("SELECT 1"))
            self.session.commit()
        except BaseException:
            self.session.rollback()
            raise

    def _began(self, _session: Any, _transaction: Any, connection: Any) -> None:
        self._raw = connection.connection.dbapi_connection

    def cut(self) -> None:
        """Break the connection under a call that hangs; called from another thread. A file has none."""
        if (fileno := getattr(self._raw, "fileno", None)) is not None:
            with socket.socket(fileno=os.dup(fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def dispose(self) -> None:
        """Close what the pool keeps open for later."""
        for engine, _ in self._engines.values():
            engine.dispose()

    # Transactions.

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Do what is done meanwhile in one transaction; a failure undoes all of it."""
        self._together = True
        try:
            yield
        except BaseException:
            self.session.rollback()
            raise
        else:
            self.session.commit()
        finally:
            self._together = self._begun = False

    def _begin(self) -> None:
        """Begin to write: on SQLite a transaction that has read first may find that it cannot."""
        if not self._begun and self.session.bind.name == "sqlite":
            self.session.execute(text("BEGIN IMMEDIATE TRANSACTION"))
            self._begun = True

    def _commit(self) -> None:
        if not self._together:
            self.session.commit()
            self._begun = False

    # Queues.

    def _new_queue(self, queue: str, **_: Any) -> None:
        self._id_of(queue)

    def _id_of(self, queue: str) -> int:
        if queue not in self._ids:
            self._ids[queue] = int(self._get_or_create(queue).id)
            # It has looked, and left its transaction open.
            self._commit()
        return self._ids[queue]

    def _size(self, queue: str) -> int:
        try:
            return int(super()._size(queue))
        finally:
            self._commit()

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        queue_id = self._id_of(queue)
        self._begin()
        row = {"queue_id": queue_id, "payload": dumps(payload), "visible": True, "version": 1}
        self.session.execute(insert(self.message_cls.__table__).values(row))
        self._commit()

    def _get(self, queue: str) -> Any:
        queue_id = self._id_of(queue)
        self._end_leases()
        # An idle worker must not take the lock that writers need.
        found = None
        if self._is_any(queue_id):
            self._begin()
            found = self._take(queue_id)
        self._commit()
        if found is None:
            raise Empty
        row, version, payload = found
        message = loads(payload)
        self._rows[message["properties"]["delivery_tag"]] = row, version
        return message

    def _is_any(self, queue_id: int) -> bool:
        rows = self.message_cls.__table__
        any_ = select(rows.c.id).where(rows.c.queue_id == queue_id, rows.c.visible.is_(True)).limit(1)
        found = self.session.execute(any_).first() is not None
        self._commit()
        return found

    def _take(self, queue_id: int) -> tuple[int, int, str] | None:
        rows = self.message_cls.__table__
        first = (
            select(rows.c.id, rows.c.version, rows.c.payload)
            .where(rows.c.queue_id == queue_id, rows.c.visible.is_(True))
            .order_by(rows.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        found = self.session.execute(first).first()
        if found is None:
            return None
        # It is a small integer.
        version = found.version % _VERSIONS + 1
        ours = update(rows).where(rows.c.id == found.id, rows.c.version == found.version)
        taken = self.session.execute(ours.values(visible=None, timestamp=self._until(), version=version))
        return (found.id, version, found.payload) if taken.rowcount else None

    def _end_leases(self) -> None:
        """Make visible again what was taken by who has not renewed it; of all queues at once."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        rows = self.message_cls.__table__
        over = and_(rows.c.visible.is_(None), rows.c.timestamp < _now())
        if self.session.execute(select(rows.c.id).where(over).limit(1)).first() is not None:
            self._commit()
            self._begin()
            self.session.execute(self._visible().where(over))
        self._commit()

    def _visible(self) -> Any:
        rows = self.message_cls.__table__
        return update(rows).values(visible=True, timestamp=None, version=rows.c.version % _VERSIONS + 1)

    # What is held.

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Delete a message's row.

        Raises:
            Gone: it is not ours any more.
        """
        self._change(delivery_tag, delete(self.message_cls.__table__))
        super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Delete it, or give it back.

        Raises:
            Gone: it is not ours any more.
        """
        self._change(delivery_tag, self._visible() if requeue else delete(self.message_cls.__table__))
        super().basic_ack(delivery_tag)

    def renew(self, delivery_tag: str) -> None:
        """Keep it for another lease.

        Raises:
            Gone: it is not ours any more.
        """
        self._change(delivery_tag, update(self.message_cls.__table__).values(timestamp=self._until()), keep=True)

    def _change(self, delivery_tag: str, statement: Any, *, keep: bool = False) -> None:
        if delivery_tag not in self._rows:
            raise Gone(delivery_tag)
        rows, (row, version) = self.message_cls.__table__, self._rows[delivery_tag]
        self._begin()
        ours = and_(rows.c.id == row, rows.c.version == version, rows.c.visible.is_(None), rows.c.timestamp >= _now())
        changed = self.session.execute(statement.where(ours)).rowcount
        self._commit()
        if not keep or not changed:
            del self._rows[delivery_tag]
        if not changed:
            raise Gone(delivery_tag)

    def _until(self) -> datetime:
        return _now() + timedelta(seconds=self.lease)

    def close(self) -> None:
        """Give back what is held, and close."""
        self.do_restore = False
        try:
            for tag in list(self._rows):
                with contextlib.suppress(Gone):
                    self.basic_reject(tag, requeue=True)
            super().close()
        finally:
            # What it still has goes back to the pool, which is closed next.
            if self._session is not None:
                self._session.close()


class Transport(tables.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's, with our channel."""

    Channel = Channel


def _now() -> datetime:
    """The host's clock, as kombu's columns have it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
