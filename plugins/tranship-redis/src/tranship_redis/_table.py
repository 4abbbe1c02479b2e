"""Rows as strings, with an index of their names for each kind; results as Celery keeps them.

A row's string is its version, a newline and its value. A version is a random number that its writer has thought of, so
that a script that creates a row has to count nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tranship.driver import Row
from tranship.envelope import TaskState
from tranship.protocol import result_state
from tranship_redis._channel import Channel
from tranship_redis._keys import Keys, is_result
from tranship_redis._pack import Part, millis
from tranship_redis._scripts import Script

__all__ = ["RedisTable", "result_value"]

READ: Final = 500
"""Rows per command."""
WRITE: Final = 100
"""Rows per script; the server does nothing else meanwhile."""
BYTES: Final = 1 << 20
READ_BYTES: Final = 4 << 20
"""Bytes after which a read is answered: a connection with subscriptions is cut off with 32 MiB on its way (the
server's ``client-output-buffer-limit pubsub``)."""
NO_VERSION: Final = 0
"""No row is in this version."""
_VERSIONS: Final = 2**52
_UNREADABLE: Final = b" "
_STATES: Final = {state: b"%b\n" % state.value.encode() for state in TaskState}
"""How the value of a result's row begins."""
_ROWS: Final = Script("rows")
_RESULTS: Final = Script("put")
_READ: Final = Script("read")


def result_value(task_id: str, document: bytes) -> bytes:
    """Return the value of a result's row, of which Celery's key holds the document alone."""
    return _STATES[result_state(document, task_id=task_id)] + (document or _UNREADABLE)


class RedisTable:
    """See :class:`tranship.driver.Table`.

    A row ``r/<task id>`` is Celery's result key. It is there, for who creates it, once it is terminal, and is not put.

    Args:
        channel: what it goes over.
        keys: of the namespace.
    """

    def __init__(self, channel: Channel, keys: Keys) -> None:
        self._channel, self._keys = channel, keys

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Set each unless it is there."""
        there = await self._results_created([row for row in rows if is_result(row.key)])
        others = [row for row in rows if not is_result(row.key)]
        found = await self._run(b"create", others, [_new_version() for _ in others])
        there |= {row.key: one and one.partition(b"\n")[2] for row, one in zip(others, found, strict=True)}
        return [there[row.key] for row in rows]

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Set each, whatever is there, or only where it is in that version."""
        versions = [_new_version() for _ in rows]
        done = await self._run(b"put", rows, versions, if_version)
        return [version if is_done else None for version, is_done in zip(versions, done, strict=True)]

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Read some megabytes at a time."""
        rows: list[Row | None] = []
        while len(rows) < len(keys):
            rows += await self._first(keys[len(rows) : len(rows) + READ])
        return rows

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete each, or only in that version; with a result what is remembered of its id."""
        known = [self._keys.known(key[2:]) for key in keys if is_result(key)]
        for start in range(0, len(known), READ):
            await self._channel.call(b"DEL", *known[start : start + READ])
        rows = [Row(key, b"") for key in keys]
        return [done == 1 for done in await self._run(b"delete", rows, [NO_VERSION] * len(rows), if_version)]

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """Read the next names of the kind's index, and the rows that have them; those that have gone are taken out.

        Raises:
            ValueError: rows of this kind have no index.
        """
        index, begin = self._keys.rows(prefix), prefix.encode(errors="surrogatepass")
        if index is None:
            raise ValueError(f"rows {prefix!r} are not listed; ask for them by name")
        while True:
            first = b"(" + after.encode(errors="surrogatepass") if after >= prefix else b"[" + begin
            found = await self._channel.call(
                b"ZRANGEBYLEX", index, first, b"(" + begin + b"\xff", b"LIMIT", 0, min(limit, READ)
            )
            names = [name.decode(errors="surrogatepass") for name in found]
            rows = await self._first(names) if names else []
            gone = [name for name, row in zip(names, rows, strict=False) if row is None]
            if gone:
                await self.delete(gone, [NO_VERSION] * len(gone))
            if len(gone) < len(rows) or not names:
                return [row for row in rows if row is not None]
            after = names[len(rows) - 1]

    # Writing.

    async def _run(
        self, verb: bytes, rows: Sequence[Row], versions: Sequence[int], expected: Sequence[int] | None = None
    ) -> list[Any]:
        """Run the script over rows, some at a time."""
        answers: list[Any] = []
        wanted = [b""] * len(rows) if expected is None else [b"%d" % one for one in expected]
        about = {row.key: (version, one) for row, version, one in zip(rows, versions, wanted, strict=True)}
        for part in _parts(rows):
            keys = [key for row in part for key in self._places(row.key)]
            arguments: list[Part] = [verb]
            for row in part:
                arguments += self._arguments(row, *about[row.key])
            answers += await self._channel.run(_ROWS, keys, arguments)
        return answers

    def _places(self, name: str) -> tuple[bytes, bytes]:
        """Return the key of a row, and of its kind's index."""
        key = self._keys.row(name)
        return key, self._keys.rows(name) or key

    def _arguments(self, row: Row, version: int, expected: bytes) -> Sequence[Part]:
        """Return what the script is told of a row beside that."""
        value, ttl = b"%d\n%b" % (version, row.value), b"" if row.ttl is None else millis(row.ttl)
        channel = b"" if row.tell is None else self._keys.channel(row.key)
        return row.key.encode(errors="surrogatepass"), expected, value, ttl, channel, row.tell or b""

    async def _results_created(self, rows: Sequence[Row]) -> dict[str, bytes | None]:
        """Store results unless terminal ones are there, and tell of them in the same step."""
        there: dict[str, bytes | None] = {}
        for part in _parts(rows):
            arguments: list[Part] = []
            for row in part:
                arguments += (millis(row.ttl or 0.0), row.value.partition(b"\n")[2])
            stored = await self._channel.run(_RESULTS, [self._keys.row(row.key) for row in part], arguments)
            there |= {row.key: None if is_stored else b"" for row, is_stored in zip(part, stored, strict=True)}
        late = [key for key, found in there.items() if found is not None]
        return there | {row.key: row.value for row in await self.get(late) if row is not None}

    # Reading.

    async def _first(self, names: Sequence[str]) -> list[Row | None]:
        """Read the first of these rows, at least one: the server cuts us off when too much is on its way to us."""
        keys = list(map(self._keys.row, names))
        found: list[Any] = await self._channel.run(_READ, keys, [READ_BYTES])
        if type(found[-1]) is int:
            last = len(found) - 1
            found[last] = await self._in_pieces(keys[last], found[last])
        return list(map(_row, names, found))

    async def _in_pieces(self, key: bytes, size: int) -> bytes | None:
        """Read a string that is too long for one answer: being cut off for it would go on for ever."""
        string = b""
        for start in range(0, size, READ_BYTES):
            string += await self._channel.call(b"GETRANGE", key, start, start + READ_BYTES - 1)
        if len(string) == size:
            return string
        # Replaced or deleted meanwhile: see what is there now.
        (found,) = await self._channel.run(_READ, [key], [READ_BYTES])
        return await self._in_pieces(key, found) if type(found) is int else found


def _row(name: str, string: bytes | None) -> Row | None:
    """Return the row of a string; None: there is none, or it is not one of ours."""
    if string is None:
        return None
    if is_result(name):
        return Row(name, result_value(name[2:], string), version=1)
    version, _, value = string.partition(b"\n")
    return Row(name, value, version=int(version)) if version.isdigit() else None


def _new_version() -> int:
    return random.randrange(1, _VERSIONS)


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Cut rows into portions that the server writes at once."""
    part: list[Row] = []
    size = 0
    for row in rows:
        if part and (len(part) >= WRITE or size >= BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.value)
    if part:
        yield part
