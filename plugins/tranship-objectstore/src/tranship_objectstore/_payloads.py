"""The middleware."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tranship.checks import invalid, positive_duration, whole
from tranship.envelope import Claim, Envelope, Receipt, TaskResult
from tranship.middleware import Middleware, Next, RunCall
from tranship.outcomes import Outcome
from tranship_objectstore._cache import Cache
from tranship_objectstore._claims import Claims
from tranship_objectstore._directories import Directories, TaskDirectory, entered, plain_name
from tranship_objectstore._errors import ObjectRefused
from tranship_objectstore._files import Fetching, Keeping
from tranship_objectstore._keys import until
from tranship_objectstore._location import SCHEMES, Location
from tranship_objectstore._store import ObjectStore
from tranship_objectstore._sweep import Sweeper, sweep

__all__ = ["LargePayloads"]


class LargePayloads(Middleware):
    """Keeps files and large payloads in an object store, for clients and workers.

    On a worker the URIs in arguments are downloaded to the task's own directory before the handler is called, with
    paths in their place, and files that the handler returns are uploaded, with URIs in their place.

    On both sides a body or a result whose JSON is larger than ``threshold`` is kept in the store, and a claim is sent
    in its place; so clients and workers need it, with the same store.

    One object may serve clients and workers, and many messages at once.

    Args:
        store: an :class:`ObjectStore`, or its URL, where the rest is in the environment.
        download: what the URIs begin with that are downloaded, such as ``"s3://uploads/"``; any other text stays as it
            is. None: everything in S3 that the worker may read, and everything below ``store``.
        directory: where the tasks' directories are made; None: in the system's directory for temporary files.
        upload_from: other directories of which a handler may return files.
        threshold: bytes of JSON of a body, or of a result, that are still sent; None: all are.
        body_ttl: seconds that larger ones are kept; longer where a deadline, a delay or ``result_ttl`` says so.
        max_body_size: the largest of them in bytes; it is in memory as a whole.
        file_ttl: seconds that files are kept which handlers return; None: until somebody deletes them, as those of
            tasks with ``persistent_output=True`` are in any case.
        cache_size: bytes of downloaded files, by ETag, that are kept beside the tasks' directories; 0: none.
        max_file_size: the largest file, or folder, that is downloaded, in bytes; None: no limit.
        transfers: how many files and bodies are transferred at once, of all tasks of an event loop.
        sweep_interval: seconds from one look of a worker for what has expired to the next; None: it never looks.

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
        threshold: int | None = 256 << 10,
        body_ttl: float | timedelta = 7 * 86400.0,
        max_body_size: int = 256 << 20,
        file_ttl: float | timedelta | None = None,
        cache_size: int = 0,
        max_file_size: int | None = None,
        transfers: int = 4,
        sweep_interval: float | timedelta | None = 3600.0,
    ) -> None:
        self.store: ObjectStore = store if isinstance(store, ObjectStore) else ObjectStore(store)
        self._file_ttl = None if file_ttl is None else positive_duration("file_ttl", file_ttl)
        self._turns = Turns(whole("transfers", transfers))
        self._directories = Directories(None if directory is None else _directory("directory", directory))
        self._body_ttl = positive_duration("body_ttl", body_ttl)
        self._claims = Claims(
            self.store,
            threshold=None if threshold is None else whole("threshold", threshold, minimum=0),
            largest=whole("max_body_size", max_body_size),
            ttl=self._body_ttl,
            turn=self._turns.turn,
        )
        every = None if sweep_interval is None else positive_duration("sweep_interval", sweep_interval)
        self._sweeper = Sweeper(self.store, every)
        largest = None if max_file_size is None else whole("max_file_size", max_file_size)
        most = whole("cache_size", cache_size, minimum=0)
        cache = Cache(lambda: self._directories.shared("cache"), most) if most else None
        self._fetching = Fetching(self.store, _prefixes(download, self.store), largest, self._turns.turn, cache)
        self._keeping = Keeping(self.store, _directories("upload_from", upload_from), self._turns.turn)

    def __repr__(self) -> str:
        return f"LargePayloads({self.store!r})"

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        """Keep the arguments in the store where they are too large."""
        needed = max(envelope.deadline or 0.0, (envelope.not_before or 0.0) + self._body_ttl)
        claim = await self._claims.deposit([envelope.args, envelope.kwargs], envelope.id, "body", needed)
        if claim is not None:
            envelope = replace(envelope, args=(claim,), kwargs={})
        return await call_next(envelope)

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Fetch, call the handler, keep; its directory is gone afterwards, however it ends."""
        self._sweeper.look()
        directory = TaskDirectory(self._directories, call.context.id)
        with entered(directory):
            try:
                args, kwargs = await self._fetching.fetch(await self._arguments(call), directory)
                value = await call_next(replace(call, args=args, kwargs=kwargs))
                value = await self._keeping.keep(value, directory, self._folder(call))
                return await self._claimed(call.context.envelope, value)
            finally:
                if directory.made is not None:
                    await asyncio.shield(asyncio.to_thread(directory.remove))

    async def result(self, result: TaskResult, call_next: Next[TaskResult, TaskResult]) -> TaskResult:
        """Fetch a result that is kept in the store."""
        if isinstance(result.value, Claim):
            result = replace(result, value=await self._claims.redeem(result.value))
        return await call_next(result)

    async def sweep(self) -> int:
        """Delete what has expired below the store's URL, and return how many objects that were.

        Raises:
            ObjectStoreError: the store cannot be asked.
        """
        return await sweep(self.store)

    async def _arguments(self, call: RunCall) -> tuple[Sequence[Any], Mapping[str, Any]]:
        claim = Claim.of(call.args)
        if claim is None:
            return call.args, call.kwargs
        kept = await self._claims.redeem(claim)
        if not isinstance(kept, list) or list(map(type, kept)) != [list, dict]:
            raise ObjectRefused(f"{claim.uri} holds no arguments")
        return kept[0], kept[1]

    async def _claimed(self, envelope: Envelope, value: Any) -> Any:
        """Return ``value``, or what is stored in its place."""
        if not envelope.keeps_result:
            return value
        needed = time.time() + (envelope.result_ttl or 0.0)
        if type(value) is Outcome:
            claim = await self._claims.deposit(value.data, envelope.id, "result", needed)
            return value if claim is None else Outcome(value.status, claim)
        return await self._claims.deposit(value, envelope.id, "result", needed) or value

    def _folder(self, call: RunCall) -> Location:
        """Where the files of a task go."""
        ttl = None if call.context.envelope.persistent_output else self._file_ttl
        expires = None if ttl is None else time.time() + ttl
        return self.store.root.under("files", until(expires), plain_name(call.context.id))


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


def _directory(name: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str) or not os.fspath(value):
        raise invalid(name, value, "the path of a directory")
    return os.fspath(value)


def _directories(name: str, value: Any) -> Sequence[str]:
    """Return the directories; a text is none of them: each of its letters, ``/`` among them, would be one."""
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        raise invalid(name, value, "a list of directories")
    return [_directory(name, one) for one in value]


def _prefixes(download: Sequence[str] | None, store: ObjectStore) -> Sequence[str]:
    if download is None:
        return ("s3://", store.root.uri.rstrip("/") + "/")
    starts = tuple(f"{scheme}://" for scheme in SCHEMES)
    if isinstance(download, str) or not all(isinstance(one, str) and one.startswith(starts) for one in download):
        raise invalid("download", download, f"a list of texts that begin with one of {', '.join(starts)}")
    return tuple(download)
