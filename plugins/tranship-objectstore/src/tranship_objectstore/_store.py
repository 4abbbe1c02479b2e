"""The object store: how it is reached, and reading and writing objects through obstore."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from tranship.checks import invalid, positive_duration, text, whole
from tranship.errors import InvalidOptionError
from tranship_objectstore._errors import ObjectRefused, translated
from tranship_objectstore._location import Location, location_of

__all__ = ["Found", "ObjectStore", "together"]

PART: Final = 5 << 20
"""Bytes that are read or written at once; S3 takes no smaller parts."""
_PART_HERE: Final = 1 << 20
"""The same where no network is between. Each of obstore's threads keeps some it has freed: 80 MB of larger ones."""
_MOST_PARTS: Final = 9_000
"""S3 takes 10,000."""
_AT_ONCE: Final = 2
"""Parts of one object on their way at the same time."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an object that is there."""

    location: Location
    size: int
    """Bytes."""
    tag: str | None
    """Its ETag: another one, another content. None: the store has none."""


class ObjectStore:
    """Where objects are kept, and how it is reached. Any event loop, any thread.

    What is not given comes from where the store's own tools look: for S3 ``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION`` and their like, or the role of the machine; for Google
    ``GOOGLE_APPLICATION_CREDENTIALS``; for Azure ``AZURE_STORAGE_ACCOUNT_NAME`` and its like.

    Args:
        url: where new objects go: ``"s3://bucket/prefix"``, ``"gs://..."``, ``"az://container/..."``,
            ``"file:///directory"``, or ``"memory://name"`` for tests in one process.
        endpoint_url: of a server that is not Amazon's, such as ``"http://minio:9000"``.
        access_key, secret_key, session_token: credentials for S3; both of the first two or neither.
        region: of S3.
        connect_timeout: seconds that a connection may take.
        timeout: seconds that one request may take; a file is read and written in requests of 5 MB.
        retries: how often a request that failed for no reason of ours is made again.

    Raises:
        InvalidOptionError: a value that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        region: str | None = None,
        connect_timeout: float | timedelta = 5.0,
        timeout: float | timedelta = 30.0,
        retries: int = 3,
    ) -> None:
        self.root: Location = _root(url)
        if (access_key is None) != (secret_key is None):
            raise invalid("access_key", "..." if access_key else None, "both access_key and secret_key, or neither")
        if endpoint_url is not None and "@" in text("endpoint_url", endpoint_url):
            raise invalid("endpoint_url", "...@...", "a URL without credentials; give access_key and secret_key")
        self._endpoint = endpoint_url
        self._secrets = [one for one in (secret_key, session_token, access_key) if one]
        self._s3: dict[str, Any] = {
            "endpoint": endpoint_url,
            "access_key_id": access_key,
            "secret_access_key": secret_key,
            "session_token": session_token,
            # Servers that are not Amazon's have none, and requests are signed for one.
            "region": region or ("us-east-1" if endpoint_url and "AWS_REGION" not in os.environ else None),
        }
        seconds = positive_duration("timeout", timeout)
        self._network: dict[str, Any] = {
            "client_options": {
                "allow_http": bool(endpoint_url and endpoint_url.startswith("http://")),
                "connect_timeout": timedelta(seconds=positive_duration("connect_timeout", connect_timeout)),
                "timeout": timedelta(seconds=seconds),
            },
            "retry_config": {
                "max_retries": whole("retries", retries, minimum=0),
                "retry_timeout": timedelta(seconds=2 * seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        }
        self._stores: dict[tuple[str, str], Any] = {}

    def __repr__(self) -> str:
        return f"ObjectStore({self.root.uri!r}, endpoint_url={self._endpoint!r})"

    # One object.

    async def find(self, location: Location) -> Found:
        """Return what is known of the object at ``location``.

        Raises:
            ObjectNotFound, ObjectStoreDenied, ObjectStoreUnreachable, ObjectRefused.
        """
        meta = await self._asked(f"looking at {location.uri}", lambda: obstore.head_async(*self._place(location)))
        return Found(location, meta["size"], meta["e_tag"])

    async def download(self, found: Found, path: Path) -> None:
        """Write the object to the file ``path``, a few parts in memory at a time.

        Raises:
            ObjectChanged: it was replaced meanwhile; and as :meth:`find`.
        """
        with path.open("wb") as file:
            size = _part(found.location)
            starts = iter(range(0, found.size, size))

            async def pull() -> None:
                for start in starts:
                    part = await self.read(found, start, min(start + size, found.size))
                    await asyncio.to_thread(_write_at, file.fileno(), part, start)

            await together(pull() for _ in range(_AT_ONCE))

    async def read(self, found: Found, start: int, end: int) -> Any:
        """Return the bytes from ``start`` to ``end`` of the object as it was found.

        Raises:
            As :meth:`download`.
        """
        options: dict[str, Any] = {"range": (start, end)}
        if found.tag is not None:
            options["if_match"] = found.tag

        async def get() -> Any:
            answer = await obstore.get_async(*self._place(found.location), options=options)  # type: ignore[arg-type]
            return await answer.bytes_async()

        part = await self._asked(f"reading {found.location.uri}", get)
        if len(part) != end - start:
            raise ObjectRefused(f"reading {found.location.uri} gave {len(part)} bytes; expected {end - start}")
        return part

    async def upload(self, location: Location, content: Path | bytes) -> Found:
        """Make the object, of a file or of bytes, and return what is known of it; a file is read a few parts at a time.

        Raises:
            ObjectStoreDenied, ObjectStoreUnreachable, ObjectRefused, ObjectNotFound: there is no such bucket.
        """
        size = await asyncio.to_thread(os.path.getsize, content) if isinstance(content, Path) else len(content)

        async def put() -> Any:
            chunk = max(_part(location), -(-size // _MOST_PARTS))
            return await obstore.put_async(*self._place(location), content, chunk_size=chunk, max_concurrency=_AT_ONCE)

        made = await self._asked(f"writing {location.uri}", put)
        return Found(location, size, made["e_tag"])

    # Many objects.

    async def below(self, folder: Location) -> AsyncIterator[Found]:
        """Give the objects below ``folder``, those of S3 in the order of their keys.

        Raises:
            As :meth:`find`.
        """
        store, path = self._place(folder)
        doing = f"listing {folder.uri}"
        pages: list[Any] = []

        async def following() -> Any:
            if not pages:
                pages.append(obstore.list(store, prefix=path or None))
            return await anext(pages[0], None)

        while (page := await self._asked(doing, following)) is not None:
            for meta in page:
                inside = meta["path"].removeprefix(path.rstrip("/")).lstrip("/")
                yield Found(folder.under(inside), meta["size"], meta["e_tag"])

    async def delete(self, locations: Sequence[Location]) -> None:
        """Delete objects of one container; those that are gone already do not matter.

        Raises:
            As :meth:`find`.
        """
        if locations:
            places = [self._place(one) for one in locations]
            doing = f"deleting {len(locations)} objects at {self.root.uri}"
            await self._asked(doing, lambda: obstore.delete_async(places[0][0], [path for _, path in places]))

    # Steps.

    def _place(self, location: Location) -> tuple[Any, str]:
        """Obstore's store of a location, and the path in it."""
        if location.scheme == "file" and self.root.holds(location):
            return self._store("file", self.root.key), location.key[len(self.root.key) :].lstrip("/")
        return self._store(location.scheme, location.container), location.key

    def _store(self, scheme: str, container: str) -> Any:
        store = self._stores.get((scheme, container))
        if store is None:
            # Two threads may make two: one of them stays.
            store = self._stores.setdefault((scheme, container), self._made(scheme, container))
        return store

    def _made(self, scheme: str, container: str) -> Any:
        if scheme == "s3":
            given = {name: value for name, value in self._s3.items() if value is not None}
            return S3Store(container, **self._network, **given)
        if scheme == "gs":
            return GCSStore(container, **self._network)
        if scheme == "az":
            return AzureStore(container, **self._network)
        if scheme == "memory":
            return MemoryStore()
        if container:
            return LocalStore(prefix=f"/{container}", mkdir=True, automatic_cleanup=True)
        return LocalStore()

    async def _asked(self, doing: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await ask()
        except Exception as error:
            ours = translated(error, doing, self._secrets)
            if ours is error:
                raise
        raise ours


async def together(several: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all of them at once; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in several:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first


def _part(location: Location) -> int:
    return _PART_HERE if location.scheme in ("file", "memory") else PART


def _write_at(file: int, part: Any, start: int) -> None:
    left = memoryview(part)
    while left:
        done = os.pwrite(file, left, start)
        left, start = left[done:], start + done


def _root(url: str) -> Location:
    try:
        root = location_of(text("url", url).rstrip("/") + "/")
    except ObjectRefused as error:
        raise InvalidOptionError(f"url: {error}", option="url") from None
    return Location(root.scheme, root.container, root.key.rstrip("/"))
