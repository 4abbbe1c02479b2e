"""Files that were downloaded before, by their ETag: the same content is not fetched twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from tranship_objectstore._store import Found

__all__ = ["Cache"]


class Cache:
    """Copies of files in a directory that processes share; those that were not used for longest go first.

    Args:
        directory: gives the directory; called when it is needed first.
        most: bytes of all copies together, and a little more for moments when several processes add to them.
    """

    def __init__(self, directory: Callable[[], Path], most: int) -> None:
        self._directory = directory
        self._most = most

    async def fetch(self, found: Found, path: Path, download: Callable[[Found, Path], Awaitable[None]]) -> None:
        """Write the file to ``path``: a copy of the copy, or as ``download`` does.

        Raises:
            What ``download`` raises.
        """
        if found.tag is None or found.size > self._most:
            await download(found, path)
            return
        name = hashlib.sha256(f"{found.location.uri}\n{found.tag}\n{found.size}".encode()).hexdigest()
        kept = await asyncio.to_thread(self._directory) / name
        if not await asyncio.to_thread(_copied, kept, path):
            await download(found, path)
            await asyncio.to_thread(self._keep, path, kept)

    def _keep(self, path: Path, kept: Path) -> None:
        self._make_room(kept.parent, path.stat().st_size)
        new = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}.new")
        shutil.copyfile(path, new)
        new.replace(kept)

    def _make_room(self, directory: Path, size: int) -> None:
        copies = []
        for entry in os.scandir(directory):
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat()
                copies.append((facts.st_mtime_ns, facts.st_size, entry.path))
        total = sum(size for _, size, _ in copies)
        for _, freed, path in sorted(copies):
            if total + size <= self._most:
                return
            Path(path).unlink(missing_ok=True)
            total -= freed


def _copied(kept: Path, path: Path) -> bool:
    try:
        os.utime(kept)  # the last to go
        shutil.copyfile(kept, path)
    except FileNotFoundError:
        return False
    return True
