"""A store of results in the tables of Celery's ``db+`` backends, for ``result_url``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import sqlalchemy as sa

from tranship.checks import invalid, text
from tranship.driver import ConnectionOptions, DriverBackend, Kit, NoQueue, OwnPorts, result_store
from tranship.errors import BrokerUnreachable, InvalidURLError, MessageTooLarge
from tranship.ports import Capability, Level, ResultSink, StoredResult, Support
from tranship.settings import BackendConfig, BrokerURL
from tranship_kombu._errors import Explainer, missing
from tranship_kombu._taskmeta import TaskMeta
from tranship_kombu._thread import OneThread

__all__ = ["DatabaseOptions", "make_store"]

_PREFIX: Final = "connect."


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions(ConnectionOptions):
    """Options after the ``?`` of a ``db+`` URL.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    table: str = "celery_taskmeta"
    """The table: what Celery calls ``database_table_names["task"]``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        text("table", self.table)
        if len(self.namespace) > 60:
            raise invalid(
                "namespace", self.namespace, "at most 60 characters: it stands before ids, in a column of 155"
            )


def make_store(config: BackendConfig) -> DriverBackend:
    """Return the store of ``db+postgresql://host/db``; the registry calls this."""
    theirs = {name: value for name, value in config.url.options.items() if name.startswith(_PREFIX)}
    ours = {name: value for name, value in config.url.options.items() if name not in theirs}
    options = replace(config.url, options=ours).options_as(DatabaseOptions)
    arguments = {name.removeprefix(_PREFIX): value for name, value in theirs.items()}
    explain = Explainer(config.url, "sqlalchemy>=2", lambda: (sa.exc.DBAPIError,))
    engine_url = _engine_url(config.url)

    async def connect() -> StoreConnection:
        return await StoreConnection.open(engine_url, arguments, options)

    declared: dict[Capability, Support | Level] = {
        Capability.RESULTS: Level.NATIVE,
        Capability.RESULT_TTL: Support(Level.EMULATED, {"ttl": "per-store"}),
        Capability.DURABLE: Level.NATIVE,
        Capability.CROSS_PROCESS: Level.NATIVE,
    }
    return result_store(
        "celery-database",
        config,
        options=options,
        connect=connect,
        declared=declared,
        classify=explain,
        own=OwnPorts(results=lambda kit: DatabaseResults(kit, options.max_message_size)),
        timing=options.timing,
    )


def _engine_url(url: BrokerURL) -> str:
    bare = replace(url, scheme=url.scheme.removeprefix("db+"), options={})
    if bare.scheme.startswith("sqlite") and not bare.database:
        raise InvalidURLError(f"{url} names no file; write {url.scheme}:////absolute/path.db")
    return bare.reveal()


class StoreConnection:
    """See :class:`tranship.driver.Connection`: a table, in a thread of its own, and no queue."""

    table = None
    topic = None

    def __init__(self) -> None:
        self.queue = NoQueue()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.thread = OneThread("tranship-celery-database")
        self._meta: TaskMeta | None = None

    @classmethod
    async def open(cls, url: str, arguments: dict[str, str], options: DatabaseOptions) -> Self:
        """Connect."""
        connection = cls()
        try:
            await connection.thread.run(lambda: connection._open(url, arguments, options))
        except BaseException:
            connection._end()
            raise
        return connection

    def _open(self, url: str, arguments: dict[str, str], options: DatabaseOptions) -> None:
        try:
            engine = sa.create_engine(url, connect_args=arguments, pool_size=1)
        except ImportError as error:
            raise missing(f"db+{url.partition(':')[0]}", "sqlalchemy>=2", error) from error
        prefix = f"{options.namespace}." if options.namespace else ""
        meta = TaskMeta(engine, options.table, prefix, options.result_ttl)
        self._meta = meta
        meta.open()

    @property
    def meta(self) -> TaskMeta:
        """The table; for the thread."""
        assert self._meta is not None
        return self._meta

    @property
    def native(self) -> Any:
        """Nothing that could be used beside the thread."""
        return None

    async def ping(self) -> None:
        """Make one round trip."""
        await self.thread.run(self.meta.ping)

    def abort(self) -> None:
        """Give it up, whatever its thread is doing."""
        if not self.lost.done():
            self.lost.set_result(BrokerUnreachable("given up: the database did not answer in time, or went"))

    async def aclose(self) -> None:
        """Close it, and end the thread."""
        self.abort()
        self._end()
        await self.thread.ended()

    def _end(self) -> None:
        self.thread.later(lambda: None if self._meta is None else self._meta.close())
        self.thread.end()


class DatabaseResults:
    """The result store; see :class:`tranship.ports.ResultStore`. Nothing is pushed: who waits looks now and then.

    Args:
        kit: of the backend.
        limit: bytes of a document.
    """

    def __init__(self, kit: Kit, limit: int) -> None:
        self._kit, self._limit = kit, limit

    def attach(self, sink: ResultSink) -> None:
        """There is nothing to push."""

    def expect(self, ids: Sequence[str]) -> None:
        """There is nothing to push."""

    def unexpect(self, ids: Sequence[str]) -> None:
        """There is nothing to push."""

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results; the first terminal one of each id wins."""
        for one in results:
            if (size := len(one.document)) > self._limit:
                error = f"a result of {size} bytes is more than the {self._limit} of max_message_size"
                raise MessageTooLarge(error, size=size, limit=self._limit, task_id=one.id)
        return await self._kit.run("put", lambda c: _on(c, lambda meta: meta.put(results)))

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of each id."""
        return await self._kit.run("get", lambda c: _on(c, lambda meta: meta.get(ids)))

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results."""
        await self._kit.run("forget", lambda c: _on(c, lambda meta: meta.forget(ids)))


async def _on(connection: Any, call: Any) -> Any:
    """Call something with the table, in its thread."""
    return await connection.thread.run(lambda: call(connection.meta))
