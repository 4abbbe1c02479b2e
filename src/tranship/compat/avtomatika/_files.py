"""A directory for the files of one task."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from tranship.compat.avtomatika._identifiers import is_valid_identifier
from tranship.errors import UnsupportedError

__all__ = ["FileMetadata", "Store", "TaskFiles", "folder_of"]


@dataclass(frozen=True)
class FileMetadata:
    """What is known of a file, or a directory, that was uploaded."""

    uri: str
    size: int = 0
    """Bytes."""
    etag: str | None = None
    metadata: dict[str, Any] | None = None


class Store(Protocol):
    """Where files are kept that outlive their task."""

    def directory(self) -> str:
        """Return the running task's directory, which somebody else removes. Any thread; it may block for a moment."""

    async def upload(self, path: Path, folder: str) -> FileMetadata:
        """Keep a file, or a directory with all in it, in a folder of the store."""

    async def download(self, uri: str, path: Path) -> int:
        """Write what was kept to a file, and return its size."""


def folder_of(base: str, task_id: str) -> str:
    """Return where the files of a task belong: below ``base``, whatever its id looks like, which clients may choose."""
    return str(Path(base) / _plain(task_id))


def _plain(name: str) -> str:
    return name if is_valid_identifier(name) else hashlib.sha256(name.encode()).hexdigest()


class AsyncFile:
    """An open file whose methods are awaited; each runs in a thread.

    Args:
        file: open.
    """

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(asyncio.to_thread, getattr(self._file, name))

    def __aiter__(self) -> AsyncFile:
        return self

    async def __anext__(self) -> Any:
        line = await asyncio.to_thread(self._file.readline)
        if not line:
            raise StopAsyncIteration
        return line


