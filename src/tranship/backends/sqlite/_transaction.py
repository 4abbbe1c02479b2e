"""One open transaction, what is done in it for whom, and who is to be woken after its commit."""

from __future__ import annotations

import asyncio
import enum
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from tranship.backends.sqlite._database import again, lease_clock
from tranship.errors import TranshipError

__all__ = ["Job", "Kind", "Mode", "Transaction", "Wakes", "chunks", "each", "refuse", "to_json"]

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

_LARGEST: Final = 128
"""Rows of one multi-row statement."""


class Mode(enum.IntEnum):
    """What a kind of work needs of its transaction."""

    READ = 0
    """Nothing is written."""
    SOFT = 1
    """May be forgotten by a power cut, together with everything after it."""
    HARD = 2
    """On the disk before the caller is answered."""


class Wakes:
    """Who is to be woken once the transaction is visible."""

    __slots__ = ("dead", "queues", "rows", "signals")

    def __init__(self) -> None:
        self.queues: set[str] = set()
        """Consumers of these."""
        self.rows = False
        """Who hears of rows that are created."""
        self.signals = False
        """Who hears of what is published."""
        self.dead: set[str] = set()
        """Nobody: processes that died, whose pipes can go."""

    def any(self) -> bool:
        """Whether anybody is to be woken."""
        return bool(self.queues or self.rows or self.signals or self.dead)


class Transaction:
    """One transaction of the writer; ``now`` and ``lease_now`` do not move within it."""

    __slots__ = ("connection", "lease_now", "now", "ns", "wakes")

    def __init__(self, connection: sqlite3.Connection, ns: int) -> None:
        self.connection = connection
        self.ns = ns
        self.now = time.time()
        self.lease_now = lease_clock()
        self.wakes = Wakes()

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Run ``sql`` and return all its rows: a half-read cursor would hold its lock."""
        return self.connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, *parameters: Any) -> int:
        """Run ``sql`` and return how many rows it changed."""
        return self.connection.execute(sql, parameters).rowcount

    def insert(self, into: str, row: str, values: Sequence[Sequence[Any]], after: str = "") -> int:
        """Insert rows with few multi-row statements: faster than ``executemany``, and the interpreter is given up per
        statement instead of per row.

        Args:
            into: ``INSERT INTO name(columns)``.
            row: the placeholders of one row, such as ``"(?,?)"``.
            values: the rows.
            after: what follows the rows, such as a conflict clause.

        Returns:
            How many rows were inserted.
        """
        count = 0
        for part in chunks(values):
            sql = f"{into} VALUES {','.join([row] * len(part))} {after}"
            count += self.connection.execute(sql, list(chain.from_iterable(part))).rowcount
        return count

    def last(self, table: str) -> int:
        """Return the highest number that was ever given to a row of ``table``."""
        found = self.rows("SELECT seq FROM sqlite_sequence WHERE name=?", table)
        return int(found[0][0]) if found else 0


class Kind(Generic[A, R]):
    """One kind of work: a function that does many of it at once, in order.

    Args:
        name: for messages.
        run: does it.
        mode: what it needs of its transaction.
        first: done and answered before what was asked for at the same time: it need not wait for the disk.
        grows: adds to the database, and is refused while there is room for finishing only.
    """

    __slots__ = ("first", "grows", "mode", "name", "run")

    def __init__(
        self,
        name: str,
        run: Callable[[Transaction, Sequence[A]], Sequence[R]],
        mode: Mode = Mode.HARD,
        *,
        first: bool = False,
        grows: bool = False,
    ) -> None:
        self.name, self.run, self.mode, self.first, self.grows = name, run, mode, first, grows


@dataclass(slots=True, eq=False)
class Job:
    """One caller's piece of work and where the answer goes."""

    kind: Kind[Any, Any]
    argument: Any
    weight: int = 1
    """About how many rows it writes."""
    future: asyncio.Future[Any] | None = None
    """None: nobody waits."""
    value: Any = None
    error: BaseException | None = None


def refuse(jobs: Iterable[Job], error: TranshipError) -> None:
    """Give every job an exception of its own like ``error``."""
    for job in jobs:
        job.error = again(error)


def each(function: Callable[[Transaction, A], R]) -> Callable[[Transaction, Sequence[A]], Sequence[R]]:
    """Make a function of many out of a function of one."""

    def run(tx: Transaction, arguments: Sequence[A]) -> list[R]:
        return [function(tx, argument) for argument in arguments]

    return run


def chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    """Cut ``values`` into parts whose lengths are powers of two, so that few texts are ever prepared."""
    start, left = 0, len(values)
    size = _LARGEST
    while left:
        while size > left:
            size //= 2
        yield values[start : start + size]
        start += size
        left -= size


def to_json(values: Iterable[Any]) -> str:
    """The argument of ``json_each``, without texts it cannot carry: it ends them at a NUL, as other texts."""
    text = json.dumps(found := list(values))
    if "\\u0000" in text:
        text = json.dumps([value for value in found if "\0" not in str(value)])
    return text
