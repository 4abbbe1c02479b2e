"""Celery's table of results: read and written as Celery does, without Celery."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from tranship import codec
from tranship.envelope import TaskState
from tranship.errors import EncodeError, MalformedMessage
from tranship.ports import StoredResult
from tranship.protocol import decode_result

__all__ = ["TaskMeta"]

_READY: Final = ("SUCCESS", "FAILURE", "REVOKED")
_FAILED: Final = ("FAILURE", "REVOKED")
_STATES: Final = {"PENDING": TaskState.PENDING, "RECEIVED": TaskState.PENDING, "RETRY": TaskState.RETRY}
_OWN: Final = "tranship"
"""What Celery's document has no words for; in a failure it is kept beside the exception, where Celery ignores it."""
_CLEANING: Final = 600.0
"""Seconds between two deletions of what is too old."""


class TaskMeta:
    """The table, for one thread.

    Args:
        engine: of the database.
        name: of the table.
        prefix: what the ids of tasks begin with there: the namespace.
        ttl: seconds that results are kept.
    """

    def __init__(self, engine: sa.Engine, name: str, prefix: str, ttl: float) -> None:
        self._engine, self._prefix, self._ttl = engine, prefix, ttl
        self._name, self._table = name, _table(name, *_EXTENDED)
        self._extended: frozenset[str] = frozenset()
        self._cleaned = time.monotonic()

    def open(self) -> None:
        """Connect; make the table if it is missing, and see which columns it has."""
        try:
            _table(self._name).create(self._engine, checkfirst=True)
        except sa.exc.DBAPIError:
            # Somebody else may have made it meanwhile.
            if not sa.inspect(self._engine).has_table(self._name):
                raise
        columns = sa.inspect(self._engine).get_columns(self._name)
        self._extended = frozenset(one["name"] for one in columns)

    def ping(self) -> None:
        """Make one round trip."""
        with self._engine.connect() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    # Writing.

    def put(self, results: Sequence[StoredResult]) -> list[bool]:
        """Store results; the first one of each id that has ended wins."""
        self._clean()
        return [self._put_again(one) for one in results]

    def _put_again(self, result: StoredResult) -> bool:
        values = self._values(result)
        try:
            return self._put(values)
        except sa.exc.IntegrityError:
            # Somebody has written the row between our two looks: now it is there.
            return self._put(values)

    def _put(self, values: Mapping[str, Any]) -> bool:
        columns = self._table.c
        mine = columns.task_id == values["task_id"]
        with self._engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            found = connection.execute(
                sa.select(columns.status, columns.date_done).where(mine).with_for_update()
            ).first()
            if found is None:
                connection.execute(sa.insert(self._table).values(values))
                return True
            if found.status in _READY and not self._is_old(found.date_done):
                return False
            connection.execute(sa.update(self._table).where(mine).values(values))
            return True

    def _values(self, result: StoredResult) -> dict[str, Any]:
        document = codec.loads(result.document, codec.JSON)
        value, own = document.get("result"), document.get(_OWN)
        if document["status"] in _FAILED and isinstance(value, dict) and own is not None:
            value = {**value, _OWN: own}
        children = document.get("children")
        made = {
            "task_id": self._prefix + result.id,
            "status": document["status"],
            "result": codec.dumps(value),
            "date_done": _now(),
            "traceback": document.get("traceback"),
            "children": codec.dumps(children) if children else None,
            "worker": own.get("worker") if isinstance(own, dict) else None,
            "retries": own.get("attempt") if isinstance(own, dict) else None,
        }
        return {name: one for name, one in made.items() if name in self._extended}

    def forget(self, ids: Sequence[str]) -> None:
        """Delete results."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(self._table).where(self._among(ids)))

    def _clean(self) -> None:
        """Delete what is too old, now and then, as Celery's beat does."""
        if time.monotonic() - self._cleaned > _CLEANING:
            self._cleaned = time.monotonic()
            with self._engine.begin() as connection:
                connection.execute(sa.delete(self._table).where(self._table.c.date_done < self._oldest()))

    # Reading.

    def get(self, ids: Sequence[str]) -> list[StoredResult]:
        """Read what is known of each id; of one without a row nothing is."""
        names = [column for column in self._table.c if column.name in self._extended]
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*names).where(self._among(ids))).mappings().all()
        found: dict[str, dict[str, Any]] = {
            row["task_id"].removeprefix(self._prefix): {str(name): one for name, one in row.items()} for row in rows
        }
        return [self._read(one, found.get(one)) for one in ids]

    def _read(self, task_id: str, row: Mapping[str, Any] | None) -> StoredResult:
        if row is None or self._is_old(row["date_done"]):
            return StoredResult(id=task_id, state=TaskState.PENDING)
        if row["status"] not in _READY:
            # A state of somebody's own was set by a task that runs.
            return StoredResult(id=task_id, state=_STATES.get(row["status"], TaskState.STARTED))
        document = self._document(task_id, row)
        try:
            state = decode_result(document, task_id=task_id).state
        except MalformedMessage:
            # Whoever asks for it is told so.
            state = TaskState.FAILURE
        return StoredResult(id=task_id, state=state, document=document)

    def _document(self, task_id: str, row: Mapping[str, Any]) -> bytes:
        """Return the row as Celery's document; what cannot be read, such as a pickle, stays what it is."""
        raw = bytes(row["result"]) if row["result"] is not None else b"null"
        try:
            value = _loaded(raw)
        except MalformedMessage:
            return raw
        own = value.pop(_OWN, None) if row["status"] in _FAILED and isinstance(value, dict) else None
        done = row["date_done"]
        rest = {
            "status": row["status"],
            "result": value,
            "traceback": row["traceback"],
            "children": [],
            "date_done": None if done is None else done.replace(tzinfo=UTC).isoformat(),
            "task_id": task_id,
            "worker": row.get("worker"),
            "retries": row.get("retries"),
        }
        try:
            return codec.dumps({**rest, **({} if own is None else {_OWN: own})})
        except EncodeError:
            return codec.dumps({**rest, "result": repr(value)})

    def _among(self, ids: Sequence[str]) -> Any:
        return self._table.c.task_id.in_([self._prefix + one for one in ids])

    def _oldest(self) -> datetime:
        return _now() - timedelta(seconds=self._ttl)

    def _is_old(self, done: datetime | None) -> bool:
        return done is not None and done < self._oldest()


def _loaded(raw: bytes) -> Any:
    """Return a value that was written as JSON or as msgpack; nothing that is read is run."""
    try:
        return codec.loads(raw, codec.JSON)
    except MalformedMessage:
        return codec.loads(raw, codec.MSGPACK)


def _now() -> datetime:
    """The host's clock, as Celery's column has it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


_EXTENDED: Final[Mapping[str, Any]] = {"worker": sa.String(155), "retries": sa.Integer()}
"""Columns that Celery makes where ``result_extended`` is set, and that are of use here."""


def _table(name: str, *extended: str) -> sa.Table:
    """Return Celery's table, with some of the columns that it may have besides."""
    number = sa.Integer().with_variant(sa.BigInteger, "mssql")
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", number, sa.Sequence("task_id_sequence"), primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(155), unique=True),
        sa.Column("status", sa.String(50)),
        sa.Column("result", sa.LargeBinary, nullable=True),
        sa.Column("date_done", sa.DateTime, nullable=True, index=True),
        sa.Column("traceback", sa.Text, nullable=True),
        sa.Column("children", sa.LargeBinary, nullable=True),
        *(sa.Column(one, _EXTENDED[one], nullable=True) for one in extended),
        sqlite_autoincrement=True,
    )