class TaskFiles:
    """The files of one task, in a directory that is made when it is first needed and removed after the task.

    A handler gets it by annotating a parameter: ``async def handler(params: dict, files: TaskFiles)``.

    Args:
        task_dir: the directory.
        job_id, task_id: whose files they are.
        s3_manager: uploads and downloads; the worker gives its own. None: nothing does.
        observability: not supported; None.

    Raises:
        UnsupportedError: ``observability`` was given.
    """

    def __init__(
        self,
        task_dir: str,
        job_id: str = "",
        task_id: str = "",
        s3_manager: Store | None = None,
        observability: None = None,
    ) -> None:
        if observability is not None:
            raise UnsupportedError("TaskFiles takes no observability here; leave it out")
        self._task_dir = Path(task_dir)
        self._job_id = job_id
        self._task_id = task_id
        self._store = s3_manager

    def get_root_sync(self) -> str:
        """Return the directory, which exists then."""
        self._task_dir.mkdir(parents=True, exist_ok=True)
        return str(self._task_dir)

    def path_to_sync(self, filename: str) -> str:
        """Return the absolute path of a file in the directory, which exists then; of a URI, that of its last part.

        Raises:
            PermissionError: it would be outside.
        """
        root = Path(self.get_root_sync()).resolve()
        path = (root / (filename.rpartition("/")[2] if "://" in filename else filename)).resolve()
        if not path.is_relative_to(root):
            raise PermissionError(f"{filename!r} is outside of the directory of task {self._task_id!r}")
        return str(path)

    async def get_root(self) -> str:
        """As :meth:`get_root_sync`, awaited."""
        return await asyncio.to_thread(self.get_root_sync)

    async def path_to(self, filename: str) -> str:
        """As :meth:`path_to_sync`, awaited."""
        return await asyncio.to_thread(self.path_to_sync, filename)

    @asynccontextmanager
    async def open(self, filename: str, mode: str = "r") -> AsyncIterator[AsyncFile]:
        """Open a file as the built-in ``open`` does; its methods are awaited. Directories on the way are made."""
        file = await asyncio.to_thread(self._open, filename, mode)
        try:
            yield AsyncFile(file)
        finally:
            await asyncio.to_thread(file.close)

    def _open(self, filename: str, mode: str) -> IO[Any]:
        path = Path(self.path_to_sync(filename))
        path.parent.mkdir(parents=True, exist_ok=True)
        opened: IO[Any] = path.open(mode)
        return opened

    async def read(self, filename: str, mode: str = "r") -> Any:
        """Return all of a file: text, or bytes with mode ``"rb"``."""
        async with self.open(filename, mode) as file:
            return await file.read()

    async def write(self, filename: str, data: str | bytes, mode: str = "w") -> None:
        """Write a file; bytes with mode ``"w"`` are written as they are."""
        async with self.open(filename, f"{mode}b" if isinstance(data, bytes) and "b" not in mode else mode) as file:
            await file.write(data)

    async def write_json(self, filename: str, data: Any) -> FileMetadata | None:
        """Write data as JSON, and upload it where S3 is set up; None: it is not."""
        await self.write(filename, json.dumps(data, indent=2))
        return None if self._store is None else await self.upload_file(filename)

    async def read_json(self, filename: str) -> Any:
        """Return what a file with JSON says."""
        return json.loads(await self.read(filename))

    async def list(self) -> list[str]:
        """Return the names in the directory."""
        root = Path(await self.get_root())
        return await asyncio.to_thread(lambda: sorted(one.name for one in root.iterdir()))

    async def exists(self, filename: str) -> bool:
        """Whether there is such a file or directory."""
        path = await self.path_to(filename)
        return await asyncio.to_thread(Path(path).exists)

    async def upload_file(self, filename: str) -> FileMetadata:
        """Upload a file to the job's folder in the default bucket.

        Raises:
            UnsupportedError: S3 is not set up.
            PermissionError: it would be outside of the directory.
            FileNotFoundError, IsADirectoryError: there is no such file.
            ObjectStoreError: it cannot be kept.
        """
        store = self._stored(f"upload {filename!r}")
        path = Path(await self.path_to(filename))
        if await asyncio.to_thread(path.is_dir):
            raise IsADirectoryError(f"{filename!r} is a directory; upload_dir() uploads it")
        return await self._upload(store, path, filename)

    async def upload_dir(self, dirname: str = "") -> FileMetadata:
        """Upload a directory to the job's folder in the default bucket; without a name, all files of the task.

        Raises:
            As :meth:`upload_file`; NotADirectoryError: it is a file.
        """
        store = self._stored(f"upload {dirname or 'the directory'!r}")
        path = Path(await self.path_to(dirname))
        if await asyncio.to_thread(path.is_file):
            raise NotADirectoryError(f"{dirname!r} is a file; upload_file() uploads it")
        return await self._upload(store, path, dirname)

    async def _upload(self, store: Store, path: Path, name: str) -> FileMetadata:
        if not await asyncio.to_thread(path.exists):
            raise FileNotFoundError(f"there is no {name!r} among the files of task {self._task_id!r}")
        return await store.upload(path, _plain(self._job_id) if self._job_id else "")

    async def download_file(self, uri: str, filename: str, verify_meta: FileMetadata | None = None) -> str:
        """Download a file into the directory, in place of what is there, and return its path.

        Args:
            uri: ``s3://bucket/key``; without a bucket, a key in the default one.
            filename: in the directory.
            verify_meta: what it has to be of the size of; None: anything.

        Raises:
            UnsupportedError: S3 is not set up.
            PermissionError: it would be outside of the directory.
            ObjectStoreError: it cannot be had.
            ValueError: it has another size; the file is gone.
        """
        store = self._stored(f"download {uri!r}")
        path = Path(await self.path_to(filename))
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        size = await store.download(uri, path)
        if verify_meta is not None and size != verify_meta.size:
            await asyncio.to_thread(path.unlink)
            raise ValueError(f"{uri} has {size} bytes; expected {verify_meta.size}")
        return str(path)

    def _stored(self, doing: str) -> Store:
        if self._store is None:
            raise UnsupportedError(
                f"cannot {doing}: S3 is not set up; set S3_ENDPOINT_URL, or S3_ACCESS_KEY and its secret"
            )
        return self._store

    def remove(self) -> None:
        """Remove the directory and what is in it; called when the task has ended."""
        shutil.rmtree(self._task_dir, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<TaskFiles {self._task_dir}>"
