"""Payloads in S3, by tranship-objectstore; imported only where the worker's variables set them up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from tranship.compat.avtomatika._config import WorkerConfig
from tranship.compat.avtomatika._files import FileMetadata
from tranship_objectstore import LargePayloads, Location, ObjectStore, location_of, task_directory

__all__ = ["Payloads"]


class Payloads:
    """The bucket that a worker's configuration names, and what transfers the files of its tasks.

    Args:
        config: with an endpoint, or credentials.

    Attributes:
        middleware: for the worker; it fetches what params name, and keeps what handlers return.

    Raises:
        InvalidOptionError: a value that cannot be used.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._store = ObjectStore(
            f"s3://{config.S3_DEFAULT_BUCKET}",
            endpoint_url=config.S3_ENDPOINT_URL,
            access_key=config.S3_ACCESS_KEY,
            secret_key=config.S3_SECRET_KEY,
            region=config.S3_REGION,
        )
        self.middleware = LargePayloads(
            self._store,
            download=["s3://"],
            directory=config.TASK_FILES_DIR,
            upload_from=[config.TASK_FILES_DIR],
            # Clients read results without this plugin, and nothing that handlers return expires.
            threshold=None,
            sweep_interval=None,
        )

    def directory(self) -> str:
        """Return the running task's directory, where its downloads are; the middleware removes it."""
        return str(task_directory())

    async def upload(self, path: Path, folder: str) -> FileMetadata:
        """Keep a file, or a directory with all in it, in a folder of the bucket.

        Raises:
            ObjectStoreError: it cannot be kept.
        """
        target = self._store.root.under(folder, path.name)
        if not await asyncio.to_thread(path.is_dir):
            return await self._upload(path, target)
        parts = [
            await self._upload(file, target.under(*file.relative_to(path).parts))
            for file in await asyncio.to_thread(lambda: list(_files_below(path)))
        ]
        return FileMetadata(f"{target.uri}/", sum(one.size for one in parts), parts[-1].etag if parts else None)

    async def download(self, uri: str, path: Path) -> int:
        """Write an object to a file, and return its size. A URI without a bucket is a key in the worker's own.

        Raises:
            ObjectStoreError: it cannot be had.
        """
        place = location_of(uri) if "://" in uri else self._store.root.under(uri.lstrip("/"))
        found = await self._store.find(place)
        await self._store.download(found, path)
        return found.size

    async def _upload(self, path: Path, target: Location) -> FileMetadata:
        made = await self._store.upload(target, path)
        return FileMetadata(target.uri, made.size, None if made.tag is None else made.tag.strip('"'))

    def __repr__(self) -> str:
        return f"Payloads({self._store!r})"


def _files_below(directory: Path) -> Iterator[Path]:
    root = directory.resolve()
    for place, _, names in os.walk(directory):
        for name in sorted(names):
            file = Path(place) / name
            if not file.resolve().is_relative_to(root):
                raise PermissionError(f"{file} leads out of {directory}; upload files of the task only")
            yield file
