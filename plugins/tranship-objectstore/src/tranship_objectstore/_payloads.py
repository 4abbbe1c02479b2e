"""The middleware."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tranship.checks import invalid, positive_duration, whole
from tranship.middleware import Middleware, Next, RunCall
from tranship_objectstore._directories import Directories, TaskDirectory, entered, plain_name
from tranship_objectstore._files import Fetching, Keeping
from tranship_objectstore._location import SCHEMES, Location
from tranship_objectstore._store import ObjectStore

__all__ = ["LargePayloads"]

_FOREVER: Final = "kept"


class LargePayloads(Middleware):
    """Keeps files and large payloads in an object store, for clients and workers.

    On a worker the URIs in arguments are downloaded to the task's own directory before the handler is called, with
    paths in their place, and files that the handler returns are uploaded, with URIs in their place.

    One object may serve clients and workers, and many messages at once.

    Args:
        store: an :class:`ObjectStore`, or its URL, where the rest is in the environment.
        download: what the URIs begin with that are downloaded, such as ``"s3://uploads/"``; any other text stays as it
            is. None: everything in S3 that the worker may read, and everything below ``store``.
        directory: where the tasks' directories are made; None: in the system's directory for temporary files.
        upload_from: other directories of which a handler may return files.
        file_ttl: seconds that files are kept which handlers return; None: until somebody deletes them, as those of
            tasks with ``persistent_output=True`` are in any case.
        max_file_size: the largest file, or folder, that is downloaded, in bytes; None: no limit.
        transfers: how many files are transferred at once, of all tasks of an event loop.

    Raises:
        InvalidOptionError: a value that cannot be used.
    """

    def __init__(
        self,
        store: ObjectStore | str,
        *,
        download: Sequence[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        upload_from: Iterable[str | os.PathLike[str]] = (),
        file_ttl: float | timedelta | None = None,
        max_file_size: int | None = None,
        transfers: int = 4,
    ) -> None:
        self.store = store if isinstance(store, ObjectStore) else ObjectStore(store)
        self._file_ttl = None if file_ttl is None else positive_duration("file_ttl", file_ttl)
        self._turns = Turns(whole("transfers", transfers))
        self._directories = Directories(directory)
        largest = None if max_file_size is None else whole("max_file_size", max_file_size)
        self._fetching = Fetching(self.store, _prefixes(download, self.store), largest, self._turns.turn)
        self._keeping = Keeping(self.store, upload_from, self._turns.turn)

    def __repr__(self) -> str:
        return f"LargePayloads({self.store!r})"

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Fetch, call the handler, keep; its directory is gone afterwards, however it ends."""
        directory = TaskDirectory(self._directories, call.context.id)
        with entered(directory):
            try:
                args, kwargs = await self._fetching.fetch((call.args, call.kwargs), directory)
                value = await call_next(replace(call, args=args, kwargs=kwargs))
                return await self._keeping.keep(value, directory, self._folder(call))
            finally:
                if directory.made is not None:
                    await asyncio.shield(asyncio.to_thread(directory.remove))

    def _folder(self, call: RunCall) -> Location:
        """Where the files of a task go. Its name tells until when they are kept."""
        ttl = None if call.context.envelope.persistent_output else self._file_ttl
        return self.store.root.under("files", _until(ttl), plain_name(call.context.id))


class Turns:
    """Lets only so many transfers go on at once; each event loop has turns of its own.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()

    def turn(self) -> asyncio.Semaphore:
        """Return what a transfer enters while it goes on."""
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        if found is None:
            found = self._of[loop] = asyncio.Semaphore(self._most)
        return found


def _until(ttl: float | None) -> str:
    """The part of a key that tells when the object expires; such parts sort by time."""
    return _FOREVER if ttl is None else f"{datetime.now(UTC) + timedelta(seconds=ttl):%Y%m%dT%H%M%SZ}"


def _prefixes(download: Sequence[str] | None, store: ObjectStore) -> Sequence[str]:
    if download is None:
        return ("s3://", store.root.uri.rstrip("/") + "/")
    starts = tuple(f"{scheme}://" for scheme in SCHEMES)
    if isinstance(download, str) or not all(isinstance(one, str) and one.startswith(starts) for one in download):
        raise invalid("download", download, f"a list of texts that begin with one of {', '.join(starts)}")
    return tuple(download)
