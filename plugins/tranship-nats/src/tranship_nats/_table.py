"""Rows as keys of JetStream's key-value buckets, a bucket for each kind of row that has a life of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Final

from tranship.driver import Row
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.protocol import epoch_of
from tranship_nats._connection import Ask
from tranship_nats._errors import NOT_THE_LAST
from tranship_nats._jetstream import JetStream, Seen
from tranship_nats._message import NO_HEADERS, block, escaped, unescaped
from tranship_nats._naming import Names, key_token, untoken
from tranship_nats._streams import Streams

__all__ = ["NatsTable"]

_BUCKETS: Final[Mapping[str, str]] = {
    "r": "results",
    "s": "ids",
    "k": "keys",
    "z": "cancels",
    "b": "workers",
    "n": "names",
    "d": "dead",
}
"""The bucket of each kind of row; all others are in ``rows``."""
_EXPECTED: Final = b"Nats-Expected-Last-Subject-Sequence"
_ENDS: Final = b"Ends-At"
_KEY: Final = b"Key"
"""The rest of a row's key, where its subject tells only a hash of it."""


class NatsTable:
    """See :class:`tranship.driver.Table`; a row's version is its sequence in the bucket.

    A bucket has one time to live for all of its rows. One whose time is over before that says so itself, and is
    deleted by who comes across it.

    Args:
        js: over the connection.
        names: of the namespace.
        streams: over the connection.
        now: the server's clock.
    """

    def __init__(self, js: JetStream, names: Names, streams: Streams, now: Callable[[], float]) -> None:
        self._js, self._names, self._streams, self._now = js, names, streams, now

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Publish what has to be the first of its subject."""
        written = await self._write(rows, [0] * len(rows))
        refused = [row for row, version in zip(rows, written, strict=True) if version is None]
        if not refused:
            return [None] * len(rows)
        there = {one.key: one.value for one in await self.get([row.key for row in refused]) if one is not None}
        # Gone meanwhile, or its time is over: the key is free.
        free = [row for row in refused if row.key not in there]
        taken = await self.create(free) if free else ()
        there |= {row.key: value for row, value in zip(free, taken, strict=True) if value is not None}
        return [there.get(row.key) for row in rows]

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Publish, where a version is asked for behind exactly that."""
        return await self._write(rows, if_version)

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Read the last message of each subject."""
        wanted = [(await self._stream(key), {"last_by_subj": self._subject(key)}) for key in keys]
        with self._doubting(keys):
            seen = zip(keys, await self._js.get_all(wanted), strict=True)
        there, now = {key: one for key, one in seen if one is not None}, self._now()
        over = {key: one.seq for key, one in there.items() if _ends(one) <= now}
        if over:
            with suppress(TranshipError):
                await self.delete(list(over), list(over.values()))
        rows = {key: Row(key, one.data, version=one.seq) for key, one in there.items() if key not in over}
        return [rows.get(key) for key in keys]

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Purge subjects up to a version."""
        if if_version is not None:
            versions = zip(keys, if_version, strict=True)
            wanted = [(await self._stream(key), self._subject(key), version) for key, version in versions]
            with self._doubting(keys):
                return await self._js.purge(wanted)
        there = [row for row in await self.get(keys) if row is not None]
        deleted = await self.delete([row.key for row in there], [row.version for row in there])
        gone = {row.key for row, is_gone in zip(there, deleted, strict=True) if is_gone}
        return [key in gone for key in keys]

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """List subjects, and read those that come next."""
        keys = sorted(key for key in await self._keys(_bucket(prefix)) if key.startswith(prefix) and key > after)
        rows: list[Row] = []
        while keys and len(rows) < limit:
            part, keys = keys[: limit - len(rows)], keys[limit - len(rows) :]
            rows += [row for row in await self.get(part) if row is not None]
        return rows

    async def _keys(self, bucket: str) -> list[str]:
        """Return the keys of the rows in a bucket, also of those whose time is over."""
        kind = "" if bucket == "rows" else f"{next(one for one in _BUCKETS if _BUCKETS[one] == bucket)}/"
        stream = await self._streams.need(bucket)
        with self._doubting([kind]):
            subjects = await self._js.subjects(stream, self._names.key(bucket, ">"))
        names = {subject: subject.rpartition(".")[2] for subject in subjects}
        hashed = [(stream, {"last_by_subj": subject}) for subject, name in names.items() if name.startswith("==")]
        plain = [kind + untoken(name) for name in names.values() if not name.startswith("==")]
        return plain + [
            kind + unescaped(one.headers.get(_KEY, b"")) for one in await self._js.get_all(hashed) if one is not None
        ]

    @contextmanager
    def _doubting(self, keys: Sequence[str]) -> Iterator[None]:
        """Look again for the streams that do not answer, before they are used next."""
        try:
            yield
        except BrokerUnreachable:
            for key in keys:
                self._streams.found.pop(_bucket(key), None)
            raise

    async def _write(self, rows: Sequence[Row], expected: Sequence[int] | None) -> list[int | None]:
        buckets = [_bucket(row.key) for row in rows]
        for bucket in dict.fromkeys(buckets):
            await self._streams.need(bucket)
        versions = [None] * len(rows) if expected is None else expected
        asks = list(map(self._publishing, rows, buckets, versions))
        answers = await self._js.make_all(asks)
        return [
            self._streams.stored(bucket, answer, NOT_THE_LAST) for bucket, answer in zip(buckets, answers, strict=True)
        ]

    def _publishing(self, row: Row, bucket: str, expected: int | None) -> Ask:
        lines = [] if expected is None else [(_EXPECTED, b"%d" % expected)]
        if row.ttl is not None and row.ttl < self._streams.age(bucket):
            lines.append((_ENDS, b"%.3f" % (self._now() + row.ttl)))
        rest = row.key if bucket == "rows" else row.key.partition("/")[2]
        token = key_token(rest)
        if token.startswith("=="):
            lines.append((_KEY, escaped(rest)))
        return self._names.key(bucket, token).encode(), block(lines) if lines else NO_HEADERS, row.value

    async def _stream(self, key: str) -> str:
        return await self._streams.need(_bucket(key))

    def _subject(self, key: str) -> str:
        bucket = _bucket(key)
        return self._names.key(bucket, key_token(key if bucket == "rows" else key.partition("/")[2]))


def _bucket(key: str) -> str:
    return _BUCKETS.get(key.partition("/")[0], "rows")


def _ends(found: Seen) -> float:
    """Return when the time of a row is over."""
    ends = epoch_of(found.headers.get(_ENDS)) if _ENDS in found.block else None
    return inf if ends is None else ends
