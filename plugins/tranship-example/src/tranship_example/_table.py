"""The table: a directory for each kind of row, in it a file for each row.

Who writes takes a lock on one file of the directory; who reads needs none, because a row's file appears as a whole.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tranship.driver import Row
from tranship_example._files import file_name, names_in, write

__all__ = ["FileTable"]


class FileTable:
    """All rows in one directory.

    Args:
        root: the directory; made if need be.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Write those that are not there."""
        with self._locked():
            there = [self._read(self._path(row.key)) for row in rows]
            for row, old in zip(rows, there, strict=True):
                if old is None:
                    self._write(row)
        return [None if old is None else old.value for old in there]

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Write those that are there in the right version."""
        with self._locked():
            fits = self._fits([row.key for row in rows], if_version)
            return [self._write(row) if fit else None for row, fit in zip(rows, fits, strict=True)]

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Read files."""
        return [self._read(self._path(key)) for key in keys]

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete files."""
        with self._locked():
            there = [self._read(self._path(key)) is not None for key in keys]
            fits = [one and fit for one, fit in zip(there, self._fits(keys, if_version), strict=True)]
            for key, fit in zip(keys, fits, strict=True):
                if fit:
                    self._path(key).unlink(missing_ok=True)
        return fits

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """Read the files of one kind, in the order of their keys."""
        kind = self._root / file_name(prefix.partition("/")[0])
        found = {path: self._read(path) for path in map(kind.joinpath, names_in(kind))}
        self._sweep([path for path, row in found.items() if row is None])
        rows = [row for row in found.values() if row is not None and row.key.startswith(prefix) and row.key > after]
        return sorted(rows, key=lambda row: row.key)[:limit]

    def _sweep(self, paths: Sequence[Path]) -> None:
        """Delete the files of rows whose time is over."""
        if paths:
            with self._locked():
                for path in paths:
                    if self._read(path) is None:
                        path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        kind, _, rest = key.partition("/")
        return self._root / file_name(kind) / file_name(rest)

    def _read(self, path: Path) -> Row | None:
        """Read a row; None: there is none, or its time is over."""
        try:
            head, _, value = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        key, version, expires = json.loads(head)
        if expires is not None and expires <= time.time():
            return None
        return Row(key, value, version=version)

    def _write(self, row: Row) -> int:
        path, version = self._path(row.key), time.time_ns()
        path.parent.mkdir(exist_ok=True)
        head = json.dumps([row.key, version, None if row.ttl is None else time.time() + row.ttl])
        write(path, head.encode() + b"\n" + row.value)
        return version

    def _fits(self, keys: Sequence[str], if_version: Sequence[int] | None) -> list[bool]:
        if if_version is None:
            return [True] * len(keys)
        found = [self._read(self._path(key)) for key in keys]
        return [row is not None and row.version == version for row, version in zip(found, if_version, strict=True)]
