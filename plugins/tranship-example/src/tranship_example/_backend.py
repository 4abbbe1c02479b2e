"""The backend: a directory, with a queue and a table in it."""

from __future__ import annotations

from pathlib import Path

from tranship.driver import DriverBackend, LocalConnection
from tranship.errors import BrokerRefused, BrokerUnreachable, InvalidURLError, StorageFull, TranshipError
from tranship.ports import Capability, Level
from tranship.settings import BackendConfig, CommonOptions
from tranship_example._files import file_name, is_full
from tranship_example._queue import FileQueue
from tranship_example._table import FileTable

__all__ = ["make_backend"]


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``example:///path``; the registry calls this."""
    options = config.options_as(CommonOptions)
    if config.url.host or not config.url.path.strip("/"):
        raise InvalidURLError(f"{config.url} names no directory; write example:///path/of/a/directory")
    root = Path(config.url.path) / file_name(options.namespace)

    async def connect() -> LocalConnection:
        queue, table = FileQueue(root / "queues", options.lease), FileTable(root / "rows")
        return LocalConnection(queue, table, native=root)

    durable = {Capability.DURABLE: Level.NATIVE, Capability.CROSS_PROCESS: Level.NATIVE}
    return DriverBackend("example", config, options=options, connect=connect, classify=classify, declared=durable)


def classify(error: Exception) -> TranshipError | None:
    """Make one of tranship's errors of one of the operating system's; None: it is a bug."""
    if not isinstance(error, OSError):
        return None
    text = f"{error.strerror}: {error.filename}"
    if is_full(error):
        return StorageFull(text)
    return BrokerRefused(text) if isinstance(error, PermissionError | NotADirectoryError) else BrokerUnreachable(text)
